//! Every way in which a configuration can be wrong, and the words for it.
//!
//! Each test makes one mistake in a good file and expects the whole message, place included.

use super::{GOOD, refusal};

/// `name: { text => its replacement, ... } message,`
macro_rules! refused {
    ($($name:ident: { $($from:literal => $to:literal),+ } $message:literal,)+) => {$(
        #[test]
        fn $name() {
            let mut text = GOOD.to_owned();
            $(
                assert!(text.contains($from), "the good file has no {:?}", $from);
                text = text.replace($from, $to);
            )+
            assert_eq!(refusal(&text), $message);
        }
    )+};
}

refused! {
    unknown_key_is_refused: { "cluster: 7\n" => "cluster: 7\nclutser: 8\n" }
        "ctsync.yaml:2:1: `clutser` is not known here; known are `cluster`, `member`, `members`, `networks`, `sync`, `key_file`, `keys`, `delta`, `liveness`, `kernel`, `policy`, `audit`, `accounting`, `roles`, `interfaces`, `checks`, `hooks`, `state_directory`, `hold`, `control`, `metrics`, `log`",
    unknown_key_of_a_block_is_refused: { "member.key\n" => "member.key\ndelta:\n  flsh: 1ms\n" }
        "ctsync.yaml:17:3: `flsh` is not known here; known are `flush`",
    missing_key_is_refused: { "cluster: 7\n" => "" }
        "ctsync.yaml:14:1: `cluster` is missing; add `cluster:` to this block",
    missing_key_of_a_member_is_refused: { "    name: gw-b\n" => "" }
        "ctsync.yaml:10:5: `name` is missing; add `name:` to this block",
    duplicate_key_is_refused: { "member: 1\n" => "member: 1\nmember: 2\n" }
        "ctsync.yaml:3:1: `member` is given twice; keep one of the two",
    text_for_a_number_is_refused: { "cluster: 7" => "cluster: seven" }
        "ctsync.yaml:1:10: this is not a number; write a whole number, without sign, unit or quotes",
    negative_number_is_refused: { "cluster: 7" => "cluster: -7" }
        "ctsync.yaml:1:10: this is not a number; write a whole number, without sign, unit or quotes",
    list_for_a_number_is_refused: { "cluster: 7" => "cluster: [7]" }
        "ctsync.yaml:1:10: this is of another kind than it has to be; write one value here",
    no_value_is_refused: { "name: gw-b" => "name:" }
        "ctsync.yaml:9:9: a value is missing; write one after the colon, or remove the key",
    yes_is_no_boolean: { "member.key\n" => "member.key\nroles:\n  preempt: yes\n" }
        "ctsync.yaml:17:12: this is neither true nor false; write true or false",
    unknown_transport_is_refused: { "interface: eth2\n" => "interface: eth2\n    transport: anycast\n" }
        "ctsync.yaml:15:16: `anycast` is not known here; write `unicast`, `multicast` or `broadcast`",
    unknown_level_is_refused: { "member.key\n" => "member.key\nlog:\n  level: verbose\n" }
        "ctsync.yaml:17:10: `verbose` is not known here; write `error`, `warn`, `info`, `debug` or `trace`",
    aliases_are_refused: { "cluster: 7\nmember: 1" => "cluster: &x 7\nmember: *x" }
        "ctsync.yaml:1:13: the file is nested too deeply, too long, or uses anchors, aliases or merge keys; write every value out where it belongs",
    merge_keys_are_refused: { "cluster: 7\n" => "<<: { cluster: 7 }\n" }
        "ctsync.yaml:1:1: the file is nested too deeply, too long, or uses anchors, aliases or merge keys; write every value out where it belongs",
    tags_are_refused: { "cluster: 7" => "cluster: !secret 7" }
        "ctsync.yaml:1:18: unsupported tag `!secret`; compare the line with the example that the package ships",
    broken_yaml_is_refused: { "cluster: 7" => "cluster: [7" }
        "ctsync.yaml:1:10: this is of another kind than it has to be; write one value here",
    second_document_is_refused: { "member.key\n" => "member.key\n---\ncluster: 8\n" }
        "ctsync.yaml:17:1: a second YAML document begins here; keep one: nothing after `---` would be read",
    cluster_zero_is_refused: { "cluster: 7" => "cluster: 0" }
        "ctsync.yaml:1:10: `cluster` cannot be 0; choose from 1 to 65535",
    cluster_above_16_bits_is_refused: { "cluster: 7" => "cluster: 65536" }
        "ctsync.yaml:1:10: `cluster` cannot be 65536; choose from 1 to 65535",
    member_id_zero_is_refused: { "- id: 1" => "- id: 0" }
        "ctsync.yaml:4:9: `id` cannot be 0; choose from 1 to 16",
    member_id_above_16_is_refused: { "- id: 2" => "- id: 17" }
        "ctsync.yaml:8:9: `id` cannot be 17; choose from 1 to 16",
    member_that_is_not_listed_is_refused: { "member: 1" => "member: 3" }
        "ctsync.yaml:2:9: member 3 is not among `members`; write `1` or `2`, or add it there",
    member_number_out_of_range_is_refused: { "member: 1" => "member: 0" }
        "ctsync.yaml:2:9: `member` cannot be 0; choose from 1 to 16",
    one_member_is_no_cluster: { "  - id: 2\n    name: gw-b\n    addresses: { sync: 192.0.2.2 }\n    public_key: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n" => "" }
        "ctsync.yaml:4:3: a cluster has two members or more, here is one; list every member, this machine too",
    member_id_twice_is_refused: { "- id: 2" => "- id: 1" }
        "ctsync.yaml:8:9: two members have the id 1 (on line 4 too); give each its own id",
    member_name_twice_is_refused: { "gw-b" => "gw-a" }
        "ctsync.yaml:9:11: two members have the name gw-a (on line 5 too); give each its own name",
    member_address_twice_is_refused: { "192.0.2.2" => "192.0.2.1" }
        "ctsync.yaml:10:24: two members have the address 192.0.2.1 (on line 6 too); give each its own address",
    member_name_with_space_is_refused: { "gw-b" => "gw b" }
        "ctsync.yaml:9:11: `gw b` cannot be a member name; use 1 to 63 of the letters a-z, A-Z, digits, `.`, `_` and `-`",
    families_do_not_mix: { "192.0.2.2" => "2001:db8::2" }
        "ctsync.yaml:10:24: 2001:db8::2 and 192.0.2.1 are of different families on one network; give all members IPv4 addresses, or all IPv6 ones",
    address_with_prefix_length_is_refused: { "192.0.2.2" => "192.0.2.2/24" }
        "ctsync.yaml:10:24: `192.0.2.2/24` is not an IP address; write an IPv4 or IPv6 address without port or prefix length, such as 192.0.2.1",
    multicast_is_no_member_address: { "192.0.2.2" => "224.0.0.18" }
        "ctsync.yaml:10:24: 224.0.0.18 is not the address of one machine; give the member's own address on this network",
    unspecified_is_no_member_address: { "192.0.2.2" => "0.0.0.0" }
        "ctsync.yaml:10:24: 0.0.0.0 is not the address of one machine; give the member's own address on this network",
    broadcast_is_no_member_address: { "192.0.2.2" => "255.255.255.255" }
        "ctsync.yaml:10:24: 255.255.255.255 is not the address of one machine; give the member's own address on this network",
    address_on_unknown_network_is_refused: { "sync: 192.0.2.2" => "sink: 192.0.2.2" }
        "ctsync.yaml:10:24: there is an address for the network `sink`, which `networks` does not define; name it `sync`, or define `sink`",
    address_on_a_second_network_is_refused: { "sync: 192.0.2.2" => "sync: 192.0.2.2, other: 192.0.2.3" }
        "ctsync.yaml:10:42: there is an address for the network `other`, which `networks` does not define; name it `sync`, or define `other`",
    member_without_address_is_refused: { "{ sync: 192.0.2.2 }" => "{}" }
        "ctsync.yaml:10:16: member gw-b has no address on the network `sync`; add `sync: ADDRESS`",
    member_without_public_key_is_refused: { "    public_key: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n" => "" }
        "ctsync.yaml:10:5: `public_key` is missing; add `public_key:` to this block",
    public_key_that_is_no_base64_is_refused: { "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=" => "gw-b.pub" }
        "ctsync.yaml:11:17: `gw-b.pub` is not a public key; write what `ctsync keygen` printed on that member, 44 characters of base64",
    public_key_that_is_cut_off_is_refused: { "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=" => "AgICAgICAgICAgIC" }
        "ctsync.yaml:11:17: `AgICAgICAgICAgIC` has 12 bytes, and a public key has 32; write what `ctsync keygen` printed on that member, 44 characters of base64",
    public_key_twice_is_refused: { "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=" => "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=" }
        "ctsync.yaml:11:17: two members have the public_key AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= (on line 7 too); give each its own public_key",
    max_age_above_a_day_is_refused: { "member.key\n" => "member.key\nkeys: { max_age: 25h }\n" }
        "ctsync.yaml:16:18: `max_age` cannot be 25h; choose from 1s to 24h",
    max_packets_below_1000_is_refused: { "member.key\n" => "member.key\nkeys: { max_packets: 999 }\n" }
        "ctsync.yaml:16:22: `max_packets` cannot be 999; choose from 1000 to 4294967296",
    no_network_is_refused: { "networks:\n  - name: sync\n    interface: eth2\n" => "networks: []\n" }
        "ctsync.yaml:12:11: no network is defined; define the one that members talk over",
    a_network_without_addresses_is_refused: { "interface: eth2\n" => "interface: eth2\n  - name: other\n    interface: eth3\n" }
        "ctsync.yaml:6:16: member gw-a has no address on the network `other`; add `other: ADDRESS`",
    five_networks_are_too_many: { "networks:\n" => "networks:\n  - { name: a, interface: a }\n  - { name: b, interface: b }\n  - { name: c, interface: c }\n  - { name: d, interface: d }\n" }
        "ctsync.yaml:17:11: 5 networks are defined; keep the best 4",
    network_name_must_be_plain: { "name: sync" => "name: sync/1" }
        "ctsync.yaml:13:11: `sync/1` cannot be a network name; use 1 to 63 of the letters a-z, A-Z, digits, `.`, `_` and `-`",
    interface_name_of_16_bytes_is_refused: { "eth2" => "abcdefghijklmnop" }
        "ctsync.yaml:14:16: `abcdefghijklmnop` cannot be an interface; give the name of one, 1 to 15 bytes long, as `ip link` shows it",
    interface_name_with_slash_is_refused: { "eth2" => "eth/2" }
        "ctsync.yaml:14:16: `eth/2` cannot be an interface; give the name of one, 1 to 15 bytes long, as `ip link` shows it",
    port_zero_is_refused: { "interface: eth2\n" => "interface: eth2\n    port: 0\n" }
        "ctsync.yaml:15:11: `port` cannot be 0; choose from 1 to 65535",
    group_needs_multicast: { "interface: eth2\n" => "interface: eth2\n    group: 239.1.1.1\n" }
        "ctsync.yaml:15:12: `group` means nothing with `transport: unicast`; remove it, or write `transport: multicast`",
    group_does_not_go_with_broadcast: { "interface: eth2\n" => "interface: eth2\n    transport: broadcast\n    group: 239.1.1.1\n" }
        "ctsync.yaml:16:12: `group` means nothing with `transport: broadcast`; remove it, or write `transport: multicast`",
    group_must_be_multicast: { "interface: eth2\n" => "interface: eth2\n    transport: multicast\n    group: 192.0.2.255\n" }
        "ctsync.yaml:16:12: 192.0.2.255 is not a multicast group; choose one of 224.0.0.0/4 or ff00::/8, or leave `group` out for the default",
    group_must_be_an_address: { "interface: eth2\n" => "interface: eth2\n    transport: multicast\n    group: all\n" }
        "ctsync.yaml:16:12: `all` is not an IP address; write an IPv4 or IPv6 address without port or prefix length, such as 192.0.2.1",
    group_must_be_of_the_members_family: { "interface: eth2\n" => "interface: eth2\n    transport: multicast\n    group: ff12::1\n" }
        "ctsync.yaml:16:12: the group ff12::1 is of another family than the members' addresses; choose one such as 239.255.81.16, or leave `group` out for the default",
    ipv6_has_no_broadcast: { "interface: eth2\n" => "interface: eth2\n    transport: broadcast\n", "192.0.2.1" => "2001:db8::1", "192.0.2.2" => "2001:db8::2" }
        "ctsync.yaml:15:16: IPv6 has no broadcast; write `transport: multicast` or `transport: unicast`",
    relative_key_file_is_refused: { "/etc/ctsync/member.key" => "member.key" }
        "ctsync.yaml:15:11: `key_file` is `member.key`, which depends on where the daemon starts; begin it with `/`",
    flush_without_unit_is_refused: { "member.key\n" => "member.key\ndelta: { flush: 1 }\n" }
        "ctsync.yaml:16:17: `flush` is `1`, which is not a duration; write a whole number and its unit, us, ms, s, min or h, such as 20ms",
    flush_with_fraction_is_refused: { "member.key\n" => "member.key\ndelta: { flush: 1.5ms }\n" }
        "ctsync.yaml:16:17: `flush` is `1.5ms`, which is not a duration; write a whole number and its unit, us, ms, s, min or h, such as 20ms",
    flush_below_100us_is_refused: { "member.key\n" => "member.key\ndelta: { flush: 99us }\n" }
        "ctsync.yaml:16:17: `flush` cannot be 99us; choose from 100us to 100ms",
    flush_above_100ms_is_refused: { "member.key\n" => "member.key\ndelta: { flush: 101ms }\n" }
        "ctsync.yaml:16:17: `flush` cannot be 101ms; choose from 100us to 100ms",
    hello_below_10ms_is_refused: { "member.key\n" => "member.key\nliveness: { hello: 9ms }\n" }
        "ctsync.yaml:16:20: `hello` cannot be 9ms; choose from 10ms to 10s",
    dead_after_above_60s_is_refused: { "member.key\n" => "member.key\nliveness: { dead_after: 61s }\n" }
        "ctsync.yaml:16:25: `dead_after` cannot be 61s; choose from 50ms to 1min",
    hello_of_half_dead_after_is_refused: { "member.key\n" => "member.key\nliveness: { hello: 500ms }\n" }
        "ctsync.yaml:16:20: with a hello every 500ms, one lost datagram would kill a member after 1s; make `hello` less than half of `dead_after`; a tenth is usual",
    dead_after_of_twice_the_default_hello_is_refused: { "member.key\n" => "member.key\nliveness: { dead_after: 200ms }\n" }
        "ctsync.yaml:16:25: with a hello every 100ms, one lost datagram would kill a member after 200ms; make `hello` less than half of `dead_after`; a tenth is usual",
    probes_more_seldom_than_half_their_silence_are_refused: { "member.key\n" => "member.key\ninterfaces: { probe: 501ms }\n" }
        "ctsync.yaml:16:22: with a probe every 501ms, one that is lost makes an interface silent for 1s; let `dead_after` be twice `probe` or more, better five times",
    event_buffer_without_unit_is_refused: { "member.key\n" => "member.key\nkernel: { event_buffer: 67108864 }\n" }
        "ctsync.yaml:16:25: `event_buffer` is `67108864`, which is not a size; write a whole number and its unit, KiB, MiB or GiB, such as 64MiB",
    event_buffer_below_1mib_is_refused: { "member.key\n" => "member.key\nkernel: { event_buffer: 512KiB }\n" }
        "ctsync.yaml:16:25: `event_buffer` cannot be 512KiB; choose from 1MiB to 512MiB",
    event_buffer_above_512mib_is_refused: { "member.key\n" => "member.key\nkernel: { event_buffer: 1GiB }\n" }
        "ctsync.yaml:16:25: `event_buffer` cannot be 1GiB; choose from 1MiB to 512MiB",
    event_buffer_that_overflows_is_refused: { "member.key\n" => "member.key\nkernel: { event_buffer: 18446744073709551615GiB }\n" }
        "ctsync.yaml:16:25: `event_buffer` is `18446744073709551615GiB`, which is not a size; write a whole number and its unit, KiB, MiB or GiB, such as 64MiB",
    mark_mask_of_33_bits_is_refused: { "member.key\n" => "member.key\nkernel: { mark_mask: 0x1ffffffff }\n" }
        "ctsync.yaml:16:22: `mark_mask` is `0x1ffffffff`, which is not a mask of 32 bits; write it as 0x0000ffff",
    mark_mask_in_words_is_refused: { "member.key\n" => "member.key\nkernel: { mark_mask: all }\n" }
        "ctsync.yaml:16:22: `mark_mask` is `all`, which is not a mask of 32 bits; write it as 0x0000ffff",
    label_mask_of_129_bits_is_refused: { "member.key\n" => "member.key\nkernel: { label_mask: 0x1ffffffffffffffffffffffffffffffff }\n" }
        "ctsync.yaml:16:23: `label_mask` is `0x1ffffffffffffffffffffffffffffffff`, which is not a mask of 128 bits; write it as 0xffff, label 0 the lowest, or none",
    copy_bit_32_is_refused: { "member.key\n" => "member.key\nkernel: { copy_bit: 32 }\n" }
        "ctsync.yaml:16:21: `copy_bit` is `32`, which is not a bit of the connmark; write its number, 0 to 31, or none",
    mark_mask_with_the_copy_bit_is_refused: { "member.key\n" => "member.key\nkernel: { mark_mask: 0xffffffff }\n" }
        "ctsync.yaml:16:22: `mark_mask` has bit 31, which marks copies and is not replicated; take it out of the mask, or set `copy_bit` to one that you do not use, or to none",
    metrics_for_everyone_are_refused: { "member.key\n" => "member.key\nmetrics: { listen: 0.0.0.0:9116 }\n" }
        "ctsync.yaml:16:20: `0.0.0.0:9116` is no loopback address with a port, and no path; write one such as 127.0.0.1:9116, or the path of a socket: nobody is asked there who he is",
    same_socket_twice_is_refused: { "member.key\n" => "member.key\ncontrol: { monitor_socket: /run/ctsync/control.sock }\n" }
        "ctsync.yaml:16:28: the socket for monitoring is the control socket; give it a path of its own, such as /run/ctsync-monitor/monitor.sock",
    relative_socket_is_refused: { "member.key\n" => "member.key\ncontrol: { socket: control.sock }\n" }
        "ctsync.yaml:16:20: `socket` is `control.sock`, which depends on where the daemon starts; begin it with `/`",
    text_for_a_list_is_refused: { "networks:\n  - name: sync\n    interface: eth2\n" => "networks: sync\n" }
        "ctsync.yaml:12:11: this is of another kind than it has to be; write a list here",
}

