//! The audit between members: our copies are compared with what their carriers have, one carrier after the other
//! (PROTOCOL.md 13.2). That each kernel has what its member's table says, each finds out for itself.

use super::Node;
use crate::audit::{Class, Difference};
use crate::compare::{Answer, Digester, Row, Suspect, Walk, buckets};
use crate::membership::PeerState;
use crate::receiver::{Said, Via};
use crate::record::{Claim, FlowKey, MemberId, MemberSet, Record};
use crate::table::{KeyedHash, Life, Pending};
use crate::time::Instant;
use crate::wire::compare::{Against, Ask, Digests, Message, take_row};
use crate::wire::cursor::Reader;
use crate::wire::{DecodeError, Skipped};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::time::Duration;
use hashbrown::HashMap;

/// Frames of audits (PROTOCOL.md 2.6).
pub(super) const FRAMES: RangeInclusive<u8> = 48..=55;
/// A carrier that says nothing for so long is not compared with now: reading a kernel's table of a million takes two seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// What still differs after that long was not on its way.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two steps, so that a round takes a part of the processor only.
const PAUSE: Duration = Duration::from_millis(1);
/// Buckets whose flows are asked for at a time.
const WANTED_MAX: usize = 256;
/// Flows that are taken for one question; no carrier has so many in so few buckets.
const ROWS_MAX: usize = 1 << 18;

/// A proof that copies are what their carrier has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When.
    pub at: Instant,
    /// Of how many flows.
    pub flows: u64,
}

/// Comparisons, of our copies and of the peers'.
#[derive(Debug, Default)]
pub struct Comparing {
    /// Carriers that are still to be compared with in this round.
    left: MemberSet,
    against: Against,
    current: Option<Comparison>,
    id: u64,
    /// Our answers to peers, and when they asked if our kernel is to be read after that.
    answers: [Option<(Answer, Option<Instant>)>; MemberId::MAX],
    proofs: [Option<Proof>; MemberId::MAX],
    /// A comparison of this round found something, or did not come to its end.
    is_unequal: bool,
    step_at: Instant,
}

#[derive(Debug)]
struct Comparison {
    of: (MemberId, u8),
    ask: Ask,
    phase: Phase,
    deadline: Instant,
    /// Buckets that differ, whose flows were not asked for yet.
    differing: Vec<u16>,
    rows: HashMap<FlowKey, Row, KeyedHash>,
    /// From the first look, then the buckets of these are looked at again.
    suspects: HashMap<FlowKey, (u16, Suspect), KeyedHash>,
    is_second_look: bool,
    flows: u64,
    /// Differences that were one at both looks.
    found: u64,
}

#[derive(Debug)]
enum Phase {
    /// The question is to be sent.
    Ask,
    /// The answer is on its way.
    Wait,
    /// What the carrier told up to the cut is on its way.
    Deltas { cut: u64, sums: Vec<u64> },
    /// Our own copies are looked at.
    Walk(Walk, Vec<u64>),
    /// The second look is due then.
    Settle(Instant),
}

impl Comparing {
    /// True while a round goes on.
    pub fn goes_on(&self) -> bool {
        self.current.is_some() || !self.left.is_empty()
    }

    /// When the copies of a member were last proven to be what it has.
    pub fn proof(&self, member: MemberId) -> Option<Proof> {
        self.proofs.get(member.index()).copied().flatten()
    }

    /// True if the last round compared with every live peer, and found nothing but lag.
    pub fn is_equal(&self) -> bool {
        !self.is_unequal
    }

    pub(super) fn forget(&mut self, member: MemberId) {
        if let Some(place) = self.answers.get_mut(member.index()) {
            *place = None;
        }
        if self.current.as_ref().is_some_and(|it| it.of.0 == member) {
            self.current = None;
            self.is_unequal = true;
        }
    }

    pub(super) fn poll_timeout(&self, last_pass: Instant) -> Option<Instant> {
        let of_answers = self.answers(last_pass).then_some(self.step_at);
        [of_answers, self.due()].into_iter().flatten().min()
    }

