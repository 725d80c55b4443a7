//! Gives a snapshot: walks the table once for each part, a bounded piece for each call, as far ahead of the asker as the
//! window allows. Nothing is copied or held meanwhile; what changes during the walk is the deltas' business.

use super::{FRAME_BYTES, Parts, WINDOW, part_of};
use crate::membership::Runs;
use crate::record::{Claim, MemberId, MemberSet};
use crate::table::{Entry, Life, Origin, Pending, Table};
use crate::wire::snapshot::{Carrier, Message, Request, Start, put_row};
use alloc::vec::Vec;

/// Entries looked at for one frame, so that one with nothing in it costs bounded time.
const LOOKS: u32 = 4096;

/// What the server knows of members now.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Itself.
    pub me: MemberId,
    /// Who gets the snapshot.
    pub asker: MemberId,
    /// What the asker carried in other runs than these it has lost: its table is another. `None` if others tell it.
    pub asker_has: Option<Runs>,
    /// Who is there.
    pub live: MemberSet,
}

/// A carrier whose flows the server has completely, and the server's number of its run.
pub type Complete = (Carrier, u8);

/// A snapshot that is being given to a peer.
#[derive(Debug)]
pub struct Server {
    id: u64,
    of: MemberSet,
    parts: Parts,
    next: u32,
    /// The begin, until it is sent.
    start: Option<Start>,
    /// Runs of the carriers that were complete at the start.
    runs: [Option<u8>; MemberId::MAX],
    /// Our last delta at the start.
    own_seq: u64,
    sent: u64,
    consumed: u64,
    is_over: bool,
    /// Flows sent.
    pub rows: u64,
}

/// Whose an entry is for the asker.
enum Of {
    /// This carrier's.
    Carrier(MemberId, Claim),
    /// The asker carried it, and lost it: ours to keep from now on.
    Orphan,
    /// None of the asker's business.
    Nobody,
}

impl Server {
    /// Answers a request with what is `complete` now.
    pub fn new(request: &Request, complete: &[Complete], own_seq: u64, flows: u64) -> Self {
        let mut runs = [None; MemberId::MAX];
        for (carrier, run) in complete {
            if let Some(place) = runs.get_mut(carrier.member.index()) {
                *place = Some(*run);
            }
        }
        Self {
            id: request.id,
            of: request.of,
            parts: request.parts,
            next: 0,
            start: Some(Start {
                id: request.id,
                flows,
                carriers: complete.iter().map(|(carrier, _)| *carrier).collect(),
            }),
            runs,
            own_seq,
            sent: 0,
            consumed: 0,
            is_over: false,
            rows: 0,
        }
    }

    /// Number of the snapshot.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// True if [`Self::poll`] has something to do.
    pub fn is_due(&self) -> bool {
        !self.is_over && self.sent - self.consumed < WINDOW
    }

    /// The asker has taken in so many frames.
    pub fn handle_more(&mut self, id: u64, frames: u64) {
        if id == self.id && frames <= self.sent {
            self.consumed = self.consumed.max(frames);
        }
    }

    /// The next frame: appends its body, says its kind. `None` if it may not be sent yet, or a bounded look found no flow.
    pub fn poll(&mut self, table: &mut Table, view: &View, out: &mut Vec<u8>) -> Option<u8> {
        if !self.is_due() {
            return None;
        }
        let kind = if let Some(start) = self.start.take() {
            Some(Message::Start(start).encode(out))
        } else if let Some(part) = self.parts.first() {
            self.poll_part(part, table, view, out)
        } else {
            self.is_over = true;
            Some(Message::End(self.id).encode(out))
        };
        self.sent += u64::from(kind.is_some());
        kind
    }

    fn poll_part(
        &mut self,
        part: u8,
        table: &mut Table,
        view: &View,
        out: &mut Vec<u8>,
    ) -> Option<u8> {
        let start = out.len();
        let kind = Message::Rows(self.id, &[]).encode(out);
        let empty = out.len();
        for _ in 0..LOOKS {
            if self.next >= table.slot_end() || out.len() - start >= FRAME_BYTES {
                break;
            }
            self.look(part, table, view, out);
            self.next += 1;
        }
        if out.len() > empty {
            return Some(kind);
        }
        out.truncate(start);
        if self.next < table.slot_end() {
            return None;
        }
        self.next = 0;
        self.parts.remove(part);
        Some(Message::Part(self.id, part).encode(out))
    }

    fn look(&mut self, part: u8, table: &mut Table, view: &View, out: &mut Vec<u8>) {
        let Some((slot, entry)) = table.slot(self.next) else {
            return;
        };
        if entry.life == Life::Dead || part_of(table, entry) != part {
            return;
        }
        let of = self.judge(entry, view);
        let Some(entry) = table.get_mut(slot) else {
            return;
        };
        let (carrier, claim) = match of {
            Of::Nobody => return,
            Of::Carrier(carrier, claim) => (carrier, claim),
            Of::Orphan => {
                entry.origin = Origin::Found;
                entry.seq = self.own_seq;
                (view.me, Claim::Found)
            }
        };
        // Whoever has it wants to hear of its end.
        entry.told = true;
        self.rows += 1;
        put_row(out, carrier, claim, entry);
    }

    fn judge(&self, entry: &Entry, view: &View) -> Of {
        let carrier = match entry.origin {
            Origin::Own | Origin::Found => view.me,
            Origin::Copy { member, .. } => member,
        };
        if !self.of.contains(carrier) {
            return Of::Nobody;
        }
        match (entry.origin, entry.pending) {
            (Origin::Own, Pending::Nothing) => Of::Carrier(carrier, Claim::Carried),
            (Origin::Found, Pending::Nothing) => Of::Carrier(carrier, Claim::Found),
            // The delta that tells it comes after those that the vector names.
            (Origin::Own | Origin::Found, Pending::Upsert | Pending::Delete) => Of::Nobody,
            (Origin::Copy { run, .. }, _) if carrier == view.asker => {
                if view.asker_has.is_some_and(|runs| !runs.contains(run)) && entry.in_kernel {
                    Of::Orphan
                } else {
                    Of::Nobody
                }
            }
            // Of the flows of dead members others may know less than we do: deltas tell them to everybody (5.4).
            (Origin::Copy { .. }, _) if !view.live.contains(carrier) => Of::Nobody,
            (Origin::Copy { run, .. }, _) => {
                if self.runs.get(carrier.index()).copied().flatten() == Some(run) {
                    Of::Carrier(carrier, entry.claim)
                } else {
                    Of::Nobody
                }
            }
        }
    }
}
