//! The loop that owns the core: one thread that reads the kernel's events, the peers' datagrams, what links report and
//! the operator's questions, and writes the kernel and the peers.
//!
//! One thread rather than two: an event read here is on the wire without waking anyone, and a wake costs more than
//! everything else that is done for it. Under load it sleeps on a timer, not on the event socket.

mod answers;
pub mod flaps;
mod holds;
mod links;
mod report;

use crate::accounting::writer::Writer;
use crate::addresses::LocalAddresses;
use crate::control::Ask;
use crate::control::answer::Rolled;
use crate::control::answer::audit;
use crate::core::Core;
use crate::counter_warnings::CounterWarnings;
use crate::doctor::differences::Differences;
use crate::filter::Filter;
use crate::kernel::Kernel;
use crate::key_log::KeyLog;
use crate::log::Faults;
use crate::machine_checks::MachineChecks;
use crate::modes::Modes;
use crate::monitor::Monitor;
use crate::networks::Networks;
use crate::queue::Queue;
use crate::reload::{Done, Reloader};
use crate::roles::RoleEffects;
use crate::ruleset::hold::Holding;
use crate::tcp::Links;
use crate::units::micros;
use ccp::record::MemberId;
use ccp::time::Instant;
use conntrack::{Pacer, Wait};
use flaps::Flaps;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Datagrams taken at a time, before events and timers get their turn: up to 500 changes, which the kernel takes 3 ms for.
const DATAGRAMS_AT_A_TIME: usize = 8;

/// Everything that the loop works with.
pub struct Driver {
    /// The daemon without its I/O.
    pub core: Core,
    /// The kernel's connection tracking.
    pub kernel: Kernel,
    /// Where packets wait that are held, if any are.
    pub queue: Option<Queue>,
    /// What steers them there.
    pub holding: Option<Arc<Holding>>,
    /// What has the rules hold first packets to the destinations that were learnt.
    pub learning: Option<JoinHandle<()>>,
    /// Peers that come and go.
    pub flaps: Flaps,
    /// The sync networks.
    pub networks: Networks,
    /// The modes of networks, as far as they are remembered.
    pub modes: Modes,
    /// The links to the peers, over which keys are handed out.
    pub links: Links,
    /// There may be more that they report.
    pub has_reports: bool,
    /// This machine's addresses.
    pub addresses: LocalAddresses,
    /// Questions of operators.
    pub asks: mpsc::Receiver<Ask>,
    /// Those who wait for another key to be in use; no more than may ask at a time.
    pub rolls: Vec<oneshot::Sender<Rolled>>,
    /// Those who wait for a round of the audit, by its number; no more than may ask at a time.
    pub audits: Vec<(u64, oneshot::Sender<audit::Report>)>,
    /// Where what has passed is written.
    pub accounting: Writer,
    /// What probes the monitored interfaces.
    pub monitor: Monitor,
    /// What the election has to know of the machine.
    pub machine_checks: MachineChecks,
    /// What this member's state leads to.
    pub roles: RoleEffects,
    /// Takes another policy.
    pub reloader: Reloader,
    /// What is left out of the kernel's events.
    pub filter: Filter,
    /// Readable when there is a question, or a link reports.
    pub woken: OwnedFd,
    /// Readable when the daemon is to end.
    pub stop: OwnedFd,
    /// Where the clock of the core begins.
    pub origin: std::time::Instant,
    /// Where keys are written for who has to read a capture, if anywhere.
    pub key_log: Option<KeyLog>,
    /// How the peers' machines differ from this one, as far as it was logged.
    pub differences: Differences,
    /// What failed of late.
    pub faults: Faults,
    /// Called about once a second as long as the loop turns.
    pub alive: Box<dyn FnMut()>,
}

/// Which descriptors were ready.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    events: bool,
    datagrams: bool,
    addresses: bool,
    woken: bool,
    stop: bool,
    packets: bool,
    probes: bool,
}

/// Interval of the sign of life, and of a log line about something that goes on.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

