//! What the service policy saves: a share of the flows is never synchronised, or delayed, and the kernel does its part of
//! that, by one means or another, or it does not.
//!
//! Which flows are of the share is a matter of their server port, which goes round from flow to flow. The delay is longer
//! than a run, so that none of the delayed flows is told.

use std::fmt;

use serde_json::{Value, json};

use super::gateways::{Gateways, assured_flows};
use super::generator::{SERVER_PORT_FIRST, SERVER_PORTS};
use super::measure::{Samples, processor_time};
use super::rivals::Running;
use super::{COST_FLOWS, FIXED_RATE, FULL_SPEED, SETTLE, WARM_UP_FLOWS};

/// What becomes of the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Nobody is told.
    Never,
    /// They end, as far as this goes, before anybody is.
    Delayed,
}

/// One policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Of so many of the server's ports.
    ports: u16,
    treatment: Treatment,
    means: Means,
}

/// With what the policy is pushed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Nothing,
    Nftables,
    Xtables,
    Filter,
}

impl Means {
    /// As `ctsync.yaml` calls it.
    fn word(self) -> &'static str {
        match self {
            Means::Nothing => "off",
            Means::Nftables => "nftables",
            Means::Xtables => "xtables",
            Means::Filter => "filter",
        }
    }
}

/// Its figures, one a round.
#[derive(Debug)]
pub struct Figures {
    case: Case,
    /// Flows a second at full speed.
    full_speed: Samples,
    /// Microseconds of the sender's daemon per flow at the fixed rate.
    sender_time: Samples,
}

impl Case {
    /// A quarter, half, nine tenths; never and delayed; with each push-down and without. What is delayed makes all its events
    /// with each but that of nftables, which leaves out the one that no TCP needs.
    pub fn all() -> impl Iterator<Item = Case> {
        let shares = [SERVER_PORTS / 4, SERVER_PORTS / 2, SERVER_PORTS * 9 / 10];
        let ways = [
            (Treatment::Never, Means::Nothing),
            (Treatment::Never, Means::Filter),
            (Treatment::Never, Means::Xtables),
            (Treatment::Never, Means::Nftables),
            (Treatment::Delayed, Means::Nothing),
            (Treatment::Delayed, Means::Nftables),
        ];
        shares.into_iter().flat_map(move |ports| {
            ways.map(|(treatment, means)| Case {
                ports,
                treatment,
                means,
            })
        })
    }

    /// As `policy.yaml` says it.
    fn policy(self) -> String {
        let last = SERVER_PORT_FIRST + self.ports - 1;
        let sync = match self.treatment {
            Treatment::Never => "never",
            Treatment::Delayed => "delayed, delay: 10min",
        };
        format!(
            "services: {{ share: {{ protocol: tcp, ports: {SERVER_PORT_FIRST}-{last}, sync: {sync} }} }}\n"
        )
    }

    /// As `ctsync.yaml` says it.
    fn configuration(self) -> String {
        format!("policy: {{ kernel: {} }}\n", self.means.word())
    }

    /// Measures it once.
    pub fn measure(self, gateways: &mut Gateways, figures: &mut Figures) {
        eprintln!("policy: {self}");
        gateways.flush();
        let running = Running::start_ctsync(&self.policy(), &self.configuration(), gateways);
        if self.means == Means::Filter {
            running.wait_until_both_say("what it never synchronises is left out");
        }
        let generator = &mut gateways.generator;
        generator.at_rate(FIXED_RATE, WARM_UP_FLOWS, |_, _| ());
        let before = assured_flows(&gateways.a);
        let elapsed = gateways.generator.at_full_speed(FULL_SPEED).elapsed;
        let opened = assured_flows(&gateways.a) - before;
        (figures.full_speed).push(opened as f64 / elapsed.as_secs_f64());
        running.settle(gateways, SETTLE);
        let Some([sender, _]) = running.pids() else {
            return;
        };
        let before = processor_time(sender);
        let flows = COST_FLOWS / 4;
        gateways.generator.at_rate(FIXED_RATE, flows, |_, _| ());
        running.settle(gateways, SETTLE);
        let time = processor_time(sender) - before;
        (figures.sender_time).push(time.as_secs_f64() * 1e6 / f64::from(flows));
    }
}

impl Figures {
    /// None yet.
    pub fn new(case: Case) -> Figures {
        Figures {
            case,
            full_speed: Samples::default(),
            sender_time: Samples::default(),
        }
    }

    /// Everything, with the value of each round.
    pub fn to_json(&self) -> Value {
        json!({
            "case": self.case.to_string(),
            "full_speed_flows_per_second": self.full_speed.all(),
            "sender_cpu_us_per_flow": self.sender_time.all(),
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100 * self.ports / SERVER_PORTS;
        let treatment = match self.treatment {
            Treatment::Never => "never synchronised",
            Treatment::Delayed => "delayed",
        };
        write!(f, "{share} % {treatment}, {}", self.means.word())
    }
}

/// A line of the table; `alone` is the full speed when nobody listens.
pub fn write_line(
    f: &mut fmt::Formatter<'_>,
    figures: &Figures,
    alone: Option<f64>,
) -> fmt::Result {
    let speed = figures.full_speed.median();
    let share = alone.map_or_else(
        || "-".to_owned(),
        |alone| format!("{:.0}", 100.0 * speed / alone),
    );
    let time = figures.sender_time.median();
    let case = figures.case.to_string();
    writeln!(f, "{case:<42}{speed:>22.0}{share:>24}{time:>24.1}")
}
