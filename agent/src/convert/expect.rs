//! Expectations, between the kernel's view and the protocol's.

use super::{address, ip, tuple_key};
use ccp::record::{self, Endpoint, Expectation, Family, FlowKey, FlowState, ZoneDirection};
use conntrack::expect::Translator;
use conntrack::{L4, Tuple};
use std::net::IpAddr;

/// Which flow announced an expectation, and what it is.
pub fn expectation(told: &conntrack::Expectation) -> (FlowKey, Expectation) {
    // A helper that the expected flow is to have cannot be told from the one of its master: the kernel names the latter.
    let conntrack::Expectation {
        master,
        zone,
        tuple,
        mask,
        timeout,
        flags,
        class,
        helper: _,
        nat,
        translator,
    } = told;
    let expectation = Expectation {
        proto: tuple.proto,
        src: address(tuple.src),
        dst: address(tuple.dst),
        l4: ports(tuple),
        src_mask: address(mask.src),
        src_port_mask: ports(mask)[0],
        timeout_secs: u16::try_from(*timeout).unwrap_or(u16::MAX),
        flags: flags.to_le_bytes()[0],
        class: class.to_le_bytes()[0],
        nat: nat.map(|(direction, to)| {
            let endpoint = Endpoint {
                address: address(to.src),
                port: ports(&to)[0],
            };
            (u8::from(direction != 0), endpoint)
        }),
        translator: translator.map(|it| match it {
            Translator::FollowMaster => record::Translator::FollowMaster,
            Translator::Sip => record::Translator::Sip,
        }),
    };
    (tuple_key(master, *zone, ZoneDirection::Both), expectation)
}

/// What the kernel is asked to expect with a flow.
pub fn expected(key: &FlowKey, state: &FlowState) -> Vec<conntrack::Expectation> {
    let expected = state.extra.iter().flat_map(|extra| &extra.expected);
    expected.map(|it| of_master(key, it)).collect()
}

fn of_master(key: &FlowKey, expectation: &Expectation) -> conntrack::Expectation {
    let Expectation {
        proto,
        src,
        dst,
        l4,
        src_mask,
        src_port_mask,
        timeout_secs,
        flags,
        class,
        nat,
        translator,
    } = *expectation;
    let family = key.family;
    let tuple = |src, dst, [src_port, dst_port]: [u16; 2]| Tuple {
        src: ip(family, &src),
        dst: ip(family, &dst),
        proto,
        l4: L4::Ports {
            src: src_port,
            dst: dst_port,
        },
        zone: 0,
    };
    conntrack::Expectation {
        master: super::tuple(key),
        zone: key.zone,
        tuple: tuple(src, dst, l4),
        mask: tuple(src_mask, all_ones(family), [src_port_mask, u16::MAX]),
        timeout: timeout_secs.into(),
        flags: flags.into(),
        class: class.into(),
        helper: None,
        nat: nat
            .map(|(direction, to)| (direction.into(), tuple(to.address, [0; 16], [to.port, 0]))),
        translator: translator.map(|it| match it {
            record::Translator::FollowMaster => Translator::FollowMaster,
            record::Translator::Sip => Translator::Sip,
        }),
    }
}

fn ports(tuple: &Tuple) -> [u16; 2] {
    match tuple.l4 {
        L4::Ports { src, dst } => [src, dst],
        L4::Icmp { .. } | L4::None => [0, 0],
    }
}

fn all_ones(family: Family) -> [u8; 16] {
    match family {
        Family::V4 => address(IpAddr::from([255; 4])),
        Family::V6 => [255; 16],
    }
}
