use super::*;
use crate::policy::tests::parse;

fn chains(policy: &str) -> Chains {
    // Built-in services would only stand in the way.
    let builtins = crate::policy::builtin::names().join(": on, ");
    let policy = parse(&format!("builtins: {{ {builtins}: on }}\n{policy}")).unwrap();
    Chains {
        quiet: Some(policy.plan()),
        copy_bit: None,
    }
}

#[test]
fn what_is_never_synchronised_is_given_no_event() {
    let chains = chains(
        "services: { a: { protocol: [tcp, gre], sync: never }, dns: { protocol: udp, ports: [53, 60-70], sync: never } }",
    );
    assert_eq!(
        chains.text(Program::Iptables),
        "*raw\n\
         :ctsync-events - [0:0]\n\
         :ctsync-others - [0:0]\n\
         -A ctsync-events -p 6 -j CT --expevents new\n\
         -A ctsync-events -p 17 -m multiport --dports 53,60:70 -j CT --expevents new\n\
         -A ctsync-events -p 47 -j CT --expevents new\n\
         -A PREROUTING -j ctsync-events\n\
         COMMIT\n"
    );
    assert_eq!(
        chains.text(Program::Iptables),
        chains.text(Program::Ip6tables)
    );
}

#[test]
fn where_what_has_passed_is_counted_every_end_is_told() {
    let chains = chains("services: { dns: { protocol: udp, ports: 53, sync: never } }");
    let quiet = chains.quiet.map(|plan| Plan { ends: true, ..plan });
    let text = Chains { quiet, ..chains }.text(Program::Iptables);
    let rule = "-p 17 -m multiport --dports 53 -j CT --ctevents destroy --expevents new";
    assert!(text.contains(rule), "{text}");
    assert!(!text.contains(NEVER), "{text}");
}

#[test]
fn steps_are_said_in_their_order_and_each_family_has_its_own() {
    let chains = chains(
        "services: { keep: { protocol: tcp }, ping: { protocol: [icmp, icmpv6], icmp_types: 5-130, sync: never }, lab: { sync: never } }\n\
         rules: [{ source: [10.9.0.0/16, \"fd09::/16\"], mark: 7, service: keep }, { destination: 10.3.0.0/16, service: ping }, { source: 10.9.0.0/16, service: lab }]",
    );
    let rules = |program| -> Vec<String> {
        let text = chains.text(program);
        let lines = text
            .lines()
            .filter_map(|it| it.strip_prefix("-A ctsync-events "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(
        rules(Program::Iptables),
        [
            "-p 6 -s 10.9.0.0/16 -j RETURN",
            "-p 1 -m icmp --icmp-type 8 -d 10.3.0.0/16 -j CT --expevents new",
            "-p 1 -m icmp --icmp-type 13 -d 10.3.0.0/16 -j CT --expevents new",
            "-p 1 -m icmp --icmp-type 15 -d 10.3.0.0/16 -j CT --expevents new",
            "-p 1 -m icmp --icmp-type 17 -d 10.3.0.0/16 -j CT --expevents new",
            "-s 10.9.0.0/16 -j CT --expevents new",
        ]
    );
    assert_eq!(
        rules(Program::Ip6tables),
        ["-p 6 -s fd09::/16 -j RETURN"],
        "the rest is of the other family"
    );
}

#[test]
fn what_there_is_no_room_for_is_left_to_the_daemon() {
    let many = |count: usize| {
        let sources = (0..count).map(|it| format!("10.{it}.0.0/16"));
        sources.collect::<Vec<_>>().join(", ")
    };
    let chains = chains(&format!(
        "services: {{ keep: {{ protocol: tcp }}, lab: {{ sync: never }} }}\n\
         rules: [{{ source: [{}], service: lab }}, {{ source: [{}], service: keep }}, {{ source: 11.0.0.0/8, service: lab }}]",
        many(60),
        many(80)
    ));
    let text = chains.text(Program::Iptables);
    assert_eq!(text.matches(NEVER).count(), 60);
    assert!(
        !text.contains(RETURN) && !text.contains("-s 11"),
        "nothing is said past what was left out: {text}"
    );
}

#[test]
fn protocol_0_is_left_to_the_daemon_as_it_stands_for_all() {
    let text = chains("services: { a: { protocol: 0, sync: never } }").text(Program::Iptables);
    assert!(!text.contains("-p 0"), "{text}");
}

#[test]
fn ports_come_in_as_many_pieces_as_the_match_has_room_for() {
    let selectors: Vec<_> = (0..11).map(|it| (it * 10, it * 10 + it % 2)).collect();
    assert_eq!(
        multiports(&selectors),
        ["0,10:11,20,30:31,40,50:51,60,70:71,80,90:91", "100"]
    );
}

#[test]
fn the_copy_bit_is_cleared_behind_the_rules_of_the_operator() {
    let chains = Chains {
        quiet: None,
        copy_bit: CopyBit::new(31),
    };
    assert_eq!(
        chains.text(Program::Ip6tables),
        "*mangle\n\
         :ctsync-moved - [0:0]\n\
         -A ctsync-moved -m connmark --mark 0x80000000/0x80000000 -j CONNMARK --and-mark 0x7fffffff\n\
         -A POSTROUTING -j ctsync-moved\n\
         COMMIT\n"
    );
}
