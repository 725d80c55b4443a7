//! Where the log goes, and how often the same thing is said in it.
//!
//! To the journal, with values as fields (`CTSYNC_MEMBER=2`), when systemd has connected our stderr to it; to stderr as
//! lines of text otherwise.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

use crate::config::Level;
use journal::Journal;

mod journal;

/// Begins to log. An error says that it was begun before.
pub fn start(level: Level) -> Result<(), TryInitError> {
    let (filter, handle) = reload::Layer::new(filter(level));
    // Who began before has the handle, and the error says so.
    let _ = LEVEL.set(handle);
    let registry = tracing_subscriber::registry().with(filter);
    if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref())
        && let Ok(journal) = Journal::open()
    {
        return registry.with(journal).try_init();
    }
    let text = tracing_subscriber::fmt::layer()
        .compact()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    registry.with(text).try_init()
}

/// Logs from this level on from now on, if it was begun.
pub fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // It fails only if nobody logs any longer.
        let _ = handle.reload(filter(level));
    }
}

/// What changes the level of the log, of which a process has one.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// True if our stderr is the stream that `JOURNAL_STREAM` names, by device and inode (systemd.exec(5)): who redirects
/// stderr elsewhere wants it there.
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    device.parse() == Ok(stderr.dev()) && inode.parse() == Ok(stderr.ino())
}

/// Lets one of many equal lines pass an interval, and counts the others.
///
/// For what others can provoke: they shall not fill the disk.
#[derive(Clone, Debug)]
pub struct Interval {
    length: Duration,
    next: Option<Instant>,
    suppressed: u64,
}

impl Interval {
    /// At most one line every `length`; the first passes at once.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            next: None,
            suppressed: 0,
        }
    }

    /// Something happened: `Some` if a line may be written, with how many were not written since the last one.
    pub fn tick(&mut self) -> Option<u64> {
        self.tick_at(Instant::now())
    }

    fn tick_at(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.suppressed += 1;
            return None;
        }
        self.next = Some(now + self.length);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Faults that the daemon survives: each kind is logged once an interval.
#[derive(Debug, Default)]
pub struct Faults {
    kinds: Vec<(&'static str, Interval)>,
}

/// Between two lines about the same fault.
const FAULT_INTERVAL: Duration = Duration::from_secs(10);

impl Faults {
    /// The value, or `None` and a line that says that `what` failed.
    pub fn survive<T, E: std::fmt::Display>(
        &mut self,
        what: &'static str,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if let Some(suppressed) = self.interval(what).tick() {
                    tracing::warn!(event = "fault", %error, suppressed, "cannot {what}; retrying");
                }
                None
            }
        }
    }

    fn interval(&mut self, what: &'static str) -> &mut Interval {
        let at = self
            .kinds
            .iter()
            .position(|(kind, _)| *kind == what)
            .unwrap_or_else(|| {
                self.kinds.push((what, Interval::new(FAULT_INTERVAL)));
                self.kinds.len() - 1
            });
        &mut self.kinds[at].1
    }
}

#[cfg(test)]
mod tests;
