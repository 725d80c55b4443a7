//! The daemon without its I/O: kernel events in, changes for the kernel out; datagrams in, datagrams out.
//!
//! The owner hands in what happened, then drains [`Core::poll_apply`] (answering each) and [`Core::poll_transmit`], and
//! waits no longer than [`Core::poll_timeout`] says. What it is handed is judged by [`Scope`] and converted; all else
//! is the protocol's ([`ccp::node::Node`]).
//!
//! Datagrams are sealed with keys that members hand each other over links of their own: the owner says when a link comes
//! up ([`Core::handle_link_up`]), carries what [`Core::poll_key_message`] has for a peer to its
//! [`Core::handle_key_message`], and draws keys when [`Core::wants_key`].

pub mod keys;
mod links;
pub mod scope;
pub mod seal;
mod status;

use crate::addresses::AddressSet;
use crate::convert::{self, Shared};
use ccp::node::{Action, Audience, Config, Event, Local, Node, Outcome, Row, Ticket};
use ccp::record::{MemberId, MemberSet};
use ccp::table::Origin;
use ccp::time::Instant;
use ccp::wire::DecodeError;
use ccp::wire::header::{Destination, HEADER_BYTES, Header};
use conntrack::{EventKind, Flow};
use keys::{Limits, OwnKeys};
use links::LinkCounters;
use scope::Scope;
use seal::{DatagramKey, OpenError, PeerKeys};
use std::time::Duration;

pub use status::Names;

/// What a core is made with.
///
/// Cores understand each other once each has the other's key. Without any TLS, that is: call
/// [`Core::handle_link_up`] of both, and then give to each with [`Core::handle_key_message`] what
/// [`Core::poll_key_message`] of the other has, until neither has any.
#[derive(Debug)]
pub struct Setup {
    /// For the protocol.
    pub node: Config,
    /// The first key of our datagrams, drawn for this run alone.
    pub key: DatagramKey,
    /// How long a key is used at most.
    pub key_limits: Limits,
    /// Which parts of a flow that belong to the operator are replicated.
    pub shared: Shared,
    /// UDP port of the cluster's datagrams.
    pub port: u16,
    /// Addresses of this machine.
    pub addresses: AddressSet,
    /// Names of the members, for the operator.
    pub names: Names,
}

/// A change that the kernel is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Apply {
    /// For [`Core::handle_applied`].
    pub ticket: Ticket,
    /// What to do.
    pub action: Action,
    /// With what.
    pub flow: Flow,
}

/// Why a datagram was put away; each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It could not be read.
    Malformed(DecodeError),
    /// It is of another cluster.
    Cluster,
    /// It names a sender that is not configured, or ourselves.
    Sender,
    /// It is for another member.
    Destination,
    /// The member that it names handed us no such key.
    UnknownKey,
    /// It was not sealed by the member that it names: forged or damaged.
    Forged,
    /// It was sealed before the member handed us the key: recorded, and sent again.
    BelowFloor,
}

/// Datagrams by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounters {
    /// Sent, a copy to each peer counted once.
    pub sent: u64,
    /// Copies for a peer or a group that the kernel would not send; made good as any loss is.
    pub unsent: u64,
    /// Authentic ones.
    pub received: u64,
    /// Bytes of those sent, from the header to the tag.
    pub sent_bytes: u64,
    /// Bytes of those received.
    pub received_bytes: u64,
    /// Put away: could not be read.
    pub malformed: u64,
    /// Put away: another version of the protocol.
    pub other_version: u64,
    /// Put away: Check Point's.
    pub check_point: u64,
    /// Put away: an operation of a later version.
    pub unknown_opcode: u64,
    /// Put away: another cluster.
    pub other_cluster: u64,
    /// Put away: a sender that is not configured.
    pub unknown_member: u64,
    /// Put away: for another member.
    pub misdirected: u64,
    /// Put away: sealed with a key that we have not, or no longer, from the member named.
    pub unknown_key: u64,
    /// Put away: not sealed by the member named.
    pub forged: u64,
    /// Put away: older than the key that was handed to us.
    pub below_floor: u64,
}

/// Events of the kernel by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounters {
    /// Read.
    pub received: u64,
    /// Of flows that are not replicated.
    pub out_of_scope: u64,
    /// Not understood.
    pub malformed: u64,
    /// Times that the kernel had to drop events.
    pub overruns: u64,
}

/// Where the comparison with the kernel table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// The table was never read.
    Never,
    /// It is being read.
    Running,
    /// It was read.
    Done,
}

