//! The one place where the kernel's view of a flow becomes the protocol's, and back.
//!
//! Every field is taken apart by name: a field that is new on either side does not compile until someone decides here
//! what becomes of it.

pub use expect::{expectation, expected};

mod expect;

use crate::ruleset::CopyBit;
use ccp::record::{
    Address, Endpoint, Extra, Family, FlowKey, FlowState, Helper, Nat, Packets, Patch, SeqAdj,
    Status, SynProxy, TcpOptions, ZoneDirection,
};
use ccp::wire::flow::{DCCP, SCTP, TCP, has_l4};
use conntrack::consts::{
    IP_CT_TCP_FLAG_BE_LIBERAL, IPPROTO_ICMP, IPPROTO_ICMPV6, IPS_ASSURED, IPS_SEEN_REPLY,
};
use conntrack::{DccpInfo, Flow, HelperName, L4, Labels, ProtoInfo, SctpInfo, TcpInfo, Tuple};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which parts of a flow that belong to the operator are replicated.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// Bits of the connmark.
    pub mark_mask: u32,
    /// Marks a copy in the connmark, if the kernel clears it with the first packet.
    pub copy_bit: Option<CopyBit>,
    /// Connection labels, which some modules use as pointers.
    pub label_mask: Labels,
}

/// The key of a flow.
pub fn key(flow: &Flow) -> FlowKey {
    let (zone, zone_direction) = match (flow.zone, flow.orig.zone, flow.reply.zone) {
        (0, 0, 0) => (0, ZoneDirection::Both),
        (0, 0, reply) => (reply, ZoneDirection::Reply),
        (0, original, _) => (original, ZoneDirection::Original),
        (both, _, _) => (both, ZoneDirection::Both),
    };
    tuple_key(&flow.orig, zone, zone_direction)
}

/// The key of the master of a flow, which is in the flow's zone.
pub fn master_key(flow: &FlowKey, master: &Tuple) -> FlowKey {
    tuple_key(master, flow.zone, flow.zone_direction)
}

fn tuple_key(tuple: &Tuple, zone: u16, zone_direction: ZoneDirection) -> FlowKey {
    let Tuple {
        src,
        dst,
        proto,
        l4,
        zone: _,
    } = *tuple;
    let family = if src.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let l4 = match l4 {
        L4::Ports { src, dst } => [src, dst],
        L4::Icmp { kind, code, id } => [id, u16::from_be_bytes([kind, code])],
        L4::None => [0, 0],
    };
    FlowKey {
        src: address(src),
        dst: address(dst),
        l4,
        zone,
        proto,
        family,
        zone_direction,
    }
}

