//! The whole cluster in one thread and no time: the daemon's own code ([`agent::core::Core`]) on simulated kernels and a
//! simulated network, under a virtual clock. One seed decides everything; the same seed gives the same run.
//!
//! A run has two parts. In the first there is load and trouble: loss, duplication, reordering, damage, partitions,
//! daemons killed or stopped, machines rebooted, event queues that overflow, full tables. Then all of it ends, and the
//! kernels have to agree within a bound of virtual time. What is demanded at every step, and then, is in [`checker`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::time::Duration;

use ccp::network::NetworkId;
use ccp::record::MemberId;
use ccp::wire::header::{Header, Opcode};

mod agree;
pub mod builds;
pub mod checker;
mod due;
pub mod gateway;
pub mod holds;
pub mod kernel;
pub mod links;
pub mod net;
pub mod options;
pub mod policies;
pub mod random;
pub mod roles;
pub mod trouble;
pub mod watch;
pub mod workload;

use checker::{Refused, Violation};
use due::{Due, Trace};
use gateway::Gateway;
use links::Links;
use net::Net;
use options::Options;
use random::Random;
use trouble::Trouble;
use watch::Watch;
use workload::{Doubt, Life, Stepped, Workload};

/// How often the whole is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a daemon, or a machine, is dead that dies around a full sync.
const DEAD_FOR: Duration = Duration::from_millis(300);
/// How long the agreement has to last.
const AGREED_FOR: Duration = Duration::from_secs(3);

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash of everything that happened.
    pub trace: u64,
    /// Turns of daemons, arrivals, packets and faults.
    pub steps: u64,
    /// Flows that were opened.
    pub flows: usize,
    /// Of those, how many were in doubt at the end.
    pub doubtful: usize,
    /// Virtual time from the end of trouble to agreement.
    pub agreed_after: Duration,
    /// Rounds of audits that this took.
    pub audits: u32,
    /// What the daemons that run at the end have skipped as it is of another version.
    pub skipped: u64,
    /// Snapshots that they have asked for.
    pub snapshots: u64,
    /// Frames of full syncs that have arrived, where a [`trouble::Death`] waited for one.
    pub sync_frames: u32,
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Of which seed.
    pub seed: u64,
    /// When, since the begin.
    pub at: Duration,
    /// What.
    pub violation: Violation,
    /// What the seed drew.
    pub options: Options,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            at,
            violation,
            options,
        } = self;
        writeln!(f, "seed {seed}, after {at:?}: {violation}")?;
        writeln!(f, "{options:?}")?;
        write!(
            f,
            "alone: CTSYNC_SEED={seed} cargo test -p tests --test sim one_seed"
        )
    }
}

/// Runs what `seed` draws.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    let mut random = Random::new(seed);
    // Every other seed, so that each way a flow is known to have moved has its own.
    let options = Options {
        copy_bit: seed % 2 == 1,
        ..Options::draw(&mut random)
    };
    run_with(seed, options, random)
}

/// Runs these circumstances; what they leave open follows from `random`.
pub fn run_with(seed: u64, options: Options, random: Random) -> Result<Report, Box<Failure>> {
    let mut world = World::new(options, random);
    world.run().map_err(|violation| {
        Box::new(Failure {
            seed,
            at: world.now,
            violation,
            options: world.options.clone(),
        })
    })
}

#[derive(Debug)]
enum What {
    /// A daemon's loop turns, unless it was called earlier meanwhile.
    Turn(usize),
    /// A datagram arrives.
    Arrival {
        to: usize,
        network: NetworkId,
        datagram: Vec<u8>,
    },
    /// Something that was said over a link arrives.
    Said {
        from: usize,
        to: usize,
    },
    /// A broken link is made anew.
    Mend([usize; 2]),
    /// The next step of a flow.
    Flow(usize),
    /// A new flow.
    NewFlow,
    Fault(Fault),
    /// Trouble that a run may have besides.
    Trouble(Trouble),
    /// An operator writes another policy.
    Policy,
    /// A daemon takes it.
    Reload(usize),
    /// Partitions end.
    Join,
    /// A machine boots.
    Boot(usize),
    /// A daemon starts.
    Start(usize),
    /// A stopped daemon goes on.
    Continue(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Partition,
    Crash,
    Reboot,
    Stop,
    Unlink,
    /// The machine of [`trouble::JOINER`] is rebooted.
    Joiner,
}

struct World {
    options: Options,
    random: Random,
    now: Duration,
    queue: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    gateways: Vec<Gateway>,
    /// When each daemon's loop turns next.
    turns: Vec<Option<Duration>>,
    nets: Vec<Net>,
    links: Links,
    workload: Workload,
    refused: Refused,
    steps: u64,
    trace: Trace,
    watch: Option<Watch>,
    in_trouble: bool,
    /// Chance for [`trouble::More`].
    more: Random,
    /// Frames of full syncs that have arrived since somebody was to join.
    sync_frames: u32,
    held: holds::Held,
}

impl World {
    fn new(options: Options, mut random: Random) -> Self {
        let members = MemberId::all().take(options.gateways);
        let mut gateways: Vec<Gateway> = members
            .map(|member| Gateway::new(member, random.number()))
            .collect();
        for (at, gateway) in gateways.iter_mut().enumerate() {
            gateway.kernel.entries_max = options.table_max;
            gateway.build = options.more.build(at);
        }
        Self {
            more: Random::new(random.clone().number()),
            sync_frames: 0,
            nets: (options.networks.iter())
                .map(|network| Net::new(network.clone(), options.gateways))
                .collect(),
            links: Links::new(options.gateways),
            turns: vec![None; options.gateways],
            random,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            gateways,
            workload: Workload::default(),
            refused: Refused::new(),
            steps: 0,
            trace: Trace::default(),
            watch: Watch::from_environment(),
            held: holds::Held::default(),
            in_trouble: true,
            options,
        }
    }

