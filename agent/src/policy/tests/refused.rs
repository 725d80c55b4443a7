//! Every way in which a policy can be wrong, and the words for it, place included.

use super::parse;

/// `name: text => message,`
macro_rules! refused {
    ($($name:ident: $text:literal => $message:literal,)+) => {$(
        #[test]
        fn $name() {
            assert_eq!(parse($text).expect_err("it is wrong").to_string(), $message);
        }
    )+};
}

refused! {
    unknown_key_is_refused: "servces: {}\n" =>
        "policy.yaml:1:1: `servces` is not known here; known are `builtins`, `services`, `rules`",
    unknown_key_of_a_service_is_refused: "services:\n  a: { port: 80 }\n" =>
        "policy.yaml:2:8: `port` is not known here; known are `protocol`, `ports`, `icmp_types`, `type`, `sync`, `delay`, `hold`",
    unknown_key_of_a_rule_is_refused: "rules:\n  - { src: 10.0.0.0/8, service: a }\n" =>
        "policy.yaml:2:7: `src` is not known here; known are `name`, `source`, `destination`, `zone`, `mark`, `interface`, `service`",
    rule_without_service_is_refused: "rules:\n  - { source: 10.0.0.0/8 }\n" =>
        "policy.yaml:2:7: `service` is missing; add `service:` to this block",
    unknown_word_is_refused: "services:\n  a: { sync: sometimes }\n" =>
        "policy.yaml:2:14: `sometimes` is not known here; write `always`, `never` or `delayed`",
    list_in_place_of_a_word_is_refused: "services:\n  a: { sync: [never] }\n" =>
        "policy.yaml:2:14: this is of another kind than it has to be; write one word here",
    map_in_place_of_a_word_is_refused: "services:\n  a: { sync: { never: 1 } }\n" =>
        "policy.yaml:2:23: this is of another kind than it has to be; write one word here",
    map_in_place_of_ports_is_refused: "services:\n  a: { protocol: tcp, ports: { from: 1 } }\n" =>
        "policy.yaml:2:30: this is of another kind than it has to be; write one value or a list of them here",
    bracket_that_is_not_closed_is_refused: "services:\n  a: { sync: [never }\n" =>
        "policy.yaml:2:14: this is of another kind than it has to be; write one word here",
    tab_is_refused: "services:\n\ta: {}\n" =>
        "policy.yaml:2:2: tabs disallowed within this context (block indentation); compare the line with the example that the package ships",
    duplicate_service_is_refused: "services:\n  a: {}\n  a: {}\n" =>
        "policy.yaml:3:3: `a` is given twice; keep one of the two",
    bad_name_is_refused: "services:\n  a b: {}\n" =>
        "policy.yaml:2:3: `a b` cannot be a service name; use 1 to 63 of the letters a-z, A-Z, digits, `.`, `_` and `-`",
    unknown_protocol_is_refused: "services:\n  a: { protocol: tpc }\n" =>
        "policy.yaml:2:18: `tpc` is not a protocol; write its number, 0 to 255, or its name, such as tcp, udp, icmp, icmpv6, sctp, gre or esp",
    ports_of_a_protocol_without_are_refused: "services:\n  a: { protocol: [tcp, gre], ports: 80 }\n" =>
        "policy.yaml:2:37: gre has no ports; remove `ports`, or take tcp, udp, udplite, sctp or dccp",
    ports_without_a_protocol_are_refused: "services:\n  a: { ports: 80 }\n" =>
        "policy.yaml:2:15: ports mean nothing without a protocol that has any; write `protocol: tcp` or `protocol: udp`, or both in a list",
    types_of_a_protocol_without_are_refused: "services:\n  a: { protocol: tcp, icmp_types: 8 }\n" =>
        "policy.yaml:2:35: tcp has no ICMP types; remove `icmp_types`, or write `protocol: icmp` or `protocol: icmpv6`",
    port_zero_is_refused: "services:\n  a: { protocol: tcp, ports: [80, 0] }\n" =>
        "policy.yaml:2:35: `0` is not a port; write a number from 1 to 65535, or a range such as 8000-8099",
    port_range_backwards_is_refused: "services:\n  a: { protocol: tcp, ports: 90-80 }\n" =>
        "policy.yaml:2:30: the range 90-80 ends before it begins; write the lesser number first",
    overlapping_ports_are_refused: "services:\n  a: { protocol: tcp, ports: [80-90, 85] }\n" =>
        "policy.yaml:2:38: 80-90 and 85 overlap; write each number once",
    empty_list_is_refused: "services:\n  a: { protocol: tcp, ports: [] }\n" =>
        "policy.yaml:2:30: an empty list matches nothing; compare the line with the example that the package ships",
    unknown_type_is_refused: "services:\n  a: { type: ftpp }\n" =>
        "policy.yaml:2:14: `ftpp` is not a type of service; write none, http, or one with a helper: amanda, dhcpv6, ftp, h323, irc, mdns, netbios-ns, pptp, rpc, sane, sip, slp, snmp, ssdp, tftp, tns",
    delay_of_a_service_with_a_helper_is_refused: "services:\n  a: { protocol: tcp, ports: 21, type: ftp, sync: delayed }\n" =>
        "policy.yaml:2:51: `a` is of type ftp, and the connections that its helper expects would come before the peers know what they belong to; write `sync: always` or `sync: never`; only services of type http and none can be delayed",
    delay_of_a_service_that_is_not_delayed_is_refused: "services:\n  a: { sync: never, delay: 10s }\n" =>
        "policy.yaml:2:28: `a` has a delay, but is not delayed; remove `delay`, or write `sync: delayed`",
    delay_out_of_range_is_refused: "services:\n  a: { sync: delayed, delay: 10ms }\n" =>
        "policy.yaml:2:30: `delay` cannot be 10ms; choose from 1s to 1h",
    delay_without_unit_is_refused: "services:\n  a: { sync: delayed, delay: 10 }\n" =>
        "policy.yaml:2:30: `delay` is `10`, which is not a duration; write a whole number and its unit, us, ms, s, min or h, such as 20ms",
    hold_of_what_is_not_told_is_refused: "services:\n  a: { sync: never, hold: always }\n" =>
        "policy.yaml:2:27: the first packet of `a` would wait for peers that are not told of it (`sync: never`); write `sync: always`, or `hold: auto`",
    name_of_a_builtin_is_refused: "services:\n  bgp: { sync: always }\n" =>
        "policy.yaml:2:3: `bgp` is a built-in service; choose another name, or turn the built-in one on under `builtins`",
    unknown_builtin_is_refused: "builtins: { bgb: on }\n" =>
        "policy.yaml:1:13: `bgb` is not a built-in service; these are: `babel`, `bfd`, `bgp`, `ccp`, `conntrackd`, `eigrp`, `hsrp`, `igmp`, `keepalived`, `ldp`, `msdp`, `ospf`, `pim`, `rip`, `ripng`, `vrrp`",
    multicast_turned_on_is_refused: "builtins: { multicast: on }\n" =>
        "policy.yaml:1:13: multicast is never synchronised: each gateway sees it by itself; remove this line",
    service_called_broadcast_is_refused: "services:\n  broadcast: {}\n" =>
        "policy.yaml:2:3: `broadcast` is a built-in service; choose another name, or turn the built-in one on under `builtins`",
    rule_for_multicast_is_refused: "services: { a: { sync: delayed } }\nrules:\n  - { destination: [10.0.0.0/8, 239.1.0.0/16], service: a }\n" =>
        "policy.yaml:3:33: 239.1.0.0/16 is broadcast or multicast, which is never synchronised, and `a` is to be; remove the rule, or choose a service with `sync: never`",
    rule_for_broadcast_is_refused: "services: { a: {} }\nrules:\n  - { destination: 255.255.255.255, service: a }\n" =>
        "policy.yaml:3:20: 255.255.255.255/32 is broadcast or multicast, which is never synchronised, and `a` is to be; remove the rule, or choose a service with `sync: never`",
    unknown_service_is_refused: "services: { a: {}, b: { protocol: tcp } }\nrules:\n  - { service: c }\n" =>
        "policy.yaml:3:16: no service is called `c`; write `a` or `b`, or define it under `services`",
    bad_prefix_is_refused: "services: { a: {} }\nrules:\n  - { source: 10.0.0.0/33, service: a }\n" =>
        "policy.yaml:3:15: `10.0.0.0/33` is not a prefix; write an address and a length such as 10.0.0.0/8 or 2001:db8::/32, or an address alone",
    host_bits_are_refused: "services: { a: {} }\nrules:\n  - { source: 10.0.0.1/8, service: a }\n" =>
        "policy.yaml:3:15: 10.0.0.1/8 has bits set past its length; write 10.0.0.0/8, or the address alone",
    prefixes_of_two_families_are_refused: "services: { a: {} }\nrules:\n  - { source: 10.0.0.0/8, destination: \"2001:db8::/32\", service: a }\n" =>
        "policy.yaml:3:40: no flow goes from 10.0.0.0/8 to 2001:db8::/32: they are of different families; write a rule for each family",
    zone_out_of_range_is_refused: "services: { a: {} }\nrules:\n  - { zone: 65536, service: a }\n" =>
        "policy.yaml:3:13: `zone` cannot be 65536; choose from 0 to 65535",
    bad_mark_is_refused: "services: { a: {} }\nrules:\n  - { mark: red, service: a }\n" =>
        "policy.yaml:3:13: `red` is not a mark; write a number, or value and mask such as 0x10/0xff",
    mark_outside_of_its_mask_is_refused: "services: { a: {} }\nrules:\n  - { mark: 0x110/0xff, service: a }\n" =>
        "policy.yaml:3:13: 0x110/0xff has bits that its mask takes away, so no flow can have it; widen the mask, or clear those bits",
    interface_is_refused: "services: { a: {} }\nrules:\n  - { interface: eth1, service: a }\n" =>
        "policy.yaml:3:18: the kernel's connection table does not say through which interface a flow came; set a mark or a zone in your own ruleset (`iifname eth1 ct mark set ct mark | 0x10`) and match that here",
    services_that_overlap_without_a_rule_are_refused: "services:\n  a: { protocol: tcp, ports: 80-90 }\n  b: { protocol: tcp, ports: 85 }\n" =>
        "policy.yaml:3:3: a flow can be both of `a` and of `b`, and no rule chooses between them; add a rule for one of them",
    rule_behind_one_that_takes_everything_is_refused: "services: { a: { protocol: tcp }, b: { protocol: tcp, ports: 80 } }\nrules:\n  - { source: 10.0.0.0/8, service: a }\n  - { source: [10.1.0.0/16, 10.2.0.1], zone: 3, service: b }\n" =>
        "policy.yaml:4:5: rule 2 can never match: rule 1 (policy.yaml:3) takes everything that it could; move it up, or remove it",
    service_behind_a_rule_that_takes_everything_is_refused: "services:\n  a: {}\n  b: { protocol: tcp, ports: 80 }\nrules: [{ service: a }]\n" =>
        "policy.yaml:3:3: service `b` can never match: rule 1 (policy.yaml:4) takes everything that it could; move it up, or remove it",
    service_that_is_a_builtin_is_refused: "services:\n  a: { protocol: vrrp }\n" =>
        "policy.yaml:2:3: service `a` can never match: the built-in service vrrp takes everything that it could; turn that on with `builtins: { vrrp: on }`, or remove this",
}
