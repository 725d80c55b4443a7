//! The figures: collected, printed as one table, written as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::asymmetric::{CONNECTS, LATE_CONNECTS};
use super::measure::Samples;
use super::policy;
use super::rivals::Contestant;
use super::{COST_FLOWS, FIXED_RATE, IDLE_FLOWS, LOAD_FLOWS, SETTLE};

/// One line of the table, in the order of printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Flows a second at full speed.
    FullSpeed,
    /// Per cent of them that the peer has soon after.
    FullSpeedArrived,
    /// The fixed rate that was held, in flows a second.
    Rate,
    /// Microseconds of the sender's daemon per flow.
    SenderTime,
    /// Microseconds of the receiver's daemon per flow.
    ReceiverTime,
    /// Per cent of the flows that the peer has.
    Arrived,
    /// Bytes on the sync link per flow.
    Bytes,
    /// IP packets on the sync link per flow.
    Datagrams,
    /// Bytes of the sender's daemon per flow.
    SenderMemory,
    /// Bytes of the receiver's daemon per flow.
    ReceiverMemory,
    /// Milliseconds to the peer's kernel, one flow at a time: median.
    IdleMedian,
    /// ... 99th percentile.
    IdleTail,
    /// ... per cent seen at all.
    IdleSeen,
    /// Milliseconds to the peer's kernel at the fixed rate: median.
    LoadMedian,
    /// ... 99th percentile.
    LoadTail,
    /// ... per cent seen at all.
    LoadSeen,
    /// Seconds until a gateway that joins has 200,000 flows.
    JoinTime,
    /// ... per cent of them that it has then.
    JoinArrived,
    /// ... MiB that it takes above what it has then.
    JoinMemory,
    /// As [`Self::JoinTime`], of 1,000,000.
    BigJoinTime,
    /// ... per cent of them.
    BigJoinArrived,
    /// ... MiB.
    BigJoinMemory,
    /// Milliseconds that a connection takes to open by two gateways, with nobody listening by one: median.
    ConnectMedian,
    /// ... 99th percentile.
    ConnectTail,
    /// ... per cent of which a packet had to be sent again.
    ConnectLate,
}

impl Row {
    /// Its name in JSON, what it says in the table, and the digits behind the point.
    fn texts(self) -> (&'static str, &'static str, usize) {
        match self {
            Row::FullSpeed => (
                "full_speed_flows_per_second",
                "full speed: flows/s forwarded",
                0,
            ),
            Row::FullSpeedArrived => (
                "full_speed_arrived_percent",
                "  of these at the peer soon after, %",
                1,
            ),
            Row::Rate => (
                "fixed_rate_flows_per_second",
                "fixed rate: flows/s forwarded",
                0,
            ),
            Row::SenderTime => ("sender_cpu_us_per_flow", "  sender's CPU, us/flow", 1),
            Row::ReceiverTime => ("receiver_cpu_us_per_flow", "  receiver's CPU, us/flow", 1),
            Row::Arrived => ("fixed_rate_arrived_percent", "  of these at the peer, %", 1),
            Row::Bytes => ("wire_bytes_per_flow", "  bytes/flow on the sync link", 1),
            Row::Datagrams => (
                "wire_datagrams_per_flow",
                "  datagrams/flow on the sync link",
                3,
            ),
            Row::SenderMemory => (
                "sender_memory_bytes_per_flow",
                "  sender's memory, B/flow",
                0,
            ),
            Row::ReceiverMemory => (
                "receiver_memory_bytes_per_flow",
                "  receiver's memory, B/flow",
                0,
            ),
            Row::IdleMedian => (
                "idle_delay_p50_ms",
                "delay to the peer's kernel, idle: p50, ms",
                2,
            ),
            Row::IdleTail => ("idle_delay_p99_ms", "  p99, ms", 2),
            Row::IdleSeen => ("idle_seen_percent", "  seen within 1 s, %", 1),
            Row::LoadMedian => ("load_delay_p50_ms", "delay at the fixed rate: p50, ms", 2),
            Row::LoadTail => ("load_delay_p99_ms", "  p99, ms", 2),
            Row::LoadSeen => ("load_seen_percent", "  seen, %", 1),
            Row::JoinTime => ("join_200k_s", "join a gateway of 200,000 flows, s", 2),
            Row::JoinArrived => ("join_200k_arrived_percent", "  of these arrived, %", 1),
            Row::JoinMemory => ("join_200k_memory_mib", "  memory above the table, MiB", 1),
            Row::BigJoinTime => ("join_1m_s", "join a gateway of 1,000,000 flows, s", 2),
            Row::BigJoinArrived => ("join_1m_arrived_percent", "  of these arrived, %", 1),
            Row::ConnectMedian => (
                "asymmetric_connect_p50_ms",
                "connects by two gateways: p50, ms",
                2,
            ),
            Row::ConnectTail => ("asymmetric_connect_p99_ms", "  p99, ms", 2),
            Row::ConnectLate => ("asymmetric_late_percent", "  a packet was sent again, %", 1),
            Row::BigJoinMemory => ("join_1m_memory_mib", "  memory above the table, MiB", 1),
        }
    }
}