    fn begin(&mut self) {
        for at in 0..self.gateways.len() {
            let pause = self.random.pause(Duration::ZERO..Duration::from_secs(2));
            self.schedule(pause, What::Start(at));
        }
        for _ in 0..self.options.flows {
            let pause = self.random.pause(Duration::ZERO..self.options.trouble);
            self.schedule(pause, What::NewFlow);
        }
        for fault in [
            Fault::Partition,
            Fault::Crash,
            Fault::Reboot,
            Fault::Stop,
            Fault::Unlink,
        ] {
            self.schedule_fault(fault);
        }
        self.schedule_more();
        self.schedule_policy();
    }

    fn run(&mut self) -> Result<Report, Violation> {
        self.begin();
        self.turn_until(self.options.trouble)?;
        self.heal();
        let (agreed_at, audits) = self.agree()?;
        self.turn_until(self.now + AGREED_FOR)?;
        self.agrees()?;
        let opened = self
            .workload
            .flows
            .iter()
            .filter(|flow| flow.life != Life::Unopened);
        Ok(Report {
            trace: self.trace.0,
            steps: self.steps,
            flows: opened.clone().count(),
            doubtful: opened.filter(|flow| flow.doubt.is_some()).count(),
            agreed_after: agreed_at - self.options.trouble,
            audits,
            skipped: self.counted(&trouble::SKIPPED),
            snapshots: self.counted(&["snapshots_fetched"]),
            sync_frames: self.sync_frames,
        })
    }

    /// All that is scheduled before `end` happens.
    fn turn_until(&mut self, end: Duration) -> Result<(), Violation> {
        let mut looked = self.now;
        while let Some(Reverse(due)) = self.queue.peek()
            && due.at <= end
        {
            let Some(Reverse(due)) = self.queue.pop() else {
                break;
            };
            self.now = due.at;
            self.steps += 1;
            let happened = self.happen(due.what);
            if let Some(watch) = &mut self.watch {
                watch.look(self.now, &self.gateways, &self.workload);
            }
            happened?;
            if looked + LOOK <= self.now {
                looked = self.now;
                checker::flows_are_kept_and_ends_are_final(
                    &self.gateways,
                    &mut self.workload.flows,
                )?;
            }
        }
        self.now = end;
        checker::flows_are_kept_and_ends_are_final(&self.gateways, &mut self.workload.flows)
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Turn(at) => return self.turn(at),
            What::Arrival {
                to,
                network,
                datagram,
            } => {
                self.gateways[to].receive(network, datagram);
                self.call(to, Duration::from_micros(10));
            }
            What::Said { from, to } => {
                let dies = self.note_frame([from, to]);
                let gateways = &mut self.gateways;
                let again = self
                    .links
                    .deliver(gateways, &self.nets, [from, to], self.now);
                match again {
                    Some(pause) => self.schedule(pause, What::Said { from, to }),
                    None => self.call(to, Duration::from_micros(10)),
                }
                if let Some(at) = dies {
                    self.crash(at, DEAD_FOR);
                }
            }
            What::Mend(pair) => {
                self.links.mend(&mut self.gateways, pair, self.now);
                self.call_all();
            }
            What::NewFlow if self.in_trouble => {
                let number = self.workload.add(&mut self.random, &self.options);
                self.schedule(Duration::ZERO, What::Flow(number));
            }
            What::Flow(number) if self.in_trouble => self.step(number),
            What::Fault(fault) if self.in_trouble => {
                self.strike(fault);
                self.schedule_fault(fault);
            }
            What::Trouble(trouble) if self.in_trouble => self.trouble(trouble),
            What::Policy if self.in_trouble => self.write_policy(),
            What::Reload(at) => self.reload(at),
            What::NewFlow | What::Flow(_) | What::Fault(_) | What::Trouble(_) | What::Policy => {}
            What::Join => self.nets.iter_mut().for_each(Net::join),
            What::Boot(at) => self.boot(at),
            What::Start(at) => self.start(at),
            What::Continue(at) => {
                self.gateways[at].is_stopped = false;
                self.call(at, Duration::ZERO);
            }
        }
        Ok(())
    }

