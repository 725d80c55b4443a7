//! Taking a snapshot: its rows become flows as if they came late from their carriers (PROTOCOL.md 9.4).

use super::Event;
use crate::node::Node;
use crate::receiver::{Said, Via};
use crate::record::{MemberId, Record};
use crate::sender::Tombstones;
use crate::snapshot::Parts;
use crate::snapshot::client::Fetch;
use crate::table::{Life, Slot};
use crate::time::Instant;
use crate::wire::cursor::Reader;
use crate::wire::snapshot::{Message, Row, Start, take_row};
use crate::wire::{DecodeError, Skipped};
use alloc::vec::Vec;

impl Node {
    pub(super) fn begin_fetch(&mut self, server: MemberId, now: Instant) -> Option<Instant> {
        let incarnation = self.membership.peer(server)?.incarnation()?;
        self.join.id += 1;
        self.join.fetches += 1;
        self.counters.snapshots_fetched += 1;
        let fetch = Fetch::new(
            server,
            self.join.id,
            [self.config.incarnation, incarnation],
            self.join.of,
            self.join.parts,
            now,
        );
        let deadline = fetch.deadline();
        self.join.fetch = Some(fetch);
        self.note(Event::SnapshotBegun(server));
        Some(deadline)
    }

    pub(super) fn is_fetching_from(&self, member: MemberId) -> bool {
        (self.join.fetch.as_ref()).is_some_and(|fetch| fetch.server == member)
    }

    pub(super) fn handle_fetched(&mut self, message: &Message<'_>) -> Result<(), DecodeError> {
        match message {
            Message::Start(start) => self.handle_start(start),
            Message::Rows(_, rows) => self.handle_rows(rows)?,
            Message::Part(_, part) => {
                self.join.parts.remove(*part);
                if let Some(fetch) = &mut self.join.fetch {
                    fetch.parts.remove(*part);
                }
            }
            Message::End(_) => {
                self.end_fetch();
                return Ok(());
            }
            Message::Refused(_) => {
                if let Some(fetch) = &self.join.fetch {
                    self.join.tried.insert(fetch.server);
                }
                self.break_fetch();
                return Ok(());
            }
            Message::Request(_) | Message::More(..) => {}
        }
        let now = self.now;
        if let Some(fetch) = &mut self.join.fetch {
            fetch.handle_frame(now);
            self.join.look_at = Some(fetch.deadline());
        }
        Ok(())
    }

    fn handle_start(&mut self, start: &Start) {
        let (mut from, mut runs) = ([0; MemberId::MAX], [None; MemberId::MAX]);
        for carrier in &start.carriers {
            let peer = self.membership.peer(carrier.member);
            let run = peer
                .filter(|peer| peer.is_run(carrier.incarnation))
                .map(|peer| peer.run);
            let at = carrier.member.index();
            if let (Some(place), Some(run_of)) = (from.get_mut(at), runs.get_mut(at))
                && run.is_some()
                && self.join.of.contains(carrier.member)
            {
                (*place, *run_of) = (carrier.from, run);
            }
        }
        // Of what came from several servers the oldest counts.
        if let Some(before) = &self.join.from {
            for (from, before) in from.iter_mut().zip(before) {
                *from = (*from).min(*before);
            }
        }
        self.join.from = Some(from);
        self.join.rows = [self.join.rows[0], start.flows.max(self.join.rows[0])];
        if let Some(fetch) = &mut self.join.fetch {
            fetch.runs = runs;
        }
    }

    fn handle_rows(&mut self, rows: &[u8]) -> Result<(), DecodeError> {
        let mut taken = Vec::new();
        let (mut reader, mut skipped) = (Reader::new(rows), Skipped::default());
        while !reader.is_empty() {
            taken.extend(take_row(&mut reader, &mut skipped)?);
        }
        self.count_skipped(skipped);
        let runs = (self.join.fetch.as_ref()).map_or([None; MemberId::MAX], |fetch| fetch.runs);
        for row in taken {
            self.join.rows[0] += 1;
            self.counters.snapshot_rows_received += 1;
            match runs.get(row.member.index()).copied().flatten() {
                Some(run) => self.take_row(row, run),
                None => self.counters.snapshot_rows_skipped += 1,
            }
        }
        Ok(())
    }

    fn take_row(&mut self, row: Row, run: u8) {
        let Row {
            member,
            seq,
            record,
        } = row;
        let Record::Upsert {
            key,
            state,
            term,
            claim,
        } = record
        else {
            return;
        };
        let slot = self.table.find(&key);
        if slot.is_none() && seq < self.incoming(member).had {
            // We had everything of its carrier then: it has ended since.
            self.counters.remote_changes_stale += 1;
            return;
        }
        let said = Said {
            member,
            run,
            seq,
            term,
            claim,
            via: Via::Snapshot,
        };
        self.handle_upsert(&key, state, &said);
        if let Some(slot) = slot.or_else(|| self.table.find(&key)) {
            self.join.named.insert(slot);
        }
    }

    /// What is missing has to come from another, or otherwise.
    pub(super) fn break_fetch(&mut self) {
        if let Some(fetch) = self.join.fetch.take() {
            self.counters.snapshots_broken += 1;
            self.note(Event::SnapshotBroken(fetch.server));
        }
        self.join.stir();
    }

    pub(super) fn end_fetch(&mut self) {
        if let Some(fetch) = self.join.fetch.take() {
            self.note(Event::SnapshotEnded(fetch.server));
            if fetch.parts.is_empty() {
                self.end_snapshot();
            }
        }
        self.join.stir();
    }

    /// There will be no more rows: what ended may be forgotten.
    pub(super) fn end_snapshot(&mut self) {
        self.join.parts = Parts::of_bits(0);
        let dead: Vec<Slot> = (self.table.slots_from(0))
            .filter(|(_, entry)| entry.life == Life::Dead)
            .map(|(slot, _)| slot)
            .collect();
        for slot in dead {
            self.bury(slot);
        }
        for member in MemberId::all() {
            self.advance(member);
        }
        self.sender.trim(&mut self.table, Tombstones::Free);
    }
}
