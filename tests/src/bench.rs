//! The benchmark: flows opened by real packets through gateway A while it replicates them to gateway B, side by side with
//! nobody listening, with conntrackd, and with ctsync.
//!
//! Parts, each with its own runs of every contestant, among them: [`Part::Speed`], as many flows as the gateway takes;
//! [`Part::Cost`], the same number for all at a rate that all hold; [`Part::Delay`], from a flow's first packet to its
//! entry in the peer's kernel; [`Part::Join`], a gateway that starts beside one with many flows; [`Part::Asymmetric`],
//! connections whose directions pass different gateways. Rounds of different contestants alternate, so that a machine that
//! grows slower does so for all of them.

use std::time::Duration;

pub mod asymmetric;
pub mod gateways;
pub mod generator;
pub mod interrupt;
pub mod join;
pub mod measure;
pub mod plot;
pub mod policy;
pub mod report;
pub mod rivals;
pub mod watcher;

use gateways::{Gateways, assured_flows, flows};
use generator::FlowNumber;
use measure::{Wire, processor_time, quantile, resident_bytes};
use report::{Report, Row};
use rivals::{Contestant, Copies, Running};
use watcher::Watcher;

/// The rate, in flows a second, that every contestant holds.
pub const FIXED_RATE: u32 = 10_000;
/// Flows opened at the fixed rate while costs are measured.
pub const COST_FLOWS: u32 = 200_000;

/// Opened before anything is measured.
const WARM_UP_FLOWS: u32 = 4_000;
const FULL_SPEED: Duration = Duration::from_millis(2_500);
/// How long the receiver may take to have all flows after the last was opened.
pub const SETTLE: Duration = Duration::from_secs(2);
/// Flows opened one at a time, in a round.
pub const IDLE_FLOWS: u32 = 300;
/// Flows opened at the fixed rate while delays are measured, in a round.
pub const LOAD_FLOWS: u32 = 30_000;
/// A flow that is not in the peer's kernel by then counts as never seen.
const NEVER: Duration = Duration::from_secs(1);

/// What is measured in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Flows a second at full speed.
    Speed,
    /// Processor time, bytes and memory per flow at the fixed rate.
    Cost,
    /// Delay to the peer's kernel, idle and at the fixed rate.
    Delay,
    /// Time and memory of a gateway that joins one with many flows.
    Join,
    /// How long connections take to open whose directions pass different gateways.
    Asymmetric,
    /// Flows a second and processor time when a share of the flows is not told, or not at once.
    Policy,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who takes part.
    pub contestants: Vec<Contestant>,
    /// Which parts.
    pub parts: Vec<Part>,
    /// How often.
    pub rounds: u32,
}

/// Measures all that was asked for; tells on standard error what it is at.
pub fn run(options: &Options) -> Report {
    let mut bench = Bench {
        gateways: Gateways::build(),
        report: Report::new(options.rounds),
    };
    for part in &options.parts {
        match part {
            Part::Speed => bench.rounds(options, |bench, contestant| bench.speed(contestant)),
            // Its rounds are parts of one run.
            Part::Cost => {
                for contestant in options.rivals() {
                    bench.cost(contestant, options.rounds);
                }
            }
            Part::Join => bench.rounds(options, |bench, contestant| bench.join(contestant)),
            Part::Asymmetric => {
                bench.rounds(options, |bench, contestant| bench.asymmetric(contestant));
            }
            Part::Policy => bench.policy(options.rounds),
            Part::Delay => bench.rounds(options, |bench, contestant| bench.delay(contestant)),
        }
    }
    bench.report
}

impl Options {
    /// Those who replicate.
    fn rivals(&self) -> impl Iterator<Item = Contestant> {
        let contestants = self.contestants.iter().copied();
        contestants.filter(|&contestant| contestant != Contestant::NoListener)
    }
}

struct Bench {
    gateways: Gateways,
    report: Report,
}

impl Bench {
    fn rounds(&mut self, options: &Options, measure: impl Fn(&mut Bench, Contestant)) {
        for _ in 0..options.rounds {
            for &contestant in &options.contestants {
                measure(self, contestant);
            }
        }
    }

    /// Starts a contestant on empty tables and opens the first flows.
    fn start(&mut self, contestant: Contestant, copies: Copies, purpose: &str) -> Running {
        eprintln!("{purpose}: {}", contestant.name());
        let gateways = &mut self.gateways;
        gateways.flush();
        let running = Running::start(contestant, copies, gateways);
        gateways
            .generator
            .at_rate(FIXED_RATE, WARM_UP_FLOWS, |_, _| ());
        running.settle(gateways, SETTLE);
        running
    }

    fn speed(&mut self, contestant: Contestant) {
        let running = self.start(contestant, Copies::Usual, "full speed");
        let Bench { gateways, report } = self;
        let before = flows(&gateways.a);
        let elapsed = gateways.generator.at_full_speed(FULL_SPEED).elapsed;
        let opened = assured_flows(&gateways.a) - before;
        report.add(
            contestant,
            Row::FullSpeed,
            opened as f64 / elapsed.as_secs_f64(),
        );
        running.settle(gateways, SETTLE);
        if let Some(arrived) = running.arrived(gateways) {
            report.add(
                contestant,
                Row::FullSpeedArrived,
                per_cent(arrived, before + opened),
            );
        }
    }

