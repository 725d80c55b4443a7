//! How a member comes to have everything: at its start, after a loss that deltas cannot make good, and when it is told to
//! (PROTOCOL.md 9). First a snapshot of whoever has everything, then from each peer what that does not have.
//!
//! Until the snapshot is there no end of a flow is forgotten, as a row of before could bring the flow back; and the others
//! are not told what was found here: much of it turns out to be theirs.

mod fetch;
mod give;

use super::{Event, Node};
use crate::build::Capability;
use crate::membership::{Peer, PeerState};
use crate::receiver::Place;
use crate::record::{BulkUpdateEnd, MemberId, MemberSet};
use crate::sender::Tombstones;
use crate::snapshot::Parts;
use crate::snapshot::client::{Fetch, Named};
use crate::snapshot::server::Server;
use crate::table::Slot;
use crate::time::Instant;
use crate::wire::control::{Ask, Hello};
use alloc::vec::Vec;
use core::time::Duration;

/// A link that broke is there again by then, or will not be.
const LINK_PATIENCE: Duration = Duration::from_secs(1);
/// Snapshots that are begun in one join: after that the peers are asked to tell everything.
const FETCHES_MAX: u8 = 16;

/// How far a member is with having everything.
#[derive(Debug)]
pub struct Join {
    /// When the member began to lack flows; `None` if it has them all.
    since: Option<Instant>,
    /// Nobody was there to ask.
    is_alone: bool,
    /// Whose flows are fetched.
    of: MemberSet,
    /// What is not there yet.
    parts: Parts,
    /// Per member: snapshots hold all that it told before this sequence; 0 for nothing.
    from: Option<[u64; MemberId::MAX]>,
    /// Whom it makes no sense to ask (again).
    tried: MemberSet,
    fetches: u8,
    fetch: Option<Fetch>,
    /// What the snapshots have.
    named: Named,
    /// Rows that came, and how many there are about.
    rows: [u64; 2],
    /// When the first peer was there.
    met: Option<Instant>,
    /// Until when a broken link is waited for.
    patience: Instant,
    linked: MemberSet,
    /// Something happened.
    is_stirred: bool,
    /// When to look again if nothing happens.
    look_at: Option<Instant>,
    servers: [Option<Server>; MemberId::MAX],
    /// Refusals that were not sent yet.
    refused: [Option<u64>; MemberId::MAX],
    id: u64,
}

/// How far it is, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// For how long it has not everything.
    pub lasts: Duration,
    /// Who gives the snapshot, if one is fetched.
    pub server: Option<MemberId>,
    /// Flows that came by snapshot, and how many there are about.
    pub rows: [u64; 2],
    /// Parts of the snapshot that are whole, and how many it has.
    pub parts: (u8, u8),
}

impl Join {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: Some(now),
            is_alone: false,
            of: MemberSet::ALL,
            parts: Parts::ALL,
            from: None,
            tried: MemberSet::default(),
            fetches: 0,
            fetch: None,
            named: Named::default(),
            rows: [0; 2],
            met: None,
            patience: now,
            linked: MemberSet::default(),
            is_stirred: true,
            look_at: None,
            servers: [const { None }; MemberId::MAX],
            refused: [None; MemberId::MAX],
            id: 0,
        }
    }

    /// True if everything that the others had is here.
    pub fn is_joined(&self) -> bool {
        self.since.is_none()
    }

    /// How far it is; `None` if everything is here.
    pub fn progress(&self, now: Instant) -> Option<Progress> {
        Some(Progress {
            lasts: now.since(self.since?),
            server: self.fetch.as_ref().map(|fetch| fetch.server),
            rows: self.rows,
            parts: self.parts.done(),
        })
    }

    /// True while a snapshot is fetched, or may be.
    pub(super) fn awaits_snapshot(&self) -> bool {
        self.since.is_some() && !self.parts.is_empty()
    }

    /// Peers to which there is a link.
    pub(super) fn linked(&self) -> MemberSet {
        self.linked
    }

    pub(super) fn stir(&mut self) {
        self.is_stirred = true;
    }

    /// Everything of these members is wanted.
    fn begin(&mut self, of: MemberSet, now: Instant) {
        self.since = Some(now);
        self.is_alone = false;
        self.of = of;
        self.parts = Parts::ALL;
        self.from = None;
        self.tried = MemberSet::default();
        self.fetches = 0;
        self.fetch = None;
        self.named = Named::default();
        self.rows = [0; 2];
        self.patience = now + LINK_PATIENCE;
        self.is_stirred = true;
    }

    /// What was told before this sequence a peer need not tell.
    fn from(&self, member: MemberId) -> u64 {
        let from = self.from.filter(|_| self.parts.is_empty());
        from.and_then(|from| from.get(member.index()).copied())
            .unwrap_or(0)
    }

    /// What came of a member by snapshot does not count.
    fn forget(&mut self, member: MemberId) {
        if let Some(from) = &mut self.from
            && let Some(from) = from.get_mut(member.index())
        {
            *from = 0;
        }
        if let Some(fetch) = &mut self.fetch
            && let Some(run) = fetch.runs.get_mut(member.index())
        {
            *run = None;
        }
    }

    /// True if the flow at this place is in the snapshot.
    pub(super) fn is_named(&self, slot: Slot) -> bool {
        self.named.contains(slot)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.is_stirred |= self.look_at.is_some_and(|at| at <= now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_due = self.fetch.as_ref().is_some_and(Fetch::is_due)
            || self.servers.iter().flatten().any(Server::is_due)
            || self.refused.iter().any(Option::is_some);
        if is_due || self.is_stirred {
            Some(Instant::default())
        } else {
            self.look_at
        }
    }
}