/// Everything measured, and on what.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    rounds: u32,
    figures: BTreeMap<(Row, Contestant), Samples>,
    policy: Vec<policy::Figures>,
}

impl Report {
    /// An empty one.
    pub fn new(rounds: u32) -> Report {
        Report {
            machine: Machine::this(),
            rounds,
            figures: BTreeMap::new(),
            policy: Vec::new(),
        }
    }

    /// Notes one measurement.
    pub fn add(&mut self, contestant: Contestant, row: Row, value: f64) {
        self.figures
            .entry((row, contestant))
            .or_default()
            .push(value);
    }

    /// Notes what policies have saved.
    pub fn add_policy(&mut self, figures: impl IntoIterator<Item = policy::Figures>) {
        self.policy.extend(figures);
    }

    fn figure(&self, row: Row, contestant: Contestant) -> Option<&Samples> {
        self.figures.get(&(row, contestant))
    }

    /// A contestant's full speed in per cent of what the gateway forwards when nobody listens.
    fn share_of_no_listener(&self, contestant: Contestant) -> Option<f64> {
        let alone = self
            .figure(Row::FullSpeed, Contestant::NoListener)?
            .median();
        Some(100.0 * self.figure(Row::FullSpeed, contestant)?.median() / alone)
    }

    /// How much more a contestant's figure is than that of nobody listening.
    fn added_to_no_listener(&self, row: Row, contestant: Contestant) -> Option<f64> {
        let alone = self.figure(row, Contestant::NoListener)?.median();
        let with = (contestant != Contestant::NoListener).then_some(contestant)?;
        Some(self.figure(row, with)?.median() - alone)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.figures.keys().map(|&(row, _)| row).collect();
        rows.dedup();
        rows
    }

