use super::*;

fn told() -> FactsMessage {
    let facts = [
        ("net.netfilter.nf_conntrack_max", 262_144),
        ("interface eth0", 1500),
    ];
    FactsMessage {
        clock_ms: 1_795_000_000_123,
        facts: facts
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect(),
    }
}

#[test]
fn what_is_told_is_understood() {
    assert_eq!(FactsMessage::decode(&told().encode()), Some(told()));
    let nothing = FactsMessage {
        clock_ms: 7,
        facts: Facts::default(),
    };
    assert_eq!(FactsMessage::decode(&nothing.encode()), Some(nothing));
}

#[test]
fn what_is_cut_off_anywhere_is_nothing() {
    let body = told().encode();
    let whole = [8, 8 + 1 + 14 + 8, body.len()];
    for length in (0..body.len()).filter(|it| !whole.contains(it)) {
        assert_eq!(FactsMessage::decode(&body[..length]), None, "{length}");
    }
}

#[test]
fn names_that_a_terminal_would_obey_are_refused() {
    for name in [
        &b"\x1b[2J"[..],
        b"",
        b"a\nb",
        "ö".as_bytes(),
        &[b'a'; NAME_BYTES_MAX + 1],
    ] {
        let mut body = vec![0; 8];
        body.push(u8::try_from(name.len()).unwrap());
        body.extend_from_slice(name);
        body.extend([0; 8]);
        assert_eq!(FactsMessage::decode(&body), None, "{name:?}");
    }
}

#[test]
fn no_more_facts_are_told_or_taken_than_anybody_has() {
    let many = (0..2 * FACTS_MAX).map(|number| (format!("fact {number:04}"), 1));
    let facts: Facts = many.collect();
    assert_eq!(facts.iter().count(), FACTS_MAX);
    let mut body = FactsMessage { clock_ms: 0, facts }.encode();
    assert!(FactsMessage::decode(&body).is_some());
    body.extend(b"\x01x\0\0\0\0\0\0\0\0");
    assert_eq!(FactsMessage::decode(&body), None);
}

#[test]
fn this_machine_has_settings_of_conntrack_and_no_count_among_them() {
    let facts = gather::settings();
    if std::path::Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists() {
        let facts: Facts = facts.collect();
        assert!(facts.value("net.netfilter.nf_conntrack_max").is_some());
        assert_eq!(facts.value("net.netfilter.nf_conntrack_count"), None);
    }
}
