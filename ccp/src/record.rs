//! What is replicated of a flow: its key, its state, and which claim on it is the newest.
//!
//! A flow here is what any gateway can rebuild a conntrack entry from. The reply direction is not carried: it is the
//! mirror of the key, moved by [`Nat`]. Numbers of states and flags are those of the kernel's netlink interface, which
//! are the same on every architecture.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// A member of the cluster: 1 to 16.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u8);

impl MemberId {
    /// The greatest number of members, and the greatest identifier.
    pub const MAX: usize = 16;

    /// `None` unless `id` is 1 to 16.
    pub const fn new(id: u8) -> Option<Self> {
        if id >= 1 && id as usize <= Self::MAX {
            Some(Self(id))
        } else {
            None
        }
    }

    /// The identifier, 1 to 16.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The identifier less one: where this member stands in an array of [`MemberId::MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Every identifier there can be, in order.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (1..=Self::MAX as u8).map(Self)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {}", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A set of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MemberSet(u16);

impl MemberSet {
    /// Every member there can be.
    pub const ALL: Self = Self(u16::MAX);

    /// The set as bits, member 1 in the lowest.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// See [`Self::from_bits`].
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Adds a member.
    pub fn insert(&mut self, member: MemberId) {
        self.0 |= 1 << member.index();
    }

    /// Takes a member out.
    pub fn remove(&mut self, member: MemberId) {
        self.0 &= !(1 << member.index());
    }

    /// True if it is in the set.
    pub fn contains(self, member: MemberId) -> bool {
        self.0 & 1 << member.index() != 0
    }

    /// Its members, in order.
    pub fn iter(self) -> impl Iterator<Item = MemberId> + Clone {
        MemberId::all().filter(move |member| self.contains(*member))
    }

    /// True if nobody is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<MemberId> for MemberSet {
    fn from_iter<I: IntoIterator<Item = MemberId>>(members: I) -> Self {
        let mut set = Self::default();
        members.into_iter().for_each(|member| set.insert(member));
        set
    }
}

/// Address family of both directions of a flow (`AF_INET` or `AF_INET6`; NAT between families does not pass conntrack).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4: the first four bytes of an [`Address`] count, the others are zero.
    V4,
    /// IPv6
    V6,
}

/// An address of either family; an IPv4 address stands in the first four bytes, zeroes follow.
pub type Address = [u8; 16];

/// Which directions of a flow its zone is for (`NF_CT_DEFAULT_ZONE_DIR` and `nf_ct_zone`'s `dir`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ZoneDirection {
    /// Both: what `CTA_ZONE` says.
    Both,
    /// Only the original direction; the reply is looked up in zone 0.
    Original,
    /// Only the reply direction.
    Reply,
}

/// What tells one flow from all others: the original direction and its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Source address of the original direction.
    pub src: Address,
    /// Destination address of the original direction.
    pub dst: Address,
    /// Source and destination port; keys of GRE; for ICMP the identifier, then type (high byte) and code (low byte);
    /// zeroes for protocols without.
    pub l4: [u16; 2],
    /// Conntrack zone; 0 is the default zone.
    pub zone: u16,
    /// Protocol number (`IPPROTO_*`).
    pub proto: u8,
    /// Family of both addresses.
    pub family: Family,
    /// Which directions `zone` is for; `Both` when `zone` is 0.
    pub zone_direction: ZoneDirection,
}

/// Status bits that are replicated; the others the kernel sets itself (`IPS_UNCHANGEABLE_MASK`) or are derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Status {
    /// `IPS_SEEN_REPLY`
    pub seen_reply: bool,
    /// `IPS_ASSURED`
    pub assured: bool,
}

/// What TCP tracking knows beyond the state. Each byte holds two nibbles: original direction high, reply low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Window scales, each 0 to 14.
    pub wscale: u8,
    /// The low four of `IP_CT_TCP_FLAG_*`: window scale, SACK, close initiated, be liberal.
    pub flags: u8,
}

/// An address with its port (or ICMP identifier) that one side of a flow is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address, in the family of the flow.
    pub address: Address,
    /// Port or ICMP identifier; 0 for protocols without.
    pub port: u16,
}

/// Translation of a flow: what the peer of each side sees instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Nat {
    /// What the source appears as (destination of the reply direction).
    pub src: Option<Endpoint>,
    /// What the destination really is (source of the reply direction).
    pub dst: Option<Endpoint>,
}

/// Sequence adjustment of one direction (`CTA_SEQ_ADJ_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqAdj {
    /// Sequence number at which the offset changed last.
    pub correction_pos: u32,
    /// Offset before that position.
    pub offset_before: u32,
    /// Offset after it.
    pub offset_after: u32,
}

