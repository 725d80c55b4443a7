//! A status as OpenMetrics (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! Counters come by name from the status, and what each counts from the section COUNTERS of the manual, where everything
//! else that is measured is a gauge of the list below.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use crate::control::answer::accounting::ServiceTraffic;
use crate::control::answer::{
    Counters, FlowCounts, HoldStatus, Latency, PathState, PathStatus, PeerState, PeerStatus, Status,
};

/// What an answer is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MANUAL: &str = include_str!("../../../packaging/man/ctsync.8");

/// What each counter counts, by its name.
static HELP: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| help_of(MANUAL));

/// A gauge of each peer.
struct PeerGauge {
    name: &'static str,
    help: &'static str,
    /// Nothing where it is not known yet.
    value: fn(&PeerStatus) -> Option<f64>,
}

const PEER_GAUGES: &[PeerGauge] = &[
    PeerGauge {
        name: "peer_live",
        help: "1 if the peer was heard within dead_after.",
        value: |peer| Some(truth(peer.state == PeerState::Live)),
    },
    PeerGauge {
        name: "peer_linked",
        help: "1 if there is a link to the peer, over which keys are handed out.",
        value: |peer| Some(truth(peer.linked)),
    },
    PeerGauge {
        name: "peer_synced",
        help: "1 if both members have told each other all flows; changes on their way aside.",
        value: |peer| Some(truth(peer.synced)),
    },
    PeerGauge {
        name: "peer_rtt_seconds",
        help: "Smoothed time from a datagram to its acknowledgement, which the peer's kernel has to earn.",
        value: |peer| Some(micros(peer.rtt_us?)),
    },
    PeerGauge {
        name: "peer_silence_seconds",
        help: "Time since the peer's last datagram.",
        value: |peer| Some(micros(peer.last_heard_ms?.saturating_mul(1000))),
    },
    PeerGauge {
        name: "peer_unacknowledged_datagrams",
        help: "Datagrams that the peer was sent and has not acknowledged.",
        value: |peer| Some(number(peer.unacknowledged)),
    },
    PeerGauge {
        name: "peer_missing_deltas",
        help: "Deltas of the peer that are missing, though a later one has come.",
        value: |peer| Some(number(peer.missing)),
    },
    PeerGauge {
        name: "peer_refused_changes",
        help: "Changes that the peer's kernel refused since the peer started.",
        value: |peer| Some(number(peer.refused)),
    },
    PeerGauge {
        name: "peer_aside",
        help: "1 if the peer missed deadlines repeatedly, so that no packet waits for it.",
        value: |peer| Some(truth(peer.hold.aside)),
    },
    PeerGauge {
        name: "peer_hold_max_seconds",
        help: "Longest time that a held packet waited for the peer, of those that it acknowledged.",
        value: |peer| Some(micros(peer.hold.latency.max_us?)),
    },
];

/// A gauge of each way to each peer.
struct PathGauge {
    name: &'static str,
    help: &'static str,
    /// Nothing where it is not known yet.
    value: fn(&PathStatus) -> Option<f64>,
}

const PATH_GAUGES: &[PathGauge] = &[
    PathGauge {
        name: "path_up",
        help: "1 if both directions of the way to the peer over this network work.",
        value: |path| Some(truth(path.state == PathState::Up)),
    },
    PathGauge {
        name: "path_degraded",
        help: "1 if round trip or loss of the way are past what the protocol was made for.",
        value: |path| Some(truth(path.degraded)),
    },
    PathGauge {
        name: "path_rtt_seconds",
        help: "Smoothed round trip of the way.",
        value: |path| Some(micros(path.rtt_us?)),
    },
    PathGauge {
        name: "path_loss_in_ratio",
        help: "Share of what the peer sends over this network that is lost, of late.",
        value: |path| Some(f64::from(path.loss_in_permille?) / 1e3),
    },
    PathGauge {
        name: "path_loss_out_ratio",
        help: "Share of what this member sends over this network that is lost, as the peer says.",
        value: |path| Some(f64::from(path.loss_out_permille?) / 1e3),
    },
];

