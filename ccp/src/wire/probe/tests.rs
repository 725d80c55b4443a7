use super::{Probe, Row, decode_rows, encode_rows};
use crate::probe::{INTERFACES_MAX, Link};
use crate::record::MemberSet;
use alloc::vec;
use alloc::vec::Vec;

fn row(name: &str, link: Link, hears: u16) -> Row {
    Row {
        name: name.into(),
        link,
        hears: MemberSet::from_bits(hears),
    }
}

#[test]
fn a_probe_reads_back_and_what_a_later_version_adds_is_skipped() {
    let probe = Probe {
        name: b"eth1.30",
        hears: MemberSet::from_bits(0b110),
        standing: None,
    };
    let mut body = Vec::new();
    probe.encode(&mut body);
    assert_eq!(Probe::decode(&body), Ok(probe));
    body.extend([0x77, 2, 1, 2]);
    assert_eq!(Probe::decode(&body), Ok(probe));
    for cut in 0..body.len() {
        // Nothing that ends early makes it panic; only at the end of an attribute it may be whole.
        let _ = Probe::decode(&body[..cut]);
    }
}

#[test]
fn names_that_no_interface_has_are_refused() {
    let named = |name: &[u8]| {
        let mut body = vec![u8::try_from(name.len()).unwrap()];
        body.extend(name);
        body.extend([0, 0]);
        Probe::decode(&body).is_ok()
    };
    assert!(named(b"a123456789abcde.4094"));
    assert!(!named(b"a123456789abcdef.4094"), "too long");
    assert!(!named(b"eth\x1b[2J"), "it would be shown to an operator");
}

#[test]
fn what_is_monitored_reads_back_and_is_bounded() {
    let rows = [
        row("eth0", Link::Up, 2),
        row("eth1.10", Link::Down, 0),
        row("eth2", Link::Missing, 0),
    ];
    let mut body = Vec::new();
    encode_rows(&rows, &mut body);
    assert_eq!(decode_rows(&body).as_deref(), Ok(&rows[..]));
    assert!(decode_rows(&body[..body.len() - 1]).is_err());
    body.extend([0x77; 3]);
    assert_eq!(
        decode_rows(&body).as_deref(),
        Ok(&rows[..]),
        "a later version"
    );
    let many: Vec<_> = (0..=INTERFACES_MAX)
        .map(|_| row("e", Link::Up, 0))
        .collect();
    body.clear();
    encode_rows(&many, &mut body);
    assert!(decode_rows(&body).is_err());
}
