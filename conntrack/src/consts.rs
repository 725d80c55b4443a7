//! Numbers of the kernel's user interface, under the kernel's names.
//!
//! From `linux/netlink.h`, `linux/netfilter.h`, `linux/netfilter/nfnetlink.h`, `nfnetlink_conntrack.h`,
//! `nf_conntrack_common.h`, `nf_conntrack_tcp.h`, `nf_conntrack_sctp.h`, `nfnetlink_queue.h`, `nf_tables.h`,
//! `nf_tables_compat.h`, `xt_NFQUEUE.h`. Public is what a
//! [`Flow`](crate::flow::Flow) or a [`Held`](crate::queue::Held) packet shows; the rest is for the codec alone.

/// Internet control messages (IPv4).
pub const IPPROTO_ICMP: u8 = 1;
/// Internet control messages (IPv6).
pub const IPPROTO_ICMPV6: u8 = 58;
/// Generic routing encapsulation.
pub const IPPROTO_GRE: u8 = 47;
/// Transmission control protocol.
pub const IPPROTO_TCP: u8 = 6;
/// User datagrams.
pub const IPPROTO_UDP: u8 = 17;
/// User datagrams with a checksum over a part.
pub const IPPROTO_UDPLITE: u8 = 136;
/// Stream control transmission protocol.
pub const IPPROTO_SCTP: u8 = 132;
/// Datagram congestion control protocol.
pub const IPPROTO_DCCP: u8 = 33;

/// The flow was expected by a helper.
pub const IPS_EXPECTED: u32 = 1 << 0;
/// Packets went both ways. Can be set, not cleared.
pub const IPS_SEEN_REPLY: u32 = 1 << 1;
/// Not evicted early when the table is full. Can be set, not cleared.
pub const IPS_ASSURED: u32 = 1 << 2;
/// The entry is in the table.
pub const IPS_CONFIRMED: u32 = 1 << 3;
/// Source translation.
pub const IPS_SRC_NAT: u32 = 1 << 4;
/// Destination translation.
pub const IPS_DST_NAT: u32 = 1 << 5;
/// TCP sequence numbers are adjusted.
pub const IPS_SEQ_ADJUST: u32 = 1 << 6;
/// Packets don't refresh the timeout, and a request can't change it.
pub const IPS_FIXED_TIMEOUT: u32 = 1 << 10;

/// SYN seen.
pub const TCP_CONNTRACK_SYN_SENT: u8 = 1;
/// SYN/ACK seen.
pub const TCP_CONNTRACK_SYN_RECV: u8 = 2;
/// The handshake is complete.
pub const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
/// First FIN seen.
pub const TCP_CONNTRACK_FIN_WAIT: u8 = 4;
/// First FIN acknowledged.
pub const TCP_CONNTRACK_CLOSE_WAIT: u8 = 5;
/// Second FIN seen.
pub const TCP_CONNTRACK_LAST_ACK: u8 = 6;
/// Second FIN acknowledged.
pub const TCP_CONNTRACK_TIME_WAIT: u8 = 7;
/// Reset.
pub const TCP_CONNTRACK_CLOSE: u8 = 8;

/// The sender of this direction scales its window.
pub const IP_CT_TCP_FLAG_WINDOW_SCALE: u8 = 0x01;
/// The sender permits selective acknowledgements.
pub const IP_CT_TCP_FLAG_SACK_PERM: u8 = 0x02;
/// The sender closed first.
pub const IP_CT_TCP_FLAG_CLOSE_INIT: u8 = 0x04;
/// Packets outside of the window are let through.
pub const IP_CT_TCP_FLAG_BE_LIBERAL: u8 = 0x08;
/// Simultaneous open began.
pub const IP_CT_TCP_SIMULTANEOUS_OPEN: u8 = 0x80;

/// INIT seen (the tracker waits for the cookie only after its answer).
pub const SCTP_CONNTRACK_CLOSED: u8 = 1;

/// From one interface to another.
pub const NF_INET_FORWARD: u8 = 2;
/// Of the machine itself.
pub const NF_INET_LOCAL_OUT: u8 = 3;
/// After the route is known.
pub const NF_INET_POST_ROUTING: u8 = 4;