/// What a member can be.
const STATES: &[&str] = &[
    "down",
    "init",
    "standby",
    "ready",
    "active",
    "active-attention",
];

/// The whole answer.
pub fn render(status: &Status, passed: &[ServiceTraffic]) -> String {
    let mut page = Page::default();
    page.member(status);
    page.flows(&status.flows);
    page.holds(&status.holds);
    page.peers(&status.peers);
    page.passed(passed);
    page.counters(&status.counters);
    page.end()
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn member(&mut self, status: &Status) {
        let member = &status.member;
        self.family("build", "info", "Version of the daemon.");
        self.sample("build_info", &[("version", &status.version)], 1.0);
        self.family("member", "info", "Who this member is.");
        self.sample(
            "member_info",
            &[
                ("cluster", &status.cluster.to_string()),
                ("member", &member.id.to_string()),
                ("name", &member.name),
            ],
            1.0,
        );
        self.gauge(
            "uptime_seconds",
            "Time since the daemon began its work.",
            number(status.uptime_seconds),
        );
        self.gauge(
            "key_age_seconds",
            "Time since the key that seals datagrams came into use.",
            number(status.key.age_seconds),
        );
        self.gauge(
            "sync_complete",
            "1 if everything that the others have is here too.",
            truth(status.sync.complete),
        );
        self.gauge(
            "sync_incomplete_seconds",
            "Time since this member last had all that the others have, or since its start; 0 while it has.",
            number(status.sync.incomplete_ms) / 1e3,
        );
        self.family("state", "stateset", "What this member is in the cluster.");
        for state in STATES {
            let is_it = truth(status.role.state == *state);
            self.sample("state", &[("ctsync_state", state)], is_it);
        }
        self.family(
            "check_ok",
            "gauge",
            "1 if the check says that all is well; a member with one that does not is not fit.",
        );
        for check in &status.role.checks {
            let is_ok = truth(check.state == "ok");
            self.sample("check_ok", &[("check", &check.name)], is_ok);
        }
    }

    fn flows(&mut self, flows: &FlowCounts) {
        let origins = [
            ("own", flows.own),
            ("copy", flows.copies),
            ("found", flows.found),
        ];
        self.family(
            "flows",
            "gauge",
            "Flows that are known, by how this member came to know them.",
        );
        for (origin, count) in origins {
            self.sample("flows", &[("origin", origin)], number(count));
        }
    }

    fn holds(&mut self, holds: &HoldStatus) {
        self.gauge(
            "held_now",
            "Packets that wait until the peers have their flow.",
            number(holds.now),
        );
        self.gauge(
            "hold_deadline_seconds",
            "Time that a packet waits at most.",
            micros(holds.deadline_us),
        );
        let latency = &holds.latency;
        if let Some(max) = latency.max_us {
            self.gauge(
                "hold_max_seconds",
                "Longest time that a held packet waited, of those that were acknowledged.",
                micros(max),
            );
        }
        self.family(
            "hold_seconds",
            "summary",
            "Time that held packets waited, of those that were acknowledged.",
        );
        self.summary("hold_seconds", &[], latency);
    }

    fn peers(&mut self, peers: &[PeerStatus]) {
        self.family(
            "peer_hold_seconds",
            "summary",
            "Time that held packets waited for the peer, of those that it acknowledged.",
        );
        for peer in peers {
            let labels = [("peer", &*peer.name)];
            self.summary("peer_hold_seconds", &labels, &peer.hold.latency);
        }
        for PeerGauge { name, help, value } in PEER_GAUGES {
            self.family(name, "gauge", help);
            for peer in peers {
                if let Some(value) = value(peer) {
                    self.sample(name, &[("peer", &peer.name)], value);
                }
            }
        }
        for PathGauge { name, help, value } in PATH_GAUGES {
            self.family(name, "gauge", help);
            for peer in peers {
                for path in &peer.reach.networks {
                    if let Some(value) = value(path) {
                        let labels = [("peer", &*peer.name), ("network", &*path.name)];
                        self.sample(name, &labels, value);
                    }
                }
            }
        }
    }

    fn counters(&mut self, counters: &Counters) {
        for (counter, value) in &counters.0 {
            let (name, value) = match counter.strip_suffix("_us") {
                Some(name) => (format!("{name}_seconds"), micros(*value)),
                None => (counter.to_string(), number(*value)),
            };
            self.family(&name, "counter", HELP.get(&**counter).map_or("", |it| it));
            self.sample(&format!("{name}_total"), &[], value);
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# TYPE ctsync_{name} {kind}"));
        // A unit is the last part of the name.
        if let Some(unit @ ("bytes" | "seconds" | "ratio")) = name.rsplit('_').next() {
            self.line(format_args!("# UNIT ctsync_{name} {unit}"));
        }
        self.line(format_args!("# HELP ctsync_{name} {}", escaped(help)));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        match labels.is_empty() {
            true => self.line(format_args!("ctsync_{name} {value}")),
            false => self.line(format_args!(
                "ctsync_{name}{{{}}} {value}",
                labels.join(",")
            )),
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn summary(&mut self, name: &str, labels: &[(&str, &str)], latency: &Latency) {
        let Latency {
            count,
            sum_us,
            p50_us,
            p99_us,
            max_us: _,
        } = latency;
        for (quantile, value) in [("0.5", p50_us), ("0.99", p99_us)] {
            if let Some(value) = value {
                let labels = [labels, &[("quantile", quantile)]].concat();
                self.sample(name, &labels, micros(*value));
            }
        }
        self.sample(&format!("{name}_count"), labels, number(*count));
        self.sample(&format!("{name}_sum"), labels, micros(*sum_us));
    }

    /// What passed this member, by service and direction.
    fn passed(&mut self, services: &[ServiceTraffic]) {
        type Of = fn(&ServiceTraffic) -> [u64; 2];
        let families: [(_, _, Of); 2] = [
            (
                "passed_packets",
                "Packets of flows of the service that passed this member.",
                |it| [it.traffic.packets, it.traffic.reply_packets],
            ),
            (
                "passed_bytes",
                "Bytes of them, with their IP headers.",
                |it| [it.traffic.bytes, it.traffic.reply_bytes],
            ),
        ];
        for (name, help, of) in families {
            self.family(name, "counter", help);
            for it in services {
                let service = it.service.as_deref().unwrap_or_default();
                for (direction, value) in ["original", "reply"].into_iter().zip(of(it)) {
                    let labels = [("service", service), ("direction", direction)];
                    self.sample(&format!("{name}_total"), &labels, number(value));
                }
            }
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }

    fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn truth(it: bool) -> f64 {
    f64::from(u8::from(it))
}

/// Exact up to 2^53; a counter that is past it is off by its last bits.
fn number(it: u64) -> f64 {
    it as f64
}

fn micros(it: u64) -> f64 {
    number(it) / 1e6
}

/// The paragraphs of the section COUNTERS, by the names in their headings.
fn help_of(manual: &str) -> BTreeMap<String, String> {
    let section = manual.split("\n.SH ").find(|it| it.starts_with("COUNTERS"));
    let entries = section.unwrap_or_default().split("\n.TP\n").skip(1);
    let mut help = BTreeMap::new();
    for entry in entries {
        let (heading, text) = entry.split_once('\n').unwrap_or((entry, ""));
        let lines = text.lines().take_while(|line| !line.starts_with(".SS"));
        let text: Vec<_> = lines.map(plain).collect();
        // `.B name`, or `.BR name ,\  name`.
        for name in heading.split([' ', ',']).skip(1) {
            if name.len() > 1 {
                help.insert(name.to_owned(), text.join(" "));
            }
        }
    }
    help
}

/// A line without what tells a typesetter how to set it.
fn plain(line: &str) -> String {
    let words = match line.strip_prefix('.') {
        Some(request) => request.split_once(' ').map_or("", |(_, words)| words),
        None => line,
    };
    words
        .replace("\\-", "-")
        .replace("\\ ", "")
        .replace('"', "")
}