    fn turn(&mut self, at: usize) -> Result<(), Violation> {
        if self.turns[at] != Some(self.now) {
            return Ok(());
        }
        self.turns[at] = None;
        let turned = self.gateways[at].turn(self.now, &self.options, &mut self.random)?;
        let refusals = self.gateways[at].kernel.take_refusals();
        self.refused
            .extend(refusals.into_iter().map(|key| (at, key)));
        let Some(turned) = turned else { return Ok(()) };
        self.carry(at);
        self.release(at, turned.released)?;
        let mut flows = self.workload.flows.iter_mut();
        for flow in flows
            .by_ref()
            .filter(|flow| turned.crossed.contains(&flow.key))
        {
            flow.doubt = Some(Doubt::Crossed);
        }
        for (member, network, mode, datagram) in turned.sent {
            let to = member.index();
            self.trace.note(self.now, at, &datagram);
            if Header::decode(&datagram).is_ok_and(|(header, _)| header.opcode == Opcode::Ack) {
                checker::acknowledged_is_in_the_kernel(
                    &self.gateways,
                    &self.workload.flows,
                    [at, to],
                    &self.refused,
                )?;
            }
            if !self.options.more.carries(network, mode) {
                continue;
            }
            let datagram = self.gateways[at].build.says(&datagram);
            let net = &self.nets[network.index()];
            for (delay, datagram) in net.send(&mut self.random, at, to, &datagram) {
                let arrival = What::Arrival {
                    to,
                    network,
                    datagram,
                };
                self.schedule(delay, arrival);
            }
        }
        self.call(at, turned.next - self.now);
        Ok(())
    }

    fn carry(&mut self, from: usize) {
        let delay = self.options.networks[0].delay_min;
        let due = (self.links).carry(&mut self.gateways, from, self.now, delay);
        for (to, arrival) in due {
            self.schedule(arrival - self.now, What::Said { from, to });
        }
    }

    fn step(&mut self, number: usize) {
        checker::doubt_if_found_by_several(&self.gateways, &mut self.workload.flows[number]);
        let stepped =
            self.workload
                .step(number, &mut self.gateways, &self.options, &mut self.random);
        let Some(stepped) = stepped else { return };
        if let Stepped::Held(at) = stepped {
            self.call(at, Duration::ZERO);
        }
        if let Stepped::At(at) = stepped {
            self.note_change(number, at);
            let wake = self.random.pause(Duration::ZERO..Duration::from_millis(1));
            self.call(at, wake);
        }
        let pause = self
            .random
            .pause(Duration::from_micros(100)..self.options.packet_pause_max);
        self.schedule(pause, What::Flow(number));
    }

    fn note_change(&mut self, number: usize, at: usize) {
        let flow = &mut self.workload.flows[number];
        let doubt = checker::doubt(&self.gateways, at, &flow.key, false);
        // What cannot be told apart any longer is not made better by its end.
        if doubt.is_some() || !matches!(flow.life, Life::Ended(_)) {
            flow.doubt = doubt;
        }
    }