/// Synproxy state (`CTA_SYNPROXY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SynProxy {
    /// Initial sequence number given to the client.
    pub isn: u32,
    /// Initial timestamp.
    pub its: u32,
    /// Timestamp offset.
    pub tsoff: u32,
}

/// Name of a conntrack helper, at most 15 bytes (`NF_CT_HELPER_NAME_LEN`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Helper {
    len: u8,
    bytes: [u8; 15],
}

impl Helper {
    /// `None` when the name is empty or longer than 15 bytes.
    pub fn new(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > 15 {
            return None;
        }
        let mut bytes = [0; 15];
        bytes
            .iter_mut()
            .zip(name)
            .for_each(|(to, from)| *to = *from);
        Some(Self {
            len: name.len() as u8,
            bytes,
        })
    }

    /// The name's bytes, without NUL.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}",
            core::str::from_utf8(self.as_bytes()).unwrap_or("?")
        )
    }
}

/// Flows that are remembered as expected of one flow; the kernel's helpers expect fewer (`max_expected` of their policies).
pub const EXPECTED_MAX: usize = 8;

/// A flow that a helper expects, as the flow that it reads has announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expectation {
    /// Protocol of the expected flow.
    pub proto: u8,
    /// Its source, in the family of the flow that announced it.
    pub src: Address,
    /// Its destination.
    pub dst: Address,
    /// Its ports.
    pub l4: [u16; 2],
    /// Which bits of the source count.
    pub src_mask: Address,
    /// Which bits of the source port count.
    pub src_port_mask: u16,
    /// Seconds left when it was announced.
    pub timeout_secs: u16,
    /// `NF_CT_EXPECT_*`
    pub flags: u8,
    /// Its class within the helper.
    pub class: u8,
    /// The direction of its first packet within the announcing flow, and where it really goes to.
    pub nat: Option<(u8, Endpoint)>,
    /// Who translates it; nobody where it is not translated.
    pub translator: Option<Translator>,
}

/// How the kernel translates an expected flow when its first packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Translator {
    /// As the announcing flow is.
    FollowMaster,
    /// As the helper of SIP remembers it.
    Sip,
}

/// What few flows have; boxed so that the others don't pay for it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Extra {
    /// Connection labels.
    pub labels: Option<[u8; 16]>,
    /// Helper that reads the flow.
    pub helper: Option<Helper>,
    /// Master of a related flow.
    pub master: Option<FlowKey>,
    /// Sequence adjustment of the original and the reply direction.
    pub seq_adj: [Option<SeqAdj>; 2],
    /// Synproxy state.
    pub synproxy: Option<SynProxy>,
    /// SCTP verification tags of the original and the reply direction.
    pub sctp_vtag: Option<[u32; 2]>,
    /// DCCP role and handshake sequence number.
    pub dccp: Option<(u8, u64)>,
    /// The flows that its helper expects, the newest last.
    pub expected: Vec<Expectation>,
}

/// State of a flow: everything replicated but its key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FlowState {
    /// Seconds the entry lives when no packet refreshes it.
    pub timeout_secs: u32,
    /// Connmark, under the configured mask.
    pub mark: u32,
    /// Status bits.
    pub status: Status,
    /// State of TCP, SCTP or DCCP (`TCP_CONNTRACK_*` and so on), 0 for others; at most 15.
    pub proto_state: u8,
    /// TCP only.
    pub tcp: TcpOptions,
    /// Translation, boxed as most flows of most gateways have none.
    pub nat: Option<Box<Nat>>,
    /// Rare parts.
    pub extra: Option<Box<Extra>>,
}

/// Have packets of a flow passed through this gateway since it became a copy?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// They have, or it never was a copy: this gateway carries the flow.
    Passed,
    /// None has: another carries it, or nobody.
    None,
}

/// A change of a flow as its gateway's kernel told it: `None` is *not said*, so unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Patch {
    /// See [`FlowState::timeout_secs`].
    pub timeout_secs: Option<u32>,
    /// See [`FlowState::mark`].
    pub mark: Option<u32>,
    /// See [`FlowState::status`].
    pub status: Option<Status>,
    /// See [`FlowState::proto_state`].
    pub proto_state: Option<u8>,
    /// See [`FlowState::tcp`].
    pub tcp: Option<TcpOptions>,
    /// Translation; every kernel message tells it, as both tuples are always there.
    pub nat: Nat,
    /// Parts of [`Extra`]; a `None` inside is unchanged too.
    pub extra: Option<Extra>,
    /// Not of the flow's state, but of who carries it; `None` if the kernel is not made to tell.
    pub packets: Option<Packets>,
}

