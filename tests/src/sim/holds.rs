//! First packets that wait at their gateways until the peers have their flow, and what is demanded of that (PROTOCOL.md 11):
//!
//! - Every packet gets one verdict, no later than the daemon's first turn after its deadline.
//! - One that goes on as *acknowledged* has its flow in the kernel of every peer that it waited for.
//!
//! A daemon that is killed takes its packets with it, as the kernel drops what is in a queue that is closed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent::core::Core;
use ccp::record::MemberSet;
use ccp::table::Life;
use ccp::time::Instant;
use conntrack::{CtInfo, Flow, PacketId, Verdict};

use super::checker::{self, Refused, Violation};
use super::gateway::Gateway;
use super::options::Options;
use super::random::Random;
use super::{AGREED_FOR, Failure, World};

/// What became of packets that waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Of how many all peers had the flow.
    pub acked: usize,
    /// How many went on without that.
    pub otherwise: usize,
}

/// Runs what `seed` draws, with first packets that wait for the peers.
/// Whether tables agree in the end is for [`super::run`]: flows whose packets were dropped with the daemon that held them stay
/// copies until their timeout.
pub fn run_holds(seed: u64) -> Result<Held, Box<Failure>> {
    let mut random = Random::new(seed);
    let options = Options {
        copy_bit: seed % 2 == 1,
        holds: true,
        ..Options::draw(&mut random)
    };
    let mut world = World::new(options, random);
    world.run_holds().map_err(|violation| {
        Box::new(Failure {
            seed,
            at: world.now,
            violation,
            options: world.options.clone(),
        })
    })
}

impl World {
    fn run_holds(&mut self) -> Result<Held, Violation> {
        self.begin();
        self.turn_until(self.options.trouble)?;
        self.heal();
        self.turn_until(self.now + AGREED_FOR)?;
        let daemons = self.gateways.iter().filter_map(|it| it.daemon.as_ref());
        match daemons.map(|daemon| daemon.queue.count()).sum::<usize>() {
            0 => Ok(self.held),
            count => Err(Violation(format!("{count} packets got no verdict"))),
        }
    }

    /// Packets go on that waited at a gateway.
    pub(super) fn release(&mut self, at: usize, all: Vec<Released>) -> Result<(), Violation> {
        for released in all {
            acknowledged_is_in_every_kernel(&self.gateways, &released, &self.refused)?;
            match released.known_by.is_empty() {
                true => self.held.otherwise += 1,
                false => self.held.acked += 1,
            }
            let number = released.packet.number;
            let flow = &mut self.workload.flows[number];
            checker::doubt_if_found_by_several(&self.gateways, flow);
            flow.doubt_if_begun_anew();
            if flow.pass_first(at, &mut self.gateways) {
                self.note_change(number, at);
                self.call(at, Duration::ZERO);
            }
        }
        Ok(())
    }
}

/// A first packet on its way through a gateway.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its flow's place among all.
    pub number: usize,
    /// What it makes of its flow.
    pub opening: Flow,
    /// How often each gateway had booted when it came.
    pub boots: Vec<u32>,
}

/// A packet that goes on.
#[derive(Debug)]
pub struct Released {
    /// Which one.
    pub packet: Packet,
    /// The peers that have its flow, if that is why.
    pub known_by: MemberSet,
}

/// The queue of a daemon.
#[derive(Debug, Default)]
pub struct Queue {
    /// Not read yet.
    came: VecDeque<Packet>,
    held: BTreeMap<u32, Waiting>,
    last: u32,
}

#[derive(Debug)]
struct Waiting {
    packet: Packet,
    since: Duration,
    /// The peers that were waited for when it came.
    awaited: MemberSet,
}

impl Queue {
    /// A rule steers a packet here.
    pub fn push(&mut self, packet: Packet) {
        self.came.push_back(packet);
    }

    /// True if the daemon has something to read.
    pub fn is_readable(&self) -> bool {
        !self.came.is_empty()
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.came.len() + self.held.len()
    }

    /// The daemon reads what came.
    pub fn take(&mut self, core: &mut Core, now: Duration, at: Instant) {
        for packet in std::mem::take(&mut self.came) {
            self.last += 1;
            let held = conntrack::Held {
                id: PacketId {
                    queue: 0,
                    number: self.last,
                },
                hook: 4,
                mark: 0,
                indev: None,
                outdev: None,
                skb_info: 0,
                payload: &[],
                length: 0,
                flow: Some(packet.opening),
                ct_info: Some(CtInfo::New),
            };
            core.handle_held(&held, at);
            let waiting = Waiting {
                packet,
                since: now,
                awaited: awaited(core),
            };
            self.held.insert(self.last, waiting);
        }
    }

    /// The daemon's verdicts.
    pub fn judge(&mut self, core: &mut Core, now: Duration) -> Result<Vec<Released>, Violation> {
        let acked = |core: &Core| core.node().counters().held_acked;
        let mut released = Vec::new();
        let mut before = acked(core);
        while let Some((number, verdict)) = core.poll_verdict() {
            let Some(waiting) = self.held.remove(&number) else {
                return Err(Violation(format!("packet {number} was judged twice")));
            };
            let is_acked = acked(core) > before;
            before = acked(core);
            let still = awaited(core);
            // Who was put aside, or died, is no longer waited for.
            let mut known_by = waiting.awaited;
            for peer in waiting.awaited.iter() {
                if !is_acked || !still.contains(peer) {
                    known_by.remove(peer);
                }
            }
            if verdict == Verdict::Accept {
                released.push(Released {
                    packet: waiting.packet,
                    known_by,
                });
            }
        }
        let deadline = core.node().holds().deadline();
        match self.held.values().find(|it| now >= it.since + deadline) {
            Some(late) => Err(Violation(format!(
                "the packet of flow {} waits since {:?}, past its deadline",
                late.packet.number, late.since
            ))),
            None => Ok(released),
        }
    }
}

fn awaited(core: &Core) -> MemberSet {
    let mut awaited = core.live_peers();
    for peer in core.live_peers().iter() {
        if core.node().holds().watch(peer).is_aside {
            awaited.remove(peer);
        }
    }
    awaited
}

/// An acknowledgement means that the kernel has the flow, as a packet's sender sees it.
pub fn acknowledged_is_in_every_kernel(
    gateways: &[Gateway],
    released: &Released,
    refused: &Refused,
) -> Result<(), Violation> {
    let key = agent::convert::key(&released.packet.opening);
    for peer in released.known_by.iter() {
        let at = peer.index();
        let gateway = &gateways[at];
        let is_same = gateway.is_up && gateway.boots == released.packet.boots[at];
        // What became of the flow there since is another matter.
        // One that remembers a greater end refuses it until its next change (PROTOCOL.md 8).
        let is_ended = checker::known(gateway, &key).is_some_and(|it| it.life == Life::Dead);
        let is_news = is_ended || gateway.kernel.has_unread(&key) || refused.contains(&(at, key));
        if is_same && !is_news && gateway.kernel.entry(&key).is_none() {
            return Err(Violation(format!(
                "the packet of flow {} went on as acknowledged, and {peer} has not its flow",
                released.packet.number
            )));
        }
    }
    Ok(())
}
