//! What our own kernel says: packets that passed here made, changed or ended a flow.

use super::{Action, Node};
use crate::membership::PeerState;
use crate::outbox::Change;
use crate::progress;
use crate::record::{FlowKey, FlowState, MemberId, Packets, Patch};
use crate::table::{Entry, Life, Origin, Slot};
use crate::wire::flow;

/// A change that the local kernel told, not caused by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local<'a> {
    /// The flow is new.
    New(&'a Patch),
    /// Something of it is another.
    Update(&'a Patch),
    /// It is gone.
    Destroy(End),
}

/// Why the kernel let go of an entry, as far as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was over.
    Over,
    /// Time was left, and nobody asked: a packet ended it, or the kernel cleaned up after an interface or an address that
    /// has gone, perhaps to another gateway.
    Cut {
        /// What was left.
        timeout_secs: u32,
    },
    /// Somebody deleted it: the operator, or a program of his.
    ByHand,
}

impl Node {
    /// Takes in what the local kernel told of a flow.
    pub fn handle_local(&mut self, key: &FlowKey, change: Local<'_>) {
        self.counters.local_changes += 1;
        self.audit.clear(key, self.config.member);
        match change {
            Local::New(patch) => self.local_new(key, patch),
            Local::Update(patch) => self.local_update(key, patch),
            Local::Destroy(end) => self.local_destroy(key, end),
        }
    }

    fn local_new(&mut self, key: &FlowKey, patch: &Patch) {
        let slot = match self.table.find(key) {
            Some(slot) => slot,
            None => match self.insert(Entry::new(*key, Origin::Own)) {
                Some(slot) => slot,
                None => return,
            },
        };
        let pass = self.pass.number;
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        entry.pass = pass;
        match birth(entry, patch) {
            Birth::Known => {
                entry.in_kernel = true;
                return;
            }
            Birth::Held => {
                entry.in_kernel = true;
                if !entry.state.apply(patch) {
                    return;
                }
            }
            Birth::New => {
                self.take_over(slot);
                let Some(entry) = self.table.get_mut(slot) else {
                    return;
                };
                entry.state = FlowState::default();
                entry.state.apply(patch);
                entry.in_kernel = true;
            }
        }
        self.outbox.push(&mut self.table, slot, Change::Upsert);
        self.adopt_expected(key);
    }

    fn local_update(&mut self, key: &FlowKey, patch: &Patch) {
        let Some(slot) = self.table.find(key) else {
            self.local_update_of_unknown(key, patch);
            return;
        };
        let pass = self.pass.number;
        let Some(entry) = self
            .table
            .get_mut(slot)
            .filter(|entry| entry.life == Life::Live)
        else {
            return;
        };
        entry.in_kernel = true;
        entry.pass = pass;
        let tcp_before = entry.state.tcp;
        let changed = entry.state.apply(patch);
        // The other end's may have passed another gateway, which this kernel had not been told when it said this.
        let is_joined = progress::join_ends(key.proto, tcp_before, &mut entry.state);
        let is_news = match (entry.origin, patch.packets) {
            (Origin::Own, _) | (Origin::Found | Origin::Copy { .. }, None) => changed,
            // The first packet of a flow that has moved here.
            (Origin::Found | Origin::Copy { .. }, Some(Packets::Passed)) => true,
            // The packet was not forwarded, or the operator changed the entry: what the carrier says counts.
            (Origin::Found | Origin::Copy { .. }, Some(Packets::None)) => false,
        };
        if is_news {
            self.take_over(slot);
            self.outbox.push(&mut self.table, slot, Change::Upsert);
            if is_joined {
                self.apply(None, slot, Action::Update);
            }
        }
    }

    /// Its birth was missed, or the kernel was told not to tell of it. An update is a patch: unless it happens to tell the
    /// state too, or there is none, the pass that follows every overrun brings the flow.
    fn local_update_of_unknown(&mut self, key: &FlowKey, patch: &Patch) {
        if patch.proto_state.is_some() || !flow::has_state(key.proto) {
            self.local_new(key, patch);
        } else {
            self.counters.updates_of_unknown += 1;
            // A row of it that was read before the update may be on its way.
            self.pass.note_missed();
        }
    }