    /// When our own comparison goes on.
    fn due(&self) -> Option<Instant> {
        match self.current.as_ref().map(|it| (&it.phase, it.deadline)) {
            None => self.goes_on().then_some(self.step_at),
            Some((Phase::Ask | Phase::Deltas { .. } | Phase::Walk(..), _)) => Some(self.step_at),
            Some((Phase::Wait, deadline)) => Some(deadline),
            Some((Phase::Settle(at), _)) => Some(*at),
        }
    }

    /// The comparison that waits for rows of this member, as the answer to this question.
    fn awaits_rows(&mut self, from: MemberId, id: u64) -> Option<&mut Comparison> {
        self.awaits(from, id).filter(|it| !it.ask.wanted.is_empty())
    }

    /// The comparison that waits for digests of this member, as the answer to this question.
    fn awaits_digests(&mut self, from: MemberId, id: u64) -> Option<&mut Comparison> {
        self.awaits(from, id).filter(|it| it.ask.wanted.is_empty())
    }

    fn awaits(&mut self, from: MemberId, id: u64) -> Option<&mut Comparison> {
        (self.current.as_mut())
            .filter(|it| it.of.0 == from && it.ask.id == id && matches!(it.phase, Phase::Wait))
    }

    /// True if a peer is being answered.
    fn answers(&self, last_pass: Instant) -> bool {
        let mut answers = self.answers.iter().flatten();
        answers.any(|it| is_ready(it.1, last_pass))
    }
}

fn is_ready(asked: Option<Instant>, last_pass: Instant) -> bool {
    asked.is_none_or(|asked| last_pass > asked)
}

impl Comparison {
    fn digester(&self) -> Digester {
        Digester::new(self.ask.id, self.ask.asker, self.ask.buckets)
    }
}

impl Node {
    /// Compares our copies with what every live peer carries.
    pub fn begin_comparison(&mut self, against: Against) {
        let live = self.membership.live();
        let complete = live.iter().filter(|it| self.incoming(*it).is_complete());
        self.comparing.left = complete.collect();
        self.comparing.against = against;
        self.comparing.is_unequal = self.comparing.left != live;
        self.comparing.step_at = self.now;
    }

    /// How far comparisons are.
    pub fn comparing(&self) -> &Comparing {
        &self.comparing
    }

    /// True if a comparison goes on, ours or a peer's.
    pub fn compares(&self) -> bool {
        self.comparing.goes_on() || self.comparing.answers(self.pass.last_began)
    }

    /// True if a peer wants our kernel's table read before it is told what we have.
    pub fn wants_pass(&self) -> bool {
        let answers = self.comparing.answers.iter().flatten();
        answers
            .into_iter()
            .any(|it| !is_ready(it.1, self.pass.last_began))
    }

    /// Does a step of what goes on.
    pub(super) fn step_comparison(&mut self, now: Instant) {
        let due = self.comparing.due();
        let is_paced =
            self.comparing.answers(self.pass.last_began) || due == Some(self.comparing.step_at);
        if is_paced && self.comparing.step_at <= now {
            self.comparing.step_at = now + PAUSE;
        }
        if due.is_none_or(|due| due > now) {
            return;
        }
        let Some(mut current) = self.comparing.current.take() else {
            self.comparing.current = self.next_comparison(now);
            return;
        };
        let (member, run) = current.of;
        let is_late = now >= current.deadline || !self.carries(member, run);
        let phase = match core::mem::replace(&mut current.phase, Phase::Ask) {
            Phase::Settle(at) if at <= now => {
                current.is_second_look = true;
                current.differing = current.suspects.values().map(|(it, _)| *it).collect();
                current.differing.sort_unstable();
                current.differing.dedup();
                self.next_question(&mut current, now)
            }
            Phase::Settle(at) => Some(Phase::Settle(at)),
            _ if is_late => {
                self.comparing.is_unequal = true;
                None
            }
            Phase::Deltas { cut, sums } if self.incoming(member).frontier() >= cut => {
                let walk = Walk::new(current.of, cut, current.digester(), &current.ask.wanted);
                Some(Phase::Walk(walk, sums))
            }
            Phase::Walk(mut walk, sums) => {
                if !walk.step(&self.table) {
                    Some(Phase::Walk(walk, sums))
                } else {
                    if current.ask.wanted.is_empty() {
                        current.differing = walk.differing(&sums);
                    } else {
                        self.judge(&mut current, &mut walk);
                    }
                    self.next_question(&mut current, now)
                }
            }
            phase @ (Phase::Ask | Phase::Wait | Phase::Deltas { .. }) => Some(phase),
        };
        self.comparing.current = phase.map(|phase| Comparison { phase, ..current });
    }