/// What a message of the kernel says of a flow, as far as it is replicated.
pub fn patch(flow: &Flow, shared: Shared) -> Patch {
    // The identifier is of this kernel's table alone, and when the flow began says nothing of what it is.
    let Flow {
        orig,
        reply,
        zone: _,
        id: _,
        status,
        timeout,
        mark,
        protoinfo,
        labels,
        helper,
        master,
        seq_adj,
        synproxy,
        start_nanos: _,
        counters: _,
    } = flow;
    let mut extra = Extra {
        labels: labels
            .filter(|_| shared.label_mask != Labels::default())
            .map(|labels| std::array::from_fn(|at| labels[at] & shared.label_mask[at])),
        helper: helper
            .as_ref()
            .and_then(|name| Helper::new(name.as_str().as_bytes())),
        master: master
            .as_ref()
            .map(|master| tuple_key(master, 0, ZoneDirection::Both)),
        seq_adj: seq_adj.map(|seq_adj| seq_adj.map(seq_adj_of)),
        synproxy: synproxy.map(|conntrack::SynProxy { isn, its, tsoff }| SynProxy {
            isn,
            its,
            tsoff,
        }),
        sctp_vtag: None,
        dccp: None,
        // They have events of their own.
        expected: Vec::new(),
    };
    let (mut proto_state, mut tcp) = (None, None);
    match protoinfo {
        Some(ProtoInfo::Tcp(TcpInfo {
            state,
            wscale,
            flags,
        })) => {
            proto_state = Some(*state);
            let options = TcpOptions {
                wscale: nibbles(wscale.unwrap_or_default()),
                // Every entry that is injected is liberal, so that one is says nothing.
                flags: nibbles(
                    flags
                        .unwrap_or_default()
                        .map(|flags| flags & !IP_CT_TCP_FLAG_BE_LIBERAL),
                ),
            };
            tcp = Some(options);
        }
        Some(ProtoInfo::Sctp(SctpInfo { state, vtag })) => {
            proto_state = Some(*state);
            extra.sctp_vtag = Some(*vtag);
        }
        Some(ProtoInfo::Dccp(DccpInfo {
            state,
            role,
            handshake_seq,
        })) => {
            proto_state = Some(*state);
            extra.dccp = Some((*role, *handshake_seq));
        }
        None => {}
    }
    Patch {
        timeout_secs: *timeout,
        mark: mark.map(|mark| mark & shared.mark_mask),
        status: status.map(|status| Status {
            seen_reply: status & IPS_SEEN_REPLY != 0,
            assured: status & IPS_ASSURED != 0,
        }),
        proto_state,
        tcp,
        nat: nat(orig, reply),
        extra: (extra != Extra::default()).then_some(extra),
        // A message without a mark is of an entry whose mark is 0.
        packets: shared
            .copy_bit
            .map(|bit| match mark.unwrap_or(0) & bit.mask() {
                0 => Packets::Passed,
                _ => Packets::None,
            }),
    }
}

fn seq_adj_of(seq_adj: conntrack::SeqAdj) -> SeqAdj {
    let conntrack::SeqAdj {
        correction_pos,
        offset_before,
        offset_after,
    } = seq_adj;
    SeqAdj {
        correction_pos,
        offset_before,
        offset_after,
    }
}

/// The original direction's byte in the high nibble, the reply's in the low one. Of the flags the low four are told:
/// the others are about packets in flight.
fn nibbles([original, reply]: [u8; 2]) -> u8 {
    (original & 0x0f) << 4 | reply & 0x0f
}

fn from_nibbles(both: u8) -> [u8; 2] {
    [both >> 4, both & 0x0f]
}

/// What the difference between the reply direction and the mirror of the original one says.
fn nat(orig: &Tuple, reply: &Tuple) -> Nat {
    let plain = orig.mirror();
    let moved = |seen: (IpAddr, u16), plain: (IpAddr, u16)| {
        (seen != plain).then(|| Endpoint {
            address: address(seen.0),
            port: seen.1,
        })
    };
    Nat {
        src: moved(destination(reply), destination(&plain)),
        dst: moved(source(reply), source(&plain)),
    }
}

fn source(tuple: &Tuple) -> (IpAddr, u16) {
    match tuple.l4 {
        L4::Ports { src, .. } => (tuple.src, src),
        // The identifier belongs to the side that asked: it is translated with the source of the original direction,
        // which is the destination of the reply.
        L4::Icmp { .. } | L4::None => (tuple.src, 0),
    }
}

fn destination(tuple: &Tuple) -> (IpAddr, u16) {
    match tuple.l4 {
        L4::Ports { dst, .. } => (tuple.dst, dst),
        L4::Icmp { id, .. } => (tuple.dst, id),
        L4::None => (tuple.dst, 0),
    }
}

