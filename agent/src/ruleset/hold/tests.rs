use super::*;
use crate::policy::service::Flows;

fn steering(backend: Backend, firsts: Firsts) -> Steering {
    Steering {
        backend,
        copy_bit: CopyBit::new(31).unwrap(),
        firsts,
        services: Vec::new(),
        translation_is_known: true,
        on_unread: Otherwise::Release,
    }
}

fn two_prefixes() -> Firsts {
    let prefix = |address: &str, bits| (address.parse().unwrap(), bits);
    Firsts::To([prefix("203.0.113.0", 24), prefix("2001:db8::", 64)].into())
}

#[test]
fn nftables_holds_all_first_packets_and_the_answers_that_hit_a_copy() {
    let sections = steering(Backend::Nft, Firsts::All).sections();
    let [section] = &sections[..] else {
        panic!("{sections:?}");
    };
    assert_eq!(section.family, Family::Inet);
    assert_eq!(
        section.text,
        "chain held {\n\
         \tqueue flags bypass to 8116\n\
         }\n\
         chain first {\n\
         \tgoto held\n\
         }\n\
         chain hold_new {\n\
         \tmeta l4proto tcp goto first\n\
         }\n\
         chain hold {\n\
         \ttype filter hook postrouting priority 200; policy accept;\n\
         \ttcp flags & (fin | syn | rst | ack) == syn | ack ct mark & 0x80000000 != 0 goto held\n\
         \ttcp flags & (fin | syn | rst | ack) == syn ct state new goto hold_new\n\
         }\n"
    );
}

#[test]
fn destinations_are_sets_that_can_be_replaced_alone() {
    let [section] = &steering(Backend::Nft, two_prefixes()).sections()[..] else {
        panic!("one table");
    };
    assert!(section.text.contains(
        "set suspected_ip {\n\ttype ipv4_addr\n\tflags interval\n\telements = { 203.0.113.0/24 }\n}\n"
    ));
    assert!(
        (section.text).contains("meta l4proto tcp ct original ip6 daddr @suspected_ip6 goto first")
    );
    assert_eq!(
        steering(Backend::Nft, two_prefixes()).replace_destinations(),
        "flush set inet ctsync suspected_ip\n\
         add element inet ctsync suspected_ip { 203.0.113.0/24 }\n\
         flush set inet ctsync suspected_ip6\n\
         add element inet ctsync suspected_ip6 { 2001:db8::/64 }\n"
    );
    assert_eq!(
        steering(Backend::Xtables, Firsts::To(BTreeSet::new())).replace_destinations(),
        "flush set ip ctsync suspected_ip\nflush set ip6 ctsync suspected_ip6\n"
    );
}

#[test]
fn with_xtables_each_family_has_its_table_and_the_rules_that_queue_are_left_out() {
    let sections = steering(Backend::Xtables, two_prefixes()).sections();
    let families: Vec<_> = sections.iter().map(|it| it.family).collect();
    assert_eq!(families, [Family::Ip, Family::Ip6]);
    assert!(sections[0].text.starts_with("chain held {\n}\n"));
    assert!(!sections[0].text.contains("ip6"));
    assert!(!sections[1].text.contains("ip daddr"));
    let all = crate::ruleset::text(&sections);
    assert!(all.contains("delete table ip ctsync\ntable ip ctsync {\n"));
    assert!(all.contains("delete table ip6 ctsync\ntable ip6 ctsync {\n"));
}

#[test]
fn where_nobody_says_how_a_flow_is_translated_its_first_packet_is_counted_and_not_held() {
    let steering = Steering {
        translation_is_known: false,
        ..steering(Backend::Nft, Firsts::All)
    };
    let text = &steering.sections()[0].text;
    assert!(text.contains("chain untold {\n\tqueue flags bypass to 8117\n}\n"));
    assert!(
        text.contains(
            "chain first {\n\tct status & (snat | dnat) != 0 goto untold\n\tgoto held\n}\n"
        )
    );
}

#[test]
fn services_are_held_by_protocol_port_and_addresses() {
    let prefix = |text| crate::policy::prefix::Prefix::parse(text).unwrap();
    let flows = |protocols: &[u8], selectors: &[(u16, u16)]| Flows {
        protocols: protocols.to_vec(),
        selectors: selectors.to_vec(),
    };
    let dns = Condition {
        flows: flows(&[6, 17], &[(53, 53), (5300, 5399)]),
        ..Condition::default()
    };
    let inside = Condition {
        source: vec![prefix("10.0.0.0/8"), prefix("fd00::/8")],
        destination: vec![prefix("192.0.2.0/24")],
        mark: Some((1, 0xff)),
        zone: Some(7),
        flows: flows(&[132], &[]),
    };
    let ping = Condition {
        flows: flows(&[1], &[(8, 8)]),
        ..Condition::default()
    };
    let steering = Steering {
        services: vec![dns, inside, ping],
        ..steering(Backend::Nft, Firsts::To(BTreeSet::new()))
    };
    let text = &steering.sections()[0].text;
    assert!(text.contains(
        "set held_ports_1 {\n\ttype inet_service\n\tflags interval\n\telements = { 53, 5300-5399 }\n}\n"
    ));
    assert!(text.contains(
        "chain hold_new {\n\
         \tmeta l4proto { 6, 17 } ct original proto-dst @held_ports_1 goto first\n\
         \tmeta l4proto { 132 } ct original ip saddr { 10.0.0.0/8 } ct original ip daddr { 192.0.2.0/24 } \
         ct zone 7 ct mark & 0x000000ff == 0x00000001 goto first\n\
         \ticmp type { 8 } goto first\n\
         \tmeta l4proto tcp ct original ip daddr @suspected_ip goto first\n"
    ), "{text}");
    assert!(text.contains(
        "\tmeta l4proto != tcp ct state new ct status & confirmed == 0 goto hold_new\n}\n"
    ));
}

#[test]
fn no_two_sections_of_a_table_have_a_chain_of_the_same_name() {
    let steering = Steering {
        translation_is_known: false,
        ..steering(Backend::Nft, two_prefixes())
    };
    let mut sections = steering.sections();
    sections.push(crate::ruleset::events::section(&Policy::new(8116).plan()));
    sections.push(crate::ruleset::moved::section(CopyBit::new(31).unwrap()));
    let lines = sections.iter().flat_map(|it| it.text.lines());
    let names: Vec<_> = lines
        .filter(|line| line.starts_with("chain ") || line.starts_with("set "))
        .collect();
    let different: BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "{names:?}");
}

#[test]
fn what_nobody_reads_is_dropped_where_that_is_configured_and_only_what_is_held() {
    let mut steering = steering(Backend::Nft, Firsts::All);
    steering.on_unread = Otherwise::Drop;
    steering.translation_is_known = false;
    let text = &steering.sections()[0].text;
    assert!(
        text.contains("chain held {\n\tqueue to 8116\n}\n"),
        "{text}"
    );
    assert!(
        text.contains("chain untold {\n\tqueue flags bypass to 8117\n}\n"),
        "{text}"
    );
}
