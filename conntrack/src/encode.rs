//! Requests to ctnetlink: create, update, delete, look up, dump.
//!
//! What a request must say, and must not, is the kernel's (`net/netfilter/nf_conntrack_netlink.c`):
//!
//! - **NAT** is taken only at creation, from `CTA_NAT_SRC` and `CTA_NAT_DST`, on a reply tuple that is the plain mirror
//!   of the original one; the kernel makes the translated one of it (`ctnetlink_setup_nat`). Both are always said, with
//!   one address and one port each: for a direction left out, or a port not said, the kernel would choose, and could
//!   choose another port than the flow has.
//! - **Status**: only [`IPS_SEEN_REPLY`], [`IPS_ASSURED`] and [`IPS_FIXED_TIMEOUT`] are ours to set. The rest follows
//!   from what is created (NAT, helper, master, sequence adjustment) or must be said as it is (confirmed; expected in
//!   an update), else the kernel answers EBUSY (`nf_ct_change_status_common`).
//! - **TCP** windows can't be set, so both directions are made liberal; flags are only added.
//! - **Zone**: of the flow or of a tuple, not both, else EINVAL; a master has none, it is sought in the flow's.

use std::net::IpAddr;

use crate::consts::*;
use crate::flow::{Flow, L4, Labels, ProtoInfo, SeqAdj, TcpInfo, Tuple};
use crate::inject::InjectorOptions;
use crate::nfnl::Builder;

/// Status bits that a request can set.
const STATUS_SETTABLE: u32 = IPS_SEEN_REPLY | IPS_ASSURED | IPS_FIXED_TIMEOUT;

/// TCP flags that mean something without the kernel's window state, which no message carries.
const TCP_FLAGS_CARRIED: u8 = IP_CT_TCP_FLAG_WINDOW_SCALE
    | IP_CT_TCP_FLAG_SACK_PERM
    | IP_CT_TCP_FLAG_CLOSE_INIT
    | IP_CT_TCP_SIMULTANEOUS_OPEN;

/// Appends a request that creates `flow`, with what `options` has of its mark and labels.
pub(crate) fn create(buffer: &mut Vec<u8>, flow: &Flow, options: &InjectorOptions) {
    let mut request = begin(
        buffer,
        IPCTNL_MSG_CT_NEW,
        NLM_F_CREATE | NLM_F_EXCL,
        &flow.orig,
    );
    put_flow_key(&mut request, flow);
    put_reply(&mut request, flow);
    if let Some(status) = flow.status {
        request.put_be32(CTA_STATUS, status & STATUS_SETTABLE | IPS_CONFIRMED);
    }
    if let Some(timeout) = flow.timeout {
        request.put_be32(CTA_TIMEOUT, timeout);
    }
    if let Some(mark) = flow
        .mark
        .map(|mark| mark & options.mark_mask)
        .filter(|&mark| mark != 0)
    {
        request.put_be32(CTA_MARK, mark);
    }
    if let Some(helper) = flow.helper {
        request.nest(CTA_HELP, |help| help.put(CTA_HELP_NAME, helper.with_nul()));
    }
    if let Some(master) = flow.master {
        put_tuple(&mut request, CTA_TUPLE_MASTER, &Tuple { zone: 0, ..master });
    }
    put_extensions(&mut request, flow, &options.label_mask);
    request.finish();
}

/// Appends a request that writes what `flow` says into the entry of its original tuple, but NAT, helper and master,
/// which can't be changed.
pub(crate) fn update(buffer: &mut Vec<u8>, flow: &Flow, options: &InjectorOptions) {
    let mut request = begin(buffer, IPCTNL_MSG_CT_NEW, 0, &flow.orig);
    put_flow_key(&mut request, flow);
    if let Some(status) = flow.status {
        request.put_be32(
            CTA_STATUS,
            status & (STATUS_SETTABLE | IPS_EXPECTED) | IPS_CONFIRMED,
        );
    }
    // EPERM for a fixed one.
    let fixed = flow
        .status
        .is_some_and(|status| status & IPS_FIXED_TIMEOUT != 0);
    if let Some(timeout) = flow.timeout.filter(|_| !fixed) {
        request.put_be32(CTA_TIMEOUT, timeout);
    }
    if let Some(mark) = flow.mark {
        request.put_be32(CTA_MARK, mark & options.mark_mask);
        request.put_be32(CTA_MARK_MASK, options.mark_mask);
    }
    put_extensions(&mut request, flow, &options.label_mask);
    request.finish();
}

/// Appends a request that deletes the entry of the original tuple and, if said, of the id.
pub(crate) fn delete(buffer: &mut Vec<u8>, flow: &Flow) {
    let mut request = begin(buffer, IPCTNL_MSG_CT_DELETE, 0, &flow.orig);
    put_flow_key(&mut request, flow);
    if let Some(id) = flow.id {
        request.put_be32(CTA_ID, id);
    }
    request.finish();
}