/// From the end of one reading of the kernel's table to the next at least.
const PASS_INTERVAL: Duration = Duration::from_millis(500);

/// The daemon without its I/O.
#[derive(Debug)]
pub struct Core {
    node: Node,
    scope: Scope,
    keys: OwnKeys,
    peer_keys: [PeerKeys; MemberId::MAX],
    /// Peers that speak under a key that we have not.
    unheard: MemberSet,
    shared: Shared,
    names: Names,
    cluster: u16,
    me: MemberId,
    peers: Vec<MemberId>,
    started: Instant,
    pass: Pass,
    first_pass: bool,
    /// The table has to be read (again).
    pass_wanted: bool,
    /// Not before then, so that a kernel that loses events all the time is not read all the time.
    pass_not_before: Instant,
    /// What the time was when it was told last.
    clock: Instant,
    datagrams: DatagramCounters,
    links: LinkCounters,
    events: EventCounters,
    buffer: Vec<u8>,
}

impl Core {
    /// A daemon that has not looked at anything yet.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let Setup {
            node,
            key,
            key_limits,
            shared,
            port,
            addresses,
            names,
        } = setup;
        let (cluster, me) = (node.cluster, node.member);
        Self {
            scope: Scope::new(addresses, port),
            keys: OwnKeys::new(node.incarnation, key, key_limits, now),
            peer_keys: std::array::from_fn(|_| PeerKeys::default()),
            unheard: MemberSet::default(),
            shared,
            names,
            cluster,
            me,
            peers: node.peers.clone(),
            started: now,
            pass: Pass::Never,
            first_pass: true,
            pass_wanted: true,
            pass_not_before: now,
            clock: now,
            datagrams: DatagramCounters::default(),
            links: LinkCounters::default(),
            events: EventCounters::default(),
            buffer: Vec::with_capacity(node.datagram_bytes_max),
            node: Node::new(node, now),
        }
    }

    /// The machine has other addresses now.
    pub fn set_addresses(&mut self, addresses: AddressSet) {
        self.scope.set_addresses(addresses);
    }

    /// The kernel told of a change that is not our own doing.
    pub fn handle_event(&mut self, event: &conntrack::Event) {
        self.events.received += 1;
        let key = convert::key(&event.flow);
        if event.kind == EventKind::Destroy {
            self.node.handle_local(&key, Local::Destroy);
            return;
        }
        let patch = convert::patch(&event.flow, self.shared);
        if !self.scope.is_forwarded(&key, &patch.nat) {
            self.events.out_of_scope += 1;
            return;
        }
        let change = match event.kind {
            EventKind::New => Local::New(&patch),
            EventKind::Update | EventKind::Destroy => Local::Update(&patch),
        };
        self.node.handle_local(&key, change);
    }

    /// The kernel told something that is not understood.
    pub fn handle_malformed_event(&mut self) {
        self.events.malformed += 1;
    }

    /// The kernel had to drop events: its table has to be read again.
    pub fn handle_overrun(&mut self) {
        self.events.overruns += 1;
        self.pass_wanted = true;
    }

    /// True if the kernel's table should be read from its start: call [`Self::begin_pass`], then read.
    pub fn wants_pass(&self) -> bool {
        self.pass_wanted && self.pass != Pass::Running && self.pass_not_before <= self.clock
    }

    /// The kernel's table is read from its start, now or again.
    pub fn begin_pass(&mut self) {
        self.pass_wanted = false;
        self.pass = Pass::Running;
        self.node.begin_pass();
    }

    /// One entry of the kernel's table.
    pub fn handle_row(&mut self, flow: &Flow) {
        let key = convert::key(flow);
        let state = convert::patch(flow, self.shared);
        if self.scope.is_forwarded(&key, &state.nat) {
            let unknown = if self.first_pass {
                Origin::Found
            } else {
                Origin::Own
            };
            self.node.handle_row(
                Row {
                    key: &key,
                    state: &state,
                },
                unknown,
            );
        }
    }

    /// The kernel's table was read to its end.
    pub fn end_pass(&mut self) {
        self.pass = Pass::Done;
        self.pass_not_before = self.clock + PASS_INTERVAL;
        if self.node.end_pass() {
            self.first_pass = false;
        } else {
            self.pass_wanted = true;
        }
    }

    /// Reading the kernel's table failed half-way; it has to be read again.
    pub fn fail_pass(&mut self) {
        self.pass = Pass::Done;
        self.pass_not_before = self.clock + PASS_INTERVAL;
        self.pass_wanted = true;
    }

    /// A datagram came. It is opened in place.
    pub fn handle_datagram(&mut self, datagram: &mut [u8], now: Instant) {
        let bytes = datagram.len() as u64;
        match self.take_datagram(datagram, now) {
            Ok(()) => {
                self.datagrams.received += 1;
                self.datagrams.received_bytes += bytes;
            }
            Err(refusal) => self.count(refusal),
        }
    }

    fn take_datagram(&mut self, datagram: &mut [u8], now: Instant) -> Result<(), Refusal> {
        let (header, _) = Header::decode(datagram).map_err(Refusal::Malformed)?;
        if header.cluster != self.cluster {
            return Err(Refusal::Cluster);
        }
        if !self.peers.contains(&header.source) {
            return Err(Refusal::Sender);
        }
        match header.destination {
            Destination::Member(member) if member != self.me => return Err(Refusal::Destination),
            Destination::Member(_) | Destination::All => {}
        }
        let keys = self.peer_keys.get(header.source.index());
        let body = keys
            .map_or(Err(OpenError::UnknownKey), |keys| {
                keys.open(&header, datagram)
            })
            .map_err(|error| match error {
                OpenError::UnknownKey => {
                    self.unheard.insert(header.source);
                    Refusal::UnknownKey
                }
                OpenError::Forged => Refusal::Forged,
                OpenError::BelowFloor => Refusal::BelowFloor,
            })?;
        self.node
            .handle_datagram(&header, body, now)
            .map_err(Refusal::Malformed)
    }

    fn count(&mut self, refusal: Refusal) {
        let counters = &mut self.datagrams;
        *match refusal {
            Refusal::Malformed(DecodeError::Version) => &mut counters.other_version,
            Refusal::Malformed(DecodeError::CheckPoint) => &mut counters.check_point,
            Refusal::Malformed(DecodeError::Opcode) => &mut counters.unknown_opcode,
            Refusal::Malformed(DecodeError::Member) | Refusal::Sender => {
                &mut counters.unknown_member
            }
            Refusal::Malformed(
                DecodeError::Truncated
                | DecodeError::Magic
                | DecodeError::Number
                | DecodeError::Record,
            ) => &mut counters.malformed,
            Refusal::Cluster => &mut counters.other_cluster,
            Refusal::Destination => &mut counters.misdirected,
            Refusal::UnknownKey => &mut counters.unknown_key,
            Refusal::Forged => &mut counters.forged,
            Refusal::BelowFloor => &mut counters.below_floor,
        } += 1;
    }

    /// The kernel answered an [`Apply`].
    pub fn handle_applied(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) {
        self.node.handle_applied(ticket, outcome, now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = now;
        self.node.handle_timeout(now);
        self.switch_key(now);
    }

    /// The next change that the kernel is asked for.
    pub fn poll_apply(&mut self) -> Option<Apply> {
        let apply = self.node.poll_apply()?;
        Some(Apply {
            ticket: apply.ticket,
            action: apply.action,
            flow: convert::flow(apply.key, apply.state, self.shared),
        })
    }

    /// The next datagram, sealed, and for whom it is.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(Audience, &[u8])> {
        self.buffer.clear();
        let transmit = self.node.poll_transmit(now, &mut self.buffer)?;
        debug_assert!(self.buffer.len() >= HEADER_BYTES);
        self.keys
            .cipher()
            .seal(transmit.header.packet_number, &mut self.buffer);
        self.datagrams.sent += 1;
        self.datagrams.sent_bytes += self.buffer.len() as u64;
        Some((transmit.to, &self.buffer))
    }

    /// The kernel would not send `copies` of a datagram.
    pub fn handle_unsent(&mut self, copies: u64) {
        self.datagrams.unsent += copies;
    }

    /// When the owner has to call again at the latest.
    pub fn poll_timeout(&self) -> Instant {
        let first = self.node.poll_timeout().0.min(self.keys.poll_timeout());
        if self.pass_wanted && self.pass != Pass::Running {
            first.min(self.pass_not_before)
        } else {
            first
        }
    }

    /// The next thing that the operator should read.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.node.poll_event()
    }

    /// The peers that hear us now.
    pub fn live_peers(&self) -> MemberSet {
        self.node.membership().live()
    }

    /// What is known of flows and members.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Names of the members.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

#[cfg(test)]
pub(crate) mod tests;
