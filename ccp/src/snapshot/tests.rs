use super::{HASHED, PARTS, Parts, hashed, part_of};
use crate::record::{Extra, Family, FlowKey, ZoneDirection};
use crate::table::{Entry, Origin, Table};
use alloc::boxed::Box;
use std::collections::BTreeMap;

fn key(port: u16) -> FlowKey {
    let mut src = [0; 16];
    src[..4].copy_from_slice(&[10, 0, 0, 7]);
    FlowKey {
        src,
        dst: src,
        l4: [port, 443],
        zone: 0,
        proto: 6,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    }
}

/// A flow that is related to that of `master`.
fn related(port: u16, master: u16) -> Entry {
    let mut entry = Entry::new(key(port), Origin::Own);
    entry.state.extra = Some(Box::new(Extra {
        master: Some(key(master)),
        ..Extra::default()
    }));
    entry
}

#[test]
fn a_related_flow_is_in_a_later_part_than_its_master() {
    let mut table = Table::new(100, [1, 2]);
    let chain = [
        Entry::new(key(1), Origin::Own),
        related(2, 1),
        related(3, 2),
        related(4, 3),
        related(5, 4),
    ];
    let slots = chain.map(|entry| table.insert(entry).unwrap());
    let parts = slots.map(|slot| part_of(&table, table.get(slot).unwrap()));
    assert!(parts[0] < HASHED);
    assert_eq!(parts[1..], [HASHED, HASHED + 1, HASHED + 2, HASHED + 2]);
}

#[test]
fn flows_are_spread_over_all_hashed_parts() {
    let mut counts = BTreeMap::new();
    for port in 0..16_000 {
        *counts.entry(hashed(&key(port))).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), usize::from(HASHED));
    assert!(
        counts.values().all(|count| (500..2000).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn parts_are_taken_out_one_by_one_until_none_is_left() {
    let mut parts = Parts::ALL;
    for done in 0..PARTS {
        assert_eq!(parts.done(), (done, PARTS));
        let part = parts.first().unwrap();
        assert_eq!(part, done);
        parts.remove(part);
        assert_eq!(Parts::of_bits(parts.bits()), parts);
    }
    assert!(parts.is_empty());
    parts.remove(PARTS);
    assert_eq!(Parts::of_bits(u32::MAX), Parts::ALL);
}