    fn next_comparison(&mut self, now: Instant) -> Option<Comparison> {
        let member = self.comparing.left.iter().next()?;
        self.comparing.left.remove(member);
        let peer = self.membership.peer(member);
        let Some((run, carrier)) = peer
            .filter(|peer| peer.state == PeerState::Live)
            .and_then(|peer| Some((peer.run, peer.incarnation()?)))
        else {
            self.comparing.is_unequal = true;
            return None;
        };
        self.comparing.id += 1;
        let hasher = KeyedHash::new(self.config.hash_seed);
        Some(Comparison {
            of: (member, run),
            ask: Ask {
                id: self.comparing.id,
                asker: self.config.incarnation,
                carrier,
                against: self.comparing.against,
                buckets: buckets(self.table.len() as u64),
                wanted: Vec::new(),
            },
            phase: Phase::Ask,
            deadline: now + PATIENCE,
            differing: Vec::new(),
            rows: HashMap::with_hasher(hasher),
            suspects: HashMap::with_hasher(hasher),
            is_second_look: false,
            flows: 0,
            found: 0,
        })
    }

    /// What is to be asked next; `None` if that was all.
    fn next_question(&mut self, current: &mut Comparison, now: Instant) -> Option<Phase> {
        current.rows.clear();
        if !current.differing.is_empty() {
            let rest = current.differing.len().min(WANTED_MAX);
            current.ask.wanted = current.differing.drain(..rest).collect();
            current.ask.against = Against::Tables;
            current.deadline = now + PATIENCE;
            return Some(Phase::Ask);
        }
        if !current.is_second_look && !current.suspects.is_empty() {
            return Some(Phase::Settle(now + SETTLE));
        }
        let member = current.of.0;
        for key in current.suspects.keys() {
            self.audit.note(Difference {
                class: Class::Lag,
                key: *key,
                carrier: Some(member),
            });
        }
        if current.found > 0 {
            self.comparing.is_unequal = true;
        } else if let Some(place) = self.comparing.proofs.get_mut(member.index()) {
            *place = Some(Proof {
                at: now,
                flows: current.flows,
            });
        }
        None
    }

    /// What differs at the first look is suspect, and at the second, if nothing was told of it since, set right.
    fn judge(&mut self, current: &mut Comparison, walk: &mut Walk) {
        for (key, bucket, suspect) in walk.suspects(&self.table, &current.rows) {
            if !current.is_second_look {
                current.suspects.insert(key, (bucket, suspect));
            } else if current.suspects.get(&key) == Some(&(bucket, suspect)) {
                current.suspects.remove(&key);
                current.found += 1;
                self.set_right(current.of, &key, suspect, current.rows.get(&key));
            }
        }
    }

    fn set_right(
        &mut self,
        (member, run): (MemberId, u8),
        key: &FlowKey,
        suspect: Suspect,
        row: Option<&Row>,
    ) {
        self.counters.reconciled += 1;
        self.audit.note(Difference {
            class: suspect.class,
            key: *key,
            carrier: Some(member),
        });
        let slot = self.table.find(key);
        let entry = slot.and_then(|slot| self.table.get_mut(slot));
        if let Some(row) = row {
            let said = Said {
                member,
                run,
                seq: row.seq,
                term: row.term,
                claim: Claim::Carried,
                via: Via::Audit,
            };
            self.handle_upsert(key, row.state.clone(), &said);
        } else if let (Some(slot), Some(entry)) = (slot, entry) {
            entry.life = Life::Dead;
            entry.pending = Pending::Nothing;
            entry.claim = Claim::Found;
            self.end_in_kernel(slot, None);
            self.bury(slot);
            self.ask_outclaimed(member);
        }
    }

