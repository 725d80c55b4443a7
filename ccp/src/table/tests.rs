use super::{Counts, Entry, Full, Life, Origin, Table};
use crate::record::{Family, FlowKey, ZoneDirection};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use proptest::prelude::*;

fn key(n: u16) -> FlowKey {
    let mut src = [0; 16];
    src[..2].copy_from_slice(&n.to_be_bytes());
    FlowKey {
        src,
        dst: [9; 16],
        l4: [n, 80],
        zone: 0,
        proto: 6,
        family: Family::V6,
        zone_direction: ZoneDirection::Both,
    }
}

#[test]
fn an_entry_takes_at_most_96_bytes() {
    assert!(
        size_of::<Option<Entry>>() <= 96,
        "{}",
        size_of::<Option<Entry>>()
    );
}

#[test]
fn keys_that_differ_in_one_field_are_different_flows() {
    let base = key(1);
    let mut keys = Vec::from([base, base, base, base, base, base, base]);
    keys[1].zone = 1;
    keys[2].proto = 17;
    keys[3].l4[1] = 81;
    keys[4].src[15] = 1;
    keys[5].dst[15] = 1;
    keys[6].zone_direction = ZoneDirection::Reply;
    let mut table = Table::new(10, [1, 2]);
    for key in &keys {
        assert_eq!(table.find(key), None);
        table.insert(Entry::new(*key, Origin::Own)).unwrap();
    }
    for key in &keys {
        assert_eq!(table.get(table.find(key).unwrap()).unwrap().key, *key);
    }
}

#[test]
fn flows_are_counted_by_where_they_come_from_as_that_changes() {
    let mut table = Table::new(10, [1, 2]);
    let copies_of = |member| Origin::Copy { member, run: 0 };
    let peer = crate::record::MemberId::new(2).unwrap();
    let own = table.insert(Entry::new(key(1), Origin::Own)).unwrap();
    let copy = (table.insert(Entry::new(key(2), copies_of(peer)))).unwrap();
    let found = table.insert(Entry::new(key(3), Origin::Found)).unwrap();
    let counts = |own, found, copies| Counts { own, found, copies };
    assert_eq!(table.counts(), counts(1, 1, 1));
    table.get_mut(copy).unwrap().origin = Origin::Own;
    assert_eq!(table.counts(), counts(2, 1, 0));
    table.get_mut(own).unwrap().life = Life::Dead;
    table.get_mut(found).unwrap().origin = copies_of(peer);
    assert_eq!(table.counts(), counts(1, 0, 1));
    table.remove(own);
    table.get_mut(found).unwrap().life = Life::Dead;
    table.remove(found);
    assert_eq!(table.counts(), counts(1, 0, 0));
    table.insert(Entry::new(key(1), Origin::Found)).unwrap();
    assert_eq!(table.counts(), counts(1, 1, 0));
}

#[test]
fn a_full_table_refuses_and_takes_again_after_a_removal() {
    let mut table = Table::new(2, [1, 2]);
    let first = table.insert(Entry::new(key(1), Origin::Own)).unwrap();
    table.insert(Entry::new(key(2), Origin::Own)).unwrap();
    assert_eq!(table.insert(Entry::new(key(3), Origin::Own)), Err(Full));
    table.remove(first);
    assert_eq!(table.find(&key(1)), None);
    assert!(table.insert(Entry::new(key(3), Origin::Own)).is_ok());
}

#[test]
fn the_slot_of_a_removed_entry_never_finds_the_next_in_its_place() {
    let mut table = Table::new(2, [1, 2]);
    let old = table.insert(Entry::new(key(1), Origin::Own)).unwrap();
    table.remove(old);
    let new = table.insert(Entry::new(key(2), Origin::Own)).unwrap();
    assert_eq!(new.index(), old.index());
    assert!(table.get(old).is_none() && table.get_mut(old).is_none());
    table.remove(old);
    assert_eq!(table.find(&key(2)), Some(new));
}

proptest! {
    #[test]
    fn behaves_as_a_map(steps in prop::collection::vec((any::<bool>(), 0u16..300), 0..3000)) {
        let (mut table, mut model) = (Table::new(4096, [7, 8]), BTreeMap::new());
        for (insert, n) in steps {
            match (insert, table.find(&key(n))) {
                (true, None) => {
                    model.insert(n, table.insert(Entry::new(key(n), Origin::Found)).unwrap());
                }
                (false, Some(slot)) => {
                    prop_assert_eq!(model.remove(&n), Some(slot));
                    table.remove(slot);
                }
                (true, Some(slot)) => prop_assert_eq!(model.get(&n), Some(&slot)),
                (false, None) => prop_assert!(!model.contains_key(&n)),
            }
        }
        prop_assert_eq!(table.len(), model.len());
        let mut listed: Vec<_> = table.slots_from(0).map(|(slot, entry)| (entry.key.l4[0], slot)).collect();
        listed.sort();
        prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
    }
}
