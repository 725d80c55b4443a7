//! One gateway has the flows already, the other joins: the first daemon runs alone until it knows them all, then the
//! second is started.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{Contestant, Copies, Daemon, Files, conntrackd, ctsync, interrupt};
use crate::bench::gateways::Gateways;

/// How long the first may take to know its flows, and the second to have them.
const PATIENCE: Duration = Duration::from_secs(300);
/// The second has what it gets when for so long nothing came.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// How a join went.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// From the start of the second daemon to its last flow; for ctsync until it says that it has everything.
    pub took: Duration,
    /// Flows that it has.
    pub flows: u64,
    /// The most memory that it had, in bytes, above what it has afterwards.
    pub memory_above: u64,
}

/// Measures one join; gateway A has `flows` flows, B has none.
pub fn measure(contestant: Contestant, gateways: &Gateways, flows: u64) -> Join {
    let files = Files::new();
    let start = |gateway, side| match contestant {
        Contestant::Ctsync => ctsync::start(&files, gateway, side, ""),
        Contestant::NoListener | Contestant::Conntrackd => {
            conntrackd::start(&files, Copies::Usual, gateway, side)
        }
    };
    let first = start(&gateways.a, 0);
    let knows = || match contestant {
        Contestant::Ctsync => ctsync::own_flows(&first),
        Contestant::NoListener | Contestant::Conntrackd => conntrackd::internal_flows(&first),
    };
    wait_until(&files, || knows() >= flows);
    let begin = Instant::now();
    let second = start(&gateways.b, 1);
    let (took, flows) = match contestant {
        Contestant::Ctsync => {
            wait_until(&files, || ctsync::is_joined(&second));
            (begin.elapsed(), super::flows(&gateways.b))
        }
        Contestant::NoListener | Contestant::Conntrackd => {
            wait_until(&files, || conntrackd::is_ready(&second));
            ask_conntrackd(&second, begin)
        }
    };
    let (peak, now) = memory(second.process.id());
    Join {
        took,
        flows,
        memory_above: peak.saturating_sub(now),
    }
}

/// Asks for everything (`-n`), and watches what comes until nothing does.
fn ask_conntrackd(second: &Daemon, begin: Instant) -> (Duration, u64) {
    let mut ask = Command::new("conntrackd");
    let asked = ask.arg("-C").arg(&second.config).arg("-n").output();
    assert!(asked.is_ok_and(|it| it.status.success()), "conntrackd -n");
    let (mut has, mut last) = (0, begin);
    while last.elapsed() < QUIET && begin.elapsed() < PATIENCE {
        let now = conntrackd::external_flows(second);
        if now > has || has == 0 {
            last = Instant::now();
        }
        has = has.max(now);
        rest();
    }
    (last - begin, has)
}

/// Looks again and again until `condition` holds; panics with what the daemons have logged when patience is at an end.
fn wait_until(files: &Files, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{}", files.logs());
        rest();
    }
}

fn rest() {
    interrupt::check();
    thread::sleep(LOOK);
}

/// Resident memory of a process: the most it had, and what it has, in bytes.
fn memory(pid: u32) -> (u64, u64) {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|it| it.trim().strip_suffix(" kB")?.trim().parse().ok());
        kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
    };
    (of("VmHWM:"), of("VmRSS:"))
}