/// The packet is several segments in one.
pub const NFQA_SKB_GSO: u32 = 1 << 1;

macro_rules! wire {
    ($type:ty: $($name:ident = $value:expr),+ $(,)?) => { $(pub(crate) const $name: $type = $value;)+ };
}

wire!(u8: AF_UNSPEC = 0, AF_INET = 2, AF_INET6 = 10);
wire!(u16: NLMSG_ERROR = 2, NLMSG_DONE = 3);
wire!(u16: NLM_F_REQUEST = 0x1, NLM_F_ACK = 0x4, NLM_F_DUMP_INTR = 0x10, NLM_F_DUMP = 0x300, NLM_F_EXCL = 0x200,
    NLM_F_CREATE = 0x400, NLM_F_APPEND = 0x800);
wire!(u16: NLA_F_NESTED = 0x8000, NLA_TYPE_MASK = 0x3fff);
wire!(u16: NFNL_SUBSYS_CTNETLINK = 1, NFNL_SUBSYS_CTNETLINK_EXP = 2, NFNL_SUBSYS_QUEUE = 3,
    NFNL_SUBSYS_NFTABLES = 10, NFNL_MSG_BATCH_BEGIN = 0x10, NFNL_MSG_BATCH_END = 0x11);

wire!(u16: NFT_MSG_NEWRULE = 6, NFTA_LIST_ELEM = 1, NFTA_RULE_TABLE = 1, NFTA_RULE_CHAIN = 2, NFTA_RULE_EXPRESSIONS = 4,
    NFTA_EXPR_NAME = 1, NFTA_EXPR_DATA = 2, NFTA_TARGET_NAME = 1, NFTA_TARGET_REV = 2, NFTA_TARGET_INFO = 3,
    NFQ_FLAG_BYPASS = 1);
wire!(u16: IPCTNL_MSG_CT_NEW = 0, IPCTNL_MSG_CT_GET = 1, IPCTNL_MSG_CT_DELETE = 2, IPCTNL_MSG_CT_GET_STATS = 5);
wire!(u16: IPCTNL_MSG_EXP_NEW = 0, IPCTNL_MSG_EXP_DELETE = 2);
wire!(u32: NFNLGRP_CONNTRACK_NEW = 1, NFNLGRP_CONNTRACK_UPDATE = 2, NFNLGRP_CONNTRACK_DESTROY = 3);
wire!(u32: NFNLGRP_CONNTRACK_EXP_NEW = 4, NFNLGRP_CONNTRACK_EXP_DESTROY = 6);
wire!(u16: CTA_EXPECT_MASTER = 1, CTA_EXPECT_TUPLE = 2, CTA_EXPECT_MASK = 3, CTA_EXPECT_TIMEOUT = 4, CTA_EXPECT_HELP_NAME = 6,
    CTA_EXPECT_ZONE = 7, CTA_EXPECT_FLAGS = 8, CTA_EXPECT_CLASS = 9, CTA_EXPECT_NAT = 10, CTA_EXPECT_FN = 11);
wire!(u16: CTA_EXPECT_NAT_DIR = 1, CTA_EXPECT_NAT_TUPLE = 2);

wire!(u16: CTA_TUPLE_ORIG = 1, CTA_TUPLE_REPLY = 2, CTA_STATUS = 3, CTA_PROTOINFO = 4, CTA_HELP = 5, CTA_NAT_SRC = 6,
    CTA_TIMEOUT = 7, CTA_MARK = 8, CTA_COUNTERS_ORIG = 9, CTA_COUNTERS_REPLY = 10, CTA_ID = 12, CTA_NAT_DST = 13,
    CTA_TUPLE_MASTER = 14, CTA_SEQ_ADJ_ORIG = 15, CTA_SEQ_ADJ_REPLY = 16, CTA_ZONE = 18, CTA_TIMESTAMP = 20,
    CTA_MARK_MASK = 21, CTA_LABELS = 22, CTA_LABELS_MASK = 23, CTA_SYNPROXY = 24);
