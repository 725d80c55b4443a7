//! Flows that begin, change, move and end, and packets that are held.

use super::{World, key, member, patch};
use crate::node::{End, HeldPacket, Local};
use crate::record::{FlowKey, FlowState, Packets, Patch};
use crate::table::Origin;
use core::time::Duration;
use std::vec::Vec;

impl World {
    pub fn open(&mut self, at: usize, key: FlowKey) {
        self.open_unseen(at, key);
        self.local(at, &key, Local::New(&patch(1)));
    }

    pub fn open_unseen(&mut self, at: usize, key: FlowKey) {
        let mut state = FlowState::default();
        state.apply(&patch(1));
        self.gateways[at].kernel.insert(key, state);
        self.carriers.insert(key, at);
    }

    pub fn update(&mut self, at: usize, key: FlowKey, proto_state: u8) {
        self.change(at, key, &patch(proto_state));
    }

    pub fn change(&mut self, at: usize, key: FlowKey, patch: &Patch) {
        let state = self.gateways[at].kernel.get_mut(&key).unwrap();
        state.apply(patch);
        self.carriers.insert(key, at);
        self.local(at, &key, Local::Update(patch));
    }

    pub fn change_unseen(&mut self, at: usize, key: FlowKey, proto_state: u8) {
        let state = self.gateways[at].kernel.get_mut(&key).unwrap();
        state.apply(&patch(proto_state));
    }

    pub fn close(&mut self, at: usize, key: FlowKey) {
        self.close_unseen(at, key);
        self.local(at, &key, Local::Destroy(End::Over));
    }

    pub fn close_unseen(&mut self, at: usize, key: FlowKey) {
        assert!(self.gateways[at].kernel.remove(&key).is_some());
        assert_eq!(self.carriers.remove(&key), Some(at));
    }

    /// The kernel of `at` drops an entry, whoever carries the flow.
    pub fn drop_entry(&mut self, at: usize, key: FlowKey, end: End) {
        assert!(self.gateways[at].kernel.remove(&key).is_some());
        self.local(at, &key, Local::Destroy(end));
    }

    /// A packet passes that changes nothing of the flow; whether it made an event, as it cleared the copy bit.
    pub fn pass(&mut self, at: usize, key: FlowKey) -> bool {
        let was_marked = self.gateways[at].marked.remove(&key);
        if was_marked {
            let passed = Patch {
                packets: Some(Packets::Passed),
                nat: self.gateways[at].kernel[&key].nat(),
                ..patch(3)
            };
            self.local(at, &key, Local::Update(&passed));
        }
        was_marked
    }

    /// Nobody carries it any longer: it has ended for all.
    pub fn forget(&mut self, key: FlowKey) {
        self.carriers.remove(&key);
    }

    pub fn expire_copy(&mut self, at: usize, key: FlowKey) {
        assert_ne!(self.carriers.get(&key), Some(&at));
        assert!(self.gateways[at].kernel.remove(&key).is_some());
        self.local(at, &key, Local::Destroy(End::Over));
    }

    /// The kernel tells something.
    pub fn local(&mut self, at: usize, key: &FlowKey, change: Local<'_>) {
        if let Some(node) = &mut self.gateways[at].node {
            node.handle_local(key, change);
            self.drain(at);
        }
    }

    /// A packet is held at `at`.
    pub fn hold(&mut self, at: usize, packet: u32, kind: HeldPacket, key: FlowKey, patch: &Patch) {
        let now = self.now;
        let node = self.gateways[at].node.as_mut().unwrap();
        node.handle_hold(packet, kind, &key, patch, now);
        self.drain(at);
    }

    pub fn end_holds(&mut self, at: usize) {
        self.gateways[at].node.as_mut().unwrap().end_holds();
        self.drain(at);
    }

    /// Some flows begin, change, move and end, a few a millisecond.
    pub fn work(&mut self, steps: usize) {
        for _ in 0..steps {
            let at = self.random(self.gateways.len() as u64) as usize;
            match self.random(10) {
                0..4 => {
                    self.fresh += 1;
                    self.open(at, key(self.fresh));
                }
                4..7 => {
                    if let Some(key) = self.pick(|world, key, _| world.kernel(at).contains_key(key))
                    {
                        let further = (self.kernel(at)[&key].proto_state + 1).min(5);
                        self.update(at, key, further);
                    }
                }
                _ => {
                    if let Some(key) =
                        self.pick(|world, key, carrier| carrier == at && world.is_quiet(at, key))
                    {
                        self.close(at, key);
                    }
                }
            }
            let pause = self.random(700);
            self.run(Duration::from_micros(pause));
        }
    }

    /// True if nobody but `at` believes that it carries the flow. A kernel ends a flow long after its last packet, never
    /// while the claims of that packet are on their way.
    pub(super) fn is_quiet(&self, at: usize, key: &FlowKey) -> bool {
        let mut nodes = (self.gateways.iter().enumerate())
            .filter_map(|(i, gateway)| Some((i, gateway.node.as_ref()?)));
        nodes.all(|(i, node)| {
            let slot = node.table().find(key);
            match slot.and_then(|slot| node.table().get(slot)) {
                Some(entry) if i == at => entry.origin == Origin::Own,
                Some(entry) => {
                    matches!(entry.origin, Origin::Copy { member: carrier, .. } if carrier == member(at))
                }
                None => i != at,
            }
        })
    }

    pub(super) fn pick(
        &mut self,
        fits: impl Fn(&Self, &FlowKey, usize) -> bool,
    ) -> Option<FlowKey> {
        let fitting: Vec<FlowKey> = (self.carriers.iter())
            .filter(|(key, at)| fits(self, key, **at))
            .map(|(key, _)| *key)
            .collect();
        let at = self.random(fitting.len().max(1) as u64) as usize;
        fitting.get(at).copied()
    }
}