impl FlowState {
    /// Merges what the kernel told into what was known; the one place that does.
    /// True if something other than the timeout changed.
    pub fn apply(&mut self, patch: &Patch) -> bool {
        let mut changed = false;
        if let Some(timeout_secs) = patch.timeout_secs {
            self.timeout_secs = timeout_secs;
        }
        changed |= set(&mut self.mark, patch.mark);
        changed |= set(&mut self.status, patch.status);
        changed |= set(&mut self.proto_state, patch.proto_state);
        changed |= set(&mut self.tcp, patch.tcp);
        if self.nat() != patch.nat {
            self.nat = (patch.nat != Nat::default()).then(|| Box::new(patch.nat));
            changed = true;
        }
        if let Some(new) = &patch.extra {
            let extra = self.extra.get_or_insert_default();
            let before = extra.clone();
            extra.merge(new);
            changed |= before != *extra;
        }
        changed
    }

    /// Translation of the flow; nothing translated when it has none.
    pub fn nat(&self) -> Nat {
        self.nat.as_deref().copied().unwrap_or_default()
    }

    /// True if both would make the same entry, timeouts aside: those run down by themselves.
    pub fn same_but_timeout(&self, other: &Self) -> bool {
        self.mark == other.mark
            && self.status == other.status
            && self.proto_state == other.proto_state
            && self.tcp == other.tcp
            && self.nat == other.nat
            && self.extra == other.extra
    }
}

impl Extra {
    fn merge(&mut self, new: &Self) {
        set_some(&mut self.labels, new.labels);
        set_some(&mut self.helper, new.helper);
        set_some(&mut self.master, new.master);
        for (old, new) in self.seq_adj.iter_mut().zip(new.seq_adj) {
            set_some(old, new);
        }
        set_some(&mut self.synproxy, new.synproxy);
        set_some(&mut self.sctp_vtag, new.sctp_vtag);
        set_some(&mut self.dccp, new.dccp);
    }
}

fn set<T: PartialEq>(old: &mut T, new: Option<T>) -> bool {
    match new {
        Some(new) if *old != new => {
            *old = new;
            true
        }
        Some(_) | None => false,
    }
}

fn set_some<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}

/// How often a flow has moved to another gateway. Of two claims on a flow the one with the greater term counts, of equal
/// terms that of the greater member (PROTOCOL.md 6.1); claims of one member are ordered by their sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u16);

impl Term {
    /// The term of whoever takes the flow over now: even.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(2) & !1)
    }

    /// The term of whoever was told that a flow ended that others may have from it, and ends it in turn, or of whoever hears of
    /// that and does the same: at least that of the end, and below whatever takes the flow over or begins it anew.
    pub fn ended_in_turn(self) -> Self {
        Self(self.0 | 1)
    }

    /// True of a flow that has moved so often that packets probably pass several gateways (PROTOCOL.md 7.8).
    pub fn is_restless(self) -> bool {
        self.0 >= 8
    }

    /// The term of a carrier that heard of another claim without taking anything over: above 0, and below whatever
    /// another takes the flow over with, that has not heard of this.
    pub fn contested(self) -> Self {
        Self(self.0.max(1))
    }
}

/// How sure the sender is that packets of the flow pass through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Packets of the flow made it tell: it carries the flow.
    Carried,
    /// It has the flow in its kernel but has not seen who carries it: found at start, or left by a dead member.
    Found,
}

/// One change of one flow on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The flow is, with this state.
    Upsert {
        /// Which flow.
        key: FlowKey,
        /// All of its state.
        state: FlowState,
        /// Term of the claim.
        term: Term,
        /// Strength of the claim.
        claim: Claim,
    },
    /// The flow has ended.
    Delete {
        /// Which flow.
        key: FlowKey,
        /// Term of the claim.
        term: Term,
        /// Strength of the claim.
        claim: Claim,
    },
    /// A bulk update is over.
    Told(BulkUpdateEnd),
}

/// Ends a bulk update: but for flows told before `from`, `member` was sent every flow of the sender at sequence `base` or later.
/// Any other flow of the sender that it has is gone (PROTOCOL.md 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkUpdateEnd {
    /// To whom.
    pub member: MemberId,
    /// First sequence of the bulk update.
    pub base: u64,
    /// What was told before this sequence `member` has from a snapshot; 0 if it was told everything.
    pub from: u64,
}
