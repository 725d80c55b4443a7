use super::*;
use crate::config::ConfigError;
use ccp::record::{Family, ZoneDirection};
use std::net::IpAddr;
use std::time::Duration;

mod refused;

/// Uses every key.
pub(crate) const FULL: &str = "\
builtins: { bgp: on }
services:
  web: { protocol: tcp, ports: [80, 443, 8080-8090], type: http, sync: delayed, delay: 20s }
  web-quiet: { protocol: tcp, ports: 80, sync: never }
  dns: { protocol: [tcp, udp], ports: 53, sync: never, hold: never }
  ping: { protocol: icmp, icmp_types: 8, sync: never }
  calls: { protocol: udp, ports: 5060, type: sip, hold: always }
  gre: { protocol: 47, sync: delayed }
  bulk: { sync: never }
rules:
  - { name: lab, source: [10.9.0.0/16, 2001:db8:9::/48], service: web-quiet }
  - { service: web }
  - { destination: 192.0.2.7, zone: 5, mark: 0x10/0xf0, service: bulk }
";

pub(crate) fn parse(text: &str) -> Result<Policy, ConfigError> {
    Policy::parse(&[("policy.yaml".into(), text.to_owned())], 8116)
}

pub(crate) fn key(proto: u8, src: &str, dst: &str, l4: [u16; 2]) -> FlowKey {
    let address = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            (Family::V4, bytes)
        }
        IpAddr::V6(address) => (Family::V6, address.octets()),
    };
    let (family, src) = address(src);
    FlowKey {
        src,
        dst: address(dst).1,
        l4,
        zone: 0,
        proto,
        family,
        zone_direction: ZoneDirection::Both,
    }
}

/// The verdict, and who gave it.
fn judged(policy: &Policy, key: &FlowKey, mark: u32) -> (Sync, String) {
    let decision = policy.decide(key, mark);
    (decision.sync, policy.decided_by(decision).to_string())
}

#[test]
fn who_writes_no_policy_synchronises_all_but_the_built_in_services() {
    let policy = Policy::new(8116);
    for (proto, port, expected) in [
        (6, 80, Sync::Always),
        (6, 179, Sync::Never),
        (17, 8116, Sync::Never),
        (17, 3784, Sync::Never),
        (17, 3785, Sync::Never),
        (17, 3786, Sync::Always),
        (112, 0, Sync::Never),
        (2, 0, Sync::Never),
        (89, 0, Sync::Never),
        (47, 179, Sync::Always),
    ] {
        for (src, dst) in [("10.0.0.1", "10.0.1.1"), ("2001:db8::1", "2001:db8:1::1")] {
            let key = key(proto, src, dst, [1000, port]);
            assert_eq!(policy.decide(&key, 0).sync, expected, "{proto} {port}");
        }
    }
}