impl Node {
    /// How far this member is with having everything.
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// Everything is to be fetched anew.
    pub fn resync(&mut self, now: Instant) {
        self.now = now;
        self.begin_join(MemberSet::ALL);
        for member in MemberId::all() {
            self.incoming_mut(member).ask_anew();
        }
        self.membership.answer(now);
        self.elect();
    }

    /// Something that the member believes we have is lost: it is to tell us everything anew, what a snapshot had not excepted.
    pub(super) fn ask_anew(&mut self, member: MemberId) {
        self.incoming_mut(member).ask_anew();
        self.join.forget(member);
    }

    /// Everything of these members is wanted; what we give meanwhile is not everything any longer.
    fn begin_join(&mut self, of: MemberSet) {
        self.join.begin(of, self.now);
        for incoming in &mut self.incoming {
            incoming.ask_all();
        }
        let servers = self.join.servers.iter_mut().zip(&mut self.join.refused);
        for (server, refused) in servers {
            if let Some(server) = server.take() {
                *refused = Some(server.id());
            }
        }
    }

    /// There is a link to the peer, in place of any that there was.
    pub fn handle_link_up(&mut self, member: MemberId, now: Instant) {
        self.handle_link_down(member, now);
        self.join.linked.insert(member);
        self.tell_interfaces_to(member);
    }

    /// The link to the peer is gone.
    pub fn handle_link_down(&mut self, member: MemberId, now: Instant) {
        self.now = now;
        self.join.linked.remove(member);
        self.end_serving(member);
        self.comparing.forget(member);
        if self.is_fetching_from(member) {
            self.join.patience = now + LINK_PATIENCE;
            self.break_fetch();
        }
        self.join.stir();
    }

    /// A new run of the peer: nothing of what was before counts.
    pub(super) fn restart_join_with(&mut self, member: MemberId) {
        self.end_serving(member);
        self.join.forget(member);
        if self.is_fetching_from(member) {
            self.break_fetch();
        }
        self.join.stir();
    }

    /// What a proven hello says of joins.
    pub(super) fn handle_join_news(&mut self, member: MemberId, hello: &Hello, place: Place) {
        let me = (self.config.member, self.config.incarnation);
        for ask in &hello.asks {
            if (ask.member, ask.incarnation) == me {
                self.sender.handle_ask(member, ask.base, ask.from);
            }
        }
        match place {
            Place::Kept => {}
            Place::Given if self.join.is_alone && hello.joined => {
                // Nobody was there when we began, but others were somewhere.
                self.begin_join(MemberSet::ALL);
            }
            Place::Given => {}
            Place::Lost if self.join.is_joined() => {
                self.begin_join([member].into_iter().collect());
            }
            Place::Lost if self.join.fetches == 0 => self.join.of.insert(member),
            Place::Lost => self.join.forget(member),
        }
        if place != Place::Kept || !self.join.is_joined() {
            self.join.stir();
        }
    }

    /// The peer has told everything. If it had to tell more than what the snapshot was to leave, it has forgotten what
    /// ended since; then no carrier's part of the snapshot proves anything: a flow may have moved to that peer and ended.
    pub(super) fn handle_bulk_update_end(
        &mut self,
        member: MemberId,
        told: BulkUpdateEnd,
        asked: Option<u64>,
    ) {
        self.join.is_alone = false;
        if told.from == 0 && asked.is_some_and(|asked| asked > 0) {
            for other in MemberId::all() {
                if other != member && self.join.from(other) > 0 {
                    self.incoming_mut(other).ask_anew();
                }
            }
            self.join.from = None;
            self.membership.answer(self.now);
        }
        self.join.stir();
    }

    pub(super) fn asks(&self) -> Vec<Ask> {
        let live = (self.membership.peers()).filter(|peer| peer.state == PeerState::Live);
        live.filter_map(|peer| {
            let incoming = self.incoming(peer.member);
            Some(Ask {
                member: peer.member,
                incarnation: peer.incarnation()?,
                base: incoming.base(),
                from: incoming.asked()?,
            })
        })
        .collect()
    }

    pub(super) fn tombstones(&self) -> Tombstones {
        if self.join.awaits_snapshot() {
            Tombstones::Held
        } else {
            Tombstones::Free
        }
    }

    /// Advances the join if something happened since the last step.
    pub(super) fn step_join(&mut self, now: Instant) {
        if core::mem::take(&mut self.join.is_stirred) {
            self.join.look_at = self.poll_join(now);
        }
    }

