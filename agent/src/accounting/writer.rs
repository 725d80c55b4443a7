//! Where what has passed is written, once an interval: lines of the log, or of a file.
//!
//! A thread of its own writes, so that a slow disk keeps nobody waiting. It opens the file anew for each interval: who
//! rotates it need not tell the daemon.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use schemars::JsonSchema;
use serde::Serialize;
use tracing::{info, warn};

use crate::config::accounting::Target;
use crate::control::answer::accounting::{Accounting, MemberTraffic, Traffic};
use crate::kernel::wall_clock_nanos;

/// Intervals that wait to be written; the totals of one that does not find room are in the next.
const WAITING_MAX: usize = 2;

/// Takes what is to be written.
#[derive(Debug)]
pub struct Writer(Option<SyncSender<Accounting>>);

/// A line of the file: what one member has counted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Line<'a> {
    /// Seconds since 1970.
    pub time: u64,
    /// Totals: what is in a line is also in the next one of that member.
    #[serde(flatten)]
    pub traffic: &'a MemberTraffic,
}

impl Writer {
    /// Writes to where the configuration says.
    pub fn start(target: &Target) -> io::Result<Self> {
        let write: Box<dyn Fn(Receiver<Accounting>) + Send> = match target {
            Target::Off => return Ok(Self(None)),
            Target::Journal => Box::new(|intervals| log(&intervals)),
            Target::File(path) => {
                let path = path.clone();
                Box::new(move |intervals| append(&path, &intervals))
            }
        };
        let (sender, intervals) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("accounting".into())
            .spawn(move || write(intervals))?;
        Ok(Self(Some(sender)))
    }

    /// An interval is over.
    pub fn write(&self, totals: Accounting) {
        if let Self(Some(sender)) = self
            && sender.try_send(totals).is_err()
        {
            warn!(
                event = "accounting-late",
                "what has passed is not written: the disk does not keep up; the next interval has it too"
            );
        }
    }
}

/// A line for each service of which more has passed, and one for all.
fn log(intervals: &Receiver<Accounting>) {
    let mut before = Vec::new();
    for totals in intervals {
        let lines: Vec<_> = totals.members.into_iter().flat_map(log_lines).collect();
        let is_news = |line: &&LogLine| !before.contains(*line);
        lines.iter().filter(is_news).for_each(LogLine::log);
        before = lines;
    }
}

/// What the log says of one member and service.
#[derive(PartialEq)]
struct LogLine {
    member: u8,
    name: String,
    service: String,
    traffic: Traffic,
}

fn log_lines(of: MemberTraffic) -> impl Iterator<Item = LogLine> {
    let services = of.services.into_iter().map(|it| {
        let service = it.service.unwrap_or_else(|| "(no service)".into());
        (service, it.traffic)
    });
    let all = [("(all)".to_owned(), of.total)];
    (services.chain(all)).map(move |(service, traffic)| LogLine {
        member: of.member,
        name: of.name.clone(),
        service,
        traffic,
    })
}

impl LogLine {
    fn log(&self) {
        let Self {
            member,
            name,
            service,
            traffic,
        } = self;
        let Traffic {
            packets,
            bytes,
            reply_packets,
            reply_bytes,
        } = traffic;
        info!(
            event = "accounting",
            member, name, service, packets, bytes, reply_packets, reply_bytes, "passed so far"
        );
    }
}

fn append(path: &Path, intervals: &Receiver<Accounting>) {
    for totals in intervals {
        if let Err(error) = append_lines(path, &totals) {
            warn!(
                event = "accounting-late",
                file = %path.display(), %error,
                "what has passed is not written; the next interval has it too"
            );
        }
    }
}

fn append_lines(path: &Path, totals: &Accounting) -> io::Result<()> {
    let mut lines = Vec::new();
    for traffic in &totals.members {
        let time = wall_clock_nanos() / 1_000_000_000;
        serde_json::to_writer(&mut lines, &Line { time, traffic })?;
        lines.push(b'\n');
    }
    let mut file = OpenOptions::new();
    let mut file = file.create(true).append(true).mode(0o640).open(path)?;
    file.write_all(&lines)
}