#[test]
fn what_decided_is_one_thing_in_json() {
    let policy = parse(FULL).unwrap();
    for (proto, src, port, expected) in [
        (
            6,
            "10.9.0.1",
            80,
            r#"{"decided_by":"rule","rule":1,"rule_name":"lab","service":"web-quiet"}"#,
        ),
        (
            112,
            "10.0.0.1",
            0,
            r#"{"decided_by":"builtin-service","service":"vrrp"}"#,
        ),
        (6, "10.0.0.1", 8091, r#"{"decided_by":"nothing"}"#),
    ] {
        let decision = policy.decide(&key(proto, src, "10.1.0.1", [1000, port]), 0);
        let json = serde_json::to_string(&policy.decided_by(decision)).unwrap();
        assert_eq!(json, expected);
    }
}

#[test]
fn the_first_rule_that_matches_chooses_the_service() {
    let policy = parse(FULL).unwrap();
    let delayed = Sync::Delayed(Duration::from_secs(20));
    for (proto, src, dst, port, mark, zone, sync, reason) in [
        (
            6,
            "10.0.0.1",
            "10.1.0.1",
            80,
            0,
            0,
            delayed,
            "rule 2, service web",
        ),
        (
            6,
            "10.9.0.1",
            "10.1.0.1",
            80,
            0,
            0,
            Sync::Never,
            "rule 1 (lab), service web-quiet",
        ),
        (
            6,
            "2001:db8:9::1",
            "2001:db8::1",
            80,
            0,
            0,
            Sync::Never,
            "rule 1 (lab), service web-quiet",
        ),
        (
            6,
            "10.9.0.1",
            "10.1.0.1",
            8085,
            0,
            0,
            delayed,
            "rule 2, service web",
        ),
        (
            6,
            "10.0.0.1",
            "10.1.0.1",
            8091,
            0,
            0,
            Sync::Always,
            "no rule and no service matches it",
        ),
        (
            17,
            "10.0.0.1",
            "192.0.2.7",
            9,
            0x1f,
            5,
            Sync::Never,
            "rule 3, service bulk",
        ),
        (
            17,
            "10.0.0.1",
            "192.0.2.7",
            9,
            0x20,
            5,
            Sync::Always,
            "no rule and no service matches it",
        ),
        (
            17,
            "10.0.0.1",
            "192.0.2.7",
            9,
            0x1f,
            4,
            Sync::Always,
            "no rule and no service matches it",
        ),
        (
            17,
            "10.0.0.1",
            "192.0.2.7",
            53,
            0x20,
            5,
            Sync::Never,
            "service dns",
        ),
        (
            17,
            "10.0.0.1",
            "10.1.0.1",
            53,
            0,
            0,
            Sync::Never,
            "service dns",
        ),
        (
            17,
            "10.0.0.1",
            "10.1.0.1",
            5060,
            0,
            0,
            Sync::Always,
            "service calls",
        ),
        (
            1,
            "10.0.0.1",
            "10.1.0.1",
            0x0800,
            0,
            0,
            Sync::Never,
            "service ping",
        ),
        (
            1,
            "10.0.0.1",
            "10.1.0.1",
            0x0d00,
            0,
            0,
            Sync::Always,
            "no rule and no service matches it",
        ),
        (
            47,
            "10.0.0.1",
            "10.1.0.1",
            0,
            0,
            0,
            Sync::Delayed(Duration::from_secs(15)),
            "service gre",
        ),
        (
            6,
            "10.0.0.1",
            "10.1.0.1",
            179,
            0,
            0,
            Sync::Always,
            "no rule and no service matches it",
        ),
        (
            112,
            "10.0.0.1",
            "10.1.0.1",
            0,
            0,
            0,
            Sync::Never,
            "built-in service vrrp",
        ),
    ] {
        let key = FlowKey {
            zone,
            ..key(proto, src, dst, [1000, port])
        };
        let expected = (sync, reason.to_owned());
        assert_eq!(judged(&policy, &key, mark), expected, "{key:?}");
    }
}

#[test]
fn what_is_printed_means_the_same() {
    for text in [FULL, "", "# nothing\n", "rules: []\n"] {
        let policy = parse(text).unwrap();
        assert_eq!(
            parse(&policy.to_yaml()).unwrap(),
            policy,
            "{}",
            policy.to_yaml()
        );
        assert_eq!(parse(&policy.to_json()).unwrap(), policy);
        assert_eq!(
            parse(&policy.to_yaml()).unwrap().to_yaml(),
            policy.to_yaml()
        );
    }
    assert_eq!(parse("").unwrap(), Policy::new(8116));
}

#[test]
fn files_are_read_as_one_in_their_order() {
    let texts = |second: &str| {
        [
            (
                "policy.yaml".into(),
                "services: { a: { protocol: tcp } }\n".to_owned(),
            ),
            ("policy.d/b.yaml".into(), second.to_owned()),
        ]
    };
    let policy = Policy::parse(
        &texts("rules: [{ source: 10.0.0.0/8, service: a }]\n"),
        8116,
    );
    assert_eq!(policy.unwrap().rules.len(), 1);
    let error = Policy::parse(&texts("services:\n  a: { protocol: udp }\n"), 8116).unwrap_err();
    assert_eq!(
        error.to_string(),
        "policy.d/b.yaml:2:3: two services are called `a` (see policy.yaml:1); give each a name of its own"
    );
}