    fn strike(&mut self, fault: Fault) {
        let count = u64::try_from(self.gateways.len()).expect("few gateways");
        let at = usize::try_from(self.random.within(0..count)).expect("few gateways");
        let millis =
            |random: &mut Random, max| random.pause(Duration::ZERO..Duration::from_millis(max));
        match fault {
            Fault::Partition => {
                // One network, or all of them.
                let count = u64::try_from(self.nets.len()).expect("few networks");
                let which = usize::try_from(self.random.within(0..count + 1)).expect("few");
                let hit = self.nets.iter_mut().enumerate();
                for (_, net) in
                    hit.filter(|(it, _)| which == self.options.networks.len() || *it == which)
                {
                    net.partition(&mut self.random);
                }
                let pause = millis(&mut self.random, 5_000);
                self.schedule(pause, What::Join);
            }
            Fault::Crash if self.gateways[at].daemon.is_some() => {
                let pause = millis(&mut self.random, 3_000);
                self.crash(at, pause);
            }
            Fault::Reboot if self.gateways[at].is_up => {
                let pause = millis(&mut self.random, 4_000);
                self.reboot(at, pause);
            }
            Fault::Joiner => self.reboot(trouble::JOINER, DEAD_FOR),
            Fault::Stop if !self.gateways[at].is_stopped => {
                self.gateways[at].is_stopped = true;
                let pause = millis(&mut self.random, 10_000);
                self.schedule(pause, What::Continue(at));
            }
            Fault::Unlink => {
                let others = count - 1;
                let other = (at + 1 + usize::try_from(self.random.within(0..others)).expect("few"))
                    % self.gateways.len();
                self.links.cut(&mut self.gateways, [at, other], self.now);
                self.call_all();
                let pause = millis(&mut self.random, 2_000);
                self.schedule(pause, What::Mend([at, other]));
            }
            Fault::Crash | Fault::Reboot | Fault::Stop => {}
        }
    }

    /// Kills a daemon, which starts again in `pause`.
    fn crash(&mut self, at: usize, pause: Duration) {
        checker::doubt_flows_of_killed(&self.gateways, at, &mut self.workload.flows);
        self.links.disconnect(&mut self.gateways, at, self.now);
        self.gateways[at].kill();
        self.call_all();
        self.schedule(pause, What::Start(at));
    }

    /// Takes a machine down, which boots in `pause`.
    fn reboot(&mut self, at: usize, pause: Duration) {
        checker::doubt_flows_of_rebooted(&self.gateways, at, &mut self.workload.flows);
        self.links.disconnect(&mut self.gateways, at, self.now);
        self.gateways[at].fail();
        self.call_all();
        self.schedule(pause, What::Boot(at));
    }

    /// All trouble ends; nothing passes any longer, so that what there is can be compared.
    fn heal(&mut self) {
        self.in_trouble = false;
        self.nets.iter_mut().for_each(Net::heal);
        // Row by row, a long table would never be read to its end.
        self.options.faults.dump_interrupted_percent = 0;
        for at in 0..self.gateways.len() {
            for other in 0..at {
                self.links.mend(&mut self.gateways, [at, other], self.now);
            }
        }
        for at in 0..self.gateways.len() {
            self.gateways[at].is_stopped = false;
            if !self.gateways[at].is_up {
                self.boot(at);
            }
            self.gateways[at].kernel.entries_max = usize::MAX;
            self.start(at);
            self.reload(at);
            self.call(at, Duration::ZERO);
        }
    }

    fn boot(&mut self, at: usize) {
        if self.gateways[at].is_up {
            return;
        }
        let table_id = self.random.number();
        self.gateways[at].boot(table_id);
        self.gateways[at].kernel.entries_max = self.options.table_max;
        self.refused.retain(|(gateway, _)| *gateway != at);
        let pause = self.random.pause(Duration::ZERO..Duration::from_secs(2));
        self.schedule(pause, What::Start(at));
    }

    fn start(&mut self, at: usize) {
        let gateway = &mut self.gateways[at];
        if gateway.is_up && gateway.daemon.is_none() {
            gateway.start(self.now, &self.options, &mut self.random);
            self.links.connect(&mut self.gateways, at, self.now);
            self.call_all();
        }
    }

    /// The daemon's loop turns in `pause` at the latest.
    fn call(&mut self, at: usize, pause: Duration) {
        let when = self.now + pause;
        if self.turns[at].is_none_or(|turn| when < turn) {
            self.turns[at] = Some(when);
            self.schedule(pause, What::Turn(at));
        }
    }

    /// All of them hear of a link.
    fn call_all(&mut self) {
        for at in 0..self.gateways.len() {
            self.call(at, Duration::ZERO);
        }
    }

    fn schedule_fault(&mut self, fault: Fault) {
        let faults = &self.options.faults;
        let mean = match fault {
            Fault::Partition => faults.partition,
            Fault::Crash => faults.crash,
            Fault::Reboot => faults.reboot,
            Fault::Stop => faults.stop,
            Fault::Unlink => faults.unlink,
            Fault::Joiner => None,
        };
        if let Some(mean) = mean {
            let pause = self.random.pause(Duration::ZERO..mean * 2);
            self.schedule(pause, What::Fault(fault));
        }
    }

    fn schedule(&mut self, pause: Duration, what: What) {
        self.scheduled += 1;
        self.queue.push(Reverse(Due {
            at: self.now + pause,
            number: self.scheduled,
            what,
        }));
    }
}