/// Appends a request for one entry.
pub(crate) fn lookup(buffer: &mut Vec<u8>, orig: &Tuple, zone: u16) {
    let mut request = begin(buffer, IPCTNL_MSG_CT_GET, 0, orig);
    put_flow_key(
        &mut request,
        &Flow {
            zone,
            ..Flow::new(*orig)
        },
    );
    request.finish();
}

/// Appends a request for all entries of both families.
pub(crate) fn dump(buffer: &mut Vec<u8>, seq: u32) {
    Builder::request(buffer, IPCTNL_MSG_CT_GET, NLM_F_DUMP, seq, AF_UNSPEC).finish();
}

/// Appends a request for the number of entries: it changes nothing, and fails as every request would.
pub(crate) fn probe(buffer: &mut Vec<u8>) {
    Builder::request(buffer, IPCTNL_MSG_CT_GET_STATS, NLM_F_ACK, 0, AF_UNSPEC).finish();
}

fn begin<'a>(buffer: &'a mut Vec<u8>, operation: u16, flags: u16, orig: &Tuple) -> Builder<'a> {
    Builder::request(buffer, operation, flags, 0, family(orig))
}

/// The address family of a tuple, as requests name it.
pub(crate) fn family(tuple: &Tuple) -> u8 {
    if tuple.src.is_ipv4() {
        AF_INET
    } else {
        AF_INET6
    }
}

/// The original tuple and the zone: what the kernel finds an entry by.
fn put_flow_key(request: &mut Builder<'_>, flow: &Flow) {
    put_tuple(request, CTA_TUPLE_ORIG, &flow.orig);
    if flow.zone != 0 {
        request.put_be16(CTA_ZONE, flow.zone);
    }
}

/// The reply tuple before NAT, and the NAT that makes it the one of `flow`.
fn put_reply(request: &mut Builder<'_>, flow: &Flow) {
    let mut mirror = Tuple {
        zone: flow.reply.zone,
        ..flow.orig.mirror()
    };
    let translated = mirror != flow.reply;
    if flow.orig.proto == IPPROTO_GRE {
        // The kernel translates keys only for a flow that has its master already, which one being created has not
        // (`nf_nat_l4proto_unique_tuple`); said as they are, it leaves them alone.
        mirror.l4 = flow.reply.l4;
    }
    put_tuple(request, CTA_TUPLE_REPLY, &mirror);
    if translated {
        let (src, dst) = nat_ids(&flow.orig.l4, &flow.reply.l4).unzip();
        put_nat(request, CTA_NAT_SRC, flow.reply.dst, src);
        put_nat(request, CTA_NAT_DST, flow.reply.src, dst);
    }
}

/// The ports, or what the kernel translates like a port, that the source and the destination become.
fn nat_ids(orig: &L4, reply: &L4) -> Option<(u16, u16)> {
    match (orig, reply) {
        (L4::Ports { .. }, L4::Ports { src, dst }) => Some((*dst, *src)),
        // An ICMP identifier belongs to the source.
        (L4::Icmp { id: before, .. }, L4::Icmp { id: after, .. }) => Some((*after, *before)),
        _ => None,
    }
}

fn put_nat(request: &mut Builder<'_>, kind: u16, address: IpAddr, id: Option<u16>) {
    request.nest(kind, |nat| {
        match address {
            IpAddr::V4(address) => nat.put(CTA_NAT_V4_MINIP, &address.octets()),
            IpAddr::V6(address) => nat.put(CTA_NAT_V6_MINIP, &address.octets()),
        }
        if let Some(id) = id {
            nat.nest(CTA_NAT_PROTO, |proto| {
                proto.put_be16(CTA_PROTONAT_PORT_MIN, id)
            });
        }
    });
}

pub(crate) fn put_tuple(request: &mut Builder<'_>, kind: u16, tuple: &Tuple) {
    request.nest(kind, |nest| {
        nest.nest(CTA_TUPLE_IP, |ip| {
            for (address, v4, v6) in [
                (tuple.src, CTA_IP_V4_SRC, CTA_IP_V6_SRC),
                (tuple.dst, CTA_IP_V4_DST, CTA_IP_V6_DST),
            ] {
                match address {
                    IpAddr::V4(address) => ip.put(v4, &address.octets()),
                    IpAddr::V6(address) => ip.put(v6, &address.octets()),
                }
            }
        });
        nest.nest(CTA_TUPLE_PROTO, |proto| put_proto(proto, tuple));
        if tuple.zone != 0 {
            nest.put_be16(CTA_TUPLE_ZONE, tuple.zone);
        }
    });
}

