//! A daemon that gives made-up answers.

use std::sync::mpsc;
use std::thread;

use agent::control::answer::audit::{Difference, DifferenceCounts, Equal, Proof, Report, Round};
use agent::control::answer::members::{Done, RolesAnswer};
use agent::control::answer::services::{ServiceCost, Services};
use agent::control::answer::sync::SyncStatus;
use agent::control::answer::{
    Cursor, Endpoints, Family, FlowPage, FlowRow, Origin, Rolled, SplitDestinations, Status,
    SyncStat,
};
use agent::control::{self, Ask, Server};

/// More than any pipe holds.
pub const FLOWS: u32 = 20_000;

/// A control socket with made-up answers behind it.
pub struct Daemon {
    _server: Server,
    pub socket: String,
    _directory: tempfile::TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        Self::start_with(answer)
    }

    pub fn start_with(answer: fn(Ask)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (sender, mut asks) = control::asks();
        let (wake, woken) = mpsc::channel();
        thread::spawn(move || {
            while woken.recv().is_ok() {
                while let Ok(ask) = asks.try_recv() {
                    answer(ask);
                }
            }
        });
        let server = Server::start(
            &path,
            Box::new(move || wake.send(()).unwrap_or_default()),
            sender,
        )
        .unwrap();
        Self {
            _server: server,
            socket: path.to_str().unwrap().to_owned(),
            _directory: directory,
        }
    }
}

pub fn answer(ask: Ask) {
    match ask {
        Ask::Status(answer) => answer.send(status()).unwrap_or_default(),
        Ask::Flows {
            from,
            limit,
            answer,
        } => {
            let end = (from.0 + u32::try_from(limit).unwrap()).min(FLOWS);
            let next = (end < FLOWS).then_some(Cursor(end));
            answer
                .send(FlowPage {
                    rows: (from.0..end).map(row).collect(),
                    next,
                })
                .unwrap_or_default();
        }
        Ask::Roles(_, answer) => answer.send(done()).unwrap_or_default(),
        Ask::RollKeys(answer) => answer.send(rolled()).unwrap_or_default(),
        Ask::Explain(..) | Ask::Facts(_) | Ask::TakeFacts(_) => {}
        Ask::Reload(answer) => {
            (answer.send(Err("policy.yaml:1:2: wrong; mend it".into()))).unwrap_or_default()
        }
        Ask::Mode(_, answer) => (answer.send(Done { refused: None })).unwrap_or_default(),
        Ask::Paths(answer) => answer
            .send(SplitDestinations::default())
            .unwrap_or_default(),
        Ask::SyncStat(answer) => answer.send(SyncStat::default()).unwrap_or_default(),
        Ask::Resync(answer) => answer.send(SyncStatus::default()).unwrap_or_default(),
        Ask::Accounting(_) => {}
        Ask::Services(answer) => answer.send(services(0)).unwrap_or_default(),
        Ask::Audit(answer) | Ask::AuditNow(answer) => answer.send(report()).unwrap_or_default(),
    }
}

pub fn report() -> Report {
    let found = DifferenceCounts {
        missing: 1,
        conflict: 2,
        ..DifferenceCounts::default()
    };
    let round = Round {
        seconds_ago: 12,
        milliseconds: 31,
        cpu_us: 28_040,
        entries: 20_000,
        differences: found,
    };
    Report {
        interval_seconds: 60,
        rounds: 9,
        longest_us: 4_210,
        last: Some(round.clone()),
        equal: Some(Round {
            seconds_ago: 72,
            differences: DifferenceCounts::default(),
            ..round
        }),
        peers: vec![Proof {
            member: 2,
            name: "gw-b".into(),
            equal: Some(Equal {
                seconds_ago: 73,
                flows: 19_000,
            }),
        }],
        differences: found,
        history: vec![Difference {
            seconds_ago: 12,
            first_seconds_ago: 72,
            times: 2,
            class: "missing".into(),
            proto: "udp".into(),
            orig: row(1).orig,
            zone: 0,
            member: Some(2),
        }],
    }
}

/// Two services, one of which has cost so many messages.
pub fn services(messages: u64) -> Services {
    let cost = |service: &str, messages| ServiceCost {
        service: Some(service.into()),
        builtin: false,
        sync: "always".into(),
        delay_seconds: None,
        flows: 7,
        events: 21,
        messages,
        bytes: messages * 20,
        watched: 0,
        ended_within_1s: 0,
        ended_within_3s: 0,
        ended_within_15s: 0,
        ended_within_30s: 0,
    };
    Services {
        services: vec![cost("web", messages), cost("dns", 0)],
        left_out: 0,
    }
}

pub fn rolled() -> Rolled {
    Rolled {
        epoch: 4,
        unlinked: vec![2],
    }
}

pub fn done() -> RolesAnswer {
    RolesAnswer::Done(Done { refused: None })
}

/// The status that the control socket is tested with.
pub fn status() -> Status {
    serde_json::from_str(include_str!("../../src/control/tests/status.json")).unwrap()
}

pub fn row(number: u32) -> FlowRow {
    FlowRow {
        family: Family::Ipv4,
        proto: "udp".into(),
        orig: Endpoints {
            src: "192.0.2.1".parse().unwrap(),
            dst: "198.51.100.1".parse().unwrap(),
            sport: Some(u16::try_from(number).unwrap()),
            dport: Some(53),
        },
        nat_src: None,
        nat_dst: None,
        state: None,
        timeout: Some(30),
        mark: 0,
        zone: 0,
        origin: Origin::Own,
        member: 1,
    }
}
