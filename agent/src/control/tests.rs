//! Server and client against each other, with a driver made up for the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::answer::audit::DifferenceCounts;
use super::answer::members::{Done, RolesAnswer};
use super::answer::sync::SyncStatus;
use super::answer::*;
use super::server::{Access, Patience};
use super::*;

mod patience;
mod requests;
mod socket;

const DEADLINE: Duration = Duration::from_secs(20);
const PATIENT: Patience = Patience {
    request: DEADLINE,
    driver: DEADLINE,
    round: DEADLINE,
    write: DEADLINE,
};
const SHORT: Duration = Duration::from_millis(20);

/// A server, and the driver behind it. The directory goes last.
struct Daemon {
    server: Server,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Daemon {
    /// `drive` is called for each ask, on a thread that sleeps until it is woken.
    fn start(patience: Patience, drive: impl FnMut(Ask) + Send + 'static) -> Self {
        Self::start_for(Access::All, patience, drive)
    }

    fn start_for(
        access: Access,
        patience: Patience,
        mut drive: impl FnMut(Ask) + Send + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (sender, mut asks) = asks();
        let (wake, woken) = std_mpsc::channel();
        let wake = Box::new(move || wake.send(()).unwrap_or_default());
        thread::spawn(move || {
            while woken.recv().is_ok() {
                while let Ok(ask) = asks.try_recv() {
                    drive(ask);
                }
            }
        });
        let server = Server::start_with(&path, wake, sender, access, patience).unwrap();
        Self {
            server,
            path,
            _directory: directory,
        }
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        BufReader::new(stream)
    }
}

fn answer(ask: Ask) {
    match ask {
        Ask::Status(answer) => answer.send(status()).unwrap_or_default(),
        Ask::Flows {
            from,
            limit,
            answer,
        } => {
            let end = (from.0 + u32::try_from(limit).unwrap()).min(FLOWS);
            let rows = (from.0..end).map(row).collect();
            let next = (end < FLOWS).then_some(Cursor(end));
            answer.send(FlowPage { rows, next }).unwrap_or_default();
        }
        Ask::Explain(..) | Ask::Facts(_) | Ask::TakeFacts(_) => {}
        Ask::Reload(answer) => answer
            .send(Err("policy.yaml:1:1: wrong; mend it".into()))
            .unwrap_or_default(),
        Ask::Mode(_, answer) => answer.send(Done { refused: None }).unwrap_or_default(),
        Ask::Paths(answer) => answer
            .send(SplitDestinations::default())
            .unwrap_or_default(),
        Ask::Services(_) | Ask::Accounting(_) => {}
        Ask::SyncStat(answer) => answer.send(SyncStat::default()).unwrap_or_default(),
        Ask::Audit(answer) | Ask::AuditNow(answer) => answer.send(report()).unwrap_or_default(),
        Ask::Roles(_, answer) => answer.send(done()).unwrap_or_default(),
        Ask::Resync(answer) => answer.send(SyncStatus::default()).unwrap_or_default(),
        Ask::RollKeys(answer) => answer
            .send(Rolled {
                epoch: 4,
                unlinked: vec![3],
            })
            .unwrap_or_default(),
    }
}

fn report() -> Report {
    Report {
        interval_seconds: 60,
        rounds: 1,
        longest_us: 0,
        last: None,
        equal: None,
        peers: Vec::new(),
        differences: DifferenceCounts::default(),
        history: Vec::new(),
    }
}

/// Two pages and a bit.
const FLOWS: u32 = 1100;

fn done() -> RolesAnswer {
    RolesAnswer::Done(Done { refused: None })
}

/// The answer to `status`, as it comes over the socket but for the ends of lines.
const STATUS: &str = include_str!("tests/status.json");

/// A status, for those who need one.
pub(crate) fn status() -> Status {
    serde_json::from_str(STATUS).unwrap()
}

fn row(number: u32) -> FlowRow {
    FlowRow {
        family: Family::Ipv4,
        proto: "tcp".into(),
        orig: Endpoints {
            src: "192.0.2.1".parse().unwrap(),
            dst: "198.51.100.1".parse().unwrap(),
            sport: Some(u16::try_from(number).unwrap()),
            dport: Some(80),
        },
        nat_src: Some(Translation {
            addr: "203.0.113.1".parse().unwrap(),
            port: Some(1024),
        }),
        nat_dst: None,
        state: Some("ESTABLISHED".into()),
        timeout: Some(431_999),
        mark: 0,
        zone: 0,
        origin: Origin::Copy,
        member: 2,
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

/// Tries until it is so, or fails.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        thread::yield_now();
    }
}
