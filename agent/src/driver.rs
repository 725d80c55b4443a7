//! The loop that owns the core: one thread that reads the kernel's events, the peers' datagrams, what links report and
//! the operator's questions, and writes the kernel and the peers.
//!
//! One thread rather than two: an event read here is on the wire without waking anyone, and a wake costs more than
//! everything else that is done for it. Under load it sleeps on a timer, not on the event socket.

mod answers;
pub mod flaps;
mod report;

use crate::accounting::writer::Writer;
use crate::addresses::LocalAddresses;
use crate::control::Ask;
use crate::control::answer::Rolled;
use crate::control::answer::audit;
use crate::core::Core;
use crate::core::LinkMessage;
use crate::core::keys::KeyMessage;
use crate::core::seal::DatagramKey;
use crate::counter_warnings::{CounterWarning, CounterWarnings};
use crate::doctor::differences::Differences;
use crate::filter::Filter;
use crate::kernel::{Kernel, wall_clock_nanos};
use crate::key_log::KeyLog;
use crate::log::Faults;
use crate::modes::Modes;
use crate::monitor::Monitor;
use crate::networks::Networks;
use crate::queue::Queue;
use crate::reload::{Done, Reloader};
use crate::roles::RolesIo;
use crate::ruleset::hold::Holding;
use crate::tcp::{Links, Report};
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
use tracing::{info, warn};

