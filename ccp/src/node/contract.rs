//! What a node and its owner hand each other.

use crate::election;
use crate::hold;
use crate::modes::Changed;
use crate::network::Routes;
use crate::paths::{Spread, Switch};
use crate::probe;
use crate::record::{FlowKey, FlowState, MemberId};
use crate::table::Slot;
use crate::wire::header::Header;
use alloc::vec::Vec;
use core::time::Duration;

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of the cluster.
    pub cluster: u16,
    /// Who this member is.
    pub member: MemberId,
    /// Who the others are.
    pub peers: Vec<MemberId>,
    /// Drawn anew at every start, never twice the same.
    pub incarnation: u64,
    /// Which kernel table this member has: the same after a restart of the daemon alone.
    pub table: u64,
    /// Key of the table's hash, drawn at start.
    pub hash_seed: [u64; 2],
    /// Greatest payload of a UDP datagram, header and tag included.
    pub datagram_bytes_max: usize,
    /// Flows that are known at most.
    pub flows_max: usize,
    /// Time that changes are gathered for, when they come fast.
    pub flush: Duration,
    /// Interval of hellos.
    pub hello: Duration,
    /// A peer that is silent for that long is dead.
    pub dead_after: Duration,
    /// Networks between the members, 1 to [`NetworkId::MAX`](crate::network::NetworkId::MAX).
    pub networks: usize,
    /// Whether one of them is used at a time, or all.
    pub spread: Spread,
    /// How it elects who is active.
    pub roles: election::Config,
    /// How monitored interfaces are probed.
    pub probes: probe::Timers,
    /// How long packets are held, and how many.
    pub hold: hold::Config,
}

impl Config {
    /// With the defaults of the daemon's configuration, one sync network of IPv4 and Ethernet (MTU 1500), and 0 for the two that
    /// have no default: `table` and `hash_seed`.
    pub fn new(cluster: u16, member: MemberId, peers: Vec<MemberId>, incarnation: u64) -> Self {
        Self {
            cluster,
            member,
            peers,
            incarnation,
            table: 0,
            hash_seed: [0; 2],
            datagram_bytes_max: 1472,
            flows_max: 1 << 20,
            flush: Duration::from_millis(1),
            hello: Duration::from_millis(100),
            dead_after: Duration::from_secs(1),
            networks: 1,
            spread: Spread::One,
            roles: election::Config::default(),
            probes: probe::Timers::default(),
            hold: hold::Config::default(),
        }
    }
}

/// A datagram to be sealed and sent: its header is in clear, its body follows in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To which members.
    pub to: Audience,
    /// Over which networks.
    pub routes: Routes,
    /// The header, already encoded at the front of the buffer.
    pub header: Header,
}

/// Who a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// One member.
    Member(MemberId),
    /// Every member that is configured, dead or not.
    Everyone,
    /// Every live member.
    Live,
}

/// What the kernel is asked to do with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make an entry.
    Create,
    /// Change the entry.
    Update,
    /// Change the entry after a look at it: [`Node::handle_look`](super::Node::handle_look) says whether it is to stay as it is.
    LookAndUpdate {
        /// State of the protocol that was known of it.
        known: u8,
    },
    /// Make it anew: its translation is another, which an update cannot say.
    Replace,
    /// Remove the entry.
    Delete,
    /// Write its timeout and nothing else.
    Refresh,
}

/// Names an [`Apply`] when its outcome is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Whose delta it comes from; `None` if nobody waits for an acknowledgement.
    pub(super) delta: Option<DeltaId>,
    pub(super) slot: Slot,
    pub(super) action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeltaId {
    pub(super) member: MemberId,
    /// Runs of a member count from 1 each.
    pub(super) run: u8,
    pub(super) seq: u64,
}

/// A change that the kernel has to take.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// For [`Node::handle_applied`](super::Node::handle_applied).
    pub ticket: Ticket,
    /// What to do.
    pub action: Action,
    /// With which flow.
    pub key: &'a FlowKey,
    /// Its state.
    pub state: &'a FlowState,
    /// False if the entry is to be left without the copy bit.
    pub is_marked: bool,
}

/// How the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The entry is as it was asked for.
    Done,
    /// It is not: another flow has its original or its reply tuple.
    Conflict,
    /// It is not: the table is full.
    Full,
    /// It was not asked for: the flow is this machine's own, which no peer can forward.
    KeptOut,
    /// It is not, for another reason.
    Refused,
}

/// Something an operator wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer is there: a new run of it, or heard again.
    PeerLive(MemberId),
    /// The peer is silent, or does not hear us.
    PeerDead(MemberId),
    /// Everything the peer has is in our kernel too.
    Synced(MemberId),
    /// What we send to a peer goes over another network now: the one before does not carry it, or this is better.
    Switched(Switch),
    /// How datagrams for all leave on a network has changed, or was to and did not.
    Mode(Changed),
    /// This member is something else in the cluster.
    Role(election::StateChange),
    /// The monitored interface of this number is judged otherwise than before.
    Interface(usize),
    /// The owner's loop was late by so much: peers are excused, and told to excuse this member.
    Late(Duration),
    /// The loop has kept its times again for a while.
    OnTime,
    /// The peer acknowledges flows of held packets too late: packets no longer wait for it.
    PeerSlow(MemberId),
    /// The peer acknowledges in time again, and is waited for.
    PeerInTime(MemberId),
    /// The peer was asked for a snapshot.
    SnapshotBegun(MemberId),
    /// The snapshot of the peer is here.
    SnapshotEnded(MemberId),
    /// The peer gives no snapshot, or no more of it.
    SnapshotBroken(MemberId),
    /// Everything that the others had is in our kernel too, after so long.
    Joined(Duration),
}
