//! Tells systemd how the daemon is: `Type=notify` and the watchdog. Without systemd nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The line to the service manager, as `NOTIFY_SOCKET` and `WATCHDOG_USEC` describe it.
#[derive(Debug)]
pub struct Notify {
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Watchdog {
    /// Half of what the manager waits for, so that one sign of life may come late.
    interval: Duration,
    due: Instant,
}

impl Notify {
    /// Finds out whether the manager waits for signs of life.
    pub fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        Self {
            watchdog: watchdog.map(|timeout| Watchdog {
                interval: timeout / 2,
                due: Instant::now(),
            }),
        }
    }

    /// The daemon does its work now.
    pub fn ready(&self) {
        ready();
    }

    /// The daemon's loop turns. Call it often: it speaks only when the manager has to hear it again.
    pub fn alive(&mut self) {
        let now = Instant::now();
        if let Some(watchdog) = self
            .watchdog
            .as_mut()
            .filter(|watchdog| watchdog.due <= now)
        {
            watchdog.due = now + watchdog.interval;
            send(&[NotifyState::Watchdog]);
        }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

/// The daemon reads its policy anew; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "cannot read the clock"),
    }
}

/// The daemon does its work, or does it again.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// The daemon ends, and means to.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot reach the service manager");
    }
}
