//! One interface: what peers and hosts say of each direction, and what follows (PROTOCOL.md 12.10, 12.11).

use super::{Direction, Interface, Link, Other};
use crate::time::Instant;
use core::time::Duration;

/// An answer of a host counts for so many times as long as silence may last.
const ANSWER_LASTS: u32 = 2;
/// An interface on which others should be heard is warned of after so many times as long as silence may last.
const UNSEEN_AFTER: u32 = 3;

/// How a direction of an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Probes pass.
    Up,
    /// Nothing says that it is down: its link is up, and hosts answer, or there is nobody who could tell.
    Assumed,
    /// It carries nothing.
    Down,
}

/// What hosts beside the members have answered, which says that both directions carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// One has, just now.
    Fresh,
    /// One has, but none does now.
    Stale,
    /// None ever has since the link came up, or there is none.
    Never,
}

/// What is known of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The link itself.
    pub link: Link,
    /// A peer is heard there, or says that it hears us.
    pub heard: bool,
    /// A peer that is there, with its own link up, is silent there, or deaf.
    pub against: bool,
    /// What other hosts answer.
    pub answers: Answers,
}

impl Evidence {
    /// What follows (PROTOCOL.md 12.10).
    pub fn judge(self) -> Judgement {
        match (self.link, self.heard, self.answers, self.against) {
            (Link::Down | Link::Missing, _, _, _) => Judgement::Down,
            (Link::Up, true, _, _) => Judgement::Up,
            (Link::Up, false, Answers::Fresh, _) => Judgement::Assumed,
            (Link::Up, false, Answers::Stale | Answers::Never, true) => Judgement::Down,
            // Alone: hosts that answered, and no longer do, are all that can tell.
            (Link::Up, false, Answers::Stale, false) => Judgement::Down,
            (Link::Up, false, Answers::Never, false) => Judgement::Assumed,
        }
    }
}

/// When it is judged, and by what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long silence may last.
    pub dead_after: Duration,
    /// Nothing is judged by what was said before.
    pub excused: Instant,
    /// The time.
    pub now: Instant,
}

/// What is known of an interface by peers.
#[derive(Clone, Copy, Debug, Default)]
struct Sightings {
    /// One is heard there.
    hears: bool,
    /// One says that it hears us there.
    is_heard: bool,
    /// One that has its own link up there is silent.
    against_in: bool,
    /// One that has its own link up there says that it does not hear us.
    against_out: bool,
    /// One has its own link up there.
    has_witness: bool,
    /// One has had it up for so long that it should have been heard.
    is_missed: bool,
}

impl Sightings {
    fn or(self, other: Self) -> Self {
        Self {
            hears: self.hears | other.hears,
            is_heard: self.is_heard | other.is_heard,
            against_in: self.against_in | other.against_in,
            against_out: self.against_out | other.against_out,
            has_witness: self.has_witness | other.has_witness,
            is_missed: self.is_missed | other.is_missed,
        }
    }
}

impl Interface {
    /// Judges both directions, with these peers there.
    pub(super) fn judge(&mut self, others: &[Other], times: Times) {
        let seen = (others.iter())
            .filter_map(|other| self.sighting(other, times))
            .fold(Sightings::default(), Sightings::or);
        let (link, answers) = (self.watched.link, self.answers(seen.has_witness, times));
        let evidence = |heard, against| Evidence {
            link,
            heard,
            against,
            answers,
        };
        let inbound = evidence(seen.hears, seen.against_in).judge();
        let outbound = evidence(seen.is_heard, seen.against_out).judge();
        self.inbound.turn(inbound, times);
        self.outbound.turn(outbound, times);
        let was_seen = self.peers.iter().any(|it| it.at.is_some());
        self.is_unseen = link == Link::Up && seen.is_missed && !was_seen;
    }

    /// What one peer tells by what it says, and by its silence.
    fn sighting(&self, other: &Other, times: Times) -> Option<Sightings> {
        let heard = self.peers.get(other.member.index())?;
        let silence = other.load.patience(times.dead_after);
        let fresh = |at: Instant| times.now.since(at) < silence;
        let has_link = heard.up_since.is_some();
        let both_up = (heard.up_since).map_or(self.link_since, |at| at.max(self.link_since));
        // Our own lateness makes nothing good that was bad.
        let judged_since = |direction: &Direction| match direction.is {
            Judgement::Down => both_up,
            Judgement::Up | Judgement::Assumed => both_up.max(times.excused),
        };
        let since_in = judged_since(&self.inbound);
        let silent_since = heard.at.map_or(since_in, |at| at.max(since_in));
        let says = (heard.hears_us)
            .filter(|(_, at)| other.tells || fresh(*at))
            .map(|(says, _)| says);
        let deaf_since = judged_since(&self.outbound);
        Some(Sightings {
            hears: heard.at.is_some_and(fresh),
            is_heard: says == Some(true),
            against_in: has_link && other.heard >= silent_since + silence,
            against_out: has_link && says == Some(false) && other.heard >= deaf_since + silence,
            has_witness: has_link,
            is_missed: has_link
                && other.heard >= both_up.max(times.excused) + silence * UNSEEN_AFTER,
        })
    }

    /// What hosts answer.
    fn answers(&self, has_witness: bool, times: Times) -> Answers {
        match self.answered {
            None => Answers::Never,
            Some(at) if times.now.since(at) < times.dead_after * ANSWER_LASTS => Answers::Fresh,
            // Who is there will say in time what it hears.
            Some(_) if has_witness => Answers::Never,
            Some(_) => Answers::Stale,
        }
    }
}

impl Direction {
    /// It is down at once, and up again when it has been good for as long as silence may last: so it does not flap with every
    /// probe that gets through.
    fn turn(&mut self, judged: Judgement, times: Times) {
        if judged == self.is {
            self.better = None;
            return;
        }
        if self.is == Judgement::Down {
            let since = *self.better.get_or_insert(times.now);
            if times.now.since(since) < times.dead_after {
                return;
            }
        }
        *self = Self {
            is: judged,
            since: times.now,
            better: None,
        };
    }
}