    /// Everything, with the value of each round.
    pub fn to_json(&self) -> Value {
        let contestants = Contestant::ALL.into_iter().map(|contestant| {
            let rows = self.rows().into_iter().filter_map(|row| {
                let samples = self.figure(row, contestant)?;
                Some((
                    row.texts().0.to_owned(),
                    json!({"median": samples.median(), "rounds": samples.all()}),
                ))
            });
            (contestant.name().to_owned(), Value::Object(rows.collect()))
        });
        json!({
            "date": self.machine.date,
            "machine": self.machine.processor,
            "cores": self.machine.cores,
            "kernel": self.machine.kernel,
            "conntrackd": self.machine.conntrackd,
            "load_before": self.machine.load,
            "rounds": self.rounds,
            "policy": self.policy.iter().map(policy::Figures::to_json).collect::<Vec<_>>(),
            "figures": contestants.collect::<Map<String, Value>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "median of {rounds} rounds, (least-most) where these are more than a tenth apart\n"
        )?;
        write_line(f, "", |contestant| contestant.name().to_owned())?;
        for row in self.rows() {
            let (_, head, digits) = row.texts();
            write_line(f, head, |contestant| {
                cell(self.figure(row, contestant), digits)
            })?;
            if matches!(row, Row::ConnectMedian | Row::ConnectTail) {
                write_line(f, "  more than without and by one, ms", |contestant| {
                    let added = self.added_to_no_listener(row, contestant);
                    added.map_or("-".to_owned(), |added| format!("{added:.2}"))
                })?;
            }
            if row == Row::FullSpeed {
                write_line(f, "  against no listener, %", |contestant| {
                    let share = self.share_of_no_listener(contestant);
                    share.map_or("-".to_owned(), |share| format!("{share:.0}"))
                })?;
            }
        }
        if !self.policy.is_empty() {
            let heads = [
                "flows/s forwarded",
                "against no listener, %",
                "sender's CPU, us/flow",
            ];
            let [speed, share, time] = heads;
            writeln!(
                f,
                "\n{:<42}{speed:>22}{share:>24}{time:>24}",
                "ctsync, of the flows"
            )?;
            let alone = self.figure(Row::FullSpeed, Contestant::NoListener);
            for figures in &self.policy {
                policy::write_line(f, figures, alone.map(Samples::median))?;
            }
        }
        write!(f, "\n{}", notes())
    }
}

fn write_line(
    f: &mut fmt::Formatter<'_>,
    head: &str,
    cell: impl Fn(Contestant) -> String,
) -> fmt::Result {
    let [nobody, conntrackd, ctsync] = Contestant::ALL.map(cell);
    writeln!(f, "{head:<42}{nobody:>22}{conntrackd:>24}{ctsync:>24}")
}

fn cell(samples: Option<&Samples>, digits: usize) -> String {
    let Some(samples) = samples else {
        return "-".to_owned();
    };
    let (least, most) = samples.range();
    let median = samples.median();
    if most - least > median / 10.0 {
        format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
    } else {
        format!("{median:.digits$}")
    }
}

/// How to read the table.
fn notes() -> String {
    let settle = SETTLE.as_secs();
    format!(
        "\
A flow is a TCP handshake through gateway A, three packets written to TUN devices by one thread; it counts when the
conntrack tool shows it established and assured. The gateways' packet paths and both daemons share the machine's cores,
and nobody is tied to one.
Full speed: 2.5 s; what the peer has is read when it has all, or {settle} s after the last packet. Fixed rate: {COST_FLOWS} flows
at {FIXED_RATE}/s, the packets of a flow 200 us apart; CPU is user and system time of all threads of a daemon; memory is its
growth over these flows.
Sync link: interface counters of both directions, IP and UDP headers included, Ethernet's not.
Delay: from the SYN being written to the NEW event in the peer's kernel; {IDLE_FLOWS} flows one at a time, then {LOAD_FLOWS} at {FIXED_RATE}/s.
conntrackd: Debian's package with its example FTFW configuration (multicast, 2 MiB netlink buffer growing to 8 MiB,
1.2 MiB socket buffers, real-time scheduling), HashLimit twice the table as the manual asks. The receiver keeps flows in
its cache; for the delay rows alone it puts them into the kernel at once (DisableExternalCache On).
ctsync: the default configuration; the receiver always puts flows into the kernel.
Join: gateway A has established flows, put there by netlink, and its daemon knows them; the time is from the start of B's
daemon to its last flow. conntrackd is asked for them as soon as it answers (-n), and has had 3 s when nothing more comes; ctsync
asks by itself, and says when it has everything, in its kernel. Memory: the most that was resident less what is afterwards.
Connects by two gateways: what the client sends passes gateway A, what the server sends gateway B, both strict; with no listener
everything passes A. {CONNECTS} one after the other, from connect() to the SYN/ACK; with conntrackd, which puts the flows into
the kernel at once, {LATE_CONNECTS} together, as each takes seconds. ctsync has learnt from the first ones. Sent again: after 1 s.
ctsync with a policy: of the server's 20 ports a share is never synchronised, or delayed for longer than the run; pushed down
with nothing (off), the filter of the socket, rules of xtables or of nftables. Full speed as above, then a quarter as many flows
at the fixed rate; CPU is per flow opened, told or not.
"
    )
}

/// What it ran on.
#[derive(Debug)]
struct Machine {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
    conntrackd: String,
    /// Load average of the minute before: what else the machine was at.
    load: String,
}

impl Machine {
    fn this() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = first(read("/proc/cpuinfo").lines().filter_map(|line| {
            line.strip_prefix("model name")?
                .split_once(": ")
                .map(|(_, model)| model)
        }));
        let version = ["-W", "-f", "${Package} ${Version}", "conntrackd"];
        Machine {
            date: first(output_of(Command::new("date").args(["-u", "+%F"])).lines()),
            processor,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: first(read("/proc/sys/kernel/osrelease").lines()),
            conntrackd: first(output_of(Command::new("dpkg-query").args(version)).lines()),
            load: first(read("/proc/loadavg").split(' ')),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            date,
            processor,
            cores,
            kernel,
            conntrackd,
            load,
        } = self;
        write!(
            f,
            "{date}, {processor}, {cores} cores, load {load} before, Linux {kernel}, {conntrackd}"
        )
    }
}

fn first<'a>(mut texts: impl Iterator<Item = &'a str>) -> String {
    texts.next().unwrap_or("unknown").to_owned()
}

fn output_of(command: &mut Command) -> String {
    let output = command
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}
