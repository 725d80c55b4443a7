use super::*;
use crate::consts::IPPROTO_GRE;

fn icmp(proto: u8, kind: u8) -> Tuple {
    let l4 = L4::Icmp {
        kind,
        code: 3,
        id: 7,
    };
    Tuple {
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        proto,
        l4,
        zone: 5,
    }
}

#[test]
fn the_mirror_swaps_addresses_and_ports_and_has_no_zone() {
    let l4 = L4::Ports { src: 1, dst: 2 };
    let tuple = Tuple {
        proto: IPPROTO_GRE,
        l4,
        ..icmp(0, 0)
    };
    let l4 = L4::Ports { src: 2, dst: 1 };
    let expected = Tuple {
        src: tuple.dst,
        dst: tuple.src,
        proto: IPPROTO_GRE,
        l4,
        zone: 0,
    };
    assert_eq!(tuple.mirror(), expected);
}

#[test]
fn the_mirror_of_an_icmp_query_is_its_reply_and_back() {
    let kind = |tuple: Tuple| match tuple.l4 {
        L4::Icmp {
            kind,
            code: 3,
            id: 7,
        } => kind,
        other => panic!("{other:?}"),
    };
    let v4 = [(8, 0), (13, 14), (15, 16), (17, 18)].map(|pair| (IPPROTO_ICMP, pair));
    let v6 = [(128, 129), (139, 140)].map(|pair| (IPPROTO_ICMPV6, pair));
    for (proto, (query, reply)) in v4.into_iter().chain(v6) {
        assert_eq!(kind(icmp(proto, query).mirror()), reply);
        assert_eq!(kind(icmp(proto, reply).mirror()), query);
    }
    assert_eq!(kind(icmp(IPPROTO_ICMP, 3).mirror()), 3);
    assert_eq!(kind(icmp(IPPROTO_ICMPV6, 8).mirror()), 8);
}

#[test]
fn a_helper_name_has_1_to_15_bytes_and_no_nul() {
    for name in ["f", "ftp", "123456789012345"] {
        let helper = HelperName::new(name).expect("it is a name");
        assert_eq!(helper.as_str(), name);
        assert_eq!(helper.with_nul(), [name.as_bytes(), &[0]].concat());
        assert_eq!(format!("{helper:?}"), format!("{name:?}"));
    }
    for name in ["", "1234567890123456", "f\0p"] {
        assert_eq!(HelperName::new(name), None);
    }
}