/// The flow as the kernel is asked to have it: a copy.
pub fn flow(key: &FlowKey, state: &FlowState, shared: Shared) -> Flow {
    let FlowKey {
        src: _,
        dst: _,
        l4: _,
        zone,
        proto,
        family,
        zone_direction,
    } = *key;
    let FlowState {
        timeout_secs,
        mark,
        status,
        proto_state,
        tcp,
        nat,
        extra,
    } = state;
    let mut orig = tuple(key);
    let mut reply = orig.mirror();
    let mut flow = Flow::new(orig);
    if let Some(nat) = nat {
        translate(&mut reply, family, nat);
    }
    match zone_direction {
        ZoneDirection::Both => flow.zone = zone,
        ZoneDirection::Original => orig.zone = zone,
        ZoneDirection::Reply => reply.zone = zone,
    }
    flow.orig = orig;
    flow.reply = reply;
    flow.timeout = Some(*timeout_secs);
    // A peer may replicate bits that are no one's but the operator's here, or mark our copies.
    flow.mark = Some(*mark & shared.mark_mask | shared.copy_bit.map_or(0, CopyBit::mask));
    let seen_reply = if status.seen_reply { IPS_SEEN_REPLY } else { 0 };
    flow.status = Some(seen_reply | if status.assured { IPS_ASSURED } else { 0 });
    let Extra {
        labels,
        helper,
        master,
        seq_adj,
        synproxy,
        sctp_vtag,
        dccp,
        // They are asked for apart, after their master.
        expected: _,
    } = extra.as_deref().cloned().unwrap_or_default();
    flow.protoinfo = match proto {
        TCP => Some(ProtoInfo::Tcp(TcpInfo {
            state: *proto_state,
            wscale: Some(from_nibbles(tcp.wscale)),
            flags: Some(from_nibbles(tcp.flags)),
        })),
        SCTP => Some(ProtoInfo::Sctp(SctpInfo {
            state: *proto_state,
            vtag: sctp_vtag.unwrap_or_default(),
        })),
        DCCP => dccp.map(|(role, handshake_seq)| {
            ProtoInfo::Dccp(DccpInfo {
                state: *proto_state,
                role,
                handshake_seq,
            })
        }),
        _ => None,
    };
    flow.labels = labels;
    flow.helper =
        helper.and_then(|name| HelperName::new(std::str::from_utf8(name.as_bytes()).ok()?));
    flow.master = master.as_ref().map(tuple);
    flow.seq_adj = seq_adj.map(|seq_adj| {
        seq_adj.map(
            |SeqAdj {
                 correction_pos,
                 offset_before,
                 offset_after,
             }| conntrack::SeqAdj {
                correction_pos,
                offset_before,
                offset_after,
            },
        )
    });
    flow.synproxy =
        synproxy.map(|SynProxy { isn, its, tsoff }| conntrack::SynProxy { isn, its, tsoff });
    flow
}

/// The original direction, without its zone.
fn tuple(key: &FlowKey) -> Tuple {
    let [first, second] = key.l4;
    let l4 = match key.proto {
        IPPROTO_ICMP | IPPROTO_ICMPV6 => {
            let [kind, code] = second.to_be_bytes();
            L4::Icmp {
                kind,
                code,
                id: first,
            }
        }
        proto if has_l4(proto) => L4::Ports {
            src: first,
            dst: second,
        },
        _ => L4::None,
    };
    Tuple {
        src: ip(key.family, &key.src),
        dst: ip(key.family, &key.dst),
        proto: key.proto,
        l4,
        zone: 0,
    }
}

fn translate(reply: &mut Tuple, family: Family, nat: &Nat) {
    if let Some(src) = &nat.src {
        reply.dst = ip(family, &src.address);
        match &mut reply.l4 {
            L4::Ports { dst, .. } => *dst = src.port,
            L4::Icmp { id, .. } => *id = src.port,
            L4::None => {}
        }
    }
    if let Some(dst) = &nat.dst {
        reply.src = ip(family, &dst.address);
        match &mut reply.l4 {
            L4::Ports { src, .. } => *src = dst.port,
            L4::Icmp { .. } | L4::None => {}
        }
    }
}

fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The address of a key or of an endpoint, as the standard library has it.
pub fn ip(family: Family, address: &Address) -> IpAddr {
    match family {
        Family::V4 => {
            let [a, b, c, d, ..] = *address;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from(*address)),
    }
}

#[cfg(test)]
mod tests;
