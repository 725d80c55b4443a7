//! One direction of one interface: what is known, and what follows.

use super::Link;

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
