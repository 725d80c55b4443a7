//! Taking a changed policy into a running daemon: on SIGHUP, and when `ctsync reload` asks.
//!
//! All of it or nothing: the files are read and judged, then our nftables table is replaced in one transaction, and only
//! then the driver is handed the policy. What fails leaves everything as it was. It is done by a thread of its own, as `nft`
//! may take its time; that thread owns our rules, which go with it.
//!
//! The thread puts our rules back, too, when somebody deletes them: the kernel tells of tables of nftables; for chains of xtables
//! it has to look.
//!
//! Of `ctsync.yaml` the section `policy` and the level of the log are taken: everything else is sockets and threads, and takes a
//! restart. What else has changed there is said, not refused.

use crate::config::{self, Config};
use crate::control::Wake;
use crate::control::answer::Reloaded;
use crate::log::{self, Interval};
use crate::notify;
use crate::policy::Policy;
use crate::ruleset::hold::{self, Steering};
use crate::ruleset::tools::{Means, Tools};
use crate::ruleset::watch::Watch;
use crate::ruleset::{Rules, Ruleset};
use conntrack::Unwanted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::SIGHUP;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// Who waits for a reload at most; each is told that there are too many.
const ASKED_MAX: usize = 64;

/// Between two lines about rules that were deleted.
const RESTORATION_SILENCE: Duration = Duration::from_secs(60);

/// How often it is seen whether our chains of xtables are still there, if there are any: four runs of `iptables`.
const LOOK_INTERVAL: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Where the outcome of a reload goes; nobody may be waiting any more.
pub type Answer = oneshot::Sender<Result<Reloaded, String>>;

/// What is in force, and the thread that puts something else in its place.
#[derive(Debug)]
pub struct Reloader {
    answers: mpsc::SyncSender<Answer>,
    bell: UnixStream,
    done: mpsc::Receiver<Done>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the driver is to complete.
#[derive(Debug)]
pub enum Done {
    /// A policy was read, and our rules are as it says.
    Reloaded(Reload),
    /// Our rules were put back as they were at the start, or at the last reload.
    Restored,
}

/// A reload that the driver is to complete.
#[derive(Debug)]
pub struct Reload {
    /// What is in force from now on.
    pub policy: Arc<Policy>,
    /// Flows whose events are not to be handed over.
    pub unwanted: Unwanted,
    reloaded: Reloaded,
    answers: Vec<Answer>,
}

impl Reload {
    /// The core has the policy: who waits for it is told.
    pub fn answer(self) {
        for answer in self.answers {
            // An asker that went away meanwhile needs no answer.
            let _ = answer.send(Ok(self.reloaded.clone()));
        }
    }
}

/// What the thread works with.
struct Work {
    path: PathBuf,
    config: Config,
    /// What of the sections holds packets.
    steering: Option<Steering>,
    ruleset: Ruleset,
}

impl Reloader {
    /// Watches for SIGHUP. `config` is what is in force, from `path`, and `ruleset` what it has led to.
    pub fn start(
        path: PathBuf,
        config: Config,
        steering: Option<Steering>,
        ruleset: Ruleset,
        wake: Wake,
    ) -> io::Result<Self> {
        let (mut rung, bell) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGHUP, bell.try_clone()?)?;
        // The driver rings it, and is not to wait where the thread does not listen.
        bell.set_nonblocking(true)?;
        let (answers, asked) = mpsc::sync_channel(ASKED_MAX);
        let (sender, done) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        // Where there are no nftables there is no table to be deleted.
        let watch = Watch::open().ok();
        let mut silence = Interval::new(RESTORATION_SILENCE);
        let mut work = Work {
            path,
            config,
            steering,
            ruleset,
        };
        let thread = std::thread::Builder::new()
            .name("reload".into())
            .spawn(move || {
                while let Some(reason) = wait(&mut rung, watch.as_ref(), work.ruleset.has_chains())
                    && !over.load(Ordering::Acquire)
                {
                    let done = match reason {
                        Reason::Look => work.restore(&mut silence).then_some(Done::Restored),
                        Reason::Ring => {
                            notify::reloading();
                            work.reload_for(asked.try_iter().collect())
                        }
                    };
                    if let Some(done) = done {
                        // Without a driver there is nobody left to hand it to.
                        let _ = sender.send(done);
                        wake();
                    }
                    if reason == Reason::Ring {
                        notify::ready();
                    }
                }
            })?;
        Ok(Self {
            answers,
            bell,
            done,
            is_over,
            thread: Some(thread),
        })
    }

    /// Somebody asks for a reload.
    pub fn ask(&mut self, answer: Answer) {
        match self.answers.try_send(answer) {
            Ok(()) => self.ring(),
            Err(TrySendError::Full(answer) | TrySendError::Disconnected(answer)) => {
                let reason = "too many reloads wait for the one that goes on: does nft hang?";
                // An asker that went away meanwhile needs no answer.
                let _ = answer.send(Err(reason.to_owned()));
            }
        }
    }