    /// The flow goes on, but the peers are not to have it any longer: they are told that it ended. False if it is not here,
    /// or another's to withdraw.
    pub fn withdraw(&mut self, key: &FlowKey) -> bool {
        let entry = self.table.find(key).and_then(|slot| self.table.get(slot));
        let is_ours = entry.is_some_and(|entry| {
            entry.life == Life::Live && matches!(entry.origin, Origin::Own | Origin::Found)
        });
        if is_ours {
            self.local_destroy(key, End::Over);
        }
        is_ours
    }

    pub(super) fn local_destroy(&mut self, key: &FlowKey, end: End) {
        self.pass.note_ended(key);
        let Some(slot) = self.table.find(key) else {
            return;
        };
        let Some(entry) = self
            .table
            .get_mut(slot)
            // One that is held is another under the same key.
            .filter(|entry| entry.life == Life::Live)
            .filter(|entry| entry.in_kernel || entry.origin != Origin::Own)
        else {
            return;
        };
        entry.in_kernel = false;
        match end {
            End::Cut { timeout_secs } if is_no_end(entry) => {
                self.put_back_cut(slot, timeout_secs);
                return;
            }
            // Whoever carries it: the operator's word counts everywhere.
            End::ByHand => self.take_over(slot),
            End::Over | End::Cut { .. } => {}
        }
        let Some(entry) = self.table.get(slot) else {
            return;
        };
        match entry.origin {
            Origin::Own | Origin::Found => {
                self.outbox.push(&mut self.table, slot, Change::Delete);
                self.graves.push(slot, self.now);
            }
            // Its carrier says when it ends. What begins anew here meanwhile knows which claim it has to outdo.
            Origin::Copy { .. } => {
                self.counters.copies_expired += 1;
                self.expired.push(slot, self.now);
            }
        }
    }

    /// The kernel dropped an entry that has not ended: it masquerades, and its interface or address went away, perhaps
    /// to another gateway. It goes in again as a copy, so that whoever passes its next packet is known to carry it.
    fn put_back_cut(&mut self, slot: Slot, timeout_secs: u32) {
        self.counters.cut_put_back += 1;
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        match entry.origin {
            Origin::Own | Origin::Found => {
                entry.origin = Origin::Found;
                entry.state.timeout_secs = timeout_secs;
                self.outbox.push(&mut self.table, slot, Change::Upsert);
            }
            Origin::Copy { .. } => {}
        }
        self.apply(None, slot, Action::Create);
    }

    /// True if that run of the member goes on: then only it can end its flows.
    pub(super) fn carries(&self, member: MemberId, run: u8) -> bool {
        self.membership
            .peer(member)
            .is_some_and(|peer| peer.run == run && peer.state == PeerState::Live)
    }

    /// Forgets a copy that is not in our kernel any more. Its carrier believes that we have it, if it ever comes back.
    pub(super) fn let_go(&mut self, member: MemberId, run: u8, slot: Slot) {
        self.table.remove(slot);
        if run == self.run(member) {
            self.ask_anew(member);
        }
    }
}

/// What the kernel's word that a flow is new comes to.
enum Birth {
    /// It is.
    New,
    /// Its packet was held, so that it was told already; mostly this says nothing more.
    Held,
    /// The same, and another gateway has brought it further since.
    Known,
}

fn birth(entry: &Entry, patch: &Patch) -> Birth {
    let (proto, ours) = (entry.key.proto, entry.state.proto_state);
    let theirs = patch.proto_state.unwrap_or(ours);
    if entry.life == Life::Dead || progress::begins_anew(proto, ours, theirs) {
        return Birth::New;
    }
    match entry.origin {
        Origin::Own if !entry.in_kernel => Birth::Held,
        Origin::Copy { .. }
            if entry.in_kernel && progress::merge(proto, ours, theirs) != theirs =>
        {
            Birth::Known
        }
        Origin::Own | Origin::Found | Origin::Copy { .. } => Birth::New,
    }
}

/// True of a flow that is masqueraded, if anything, and that no packet ends while time is left. A full table drops what is
/// not assured: that is put back once at most.
fn is_no_end(entry: &Entry) -> bool {
    entry.state.nat().src.is_some()
        && progress::goes_on(entry.key.proto, entry.state.proto_state)
        && (entry.state.status.assured || entry.origin == Origin::Own)
}
