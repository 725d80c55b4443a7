//! What `netlink-bindings`, generated from the kernel's own description of ctnetlink, reads in a message.

use std::net::IpAddr;

use conntrack::{
    Counters, DccpInfo, Flow, HelperName, L4, ProtoInfo, SctpInfo, SeqAdj, SynProxy, TcpInfo, Tuple,
};
use netlink_bindings::conntrack::{
    ConntrackAttrs, IterableConntrackAttrs, IterableProtoinfoAttrs, IterableSeqadjAttrs,
    IterableTupleAttrs,
};

/// A `nlmsghdr` and a `nfgenmsg`.
const HEADERS: usize = 20;

/// The flow of a message.
pub fn flow(message: &[u8]) -> Flow {
    let attributes: IterableConntrackAttrs<'_> = ConntrackAttrs::new(&message[HEADERS..]);
    let synproxy = attributes.get_synproxy().ok().map(|synproxy| SynProxy {
        isn: synproxy.get_isn().expect("isn"),
        its: synproxy.get_its().expect("its"),
        tsoff: synproxy.get_tsoff().expect("tsoff"),
    });
    Flow {
        orig: tuple(&attributes.get_tuple_orig().expect("orig")),
        reply: tuple(&attributes.get_tuple_reply().expect("reply")),
        zone: attributes.get_zone().unwrap_or(0),
        id: attributes.get_id().ok(),
        status: attributes.get_status().ok(),
        timeout: attributes.get_timeout().ok(),
        mark: attributes.get_mark().ok(),
        protoinfo: attributes
            .get_protoinfo()
            .ok()
            .and_then(|protoinfo| self::protoinfo(&protoinfo)),
        labels: attributes
            .get_labels()
            .ok()
            .map(|labels| labels.try_into().expect("128 bits")),
        helper: attributes.get_help().ok().map(|help| {
            let name = help.get_help_name().expect("name").to_str().expect("ASCII");
            HelperName::new(name).expect("a name")
        }),
        master: attributes
            .get_tuple_master()
            .ok()
            .map(|master| tuple(&master)),
        seq_adj: [
            attributes.get_seq_adj_orig(),
            attributes.get_seq_adj_reply(),
        ]
        .map(|adj| adj.ok().map(|adj| seq_adj(&adj))),
        // An empty one means that a request created the entry.
        synproxy: synproxy.filter(|synproxy| {
            *synproxy
                != SynProxy {
                    isn: 0,
                    its: 0,
                    tsoff: 0,
                }
        }),
        start_nanos: start_nanos(&message[HEADERS..]),
        counters: attributes
            .get_counters_orig()
            .ok()
            .zip(attributes.get_counters_reply().ok())
            .map(|(orig, reply)| {
                [orig, reply].map(|it| Counters {
                    packets: it.get_packets().expect("packets"),
                    bytes: it.get_bytes().expect("bytes"),
                })
            }),
    }
}

/// The specification has no attribute 20; its nest begins with the time, attribute 1, of eight bytes.
fn start_nanos(mut attributes: &[u8]) -> Option<u64> {
    while let [len0, len1, kind0, kind1, rest @ ..] = attributes {
        let len = usize::from(u16::from_ne_bytes([*len0, *len1]));
        let kind = u16::from_ne_bytes([*kind0, *kind1]) & 0x3fff;
        if kind == 20 {
            return Some(u64::from_be_bytes(
                rest[4..12].try_into().expect("eight bytes"),
            ));
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn tuple(attributes: &IterableTupleAttrs<'_>) -> Tuple {
    let addresses = attributes.get_tuple_ip().expect("addresses");
    let v4 = |address| IpAddr::V4(address);
    let proto = attributes.get_tuple_proto().expect("protocol");
    let icmp = (
        proto.get_proto_icmp_type(),
        proto.get_proto_icmp_code(),
        proto.get_proto_icmp_id(),
    );
    let icmpv6 = (
        proto.get_proto_icmpv6_type(),
        proto.get_proto_icmpv6_code(),
        proto.get_proto_icmpv6_id(),
    );
    let l4 = match (
        proto.get_proto_src_port(),
        proto.get_proto_dst_port(),
        icmp,
        icmpv6,
    ) {
        (Ok(src), Ok(dst), ..) => L4::Ports { src, dst },
        (_, _, (Ok(kind), Ok(code), Ok(id)), _) | (_, _, _, (Ok(kind), Ok(code), Ok(id))) => {
            L4::Icmp { kind, code, id }
        }
        _ => L4::None,
    };
    Tuple {
        src: addresses
            .get_ip_v4_src()
            .map(v4)
            .unwrap_or_else(|_| addresses.get_ip_v6_src().expect("src").into()),
        dst: addresses
            .get_ip_v4_dst()
            .map(v4)
            .unwrap_or_else(|_| addresses.get_ip_v6_dst().expect("dst").into()),
        proto: proto.get_proto_num().expect("number"),
        l4,
        zone: attributes.get_tuple_zone().unwrap_or(0),
    }
}

fn protoinfo(attributes: &IterableProtoinfoAttrs<'_>) -> Option<ProtoInfo> {
    if let Ok(tcp) = attributes.get_protoinfo_tcp() {
        let flags = tcp
            .get_tcp_flags_original()
            .ok()
            .zip(tcp.get_tcp_flags_reply().ok());
        let wscale = tcp
            .get_tcp_wscale_original()
            .ok()
            .zip(tcp.get_tcp_wscale_reply().ok());
        return Some(ProtoInfo::Tcp(TcpInfo {
            state: tcp.get_tcp_state().expect("state"),
            wscale: wscale.map(|(orig, reply)| [orig, reply]),
            flags: flags.map(|(orig, reply)| [orig.flags, reply.flags]),
        }));
    }
    if let Ok(sctp) = attributes.get_protoinfo_sctp() {
        return Some(ProtoInfo::Sctp(SctpInfo {
            state: sctp.get_sctp_state().expect("state"),
            vtag: [
                sctp.get_vtag_original().unwrap_or(0),
                sctp.get_vtag_reply().unwrap_or(0),
            ],
        }));
    }
    let dccp = attributes.get_protoinfo_dccp().ok()?;
    Some(ProtoInfo::Dccp(DccpInfo {
        state: dccp.get_dccp_state().expect("state"),
        role: dccp.get_dccp_role().unwrap_or(0),
        handshake_seq: dccp.get_dccp_handshake_seq().unwrap_or(0),
    }))
}

fn seq_adj(attributes: &IterableSeqadjAttrs<'_>) -> SeqAdj {
    SeqAdj {
        correction_pos: attributes.get_correction_pos().expect("position"),
        offset_before: attributes.get_offset_before().expect("before"),
        offset_after: attributes.get_offset_after().expect("after"),
    }
}