wire!(u16: CTA_TUPLE_IP = 1, CTA_TUPLE_PROTO = 2, CTA_TUPLE_ZONE = 3);
wire!(u16: CTA_IP_V4_SRC = 1, CTA_IP_V4_DST = 2, CTA_IP_V6_SRC = 3, CTA_IP_V6_DST = 4);
wire!(u16: CTA_PROTO_NUM = 1, CTA_PROTO_SRC_PORT = 2, CTA_PROTO_DST_PORT = 3, CTA_PROTO_ICMP_ID = 4,
    CTA_PROTO_ICMP_TYPE = 5, CTA_PROTO_ICMP_CODE = 6, CTA_PROTO_ICMPV6_ID = 7, CTA_PROTO_ICMPV6_TYPE = 8,
    CTA_PROTO_ICMPV6_CODE = 9);
wire!(u16: CTA_PROTOINFO_TCP = 1, CTA_PROTOINFO_DCCP = 2, CTA_PROTOINFO_SCTP = 3);
wire!(u16: CTA_PROTOINFO_TCP_STATE = 1, CTA_PROTOINFO_TCP_WSCALE_ORIGINAL = 2, CTA_PROTOINFO_TCP_WSCALE_REPLY = 3,
    CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4, CTA_PROTOINFO_TCP_FLAGS_REPLY = 5);
wire!(u16: CTA_PROTOINFO_DCCP_STATE = 1, CTA_PROTOINFO_DCCP_ROLE = 2, CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ = 3);
wire!(u16: CTA_PROTOINFO_SCTP_STATE = 1, CTA_PROTOINFO_SCTP_VTAG_ORIGINAL = 2, CTA_PROTOINFO_SCTP_VTAG_REPLY = 3);
wire!(u16: CTA_NAT_V4_MINIP = 1, CTA_NAT_PROTO = 3, CTA_NAT_V6_MINIP = 4);
wire!(u16: CTA_PROTONAT_PORT_MIN = 1);
wire!(u16: CTA_SEQADJ_CORRECTION_POS = 1, CTA_SEQADJ_OFFSET_BEFORE = 2, CTA_SEQADJ_OFFSET_AFTER = 3);
wire!(u16: CTA_SYNPROXY_ISN = 1, CTA_SYNPROXY_ITS = 2, CTA_SYNPROXY_TSOFF = 3);
wire!(u16: CTA_HELP_NAME = 1);
wire!(u16: CTA_TIMESTAMP_START = 1);
wire!(u16: CTA_COUNTERS_PACKETS = 1, CTA_COUNTERS_BYTES = 2);

wire!(u16: NFQNL_MSG_PACKET = 0, NFQNL_MSG_VERDICT = 1, NFQNL_MSG_CONFIG = 2);
wire!(u16: NFQA_PACKET_HDR = 1, NFQA_VERDICT_HDR = 2, NFQA_MARK = 3, NFQA_IFINDEX_INDEV = 5, NFQA_IFINDEX_OUTDEV = 6,
    NFQA_PAYLOAD = 10, NFQA_CT = 11, NFQA_CT_INFO = 12, NFQA_CAP_LEN = 13, NFQA_SKB_INFO = 14);
wire!(u16: NFQA_CFG_CMD = 1, NFQA_CFG_PARAMS = 2, NFQA_CFG_QUEUE_MAXLEN = 3, NFQA_CFG_MASK = 4, NFQA_CFG_FLAGS = 5);
wire!(u8: NFQNL_CFG_CMD_BIND = 1, NFQNL_COPY_PACKET = 2);
wire!(u32: NFQA_CFG_F_FAIL_OPEN = 1, NFQA_CFG_F_CONNTRACK = 2, NFQA_CFG_F_GSO = 4);
wire!(u32: NF_DROP = 0, NF_ACCEPT = 1);
wire!(u8: IPPROTO_HOPOPTS = 0, IPPROTO_ROUTING = 43, IPPROTO_FRAGMENT = 44, IPPROTO_AH = 51, IPPROTO_NONE = 59,
    IPPROTO_DSTOPTS = 60);
