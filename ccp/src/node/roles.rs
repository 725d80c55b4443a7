//! The node's side of the election: what it lacks, whom it can talk to, and what follows (PROTOCOL.md 12).

use super::{Event, Node};
use crate::election::{Election, Load, Problem, Problems, Standing};
use crate::record::MemberId;
use crate::time::Instant;
use core::time::Duration;

/// How long a member counts as starved after its loop was late: peers have to hear of it before it is late again.
const STARVED_FOR: Duration = Duration::from_secs(10);

/// What the node knows for the election.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) election: Election,
    /// What the owner finds wrong.
    problems: Problems,
    /// It had everything that the others had when it was last without the role, or since.
    has_all_flows: bool,
    starved_until: Option<Instant>,
}

impl Roles {
    pub(super) fn new(election: Election) -> Self {
        Self {
            election,
            problems: Problems::default(),
            has_all_flows: false,
            starved_until: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let times = [self.election.poll_timeout(), self.starved_until];
        times.into_iter().flatten().min()
    }
}

impl Node {
    /// The election as this member sees it.
    pub fn election(&self) -> &Election {
        &self.roles.election
    }

    /// What the owner finds wrong with this member; what the protocol itself knows (start, flows) comes on top.
    pub fn set_problems(&mut self, problems: Problems, now: Instant) {
        self.now = now;
        if core::mem::replace(&mut self.roles.problems, problems) != problems {
            self.elect();
        }
    }

    /// This member is about to end: it gives its role up, and its next hello says so.
    pub fn leave(&mut self, now: Instant) {
        self.now = now;
        self.roles.election.leave();
        self.elect();
        self.membership.announce(now);
    }

    /// False of a member that is not fit, as it lacks flows that the others have.
    pub fn has_all_flows(&self) -> bool {
        self.roles.has_all_flows
    }

    /// The member that would have the role if this one gave it up, if there is one that is fit.
    pub fn successor(&self) -> Option<MemberId> {
        (self.roles.election).successor(self.membership.live())
    }

    /// True if everything told so far up to `seq` is in the kernel of `member`.
    pub fn has_acknowledged(&self, member: MemberId, seq: u64) -> bool {
        let peer = self.sender.peer(member);
        peer.is_some_and(|peer| !peer.is_in_bulk_update() && peer.frontier() >= seq)
    }

    /// True until everything that waited at the last [`Self::flush`] has gone out.
    pub fn is_flushing(&self) -> bool {
        self.flush_now
    }

    /// The time since the last turn of the owner's loop was not more than that between two hellos, or peers are excused: what
    /// they said meanwhile may not have been read.
    pub(super) fn note_turn(&mut self, now: Instant) {
        if let Some(late) = self.membership.handle_turn(now) {
            if self.roles.starved_until.is_none() {
                self.note(Event::Late(late));
            }
            self.roles.starved_until = Some(now + STARVED_FOR);
            self.roles.election.set_load(Load::Starved);
            self.probes.excuse(late, now);
        } else if self.roles.starved_until.is_some_and(|until| until <= now) {
            self.roles.starved_until = None;
            self.roles.election.set_load(Load::Normal);
            self.note(Event::OnTime);
        }
    }

    /// Decides anew what this member is, and tells the others if it is something else.
    pub(super) fn elect(&mut self) {
        let (live, now) = (self.membership.live(), self.now);
        let there = self.reachable();
        let mut problems = self.roles.problems;
        if self.lacks_flows() {
            problems.add(Problem::Sync);
        }
        if live.is_empty() && !there.is_empty() {
            problems.add(Problem::Network);
        }
        for _ in self.probes.interfaces().iter().filter(|it| it.is_bad()) {
            problems.add(Problem::Interface);
        }
        let expected = self.membership.peers().map(|peer| peer.member).collect();
        let before = self.roles.election.standing(now);
        let change = (self.roles.election).elect(there, expected, problems, now);
        if self.roles.election.standing(now) != before {
            self.membership.answer(now);
            self.probes.reply(now);
        }
        if let Some(change) = change {
            self.counters.state_changes += 1;
            self.counters.failovers += u64::from(change.from.is_active() != change.to.is_active());
            self.note(Event::Role(change));
        }
    }

    /// A member needs everything that the others have: from its start until it has joined, and again when it has not the role and
    /// a place was lost. What newcomers have yet to tell makes nobody unfit.
    fn lacks_flows(&mut self) -> bool {
        let is_active = self.roles.election.standing(self.now).state.is_active();
        let has_joined = self.join.is_joined();
        self.roles.has_all_flows = has_joined || self.roles.has_all_flows && is_active;
        !self.roles.has_all_flows
    }

    /// Takes in what a peer's hello says of it.
    pub(super) fn handle_standing(
        &mut self,
        member: MemberId,
        packet_number: u64,
        standing: Option<Standing>,
    ) {
        let Some(standing) = standing else { return };
        self.membership.set_load(member, standing.load);
        (self.roles.election).handle_standing(member, packet_number, standing);
    }
}