impl Driver {
    /// Turns until it is told to stop. What fails is logged and tried again: it is the network's or the kernel's, and
    /// either can heal. The one error returned is that of waiting itself. What is left then is what the last state leads to.
    pub fn run(mut self) -> io::Result<RoleEffects> {
        let mut pacer = Pacer::new();
        let mut events = Wait::Socket;
        let mut drained = self.now();
        let mut next_second = Instant::default();
        let mut warnings = CounterWarnings::default();
        self.follow_interfaces();
        loop {
            let ready = self.wait(events, drained)?;
            if ready.stop {
                self.leave();
                self.let_go();
                return Ok(self.roles);
            }
            let now = self.now();
            let events_due = match events {
                Wait::Socket => ready.events,
                Wait::For(pause) => drained + pause <= now,
            };
            if events_due {
                let count = self.drain_events();
                drained = now;
                events = pacer.handle_drain(Duration::from_micros(now.as_micros()), count);
            } else if ready.datagrams || ready.packets {
                // What a peer says, or a packet does, is weighed against what our kernel has said by now. The timer begins anew.
                self.drain_events();
                drained = now;
            }
            self.take_in(ready, now);
            let now = self.now();
            self.work(now);
            if next_second <= now {
                self.every_second(now, &mut warnings);
                next_second = now + ALIVE_INTERVAL;
            }
        }
    }

    /// Takes what has come, but for the kernel's events.
    fn take_in(&mut self, ready: Ready, now: Instant) {
        if ready.datagrams {
            self.receive();
        }
        if ready.packets {
            self.take_packets();
        }
        if ready.probes {
            let result = self.monitor.receive(&mut self.core, now);
            self.faults.survive("receive probes", result);
        }
        if ready.addresses {
            self.read_addresses();
            self.networks.follow(&self.addresses, &mut self.faults);
        }
        if self.addresses.take_change() {
            self.core.set_addresses(self.addresses.set().clone());
            self.follow_interfaces();
        }
        if ready.woken {
            drain_eventfd(self.woken.as_fd());
            self.answer();
            self.take_reloads();
        }
        if ready.woken || self.has_reports {
            self.has_reports = self.kernel.has_changes() || self.take_reports();
        }
    }

    /// Does what the core has to do now, and has the kernel and the peers do what it asks of them.
    fn work(&mut self, now: Instant) {
        self.audited(|it| {
            it.core.handle_timeout(now);
            it.read_rows();
        });
        self.hand_out_keys(now);
        self.look_up();
        self.apply(now);
        self.transmit(now);
        self.probe(now);
        self.judge_packets();
        self.learn(now);
        self.audited(Self::speak);
        self.answer_rolls();
        self.answer_audits(now);
        if let Some(totals) = self.core.poll_accounting(now) {
            self.accounting.write(totals);
        }
        self.report();
    }

    fn every_second(&mut self, now: Instant, warnings: &mut CounterWarnings) {
        (self.alive)();
        self.filter_events();
        self.read_addresses();
        self.networks.follow(&self.addresses, &mut self.faults);
        self.follow_interfaces();
        self.machine_checks.look(&mut self.core);
        self.networks.handle_second(now);
        self.core.splits().forget_old(now);
        self.warn_of_counters(warnings);
        self.tell_progress(now);
        self.tell_flaps(now);
    }

    /// Puts policies in force that were loaded anew.
    fn take_reloads(&mut self) {
        while let Some(done) = self.reloader.poll() {
            // The table may have none of what was learnt.
            self.core.splits().renew();
            if let Done::Reloaded(reload) = done {
                self.filter.want(reload.unwanted.clone());
                self.core.set_policy(Arc::clone(&reload.policy));
                self.filter_events();
                reload.answer();
            }
        }
    }

    /// Has the interfaces monitored that there are now.
    fn follow_interfaces(&mut self) {
        let links = self.addresses.links();
        self.monitor.follow(&mut self.core, links, &mut self.faults);
    }

    fn look_up(&mut self) {
        let result = self.kernel.look_up(&mut self.core);
        self.faults
            .survive("look up flows in the kernel's table", result);
    }

    fn now(&self) -> Instant {
        micros_since(self.origin)
    }