fn put_proto(proto: &mut Builder<'_>, tuple: &Tuple) {
    proto.put(CTA_PROTO_NUM, &[tuple.proto]);
    match tuple.l4 {
        L4::Ports { src, dst } => {
            proto.put_be16(CTA_PROTO_SRC_PORT, src);
            proto.put_be16(CTA_PROTO_DST_PORT, dst);
        }
        L4::Icmp { kind, code, id } => {
            let kinds = if tuple.proto == IPPROTO_ICMPV6 {
                [
                    CTA_PROTO_ICMPV6_ID,
                    CTA_PROTO_ICMPV6_TYPE,
                    CTA_PROTO_ICMPV6_CODE,
                ]
            } else {
                [CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE]
            };
            proto.put_be16(kinds[0], id);
            proto.put(kinds[1], &[kind]);
            proto.put(kinds[2], &[code]);
        }
        L4::None => {}
    }
}

/// What creation and update say alike.
fn put_extensions(request: &mut Builder<'_>, flow: &Flow, label_mask: &Labels) {
    if let Some(protoinfo) = &flow.protoinfo {
        request.nest(CTA_PROTOINFO, |nest| put_protoinfo(nest, protoinfo));
    }
    for (kind, adj) in [CTA_SEQ_ADJ_ORIG, CTA_SEQ_ADJ_REPLY]
        .into_iter()
        .zip(&flow.seq_adj)
    {
        if let Some(adj) = adj {
            put_seq_adj(request, kind, adj);
        }
    }
    if let Some(synproxy) = flow.synproxy {
        request.nest(CTA_SYNPROXY, |nest| {
            nest.put_be32(CTA_SYNPROXY_ISN, synproxy.isn);
            nest.put_be32(CTA_SYNPROXY_ITS, synproxy.its);
            nest.put_be32(CTA_SYNPROXY_TSOFF, synproxy.tsoff);
        });
    }
    if let Some(labels) = flow.labels {
        request.put(CTA_LABELS, &and(&labels, label_mask));
        request.put(CTA_LABELS_MASK, label_mask);
    }
}

/// The labels that are in both.
fn and(labels: &Labels, mask: &Labels) -> Labels {
    std::array::from_fn(|at| labels[at] & mask[at])
}

fn put_protoinfo(nest: &mut Builder<'_>, protoinfo: &ProtoInfo) {
    match protoinfo {
        ProtoInfo::Tcp(tcp) => nest.nest(CTA_PROTOINFO_TCP, |nest| put_tcp(nest, tcp)),
        ProtoInfo::Sctp(sctp) => nest.nest(CTA_PROTOINFO_SCTP, |nest| {
            nest.put(CTA_PROTOINFO_SCTP_STATE, &[sctp.state]);
            nest.put_be32(CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, sctp.vtag[0]);
            nest.put_be32(CTA_PROTOINFO_SCTP_VTAG_REPLY, sctp.vtag[1]);
        }),
        ProtoInfo::Dccp(dccp) => nest.nest(CTA_PROTOINFO_DCCP, |nest| {
            nest.put(CTA_PROTOINFO_DCCP_STATE, &[dccp.state]);
            nest.put(CTA_PROTOINFO_DCCP_ROLE, &[dccp.role]);
            nest.put(
                CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ,
                &dccp.handshake_seq.to_be_bytes(),
            );
        }),
    }
}

fn put_tcp(nest: &mut Builder<'_>, tcp: &TcpInfo) {
    nest.put(CTA_PROTOINFO_TCP_STATE, &[tcp.state]);
    if let Some([orig, reply]) = tcp.wscale {
        nest.put(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, &[orig]);
        nest.put(CTA_PROTOINFO_TCP_WSCALE_REPLY, &[reply]);
    }
    let flags = tcp
        .flags
        .unwrap_or_default()
        .map(|flags| flags & TCP_FLAGS_CARRIED | IP_CT_TCP_FLAG_BE_LIBERAL);
    // Flags and their mask: what is not in the mask stays as it is.
    nest.put(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &[flags[0], flags[0]]);
    nest.put(CTA_PROTOINFO_TCP_FLAGS_REPLY, &[flags[1], flags[1]]);
}

fn put_seq_adj(request: &mut Builder<'_>, kind: u16, adj: &SeqAdj) {
    request.nest(kind, |nest| {
        nest.put_be32(CTA_SEQADJ_CORRECTION_POS, adj.correction_pos);
        nest.put_be32(CTA_SEQADJ_OFFSET_BEFORE, adj.offset_before);
        nest.put_be32(CTA_SEQADJ_OFFSET_AFTER, adj.offset_after);
    });
}

#[cfg(test)]
mod tests;
