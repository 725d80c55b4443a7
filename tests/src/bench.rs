//! The benchmark: flows opened by real packets through gateway A while it replicates them to gateway B, side by side with
//! nobody listening, with conntrackd, and with ctsync.
//!
//! Three parts, each with its own runs of every contestant: [`Part::Speed`], as many flows as the gateway takes;
//! [`Part::Cost`], the same number for all at a rate that all hold; [`Part::Delay`], from a flow's first packet to its
//! entry in the peer's kernel. Rounds of different contestants alternate, so that a machine that grows slower does so for
//! all of them.

use std::time::Duration;

pub mod gateways;
pub mod generator;
pub mod interrupt;
pub mod measure;
pub mod report;
pub mod rivals;
pub mod watcher;

use gateways::{Gateways, assured_flows, flows};
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
    let rivals = || {
        options
            .contestants
            .iter()
            .copied()
            .filter(|&one| one != Contestant::NoListener)
    };
    for part in &options.parts {
        match part {
            Part::Speed => {
                for round in 1..=options.rounds {
                    for &contestant in &options.contestants {
                        eprintln!("full speed, round {round}: {}", contestant.name());
                        bench.speed(contestant);
                    }
                }
            }
            Part::Cost => {
                for contestant in rivals() {
                    eprintln!(
                        "{COST_FLOWS} flows at {FIXED_RATE}/s: {}",
                        contestant.name()
                    );
                    bench.cost(contestant, options.rounds);
                }
            }
            Part::Delay => {
                for round in 1..=options.rounds {
                    for contestant in rivals() {
                        eprintln!("delay, round {round}: {}", contestant.name());
                        bench.delay(contestant);
                    }
                }
            }
        }
    }
    bench.report
}

struct Bench {
    gateways: Gateways,
    report: Report,
}

impl Bench {
    /// Starts a contestant on empty tables and opens the first flows.
    fn start(&mut self, contestant: Contestant, copies: Copies) -> Running {
        self.gateways.flush();
        let running = Running::start(contestant, copies, &self.gateways);
        self.gateways
            .generator
            .at_rate(FIXED_RATE, WARM_UP_FLOWS, |_, _| ());
        if contestant != Contestant::NoListener {
            running.settle(&self.gateways, SETTLE);
        }
        running
    }

    fn speed(&mut self, contestant: Contestant) {
        let running = self.start(contestant, Copies::Usual);
        let before = flows(&self.gateways.a);
        let took = self.gateways.generator.at_full_speed(FULL_SPEED).elapsed;
        let opened = assured_flows(&self.gateways.a) - before;
        self.report.add(
            contestant,
            Row::FullSpeed,
            opened as f64 / took.as_secs_f64(),
        );
        if contestant != Contestant::NoListener {
            running.settle(&self.gateways, SETTLE);
            let share = running.arrived(&self.gateways) as f64 / flows(&self.gateways.a) as f64;
            self.report
                .add(contestant, Row::FullSpeedArrived, 100.0 * share);
        }
    }

    /// One run of the daemons; its rounds are equal parts of the flows, its memory counts from the first to the last.
    fn cost(&mut self, contestant: Contestant, rounds: u32) {
        let running = self.start(contestant, Copies::Usual);
        let pids = running.pids().expect("this contestant has daemons");
        let memory_before = pids.map(resident_bytes);
        let flows_before = flows(&self.gateways.a);
        for _ in 0..rounds {
            let (times, wire) = (pids.map(processor_time), Wire::of(&self.gateways));
            let opened =
                self.gateways
                    .generator
                    .at_rate(FIXED_RATE, COST_FLOWS / rounds, |_, _| ());
            running.settle(&self.gateways, SETTLE);
            let (times_after, wire_after) = (pids.map(processor_time), Wire::of(&self.gateways));
            let count = f64::from(opened.flows);
            for (side, row) in [Row::SenderTime, Row::ReceiverTime].into_iter().enumerate() {
                let micros = (times_after[side] - times[side]).as_secs_f64() * 1e6;
                self.report.add(contestant, row, micros / count);
            }
            self.report.add(
                contestant,
                Row::Bytes,
                (wire_after.bytes - wire.bytes) as f64 / count,
            );
            self.report.add(
                contestant,
                Row::Datagrams,
                (wire_after.packets - wire.packets) as f64 / count,
            );
            self.report.add(contestant, Row::Rate, opened.rate());
        }
        let count = flows(&self.gateways.a) - flows_before;
        let memory_after = pids.map(resident_bytes);
        for (side, row) in [Row::SenderMemory, Row::ReceiverMemory]
            .into_iter()
            .enumerate()
        {
            let bytes = memory_after[side].saturating_sub(memory_before[side]);
            self.report
                .add(contestant, row, bytes as f64 / count as f64);
        }
        let all = flows(&self.gateways.a);
        assert_eq!(
            assured_flows(&self.gateways.a),
            all,
            "every flow has shaken hands"
        );
        let arrived = running.arrived(&self.gateways) as f64;
        self.report
            .add(contestant, Row::Arrived, 100.0 * arrived / all as f64);
    }

    fn delay(&mut self, contestant: Contestant) {
        let running = self.start(contestant, Copies::InKernel);
        let watcher = Watcher::start(&self.gateways.b);
        let mut seen: Vec<Duration> = (0..IDLE_FLOWS)
            .filter_map(|turn| self.one_flow(&watcher, turn))
            .collect();
        self.add_delays(
            contestant,
            [Row::IdleMedian, Row::IdleTail, Row::IdleSeen],
            &mut seen,
            IDLE_FLOWS,
        );

        let first = self.gateways.generator.next_flow();
        let mut started = Vec::with_capacity(LOAD_FLOWS as usize);
        self.gateways
            .generator
            .at_rate(FIXED_RATE, LOAD_FLOWS, |_, time| started.push(time));
        running.settle(&self.gateways, SETTLE);
        let mut seen: Vec<Duration> = watcher
            .drain()
            .into_iter()
            .filter_map(|(flow, time)| {
                let start = *started.get(flow.0.checked_sub(first.0)? as usize)?;
                time.checked_sub(start)
            })
            .collect();
        self.add_delays(
            contestant,
            [Row::LoadMedian, Row::LoadTail, Row::LoadSeen],
            &mut seen,
            LOAD_FLOWS,
        );
    }

    /// Opens a flow, waits until it is in the peer's kernel, and a little longer.
    fn one_flow(&mut self, watcher: &Watcher, turn: u32) -> Option<Duration> {
        let flow = self.gateways.generator.next_flow();
        let mut start = Duration::ZERO;
        self.gateways
            .generator
            .at_rate(FIXED_RATE, 1, |_, time| start = time);
        let delay = watcher
            .wait_for(flow, NEVER)
            .map(|seen| seen.saturating_sub(start));
        // Not always the same, or it might fall into step with a contestant's timer.
        std::thread::sleep(Duration::from_micros(
            3_000 + u64::from(turn * 7_919 % 4_000),
        ));
        delay
    }

    fn add_delays(
        &mut self,
        contestant: Contestant,
        rows: [Row; 3],
        seen: &mut [Duration],
        opened: u32,
    ) {
        let [median, tail, share] = rows;
        self.report.add(
            contestant,
            share,
            100.0 * seen.len() as f64 / f64::from(opened),
        );
        if !seen.is_empty() {
            self.report
                .add(contestant, median, quantile(seen, 0.50).as_secs_f64() * 1e3);
            self.report
                .add(contestant, tail, quantile(seen, 0.99).as_secs_f64() * 1e3);
        }
    }
}
