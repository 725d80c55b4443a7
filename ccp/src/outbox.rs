//! What the peers are still to be told: at most one pending change a flow, in the order of the first of them.
//!
//! The change itself stands in the flow's table entry, so a later one finds and merges with it; the outbox only keeps
//! the order. The table of merge, replace and cancel (PROTOCOL.md 4.4):
//!
//! | pending | was the flow ever told? | new: upsert | new: delete |
//! |---|---|---|---|
//! | nothing | no | upsert | forget: nobody knows of it |
//! | nothing | yes | upsert | delete |
//! | upsert | no | upsert, merged | cancel: forget, nothing is sent |
//! | upsert | yes | upsert, merged | delete replaces it |
//! | delete | yes | upsert replaces it | delete |
//!
//! (A pending delete of a flow that was never told cannot be.)

use crate::table::{Entry, Life, Pending, Slot, Table};
use alloc::collections::VecDeque;

/// A change that is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The flow is new or another.
    Upsert,
    /// The flow ended.
    Delete,
}

/// What becomes of a flow's place in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// This is pending now.
    Pending(Pending),
    /// Nothing is to be told, and the entry is not needed any longer.
    Forget,
}

/// The table above.
pub fn merge(pending: Pending, told: bool, change: Change) -> Merged {
    match (pending, told, change) {
        (Pending::Nothing | Pending::Upsert | Pending::Delete, _, Change::Upsert) => {
            Merged::Pending(Pending::Upsert)
        }
        (Pending::Nothing | Pending::Upsert, false, Change::Delete) => Merged::Forget,
        (Pending::Nothing | Pending::Upsert, true, Change::Delete)
        | (Pending::Delete, _, Change::Delete) => Merged::Pending(Pending::Delete),
    }
}

/// The order in which pending changes are sent. Bounded by the table: a slot stands in it once for each time its
/// pending change came up since the last flush, and every flush empties it.
#[derive(Debug, Default)]
pub struct Outbox {
    order: VecDeque<Slot>,
}

impl Outbox {
    /// Notes a change of the flow at `slot`. Ends with the entry removed when nobody has to know.
    pub fn push(&mut self, table: &mut Table, slot: Slot, change: Change) {
        let Some(entry) = table.get_mut(slot) else {
            return;
        };
        entry.life = match change {
            Change::Upsert => Life::Live,
            Change::Delete => Life::Dead,
        };
        let before = entry.pending;
        match merge(before, entry.told, change) {
            Merged::Pending(pending) => {
                entry.pending = pending;
                if before == Pending::Nothing {
                    self.order.push_back(slot);
                }
            }
            Merged::Forget => table.remove(slot),
        }
    }

    /// The next flow to be told, left in its place. Slots whose change was cancelled or sent meanwhile are passed over.
    pub fn peek<'t>(&mut self, table: &'t mut Table) -> Option<(Slot, &'t mut Entry)> {
        while let Some(slot) = self.order.front().copied() {
            if table
                .get(slot)
                .is_some_and(|entry| entry.pending != Pending::Nothing)
            {
                return table.get_mut(slot).map(|entry| (slot, entry));
            }
            self.order.pop_front();
        }
        None
    }

    /// Takes out what [`Self::peek`] showed.
    pub fn pop(&mut self) {
        self.order.pop_front();
    }

    /// True if nothing is to be told.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Merged, Outbox, merge};
    use crate::record::{Family, FlowKey, ZoneDirection};
    use crate::table::{Entry, Life, Origin, Pending, Table};

    fn flow() -> Entry {
        let key = FlowKey {
            src: [1; 16],
            dst: [2; 16],
            l4: [1, 2],
            zone: 0,
            proto: 6,
            family: Family::V6,
            zone_direction: ZoneDirection::Both,
        };
        Entry::new(key, Origin::Own)
    }

    #[test]
    fn the_table_of_merges_is_what_is_written() {
        use {Change::*, Merged::Forget, Pending::Nothing};
        let upsert = Merged::Pending(Pending::Upsert);
        let delete = Merged::Pending(Pending::Delete);
        let rows = [
            (Nothing, false, upsert, Forget),
            (Nothing, true, upsert, delete),
            (Pending::Upsert, false, upsert, Forget),
            (Pending::Upsert, true, upsert, delete),
            (Pending::Delete, true, upsert, delete),
        ];
        for (pending, told, on_upsert, on_delete) in rows {
            assert_eq!(
                merge(pending, told, Upsert),
                on_upsert,
                "{pending:?} told {told}"
            );
            assert_eq!(
                merge(pending, told, Delete),
                on_delete,
                "{pending:?} told {told}"
            );
        }
    }

    #[test]
    fn delete_cancels_unsent_insert() {
        let (mut table, mut outbox) = (Table::new(8, [0, 0]), Outbox::default());
        let slot = table.insert(flow()).unwrap();
        outbox.push(&mut table, slot, Change::Upsert);
        outbox.push(&mut table, slot, Change::Delete);
        assert!(table.is_empty());
        assert!(outbox.peek(&mut table).is_none());
    }

    #[test]
    fn a_flow_told_before_leaves_a_delete_and_lives_again_by_an_upsert() {
        let (mut table, mut outbox) = (Table::new(8, [0, 0]), Outbox::default());
        let slot = table
            .insert(Entry {
                told: true,
                ..flow()
            })
            .unwrap();
        outbox.push(&mut table, slot, Change::Upsert);
        outbox.push(&mut table, slot, Change::Delete);
        let (_, entry) = outbox.peek(&mut table).unwrap();
        assert_eq!((entry.pending, entry.life), (Pending::Delete, Life::Dead));
        outbox.push(&mut table, slot, Change::Upsert);
        let (_, entry) = outbox.peek(&mut table).unwrap();
        assert_eq!((entry.pending, entry.life), (Pending::Upsert, Life::Live));
        outbox.pop();
        assert!(outbox.peek(&mut table).is_none(), "one place a flow");
    }
}
