use super::*;

fn steering(firsts: Firsts) -> Steering {
    Steering {
        copy_bit: CopyBit::new(31).unwrap(),
        firsts,
        translation_is_known: true,
    }
}

fn two_prefixes() -> Firsts {
    let prefix = |address: &str, bits| (address.parse().unwrap(), bits);
    Firsts::To([prefix("203.0.113.0", 24), prefix("2001:db8::", 64)].into())
}

#[test]
fn nftables_holds_all_first_packets_and_the_answers_that_hit_a_copy() {
    assert_eq!(
        steering(Firsts::All).section().text,
        "chain hold {\n\
         \ttype filter hook postrouting priority 200; policy accept;\n\
         \ttcp flags & (fin | syn | rst | ack) == syn | ack ct mark & 0x80000000 != 0 queue flags bypass to 8116\n\
         \ttcp flags & (fin | syn | rst | ack) == syn ct state new queue flags bypass to 8116\n\
         }\n"
    );
}

#[test]
fn destinations_are_sets_of_nftables_that_can_be_replaced_alone() {
    let text = steering(two_prefixes()).section().text;
    assert!(text.contains(
        "set suspected_ip {\n\ttype ipv4_addr\n\tflags interval\n\tauto-merge\n\telements = { 203.0.113.0/24 }\n}\n"
    ));
    assert!(text.contains("ct state new ct original ip6 daddr @suspected_ip6 queue"));
    assert_eq!(
        steering(two_prefixes()).replace_destinations(),
        "flush set inet ctsync suspected_ip\n\
         add element inet ctsync suspected_ip { 203.0.113.0/24 }\n\
         flush set inet ctsync suspected_ip6\n\
         add element inet ctsync suspected_ip6 { 2001:db8::/64 }\n"
    );
    assert_eq!(
        steering(Firsts::To(BTreeSet::new())).replace_destinations(),
        "flush set inet ctsync suspected_ip\nflush set inet ctsync suspected_ip6\n"
    );
}

#[test]
fn iptables_has_a_rule_for_each_destination_and_leaves_translated_flows_alone_where_nobody_says_how()
 {
    let steering = Steering {
        translation_is_known: false,
        ..steering(two_prefixes())
    };
    assert_eq!(
        steering.iptables(true),
        "*mangle\n\
         :ctsync-hold - [0:0]\n\
         -A ctsync-hold -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK -m connmark --mark 0x80000000/0x80000000 \
         -m conntrack ! --ctstate SNAT,DNAT -j NFQUEUE --queue-num 8116 --queue-bypass\n\
         -A ctsync-hold -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW \
         -m conntrack ! --ctstate SNAT,DNAT -m conntrack --ctorigdst 203.0.113.0/24 \
         -j NFQUEUE --queue-num 8116 --queue-bypass\n\
         COMMIT\n"
    );
    assert!(
        steering
            .iptables(false)
            .contains("--ctorigdst 2001:db8::/64")
    );
}
