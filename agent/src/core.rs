//! The daemon without its I/O: kernel events in, changes for the kernel out; datagrams in, datagrams out.
//!
//! The owner hands in what happened, then drains [`Core::poll_apply`] (answering each) and [`Core::poll_transmit`], and
//! waits no longer than [`Core::poll_timeout`] says. What it is handed is judged by `Scope` and converted; all else
//! is the protocol's ([`ccp::node::Node`]).
//!
//! Datagrams are sealed with keys that members hand each other over links of their own: the owner says when a link comes
//! up ([`Core::handle_link_up`]), carries what [`Core::poll_link_message`] has for a peer to its
//! [`Core::handle_link_message`], and draws keys when [`Core::wants_key`].

mod accounting;
mod audit;
mod chronicle;
mod datagrams;
mod ended;
mod explain;
mod facts;
mod held;
mod interfaces;
mod judge;
pub mod keys;
mod links;
mod networks;
mod passes;
mod reload;
pub(crate) mod roles;
pub(crate) mod scope;
pub mod seal;
mod status;

use crate::accounting::Accounting;
use crate::addresses::AddressSet;
use crate::config::Hold;
use crate::convert::{self, Shared};
use crate::costs::ServiceCosts;
use crate::delay::Delays;
use crate::policy::Policy;
use crate::splits::Splits;
use audit::Audit;
use ccp::hold::PacketNumber;
use ccp::network::Routes;
use ccp::node::{Action, Config, End, Event, Expected, Local, Node, Outcome, Ticket};
use ccp::record::{MemberId, MemberSet};
use ccp::time::Instant;
use ccp::wire::header::{HEADER_BYTES, Opcode};
use chronicle::Chronicle;
use conntrack::{EventKind, Flow};
use ended::Ended;
use facts::KnownFacts;
use judge::{Began, PolicyCounters};
use keys::{Limits, OwnKeys};
use links::LinkCounters;
use passes::Passes;
use reload::Rejudging;
use roles::{Roles, RolesSetup};
use scope::Scope;
use seal::{DatagramKey, PeerKeys};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use datagrams::DatagramCounters;
pub use held::HoldCounters;
pub use links::LinkMessage;
pub use status::Names;

/// What a core is made with.
///
/// Cores understand each other once each has the other's key. Without any TLS, that is: call
/// [`Core::handle_link_up`] of both, and then give to each with [`Core::handle_link_message`] what
/// [`Core::poll_link_message`] of the other has, until neither has any.
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
    /// Which flows the peers are told of.
    pub policy: Arc<Policy>,
    /// From one round of the audit to the next.
    pub audit_interval: Duration,
    /// How often what has passed is counted; `None` if never.
    pub accounting_interval: Option<Duration>,
    /// Addresses of this machine.
    pub addresses: AddressSet,
    /// Names of the members, for the operator.
    pub names: Names,
    /// Names of the networks, in their order.
    pub networks: Vec<String>,
    /// For the election.
    pub roles: RolesSetup,
    /// What becomes of held packets.
    pub hold: Hold,
}

/// A change that the kernel is asked for.
#[derive(Clone, Debug)]
pub struct Apply {
    /// For [`Core::handle_applied`].
    pub ticket: Ticket,
    /// What the kernel is to do with the entry.
    pub action: Action,
    /// The flow as the kernel is to have it.
    pub flow: Flow,
    /// The flows that its helper expects, to be asked for after it.
    pub expected: Vec<conntrack::Expectation>,
}

