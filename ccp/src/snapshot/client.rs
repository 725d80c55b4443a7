//! Fetches a snapshot from one peer: counts what comes, and says when there is room for more.

use super::Parts;
use crate::record::{MemberId, MemberSet};
use crate::table::Slot;
use crate::time::Instant;
use crate::wire::snapshot::{Message, Request};
use alloc::vec::Vec;
use core::time::Duration;

/// A server that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Frames after which the server is told that they were taken in: an eighth of the window.
const MORE_EVERY: u64 = super::WINDOW / 8;

/// Flows that a snapshot has: a bit for each place of the table.
#[derive(Debug, Default)]
pub struct Named(Vec<u64>);

impl Named {
    /// The flow at `slot` is in it.
    pub fn insert(&mut self, slot: Slot) {
        let (word, bit) = place(slot);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// True if it is.
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

fn place(slot: Slot) -> (usize, u64) {
    (slot.index() as usize / 64, 1 << (slot.index() % 64))
}

/// A snapshot that is being fetched.
#[derive(Debug)]
pub struct Fetch {
    /// Who gives it.
    pub server: MemberId,
    /// Number of the snapshot.
    pub id: u64,
    /// What it has to have that is not there yet.
    pub parts: Parts,
    /// Which of the carriers' runs its rows are of, by our count; `None` where they are not to be taken.
    pub runs: [Option<u8>; MemberId::MAX],
    request: Option<Request>,
    consumed: u64,
    reported: u64,
    heard: Instant,
}

impl Fetch {
    /// Asks `server` for the `parts` of the flows `of` these members. `incarnations` are ours and the server's.
    pub fn new(
        server: MemberId,
        id: u64,
        [asker, server_incarnation]: [u64; 2],
        of: MemberSet,
        parts: Parts,
        now: Instant,
    ) -> Self {
        Self {
            server,
            id,
            parts,
            runs: [None; MemberId::MAX],
            request: Some(Request {
                id,
                asker,
                server: server_incarnation,
                of,
                parts,
            }),
            consumed: 0,
            reported: 0,
            heard: now,
        }
    }

    /// A frame of it came and was acted on.
    pub fn handle_frame(&mut self, now: Instant) {
        self.consumed += 1;
        self.heard = now;
    }

    /// When it is given up if nothing comes.
    pub fn deadline(&self) -> Instant {
        self.heard + PATIENCE
    }

    /// True if [`Self::poll`] has something to say.
    pub fn is_due(&self) -> bool {
        self.request.is_some() || self.consumed - self.reported >= MORE_EVERY
    }

    /// The next frame for the server: appends its body, says its kind.
    pub fn poll(&mut self, out: &mut Vec<u8>) -> Option<u8> {
        if let Some(request) = self.request.take() {
            return Some(Message::Request(request).encode(out));
        }
        if !self.is_due() {
            return None;
        }
        self.reported = self.consumed;
        Some(Message::More(self.id, self.consumed).encode(out))
    }
}
