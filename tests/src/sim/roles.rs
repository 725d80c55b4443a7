//! The election under faults: nodes of the protocol without any flows, one sync network and two monitored interfaces.
//!
//! Members start in any order. Then, period after period, something breaks or heals: cables one way or both, links, daemons,
//! whole networks, the operator's will; datagrams are lost, and daemons do not get to run. A while after each, the role has to
//! be where it belongs (`World::check`), and nobody changed more often than the fault explains.

mod check;
mod machine;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use ccp::election::Mode;
use ccp::time::Instant;

use super::random::Random;
use machine::Machine;
use wire::Sent;

/// The sync network, then the monitored interfaces.
const MEDIA: usize = 3;
const NAMES: [&str; 2] = ["lan", "wan"];
const DEAD_AFTER: Duration = Duration::from_secs(1);
/// After it everybody has to agree: what is silent is dead, what is heard again good, each told and judged, twice over.
const SETTLED: Duration = Duration::from_secs(6);
/// The same where a member is starved, whose silence means less.
const SETTLED_STARVED: Duration = Duration::from_secs(18);
const PERIODS: u32 = 8;

/// What a run had in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Changes of state.
    pub changes: u32,
    /// Checks of who has the role.
    pub checks: u32,
    /// Of those, how many found members with no sync network between them that talk by probes.
    pub by_probes: u32,
    /// Of those, how many found all that were fit active, two or more.
    pub shared: u32,
    /// Periods in which nothing happened but that daemons did not get to run in time.
    pub starved: u32,
}

struct World {
    random: Random,
    now: Instant,
    machines: Vec<Machine>,
    /// By when they arrive.
    wire: BTreeMap<(Instant, u64), Sent>,
    count: u64,
    mode: Mode,
    preempt: bool,
    /// Whether hosts on the monitored interfaces answer.
    hosts: bool,
    report: Report,
}

/// Something that breaks, or heals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Deaf,
    Mute,
    Cut,
    Lossy,
    Link,
    Daemon,
    /// The daemon gets to run now and then.
    Hungry,
    /// The daemon does not run for a while, as when its machine is moved.
    Stopped,
    Asked,
    Network,
    /// Everything heals.
    Healed,
}

const FAULTS: [Fault; 12] = [
    Fault::Deaf,
    Fault::Mute,
    Fault::Cut,
    Fault::Cut,
    Fault::Lossy,
    Fault::Link,
    Fault::Daemon,
    Fault::Hungry,
    Fault::Stopped,
    Fault::Asked,
    Fault::Network,
    Fault::Healed,
];

/// Runs a seed; an error says what was not as it should be.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut random = Random::new(seed ^ 0x00e1_ec70);
    let members = random.within(2..6);
    let mode = match random.percent(25) {
        true => Mode::LoadSharing,
        false => Mode::HighAvailability,
    };
    let (preempt, hosts) = (random.percent(25), random.percent(50));
    let mut world = World {
        random,
        now: Instant::default(),
        machines: (0..members).map(|_| Machine::default()).collect(),
        wire: BTreeMap::new(),
        count: 0,
        mode,
        preempt,
        hosts,
        report: Report::default(),
    };
    let mut order: Vec<usize> = (0..world.machines.len()).collect();
    while !order.is_empty() {
        let at = world.pick(order.len());
        let member = order.swap_remove(at);
        world.start(member);
        let pause = world.random.pause(Duration::ZERO..Duration::from_secs(2));
        world.pass(pause);
    }
    let mut faults = Vec::new();
    let mut what = "start".to_owned();
    for period in 0..PERIODS {
        world.settle();
        let problem = world.check(&faults);
        problem.map_err(|problem| format!("seed {seed}, period {period}, {what}: {problem}"))?;
        let disturbed: Vec<_> = (0..=world.pick(2)).map(|_| world.disturb()).collect();
        what = disturbed.iter().map(|(_, what)| what.as_str()).collect();
        faults = disturbed.iter().map(|(fault, _)| *fault).collect();
    }
    Ok(world.report)
}

impl World {
    fn pick(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("few");
        usize::try_from(self.random.within(0..count)).expect("few")
    }

    /// Lets what has happened take its course.
    fn settle(&mut self) {
        let awake = self.machines.iter().map(|it| it.asleep_until).max();
        self.pass(awake.unwrap_or(self.now).since(self.now));
        self.pass(SETTLED);
        if self.machines.iter().any(Machine::is_starved) {
            self.pass(SETTLED_STARVED - SETTLED);
        }
    }

    /// Something breaks, or heals; says what.
    fn disturb(&mut self) -> (Fault, String) {
        let fault = self.random.choose(&FAULTS);
        let at = self.pick(self.machines.len());
        let medium = self.pick(MEDIA);
        let broken = self.random.percent(70);
        let machine = &mut self.machines[at];
        match fault {
            Fault::Deaf => machine.deaf[medium] = broken,
            Fault::Mute => machine.mute[medium] = broken,
            Fault::Cut => {
                machine.deaf[medium] = broken;
                machine.mute[medium] = broken;
            }
            Fault::Lossy => machine.lossy[medium] = broken,
            Fault::Link => {
                machine.link_down[medium] = broken;
                self.look(at);
            }
            Fault::Daemon => match broken {
                true => self.kill(at),
                false => self.start(at),
            },
            Fault::Hungry => machine.hungry = broken,
            Fault::Stopped => {
                let longest = DEAD_AFTER * 5;
                machine.asleep_until = self.now + self.random.pause(DEAD_AFTER / 5..longest);
            }
            Fault::Asked => {
                machine.asked_down = broken;
                self.look(at);
            }
            Fault::Network => {
                for machine in &mut self.machines {
                    machine.deaf[medium] = broken;
                }
            }
            Fault::Healed => self.heal(),
        }
        (fault, format!("{fault:?} {at}/{medium} {broken}; "))
    }

    fn heal(&mut self) {
        for at in 0..self.machines.len() {
            self.machines[at].heal();
            match self.machines[at].node {
                Some(_) => self.look(at),
                None => self.start(at),
            }
        }
    }
}
