//! The table as a whole.

use std::collections::HashSet;

use conntrack::*;

use crate::support::*;

#[test]
fn a_dump_is_complete_while_flows_are_created() {
    const THERE: u32 = 50_000;
    const MEANWHILE: u32 = 5_000;
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        for number in 0..THERE {
            injector.create(&tcp_flow(number));
        }
        assert!(commit(&mut injector).iter().all(Result::is_ok));

        let mut seen = HashSet::new();
        let mut later = THERE..THERE + MEANWHILE;
        for item in Dump::open().expect("a dump begins") {
            match item.expect("a dump goes on") {
                DumpItem::Flow(flow) => seen.insert(flow.orig),
                other => panic!("{other:?}"),
            };
            if let Some(number) = later.next().filter(|_| seen.len() % 8 == 0) {
                create(&mut injector, &tcp_flow(number));
            }
        }
        let missing = (0..THERE)
            .filter(|&number| !seen.contains(&tcp_flow(number).orig))
            .count();
        assert_eq!(missing, 0);
    });
}

#[test]
fn a_dump_of_an_empty_table_ends() {
    in_netns(|| assert_eq!(dump(), []));
}

#[test]
fn a_lookup_finds_nothing_where_nothing_is() {
    in_netns(|| assert_eq!(find(&tcp_flow(1)), None));
}

#[test]
fn tables_have_different_identities() {
    let here = table_id().expect("an identity");
    let (there, again) = in_netns(|| {
        (
            table_id().expect("an identity"),
            table_id().expect("an identity"),
        )
    });
    assert_eq!(table_id().expect("an identity"), here);
    assert_eq!(there, again);
    assert_ne!(here, there);
}