    /// A frame of a peer's: a question about what we carry, or a part of the answer to ours.
    pub(super) fn handle_comparison(
        &mut self,
        from: MemberId,
        kind: u8,
        body: &[u8],
    ) -> Result<(), DecodeError> {
        let Some(message) = Message::decode(kind, body)? else {
            return Err(DecodeError::Opcode);
        };
        match message {
            Message::Ask(ask) => self.handle_question(from, ask),
            Message::Digests(digests) => self.handle_digests(from, digests)?,
            Message::Rows(id, rows) => self.handle_answer_rows(from, id, rows)?,
            Message::End(id, cut) => {
                if let Some(current) = self.comparing.awaits_rows(from, id) {
                    let sums = Vec::new();
                    current.phase = Phase::Deltas { cut, sums };
                    self.comparing.step_at = self.now;
                }
            }
        }
        Ok(())
    }

    fn handle_digests(&mut self, from: MemberId, digests: Digests) -> Result<(), DecodeError> {
        let Digests {
            id,
            cut,
            flows,
            sums,
        } = digests;
        let Some(current) = self.comparing.awaits_digests(from, id) else {
            return Ok(());
        };
        if sums.len() != usize::from(current.ask.buckets) {
            return Err(DecodeError::Number);
        }
        current.flows = flows;
        current.phase = Phase::Deltas { cut, sums };
        self.comparing.step_at = self.now;
        Ok(())
    }

    fn handle_answer_rows(
        &mut self,
        from: MemberId,
        id: u64,
        rows: &[u8],
    ) -> Result<(), DecodeError> {
        let Some(current) = self.comparing.awaits_rows(from, id) else {
            return Ok(());
        };
        let (mut reader, mut skipped) = (Reader::new(rows), Skipped::default());
        while !reader.is_empty() {
            let Some((seq, record)) = take_row(&mut reader, &mut skipped)? else {
                continue;
            };
            if let Record::Upsert {
                key, state, term, ..
            } = record
                && current.rows.len() < ROWS_MAX
            {
                current.rows.insert(key, Row { seq, state, term });
            }
        }
        self.count_skipped(skipped);
        Ok(())
    }

    fn handle_question(&mut self, from: MemberId, ask: Ask) {
        let peer = self.membership.peer(from);
        let is_asker =
            peer.is_some_and(|peer| peer.state == PeerState::Live && peer.is_run(ask.asker));
        let is_answered =
            is_asker && ask.carrier == self.config.incarnation && self.pass.is_complete;
        let read_after = (ask.against == Against::Kernels).then_some(self.now);
        if let Some(place) = self.comparing.answers.get_mut(from.index()) {
            *place = is_answered.then(|| (Answer::new(ask), read_after));
        }
    }

    /// The next frame for a peer.
    pub(super) fn poll_comparison(&mut self, to: MemberId, out: &mut Vec<u8>) -> Option<u8> {
        if let Some(current) = &mut self.comparing.current
            && current.of.0 == to
            && matches!(current.phase, Phase::Ask)
        {
            current.phase = Phase::Wait;
            return Some(Message::Ask(current.ask.clone()).encode(out));
        }
        let last_pass = self.pass.last_began;
        let place = self.comparing.answers.get_mut(to.index())?;
        let (answer, _) = place.as_mut().filter(|it| is_ready(it.1, last_pass))?;
        let kind = answer.poll(&self.table, self.sender.last_seq(), out);
        if answer.is_over() {
            *place = None;
        }
        kind
    }
}
