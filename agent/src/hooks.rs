//! Hooks: executables that are run when this member becomes something else.
//!
//! They run one after the other, by name, on a thread of their own, each with a deadline: however long one takes, the daemon
//! goes on. A change that comes while `QUEUE_MAX` wait is not told to them, which the log says: the next one is. When the daemon
//! ends it waits for them ([`Hooks::finish`]): systemd kills whatever is left of a service whose main process is gone.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use crate::config::Config;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tracing::{info, warn};

/// Changes that wait for their hooks at most: they come seconds apart.
const QUEUE_MAX: usize = 16;

/// What the hooks are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What this member was.
    pub from: &'static str,
    /// What it is.
    pub to: &'static str,
    pub why: String,
}

/// The thread that runs them.
#[derive(Debug)]
pub struct Hooks {
    calls: SyncSender<Call>,
    /// Closed by the thread's end.
    thread: Receiver<()>,
}

/// Between two signs of life while their end is waited for.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

struct Runner {
    directory: PathBuf,
    timeout: Duration,
    environment: [(&'static str, String); 3],
}

impl Hooks {
    /// Begins to wait for changes, if hooks are configured.
    pub fn start(config: &Config) -> io::Result<Option<Self>> {
        let Some(directory) = config.hooks.directory.clone() else {
            return Ok(None);
        };
        let runner = Runner {
            directory,
            timeout: config.hooks.timeout,
            environment: [
                ("CTSYNC_CLUSTER", config.cluster.to_string()),
                ("CTSYNC_MEMBER", config.this.id.get().to_string()),
                ("CTSYNC_NAME", config.this.name.clone()),
            ],
        };
        Self::run_by(runner).map(Some)
    }

    fn run_by(runner: Runner) -> io::Result<Self> {
        let (calls, queue) = sync_channel(QUEUE_MAX);
        let (ends, thread) = channel::<()>();
        std::thread::Builder::new()
            .name("hooks".into())
            .spawn(move || {
                runner.serve(&queue);
                drop(ends);
            })?;
        Ok(Self { calls, thread })
    }

    /// Has the hooks told of a change.
    pub fn run(&self, call: Call) {
        if let Err(error) = self.calls.try_send(call) {
            warn!(event = "hook", %error, "hooks are too slow: they are not told of this change");
        }
    }

    /// Waits until all of them were run on each change that they were told of, and calls `alive` each second meanwhile.
    pub fn finish(self, mut alive: impl FnMut()) {
        drop(self.calls);
        while self.thread.recv_timeout(ALIVE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            alive();
        }
    }
}

impl Runner {
    fn serve(&self, queue: &Receiver<Call>) {
        while let Ok(call) = queue.recv() {
            match executables(&self.directory) {
                Ok(hooks) => hooks.iter().for_each(|hook| self.run(hook, &call)),
                Err(error) => {
                    let directory = self.directory.display();
                    warn!(event = "hook", %error, "cannot read the directory of hooks {directory}");
                }
            }
        }
    }

    fn run(&self, hook: &Path, call: &Call) {
        let name = hook.display();
        match self.execute(hook, call) {
            Ok(Some(status)) if status.success() => {
                info!(event = "hook", to = call.to, "hook {name} is done")
            }
            Ok(Some(status)) => warn!(event = "hook", to = call.to, "hook {name} failed: {status}"),
            Ok(None) => warn!(
                event = "hook",
                to = call.to,
                "hook {name} took too long and was killed"
            ),
            Err(error) => warn!(event = "hook", %error, to = call.to, "hook {name} cannot be run"),
        }
    }

    /// `None` if it had to be killed, with what it had started.
    fn execute(&self, hook: &Path, call: &Call) -> io::Result<Option<ExitStatus>> {
        let mut command = Command::new(hook);
        command
            .args([call.from, call.to])
            .env("CTSYNC_FROM", call.from)
            .env("CTSYNC_TO", call.to)
            .env("CTSYNC_WHY", &call.why)
            .envs(self.environment.iter().map(|(key, value)| (*key, value)))
            .stdin(Stdio::null())
            .process_group(0);
        let mut child = command.spawn()?;
        let is_over = wait(&child, self.timeout);
        if !matches!(is_over, Ok(true)) {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        }
        let status = child.wait()?;
        Ok(is_over?.then_some(status))
    }
}

/// True if the process ends in time.
fn wait(child: &Child, timeout: Duration) -> io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let began = Instant::now();
    loop {
        let left = timeout.saturating_sub(began.elapsed());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// By name; what is no executable file is left out, and what an editor or a package left behind (`~`, `.dpkg-new`).
fn executables(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let is_plain = name.is_some_and(|name| {
            let mut letters = name.bytes();
            letters.all(|it| it.is_ascii_alphanumeric() || it == b'_' || it == b'-')
        });
        let runs = |metadata: std::fs::Metadata| {
            metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
        };
        if is_plain && std::fs::metadata(&path).is_ok_and(runs) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
