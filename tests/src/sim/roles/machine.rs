//! A machine of the cluster: its daemon, and what is wrong with it.

use std::time::Duration;

use ccp::election::{self, Load, Problem, Problems};
use ccp::node::{Config, Node, PassEnd};
use ccp::probe::{Link, Timers, Watched};
use ccp::record::MemberId;
use ccp::time::Instant;

use super::wire::Parcel;
use super::{DEAD_AFTER, MEDIA, NAMES, World};

#[derive(Default)]
pub struct Machine {
    pub node: Option<Node>,
    /// Counts daemons, so that what was for one is not for the next.
    pub run: u64,
    pub incarnation: u64,
    pub deaf: [bool; MEDIA],
    pub mute: [bool; MEDIA],
    /// Loses some of what comes.
    pub lossy: [bool; MEDIA],
    pub link_down: [bool; MEDIA],
    pub asked_down: bool,
    /// Sleeps after each turn of its loop.
    pub hungry: bool,
    /// It does not run until then; what comes waits.
    pub asleep_until: Instant,
    /// Changes of its state since the last check.
    pub changes: u32,
}

impl Machine {
    /// All is as it should be; a daemon that is dead stays so.
    pub fn heal(&mut self) {
        *self = Machine {
            node: self.node.take(),
            run: self.run,
            incarnation: self.incarnation,
            asleep_until: self.asleep_until,
            changes: self.changes,
            ..Machine::default()
        };
    }

    /// True if it says so.
    pub fn is_starved(&self) -> bool {
        let node = self.node.as_ref();
        node.is_some_and(|it| it.election().standing(Instant::default()).load == Load::Starved)
    }

    /// What its daemon sees of the machine.
    pub fn look(&mut self, now: Instant) {
        let watched = NAMES.iter().zip(&self.link_down[1..]);
        let watched = watched.map(|(name, down)| Watched {
            name: (*name).into(),
            link: if *down { Link::Down } else { Link::Up },
            network: None,
        });
        let watched = watched.collect();
        let mut problems = Problems::default();
        if self.asked_down {
            problems.add(Problem::Asked);
        }
        if let Some(node) = &mut self.node {
            node.set_interfaces(watched, now);
            node.set_problems(problems, now);
        }
    }
}

impl World {
    /// Starts a daemon; one that runs is killed.
    pub fn start(&mut self, at: usize) {
        self.kill(at);
        let members = u8::try_from(self.machines.len()).expect("few");
        let peers = (1..=members).filter(|it| usize::from(*it) != at + 1);
        let incarnation = self.random.number();
        let config = Config {
            table: 1 + at as u64,
            hash_seed: [1, 2],
            datagram_bytes_max: 1400,
            flows_max: 16,
            hello: DEAD_AFTER / 10,
            dead_after: DEAD_AFTER,
            roles: election::Config {
                mode: self.mode,
                priority: [50, 100, 100, 200][at % 4],
                preempt: self.preempt,
                settle: Duration::from_secs(3),
            },
            probes: Timers {
                interval: DEAD_AFTER / 5,
                dead_after: DEAD_AFTER,
            },
            ..Config::new(
                7,
                member(at),
                peers.filter_map(MemberId::new).collect(),
                incarnation,
            )
        };
        let mut node = Node::new(config, self.now);
        node.begin_pass();
        assert_eq!(node.end_pass(), PassEnd::Complete);
        let machine = &mut self.machines[at];
        (machine.node, machine.incarnation) = (Some(node), incarnation);
        machine.run += 1;
        machine.asleep_until = self.now;
        machine.look(self.now);
        for other in (0..self.machines.len()).filter(|it| *it != at) {
            if self.machines[other].node.is_some() {
                self.post([at, other], Duration::ZERO, Parcel::Linked);
                self.post([other, at], Duration::ZERO, Parcel::Linked);
            }
        }
        self.drain(at);
    }

    /// Kills a daemon, if one runs.
    pub fn kill(&mut self, at: usize) {
        if self.machines[at].node.take().is_none() {
            return;
        }
        for other in (0..self.machines.len()).filter(|it| *it != at) {
            self.post([at, other], Duration::ZERO, Parcel::Unlinked);
        }
    }

    /// Something of the machine is other than it was.
    pub fn look(&mut self, at: usize) {
        self.post([at, at], Duration::ZERO, Parcel::Look);
    }
}

/// The member that a machine is.
pub fn member(at: usize) -> MemberId {
    let number = u8::try_from(at + 1).expect("few");
    MemberId::new(number).expect("few")
}