    /// A reload that waits for the driver.
    pub fn poll(&mut self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    fn ring(&mut self) {
        // If it is full, it has been rung already.
        let _ = self.bell.write(&[0]);
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(event = "defect", "the thread that reloads panicked");
        }
    }
}

/// Logs by what means unwanted events are suppressed and, if a better one is not available, why.
pub fn log_push_down(config: &Config, tools: &Tools, means: Means) {
    let wanted = config.policy.kernel;
    match tools.why(wanted) {
        Some(reason) => warn!(
            event = "push-down",
            reason, "events of flows that the policy excludes are suppressed by {means}"
        ),
        None => info!(
            event = "push-down",
            "events of flows that the policy excludes are suppressed by {means}"
        ),
    }
}

/// Why the thread wakes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Somebody rings.
    Ring,
    /// Something of ours may have been deleted.
    Look,
}

/// Waits until there is a reason; `None` if there can be none any more. Chains go without a word.
fn wait(rung: &mut UnixStream, watch: Option<&Watch>, has_chains: bool) -> Option<Reason> {
    loop {
        let mut fds = vec![PollFd::new(rung, PollFlags::IN)];
        fds.extend(watch.map(|it| PollFd::new(it, PollFlags::IN)));
        match poll(&mut fds, has_chains.then_some(&LOOK_INTERVAL)) {
            Ok(0) => return Some(Reason::Look),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                error!(event = "defect", %error, "SIGHUP and `ctsync reload` no longer work: restart ctsync");
                return None;
            }
        }
        let is_rung = !fds[0].revents().is_empty();
        if is_rung {
            // It can be read, so this does not wait.
            return (rung.read(&mut [0; 64]).is_ok_and(|it| it > 0)).then_some(Reason::Ring);
        }
        if watch.is_some_and(Watch::heard_of_deletion) {
            return Some(Reason::Look);
        }
    }
}

impl Work {
    /// Reloads for those who wait for `answers`. If it fails they are told why here; else the driver answers.
    fn reload_for(&mut self, answers: Vec<Answer>) -> Option<Done> {
        match self.reload() {
            Ok((policy, reloaded)) => Some(Done::Reloaded(Reload {
                policy: Arc::new(policy),
                unwanted: self.ruleset.rules().unwanted.clone(),
                reloaded,
                answers,
            })),
            Err(reason) => {
                error!(event = "reload-failed", "nothing was reloaded: {reason}");
                for answer in answers {
                    let _ = answer.send(Err(reason.clone()));
                }
                None
            }
        }
    }

    /// Puts our rules back if somebody has deleted them; true if so.
    fn restore(&self, silence: &mut Interval) -> bool {
        let restored = match (self.ruleset.restore(), &self.steering) {
            (Ok(false), _) => return false,
            (Ok(true), Some(steering)) => hold::complete(steering).map_err(|it| it.to_string()),
            (Ok(true), None) => Ok(()),
            (Err(error), _) => Err(error.to_string()),
        };
        match (&restored, silence.tick()) {
            (Ok(()), Some(suppressed)) => warn!(
                event = "table-restored",
                suppressed,
                "somebody deleted the rules of ctsync (`nft flush ruleset` does, and iptables-restore); they were put back"
            ),
            (Err(error), Some(suppressed)) => error!(
                event = "table-lost",
                suppressed,
                "somebody deleted the rules of ctsync, and they cannot be put back: {error}"
            ),
            (_, None) => {}
        }
        restored.is_ok()
    }

    fn reload(&mut self) -> Result<(Policy, Reloaded), String> {
        let written = Config::load(&self.path).map_err(|error| error.to_string())?;
        let policy = (written.load_policy(&self.path)).map_err(|error| error.to_string())?;
        let config = Config {
            log: config::Log {
                level: written.log.level,
                ..self.config.log.clone()
            },
            policy: written.policy.clone(),
            ..self.config.clone()
        };
        let restart = config.differences(&written);
        let steering = self.steering.as_ref().map(|it| it.by(&policy));
        let tools = Tools::look(config.policy.kernel);
        let rules = Rules::of(&config, &policy, steering.as_ref(), &tools)
            .map_err(|error| error.to_string())?;
        let (means, before) = (rules.means, self.ruleset.rules().means);
        let is_other = (self.ruleset.replace(rules)).map_err(|error| error.to_string())?;
        if is_other
            && let Some(steering) = &steering
            && let Err(error) = hold::complete(steering)
        {
            warn!(event = "not-held", %error, "packets are not held: the rules that queue them cannot be installed; mend the cause, then run `ctsync reload`");
        }
        log::set_level(config.log.level);
        if means != before {
            log_push_down(&config, &tools, means);
        }
        (self.config, self.steering) = (config, steering);
        for section in &restart {
            warn!(
                event = "restart-needed",
                section, "this section changed but is only read at start: restart ctsync"
            );
        }
        let (services, rules) = (policy.services().len(), policy.rules().len());
        info!(
            event = "reloaded",
            services, rules, "the policy was reloaded"
        );
        let reloaded = Reloaded {
            services,
            rules,
            restart,
        };
        Ok((policy, reloaded))
    }
}
