//! What is injected is read back: flows to inject, and what of them the kernel changes.

use conntrack::consts::*;
use conntrack::*;

use crate::support::*;

pub const IPS_NAT_MASK: u32 = IPS_SRC_NAT | IPS_DST_NAT;

/// Creates the flow, and sees that the table has it so, by lookup and in the dump.
pub fn assert_comes_back(flow: &Flow) {
    let mut injector = Injector::open().expect("an injector");
    create(&mut injector, flow);
    assert_in_table(flow);
}

/// Sees that the table has the flow as it was said, by lookup and in the dump.
pub fn assert_in_table(flow: &Flow) {
    let looked_up = find(flow).expect("it is in the table");
    assert_eq!(as_said(&looked_up, flow), liberal(flow));
    let dumped = dump()
        .into_iter()
        .find(|dumped| dumped.id == looked_up.id)
        .expect("it is in the table");
    assert_eq!(as_said(&dumped, flow), liberal(flow));
}

/// A flow of the table without what the kernel adds to what was said: its id, bits of the status, a mark of 0, a few
/// seconds that passed.
pub fn as_said(found: &Flow, said: &Flow) -> Flow {
    const OURS: u32 =
        IPS_EXPECTED | IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED | IPS_NAT_MASK | IPS_SEQ_ADJUST;
    let (left, full) = (
        found.timeout.expect("entries have a timeout"),
        said.timeout.expect("it was said"),
    );
    assert!(
        full - 30 <= left && left <= full,
        "{full} s became {left} s"
    );
    Flow {
        id: None,
        status: found.status.map(|status| status & OURS),
        timeout: said.timeout,
        mark: found.mark.filter(|&mark| mark != 0),
        ..*found
    }
}

/// The flow with the TCP flags that the kernel is told instead of those said.
pub fn liberal(flow: &Flow) -> Flow {
    let protoinfo = flow.protoinfo.map(|protoinfo| match protoinfo {
        ProtoInfo::Tcp(tcp) => ProtoInfo::Tcp(TcpInfo {
            flags: tcp
                .flags
                .map(|flags| flags.map(|flags| flags | IP_CT_TCP_FLAG_BE_LIBERAL)),
            ..tcp
        }),
        other => other,
    });
    Flow { protoinfo, ..*flow }
}

pub fn plain(orig: Tuple) -> Flow {
    Flow {
        status: Some(IPS_SEEN_REPLY | IPS_CONFIRMED),
        timeout: Some(300),
        ..Flow::new(orig)
    }
}

pub fn icmp(src: &str, dst: &str, proto: u8, kind: u8) -> Tuple {
    Tuple {
        src: ip(src),
        dst: ip(dst),
        proto,
        l4: L4::Icmp {
            kind,
            code: 0,
            id: 0x1234,
        },
        zone: 0,
    }
}

/// What the kernel's tracker of the protocol would know.
pub fn protoinfo_of(proto: u8) -> Option<ProtoInfo> {
    match proto {
        IPPROTO_TCP => tcp_flow(0).protoinfo,
        IPPROTO_SCTP => Some(ProtoInfo::Sctp(SctpInfo {
            state: 4,
            vtag: [0x1111_2222, 0x3333_4444],
        })),
        IPPROTO_DCCP => Some(ProtoInfo::Dccp(DccpInfo {
            state: 4,
            role: 1,
            handshake_seq: 0x0102_0304_0506,
        })),
        _ => None,
    }
}

pub const FAMILIES: [[&str; 4]; 2] = [
    ["10.1.0.1", "192.0.2.80", "198.51.100.7", "10.9.0.80"],
    ["fd01::1", "2001:db8::80", "2001:db8:7::7", "fd09::80"],
];