    /// One run of the daemons; its rounds are equal parts of the flows, its memory counts from the first to the last.
    fn cost(&mut self, contestant: Contestant, rounds: u32) {
        let running = self.start(contestant, Copies::Usual, "fixed rate");
        let Bench { gateways, report } = self;
        let mut add = |row, value| report.add(contestant, row, value);
        let Some(pids) = running.pids() else { return };
        let memory_before = pids.map(resident_bytes);
        let flows_before = flows(&gateways.a);
        for _ in 0..rounds {
            let (times_before, wire_before) = (pids.map(processor_time), Wire::of(gateways));
            let opened = gateways
                .generator
                .at_rate(FIXED_RATE, COST_FLOWS / rounds, |_, _| ());
            running.settle(gateways, SETTLE);
            let (times, wire) = (pids.map(processor_time), Wire::of(gateways));
            let per_flow = |value: f64| value / f64::from(opened.flows);
            let micros = |side: usize| (times[side] - times_before[side]).as_secs_f64() * 1e6;
            add(Row::Rate, opened.rate());
            add(Row::SenderTime, per_flow(micros(0)));
            add(Row::ReceiverTime, per_flow(micros(1)));
            add(
                Row::Bytes,
                per_flow((wire.bytes - wire_before.bytes) as f64),
            );
            add(
                Row::Datagrams,
                per_flow((wire.packets - wire_before.packets) as f64),
            );
        }
        let memory = pids.map(resident_bytes);
        let all = flows(&gateways.a);
        let growth = |side: usize| memory[side].saturating_sub(memory_before[side]) as f64;
        let per_flow = |value: f64| value / (all - flows_before) as f64;
        add(Row::SenderMemory, per_flow(growth(0)));
        add(Row::ReceiverMemory, per_flow(growth(1)));
        assert_eq!(
            assured_flows(&gateways.a),
            all,
            "every flow has shaken hands"
        );
        if let Some(arrived) = running.arrived(gateways) {
            add(Row::Arrived, per_cent(arrived, all));
        }
    }

    fn policy(&mut self, rounds: u32) {
        let Bench { gateways, report } = self;
        let mut all: Vec<_> = policy::Case::all()
            .map(|case| (case, policy::Figures::new(case)))
            .collect();
        for _ in 0..rounds {
            for (case, figures) in &mut all {
                case.measure(gateways, figures);
            }
        }
        report.add_policy(all.into_iter().map(|(_, figures)| figures));
    }

    fn delay(&mut self, contestant: Contestant) {
        if contestant == Contestant::NoListener {
            return;
        }
        let running = self.start(contestant, Copies::InKernel, "delay");
        let watcher = Watcher::start(&self.gateways.b);
        let idle = (0..IDLE_FLOWS)
            .filter_map(|turn| self.one_flow(&watcher, turn))
            .collect();
        self.add_delays(contestant, IDLE_ROWS, idle, IDLE_FLOWS);

        let generator = &mut self.gateways.generator;
        let first = generator.next_flow();
        let mut starts = Vec::with_capacity(LOAD_FLOWS as usize);
        generator.at_rate(FIXED_RATE, LOAD_FLOWS, |_, time| starts.push(time));
        running.settle(&self.gateways, SETTLE);
        let delay = |(flow, time): (FlowNumber, Duration)| {
            let start = starts.get(flow.0.checked_sub(first.0)? as usize)?;
            Some(time.saturating_sub(*start))
        };
        let load = watcher.drain().into_iter().filter_map(delay).collect();
        self.add_delays(contestant, LOAD_ROWS, load, LOAD_FLOWS);
    }

    /// Opens a flow, waits until it is in the peer's kernel, and a little longer.
    fn one_flow(&mut self, watcher: &Watcher, turn: u32) -> Option<Duration> {
        let generator = &mut self.gateways.generator;
        let flow = generator.next_flow();
        let mut start = Duration::ZERO;
        generator.at_rate(FIXED_RATE, 1, |_, time| start = time);
        let seen = watcher.wait_for(flow, NEVER);
        // Not always the same, or it might fall into step with a contestant's timer.
        std::thread::sleep(Duration::from_micros(
            3_000 + u64::from(turn * 7_919 % 4_000),
        ));
        Some(seen?.saturating_sub(start))
    }

    fn add_delays(
        &mut self,
        contestant: Contestant,
        [median, tail, share]: [Row; 3],
        mut delays: Vec<Duration>,
        opened: u32,
    ) {
        let mut add = |row, value| self.report.add(contestant, row, value);
        add(share, per_cent(delays.len() as u64, u64::from(opened)));
        if !delays.is_empty() {
            add(median, quantile(&mut delays, 0.50).as_secs_f64() * 1e3);
            add(tail, quantile(&mut delays, 0.99).as_secs_f64() * 1e3);
        }
    }
}

const IDLE_ROWS: [Row; 3] = [Row::IdleMedian, Row::IdleTail, Row::IdleSeen];
const LOAD_ROWS: [Row; 3] = [Row::LoadMedian, Row::LoadTail, Row::LoadSeen];

fn per_cent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}