/// Datagrams taken at a time, before events and timers get their turn.
const DATAGRAMS_AT_A_TIME: usize = 32;
/// Reports of links taken at a time: each can bring 200 flows, which the kernel takes a millisecond for.
const REPORTS_AT_A_TIME: usize = 4;
/// Frames of a full sync made at a time for a link: 2 ms of work.
const FRAMES_AT_A_TIME: usize = 16;

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
    /// What this member's state leads to.
    pub roles: RolesIo,
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
    pub fn run(mut self) -> io::Result<RolesIo> {
        let mut pacer = Pacer::new();
        let mut events = Wait::Socket;
        let mut drained = self.now();
        let mut alive = Instant::default();
        let mut warnings = CounterWarnings::default();
        self.monitor
            .follow(&mut self.core, self.addresses.links(), &mut self.faults);
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
                // What a peer says, or a packet does, is weighed against what our kernel has said by now.
                self.drain_events();
            }
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
                self.monitor
                    .follow(&mut self.core, self.addresses.links(), &mut self.faults);
            }
            if ready.woken {
                drain_eventfd(self.woken.as_fd());
                self.answer();
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
            if ready.woken || self.has_reports {
                self.has_reports = self.kernel.has_changes() || self.take_reports();
            }
            let now = self.now();
            self.audited(|it| {
                it.core.handle_timeout(now);
                it.read_rows();
            });
            self.hand_out_keys(now);
            let result = self.kernel.look_up(&mut self.core);
            self.faults
                .survive("look up flows in the kernel's table", result);
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
            if alive <= now {
                (self.alive)();
                self.filter_events();
                self.read_addresses();
                self.networks.follow(&self.addresses, &mut self.faults);
                self.monitor
                    .follow(&mut self.core, self.addresses.links(), &mut self.faults);
                self.roles.look(&mut self.core);
                self.networks.handle_second(now);
                self.core.splits().forget_old(now);
                self.warn_of_counters(&mut warnings);
                self.tell_progress(now);
                self.tell_flaps(now);
                alive = now + ALIVE_INTERVAL;
            }
        }
    }

    fn now(&self) -> Instant {
        micros_since(self.origin)
    }

    fn wait(&self, events: Wait, drained: Instant) -> io::Result<Ready> {
        let mut until = self.core.poll_timeout().min(self.now() + ALIVE_INTERVAL);
        // Under load the event socket is not watched: where nobody waits, the kernel has nobody to wake for each event.
        let watched = match events {
            Wait::Socket => 6,
            Wait::For(pause) => {
                until = until.min(drained + pause);
                5
            }
        };
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
            (self.kernel.events_fd(), PollFlags::IN),
        ];
        let networks = self.networks.fds().map(|fd| (fd, PollFlags::IN));
        let mut fds: Vec<_> = (fixed.into_iter().take(watched).chain(networks))
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
            events: watched == fixed.len() && next(),
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

    /// Learns from flows that were seen on two gateways which first packets to hold.
    fn learn(&mut self, now: Instant) {
        while let Some(key) = self.core.poll_split() {
            if let Some((address, bits)) = self.core.splits().learn(&key, now) {
                info!(
                    event = "split",
                    destination = format!("{address}/{bits}"),
                    "a flow passes this gateway one way and another the other: first packets to there are held"
                );
            }
        }
        let Some(holding) = self.holding.as_ref().filter(|holding| holding.learns()) else {
            return;
        };
        // One at a time, should it hang: what is learnt meanwhile is in the next list.
        let hangs = (self.learning.as_ref()).is_some_and(|it| !it.is_finished());
        if hangs {
            return;
        }
        if let Some(destinations) = self.core.splits().poll_change(now) {
            let holding = Arc::clone(holding);
            // It runs programs; packets are not to wait for them.
            let thread = std::thread::Builder::new().name("destinations".into());
            let begun = thread.spawn(move || {
                if let Err(error) = holding.replace(destinations) {
                    warn!(event = "not-held", %error, "the destinations whose first packets are held could not be replaced; the list before stays in force");
                }
            });
            self.learning = self.faults.survive("start a thread", begun);
        }
    }

    fn take_packets(&mut self) {
        let now = self.now();
        if let Some(queue) = &mut self.queue {
            let result = queue.drain(&mut self.core, now);
            self.faults.survive("read held packets", result);
        }
    }

    /// No more packets are steered here, and those that wait go on: who closes a queue drops what is in it.
    fn let_go(&mut self) {
        drop(self.holding.take());
        self.take_packets();
        self.core.end_holds();
        self.judge_packets();
    }

    fn judge_packets(&mut self) {
        if let Some(queue) = &mut self.queue {
            let result = queue.judge(&mut self.core);
            self.faults.survive("let go of held packets", result);
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

    /// True if there may be more of them.
    fn take_reports(&mut self) -> bool {
        for _ in 0..REPORTS_AT_A_TIME {
            let Some(report) = self.links.poll_report() else {
                return false;
            };
            match report {
                Report::Up(member) => {
                    let now = self.now();
                    self.core.handle_link_up(member, now);
                    info!(
                        event = "link-up",
                        member = member.get(),
                        name = self.name(member),
                        "there is a link to the peer: keys are exchanged"
                    );
                }
                Report::Down(member) => {
                    let now = self.now();
                    self.core.handle_link_down(member, now);
                    info!(
                        event = "link-down",
                        member = member.get(),
                        name = self.name(member),
                        "the link to the peer is gone; the keys that it has stay good"
                    );
                }
                Report::Said(member, message) => {
                    let now = self.now();
                    self.log_key(member, &message);
                    self.core.set_wall_clock(wall_clock_nanos());
                    self.audited(|it| it.core.handle_link_message(member, &message, now));
                    if !self.kernel.has_changes() {
                        self.apply(now);
                    }
                    if matches!(message, LinkMessage::Facts(_)) {
                        self.differences.look(&self.core.facts());
                        self.filter_events();
                    }
                }
                Report::Stranger => self.core.handle_stranger(),
                Report::Failure => self.core.handle_link_failure(),
            }
        }
        true
    }

    /// Leaves out what can be left out, as the members' policies are now.
    fn filter_events(&mut self) {
        let now = self.now();
        let result = self.filter.follow(&self.core, &mut self.kernel, now);
        self.faults.survive("filter the kernel's events", result);
    }

    /// Draws a key if one is wanted, and hands peers what they are to have.
    fn hand_out_keys(&mut self, now: Instant) {
        if self.core.wants_key(now)
            && let Some(key) = self.faults.survive("draw a key", DatagramKey::random())
        {
            self.core.roll_key(key, now);
        }
        let unheard = self.core.poll_unheard();
        for member in MemberId::all() {
            if unheard.contains(member) {
                self.links.nudge(member);
            }
        }
    }

    /// Says what there is to say over the links.
    fn speak(&mut self) {
        self.core.set_wall_clock(wall_clock_nanos());
        for member in MemberId::all() {
            for _ in 0..FRAMES_AT_A_TIME {
                if !self.links.has_room(member) {
                    break;
                }
                match self.core.poll_link_message(member) {
                    Some(message) => {
                        self.log_key(self.core.member(), &message);
                        self.links.tell(member, message);
                    }
                    None => break,
                }
            }
        }
    }

    /// Writes the key that `member` hands out to where the operator wants it.
    fn log_key(&mut self, member: MemberId, message: &LinkMessage) {
        if let Some(log) = &mut self.key_log
            && let LinkMessage::Key(KeyMessage::Offer(offer)) = message
        {
            let result = log.write(member, offer);
            self.faults
                .survive("write a key to the file for captures", result);
        }
    }

    fn answer_rolls(&mut self) {
        if !self.core.is_rolling() {
            for answer in self.rolls.drain(..) {
                // An asker that went away meanwhile needs no answer.
                let _ = answer.send(self.core.rolled());
            }
        }
    }

    fn answer_audits(&mut self, now: Instant) {
        let rounds = self.core.rounds();
        for (_, answer) in self.audits.extract_if(.., |(round, _)| *round <= rounds) {
            // An asker that went away meanwhile needs no answer.
            let _ = answer.send(self.core.audit(now));
        }
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

    fn warn_of_counters(&self, warnings: &mut CounterWarnings) {
        let counters = self.core.counters();
        let value = |wanted: &str| {
            counters
                .iter()
                .find(|(name, _)| name == wanted)
                .map_or(0, |(_, value)| *value)
        };
        for CounterWarning {
            counter,
            grown,
            advice,
        } in warnings.look(self.origin.elapsed(), value)
        {
            warn!(event = "counter", counter, grown, "{advice}");
        }
    }
}

fn micros_since(origin: std::time::Instant) -> Instant {
    Instant::from_micros(u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX))
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