    fn wait(&self, events: Wait, drained: Instant) -> io::Result<Ready> {
        let mut until = self.core.poll_timeout().min(self.now() + ALIVE_INTERVAL);
        if let Wait::For(pause) = events {
            until = until.min(drained + pause);
        }
        let is_reading = self.kernel.is_reading() && self.core.may_read_rows();
        let busy =
            is_reading || self.core.wants_pass() || self.kernel.has_changes() || self.has_reports;
        let pause = if busy {
            Duration::ZERO
        } else {
            until.since(self.now())
        };
        let (packets, interest) = match &self.queue {
            Some(queue) => (queue.fd(), PollFlags::IN),
            None => (self.stop.as_fd(), PollFlags::empty()),
        };
        let fixed = [
            (packets, interest),
            (self.monitor.fd(), PollFlags::IN),
            (self.addresses.as_fd(), PollFlags::IN),
            (self.woken.as_fd(), PollFlags::IN),
            (self.stop.as_fd(), PollFlags::IN),
        ];
        // Under load the event socket is not polled: with no waiter, the kernel has nobody to wake for each event.
        let of_events = match events {
            Wait::Socket => Some((self.kernel.events_fd(), PollFlags::IN)),
            Wait::For(_) => None,
        };
        let networks = self.networks.fds().map(|fd| (fd, PollFlags::IN));
        let mut fds: Vec<_> = (fixed.into_iter().chain(of_events).chain(networks))
            .map(|(fd, interest)| PollFd::from_borrowed_fd(fd, interest))
            .collect();
        let timeout = Timespec::try_from(pause).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || ready.next().unwrap_or(false);
        Ok(Ready {
            packets: next(),
            probes: next(),
            addresses: next(),
            woken: next(),
            stop: next(),
            events: of_events.is_some() && next(),
            datagrams: ready.any(|ready| ready),
        })
    }

    fn read_addresses(&mut self) {
        let result = self.addresses.read();
        self.faults.survive("read the machine's addresses", result);
    }

    /// Does some of the work; if that may be an audit's, the core hears what it took of the processor.
    fn audited(&mut self, work: impl FnOnce(&mut Self)) {
        let began = self.core.is_auditing().then(cpu_time);
        work(self);
        if let Some(began) = began {
            self.core.note_audit_time(cpu_time().saturating_sub(began));
        }
    }

    fn read_rows(&mut self) {
        let result = (self.kernel).read_rows(&mut self.core, &mut self.addresses);
        self.faults.survive("read the kernel's table", result);
    }

    fn drain_events(&mut self) -> usize {
        let result = (self.kernel).drain_events(&mut self.core, &mut self.addresses);
        self.faults
            .survive("read conntrack events", result)
            .unwrap_or(0)
    }

    fn receive(&mut self) {
        for network in self.core.node().paths().networks().iter() {
            for _ in 0..DATAGRAMS_AT_A_TIME {
                let now = self.now();
                let result = self.networks.receive(network);
                let received = (self.faults).survive("receive from a sync network", result);
                let Some(Some(datagram)) = received else {
                    break;
                };
                self.core.handle_datagram(datagram, network, now);
                if !self.kernel.has_changes() {
                    self.apply(now);
                }
            }
        }
    }

    fn apply(&mut self, now: Instant) {
        let result = self.kernel.apply(&mut self.core, now);
        self.faults.survive("write the kernel's table", result);
    }

    fn transmit(&mut self, now: Instant) {
        while let Some((routes, datagram)) = self.core.poll_transmit(now) {
            let unsent = self.networks.send(&routes, datagram);
            self.core.handle_unsent(unsent);
        }
    }

    fn probe(&mut self, now: Instant) {
        let result = self.monitor.send(&mut self.core, now);
        self.faults.survive("ask hosts whether they answer", result);
    }

    /// Leaves out what can be left out, as the members' policies are now.
    fn filter_events(&mut self) {
        let now = self.now();
        let result = self.filter.follow(&self.core, &mut self.kernel, now);
        self.faults.survive("filter the kernel's events", result);
    }

    fn name(&self, member: MemberId) -> &str {
        self.core.names().get(&member).map_or("", String::as_str)
    }

    /// Gives the role up, and tells the peers, so that they need not find out.
    fn leave(&mut self) {
        let now = self.now();
        self.core.leave(now);
        self.transmit(now);
        self.report();
    }
}

fn micros_since(origin: std::time::Instant) -> Instant {
    Instant::from_micros(micros(origin.elapsed()))
}

/// What this thread took of a processor so far, the kernel's work for it included.
fn cpu_time() -> Duration {
    // Never negative.
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .unwrap_or_default()
}

fn drain_eventfd(fd: BorrowedFd<'_>) {
    // It only says that something is there; an error leaves it readable, and the next turn tries again.
    let _ = rustix::io::read(fd, &mut [0; 8]);
}