/// Events of the kernel by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounters {
    /// Events that were read.
    pub received: u64,
    /// Of flows that are not replicated.
    pub out_of_scope: u64,
    /// Messages that are not well formed.
    pub malformed: u64,
    /// Times that the kernel had to drop events.
    pub overruns: u64,
}

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
    networks: Vec<String>,
    cluster: u16,
    me: MemberId,
    peers: Vec<MemberId>,
    started: Instant,
    passes: Passes,
    audit: Audit,
    accounting: Accounting,
    /// An interval of it is over.
    accounting_ended: bool,
    /// What the time was when it was told last.
    clock: Instant,
    datagrams: DatagramCounters,
    links: LinkCounters,
    facts: KnownFacts,
    roles: Roles,
    events: EventCounters,
    policy: Arc<Policy>,
    /// Flows that are told later, if they live.
    delays: Delays,
    policy_counters: PolicyCounters,
    costs: ServiceCosts,
    /// Flows that ended of late.
    ended: Ended,
    /// When what was told, by member.
    chronicles: [Chronicle; MemberId::MAX],
    rejudging: Rejudging,
    wall_clock_nanos: u64,
    /// Packets that go on without having been held.
    passed: VecDeque<PacketNumber>,
    splits: Splits,
    hold_counters: HoldCounters,
    held_lately: held::Lately,
    hold: Hold,
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
            policy,
            audit_interval,
            accounting_interval,
            addresses,
            names,
            networks,
            roles,
            hold,
        } = setup;
        let (cluster, me) = (node.cluster, node.member);
        Self {
            scope: Scope::new(addresses),
            costs: ServiceCosts::new(&policy),
            ended: Ended::default(),
            chronicles: std::array::from_fn(|_| Chronicle::default()),
            policy,
            delays: Delays::default(),
            policy_counters: PolicyCounters::default(),
            rejudging: Rejudging::Over,
            wall_clock_nanos: 0,
            keys: OwnKeys::new(node.incarnation, key, key_limits, now),
            peer_keys: std::array::from_fn(|_| PeerKeys::default()),
            unheard: MemberSet::default(),
            shared,
            names,
            networks,
            cluster,
            me,
            peers: node.peers.clone(),
            started: now,
            passes: Passes::new(now),
            audit: Audit::new(audit_interval, now),
            accounting: Accounting::new(accounting_interval, node.incarnation, now),
            accounting_ended: false,
            clock: now,
            datagrams: DatagramCounters::default(),
            links: LinkCounters::default(),
            facts: KnownFacts::default(),
            roles: Roles::new(roles),
            events: EventCounters::default(),
            passed: VecDeque::new(),
            splits: Splits::default(),
            hold_counters: HoldCounters::default(),
            held_lately: held::Lately::default(),
            hold,
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
            self.count_end(&key, &event.flow);
            self.note_destroyed(&key, &event.flow);
            self.node
                .handle_local(&key, Local::Destroy(self.end(event)));
            return;
        }
        let patch = convert::patch(&event.flow, self.shared);
        if !self.scope.is_forwarded(&key, &patch.nat) {
            self.events.out_of_scope += 1;
            return;
        }
        let decision = self.decide(&key, &event.flow);
        self.costs.note_event(decision.service);
        if event.kind == EventKind::New {
            (self.costs).note_begun(&key, decision.service, self.clock);
        }
        if !self.admits(&key, &event.flow, decision, Began::Now) {
            return;
        }
        let change = match event.kind {
            EventKind::New => Local::New(&patch),
            EventKind::Update | EventKind::Destroy => Local::Update(&patch),
        };
        self.node.handle_local(&key, change);
    }

    /// True if why the entry went is judged by the machine's addresses: those that are known should be the newest.
    pub fn is_end_by_addresses(&self, event: &conntrack::Event) -> bool {
        let is_cut = event.portid == 0 && event.flow.timeout.is_some_and(|left| left > 0);
        event.kind == EventKind::Destroy && is_cut && event.flow.reply.dst != event.flow.orig.src
    }

    /// What the kernel's word that an entry is gone means.
    fn end(&self, event: &conntrack::Event) -> End {
        match (event.portid, event.flow.timeout) {
            (0, None | Some(0)) => End::Over,
            // The packets of the flow leave by another interface now, or with another address: the next one is translated
            // anew (`nf_nat_oif_changed`).
            (0, Some(_)) if self.scope.stays_here(event.flow.reply.dst) => End::Over,
            (0, Some(timeout_secs)) => End::Cut { timeout_secs },
            (_, _) => End::ByHand,
        }
    }

    /// The kernel expects a flow, or no longer; not our own doing.
    pub fn handle_expectation(&mut self, event: &conntrack::ExpectationEvent) {
        self.events.received += 1;
        let (master, expectation) = convert::expectation(&event.expectation);
        let expected = match event.kind {
            EventKind::New | EventKind::Update => Expected::New(expectation),
            EventKind::Destroy => Expected::Gone(expectation),
        };
        self.node.handle_expected(&master, expected);
    }

    /// The kernel told something that is not understood.
    pub fn handle_malformed_event(&mut self) {
        self.events.malformed += 1;
    }

    /// The kernel had to drop events: its table has to be read again.
    pub fn handle_overrun(&mut self) {
        self.events.overruns += 1;
        self.passes.want();
        self.node.handle_overrun();
    }

    /// What the kernel has of the flow of an [`Action::LookAndUpdate`]; true if it is to stay as it is.
    pub fn handle_look(&mut self, ticket: Ticket, flow: &Flow) -> bool {
        (self.node).handle_look(ticket, &convert::patch(flow, self.shared))
    }

    /// The kernel answered an [`Apply`].
    pub fn handle_applied(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) {
        self.node.handle_applied(ticket, outcome, now);
    }

    /// True once the kernel's table was read to its end: before that, entries are taken to be there that perhaps are not.
    pub fn has_read_table(&self) -> bool {
        self.passes.has_ended()
    }

    /// The kernel took a flow without its helper, which it has not.
    pub fn note_helper_missing(&mut self) {
        self.node.note_helper_missing();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = now;
        self.node.handle_timeout(now);
        self.handle_audit_timeout();
        self.delays.advance(now);
        self.note_told(now);
        self.handle_roles_timeout(now);
        self.switch_key(now);
    }

    /// The next change that the kernel is asked for.
    pub fn poll_apply(&mut self) -> Option<Apply> {
        let apply = loop {
            let apply = self.node.poll_apply()?;
            if self.scope.may_pass(apply.key, &apply.state.nat()) {
                break apply;
            }
            let ticket = apply.ticket;
            self.node.keep_out(ticket);
        };
        let (key, ticket, action) = (*apply.key, apply.ticket, apply.action);
        let shared = Shared {
            copy_bit: self.shared.copy_bit.filter(|_| apply.is_marked),
            ..self.shared
        };
        let flow = convert::flow(apply.key, apply.state, shared);
        let expected = match action {
            Action::Create | Action::Update | Action::LookAndUpdate { .. } | Action::Replace => {
                convert::expected(apply.key, apply.state)
            }
            Action::Delete | Action::Refresh => Vec::new(),
        };
        self.note_claimed(&key);
        if action == Action::Delete {
            self.note_deleted(&key);
        }
        Some(Apply {
            ticket,
            action,
            flow,
            expected,
        })
    }

    /// The next datagram, sealed, and where it goes.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(Routes, &[u8])> {
        self.buffer.clear();
        let transmit = self.node.poll_transmit(now, &mut self.buffer)?;
        debug_assert!(self.buffer.len() >= HEADER_BYTES);
        if transmit.header.opcode == Opcode::Delta {
            let body = self.buffer.get(HEADER_BYTES..).unwrap_or_default();
            self.costs.note_delta(&self.policy, body);
        }
        self.keys
            .cipher()
            .seal(transmit.header.packet_number, &mut self.buffer);
        self.datagrams.sent += 1;
        self.datagrams.sent_bytes += self.buffer.len() as u64;
        Some((transmit.routes, &self.buffer))
    }

    /// The kernel would not send `copies` of a datagram.
    pub fn handle_unsent(&mut self, copies: u64) {
        self.datagrams.unsent += copies;
    }

    /// When the owner has to call again at the latest.
    pub fn poll_timeout(&self) -> Instant {
        if self.delays.has_due() {
            return self.clock;
        }
        let first = self.node.poll_timeout().0.min(self.keys.poll_timeout());
        let others = [
            self.delays.poll_timeout(),
            self.poll_roles_timeout(),
            self.pass_timeout(),
        ];
        others.into_iter().flatten().fold(first, Instant::min)
    }

    /// The next thing that the operator should read.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.node.poll_event()?;
        if let Event::Role(change) = event {
            self.note_change(change);
        }
        Some(event)
    }

    /// The peers that hear us now.
    pub fn live_peers(&self) -> MemberSet {
        self.node.membership().live()
    }

    /// What is known of flows and members.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Who this member is.
    pub fn member(&self) -> MemberId {
        self.me
    }

    /// Names of the members.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

#[cfg(test)]
pub(crate) mod tests;