#[test]
fn empty_list_of_members_is_refused() {
    let (head, rest) = GOOD.split_once("members:\n").unwrap();
    let (_, tail) = rest.split_once("networks:\n").unwrap();
    assert_eq!(
        refusal(&format!("{head}members: []\nnetworks:\n{tail}")),
        "ctsync.yaml:3:10: a cluster has two members or more, here are none; list every member, this machine too"
    );
}

#[test]
fn seventeen_members_are_too_many() {
    let member = |id| {
        format!(
            "  - {{ id: {id}, name: m{id}, addresses: {{ sync: 192.0.2.{id} }}, public_key: x }}\n"
        )
    };
    let members: String = (3..=17).map(member).collect();
    assert_eq!(
        refusal(&GOOD.replace("networks:\n", &format!("{members}networks:\n"))),
        "ctsync.yaml:4:3: 17 members are listed; list at most 16"
    );
}

#[test]
fn socket_path_of_108_bytes_is_refused() {
    assert_eq!(
        refusal(&format!("{GOOD}control:\n  socket: /{}\n", "s".repeat(107))),
        "ctsync.yaml:17:11: the path of the socket has 108 bytes; choose one of at most 107: sockets can have no longer ones"
    );
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    for depth in [17, 1_000, 50_000] {
        let text = GOOD.replace("cluster: 7", &format!("cluster: {}", "[".repeat(depth)));
        assert!(
            refusal(&text).starts_with("ctsync.yaml:1:"),
            "depth {depth}"
        );
    }
}

#[test]
fn file_cut_anywhere_is_judged_without_a_panic() {
    for end in 0..GOOD.len() {
        let _ = super::Config::parse(&GOOD[..end], std::path::Path::new("ctsync.yaml"));
    }
}