    /// One step of the join; returns when to call again if nothing happens.
    fn poll_join(&mut self, now: Instant) -> Option<Instant> {
        let live = self.membership.live();
        let unasked: MemberSet = (live.iter())
            .filter(|member| self.incoming(*member).is_unasked())
            .collect();
        let Some(since) = self.join.since else {
            self.ask(unasked);
            return None;
        };
        if !self.pass.is_complete {
            return None;
        }
        if let Some(deadline) = self.check_fetch(live, now) {
            return Some(deadline);
        }
        if live.is_empty() {
            return self.join_alone(since, now);
        }
        let met = *self.join.met.get_or_insert(now);
        let met_all_at = met + self.config.dead_after;
        if now < met_all_at && self.awaits_others(live) {
            return Some(met_all_at);
        }
        if !self.join.parts.is_empty()
            && let Some(at) = self.poll_snapshot(live, unasked, met, now)
        {
            return Some(at);
        }
        if self.join.awaits_snapshot() {
            // There is none to be had: everything is told instead.
            self.end_snapshot();
            self.join.from = None;
        }
        self.ask(unasked);
        let is_complete = |member| self.incoming(member).is_complete();
        if live.iter().all(is_complete) {
            self.end_join();
        }
        None
    }

    /// The deadline of the fetch that goes on. One whose server is gone, or has been silent for too long, is broken off.
    fn check_fetch(&mut self, live: MemberSet, now: Instant) -> Option<Instant> {
        let fetch = self.join.fetch.as_ref()?;
        let (server, deadline) = (fetch.server, fetch.deadline());
        if now >= deadline {
            self.join.tried.insert(server);
        } else if live.contains(server) {
            return Some(deadline);
        }
        self.break_fetch();
        None
    }

    /// Nobody is there: after a while that is all there is to have. Until when to wait.
    fn join_alone(&mut self, since: Instant, now: Instant) -> Option<Instant> {
        let alone_at = since + self.config.dead_after * 2;
        if now < alone_at {
            return Some(alone_at);
        }
        self.join.is_alone = true;
        self.end_join();
        None
    }

    /// Begins to fetch a snapshot, or waits for whoever may give one; `None` if it is not to be had.
    fn poll_snapshot(
        &mut self,
        live: MemberSet,
        unasked: MemberSet,
        met: Instant,
        now: Instant,
    ) -> Option<Instant> {
        let patience = self.join.patience.max(met + LINK_PATIENCE);
        // What the snapshot leaves out they can only tell if they kept it from before its begin.
        let has_no_base = |member| {
            let incoming = self.incoming(member);
            incoming.is_lost() || incoming.base() == 0
        };
        if now < patience && live.iter().any(has_no_base) {
            return Some(patience);
        }
        match self.server(live).filter(|_| !unasked.is_empty()) {
            Some(server) if self.join.linked.contains(server) => self.begin_fetch(server, now),
            Some(_) => Some(patience).filter(|patience| now < *patience),
            None => None,
        }
    }

    /// True if live peers hear others that we have not met yet.
    fn awaits_others(&self, live: MemberSet) -> bool {
        let peers = self.membership.peers();
        let heard = |member| self.membership.heard_by(member, self.now);
        peers
            .filter(|peer| !live.contains(peer.member))
            .any(|peer| {
                live.iter()
                    .any(|member| heard(member).contains(peer.member))
            })
    }

    /// Who has everything and may be asked for it; one to whom there is a link, if any.
    fn server(&self, live: MemberSet) -> Option<MemberId> {
        if self.join.fetches >= FETCHES_MAX {
            return None;
        }
        let gives = |peer: &&Peer| peer.capabilities().contains(Capability::FullSync);
        let mut fit = (self.membership.peers())
            .filter(|peer| live.contains(peer.member) && peer.joined)
            .filter(gives)
            .map(|peer| peer.member)
            .filter(|member| !self.join.tried.contains(*member));
        let first = fit.next()?;
        let linked = core::iter::once(first)
            .chain(fit)
            .find(|member| self.join.linked.contains(*member));
        linked.or(Some(first))
    }

    fn ask(&mut self, members: MemberSet) {
        for member in members.iter() {
            let from = self.join.from(member);
            self.incoming_mut(member).ask(from);
        }
        if !members.is_empty() {
            self.membership.answer(self.now);
        }
    }

    fn end_join(&mut self) {
        if self.join.awaits_snapshot() {
            self.end_snapshot();
        }
        if let Some(since) = self.join.since.take() {
            self.note(Event::Joined(self.now.since(since)));
            self.membership.answer(self.now);
            self.elect();
        }
        self.join.from = None;
    }

    /// Who may be told everything: nobody before we know everything ourselves, as far as a snapshot can say it.
    pub(super) fn to_tell(&self) -> MemberSet {
        if self.pass.is_complete && !self.join.awaits_snapshot() {
            self.membership.live()
        } else {
            MemberSet::default()
        }
    }
}
