//! One machine: its kernel, and the daemon on it, whose loop turns as `agent::driver` does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use agent::addresses::AddressSet;
use agent::convert::{self, Shared};
use agent::core::keys::Limits;
use agent::core::seal::DatagramKey;
use agent::core::{Core, Setup};
use agent::policy::Policy;
use agent::ruleset::CopyBit;
use ccp::modes::{Changed, Generation, Mode};
use ccp::network::NetworkId;
use ccp::node::{Action, Config, Event, Outcome};
use ccp::paths::Spread;
use ccp::record::{FlowKey, MemberId};
use ccp::time::Instant;
use conntrack::{Errno, Flow, Item};

use super::builds::Build;
use super::checker::{self, Violation};
use super::holds::{Queue, Released};
use super::kernel::{COPY_BIT, Dump, Kernel, MARK_MASK};
use super::options::Options;
use super::policies::Policies;
use super::random::Random;
use super::trouble;

/// Interval of hellos.
pub const HELLO: Duration = Duration::from_millis(100);
/// A peer that is silent for that long is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(1);
const FLUSH: Duration = Duration::from_millis(1);
/// Datagrams that a daemon's socket holds.
const INBOX_MAX: usize = 512;
/// Datagrams that a daemon takes at a time.
const DATAGRAMS_AT_A_TIME: usize = 32;

/// A machine of the cluster.
#[derive(Debug)]
pub struct Gateway {
    /// Who it is in the cluster.
    pub member: MemberId,
    /// Its connection tracking; it outlives the daemon.
    pub kernel: Kernel,
    /// False while the machine is down.
    pub is_up: bool,
    /// Counts the boots of the machine.
    pub boots: u32,
    /// What runs on it.
    pub daemon: Option<Daemon>,
    /// Incarnation of the daemon that was started last.
    pub incarnation: u64,
    /// True while the daemon does not get to run.
    pub is_stopped: bool,
    /// Of which version the daemon is.
    pub build: Build,
    /// The policy of the daemon.
    policy: Arc<Policy>,
    /// The modes of networks, as the daemon keeps them in its state directory.
    modes: Vec<(Mode, Generation)>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// The code under test.
    pub core: Core,
    /// Its clock's reading at the origin of the simulation's time.
    origin: Duration,
    /// Keys that were drawn after the first.
    keys: u64,
    inbox: VecDeque<(NetworkId, Vec<u8>)>,
    dump: Option<Dump>,
    /// The dump came to its end, and the pass has not yet.
    is_read: bool,
    /// Turns in a row after which it had nothing to wait for.
    busy_turns: u32,
    crossed: Vec<FlowKey>,
    /// Packets that wait.
    pub queue: Queue,
}

/// A datagram: to whom, over which network, and by which mode.
pub type Sent = (MemberId, NetworkId, Mode, Vec<u8>);

/// What a turn of a daemon's loop leads to.
#[derive(Debug)]
pub struct Turned {
    /// Datagrams, each to one gateway over one network.
    pub sent: Vec<Sent>,
    /// Flows that a peer's change was applied to while an event of them was not read yet: the kernel has no way to
    /// change an entry only if it is as it was.
    pub crossed: Vec<FlowKey>,
    /// Packets that go on.
    pub released: Vec<Released>,
    /// When the loop turns again if nothing comes in before.
    pub next: Duration,
}

impl Gateway {
    /// A machine that is up, without a daemon.
    pub fn new(member: MemberId, table_id: u64) -> Self {
        Self {
            member,
            kernel: Kernel::new(table_id),
            is_up: true,
            boots: 0,
            daemon: None,
            incarnation: 0,
            is_stopped: false,
            build: Build::This,
            policy: Policy::new(8116).into(),
            modes: Vec::new(),
        }
    }

    /// Takes the policy that is written, and the rules that follow from it; without a daemon, nothing does.
    pub fn reload(&mut self, policies: &Policies) {
        self.policy = Arc::clone(&policies.written);
        if let Some(daemon) = &mut self.daemon {
            self.kernel.quiet = policies.plan(&self.policy);
            daemon.core.set_policy(Arc::clone(&self.policy));
        }
    }

    /// Starts a daemon.
    pub fn start(&mut self, now: Duration, options: &Options, random: &mut Random) {
        if let Some(policies) = &options.policies {
            self.reload(policies);
        }
        let peers = MemberId::all()
            .take(options.gateways)
            .filter(|peer| *peer != self.member);
        self.incarnation = random.number();
        let node = Config {
            table: self.kernel.table_id(),
            hash_seed: [random.number(), random.number()],
            datagram_bytes_max: options.datagram_bytes_max,
            flows_max: options.flows_max,
            flush: FLUSH,
            hello: HELLO,
            dead_after: DEAD_AFTER,
            networks: options.networks.len(),
            spread: match options.duplicate {
                true => Spread::All,
                false => Spread::One,
            },
            roles: ccp::election::Config {
                settle: Duration::from_secs(1),
                ..ccp::election::Config::default()
            },
            ..Config::new(7, self.member, peers.collect(), self.incarnation)
        };
        let setup = Setup {
            node,
            key: key(self.incarnation, 0),
            key_limits: Limits {
                // From a quick change to none in the whole run.
                max_age: Duration::from_secs(1 + self.incarnation % 30),
                max_packets: 1 << 32,
            },
            shared: Shared {
                mark_mask: MARK_MASK,
                copy_bit: options.copy_bit.then(|| CopyBit::new(COPY_BIT)).flatten(),
                label_mask: [0; 16],
            },
            policy: Arc::clone(&self.policy),
            audit_interval: match options.policies {
                // What was begun without events is found by it.
                Some(_) => Duration::from_secs(2),
                None => Duration::from_secs(2 + self.incarnation % 20),
            },
            accounting_interval: None,
            addresses: AddressSet::default(),
            names: Default::default(),
            networks: Vec::new(),
            roles: Default::default(),
            hold: agent::config::Hold {
                mode: agent::config::HoldMode::Always,
                ..Default::default()
            },
        };
        let origin = random.pause(Duration::ZERO..Duration::from_secs(1_000_000));
        let at = instant(now + origin);
        self.kernel.listen(options.event_queue);
        self.kernel.copy_bit = u32::from(options.copy_bit) << COPY_BIT;
        let inbox = VecDeque::new();
        (self.modes).resize(options.networks.len(), (Mode::Unicast, Default::default()));
        let mut core = Core::new(setup, at);
        core.set_modes(&self.modes);
        self.kernel.quiet = (options.policies.as_ref()).and_then(|it| it.plan(&self.policy));
        self.daemon = Some(Daemon {
            core,
            origin,
            keys: 0,
            inbox,
            dump: None,
            is_read: false,
            busy_turns: 0,
            crossed: Vec::new(),
            queue: Queue::default(),
        });
    }

    /// The mode that the daemon remembers for a network.
    pub fn mode(&self, network: NetworkId) -> Mode {
        self.modes
            .get(network.index())
            .map_or(Mode::Unicast, |it| it.0)
    }

    /// An operator wants another, if the daemon would let him.
    pub fn ask_mode(&mut self, network: NetworkId, mode: Mode, now: Duration) {
        if let Some(daemon) = &mut self.daemon
            && trouble::may_switch(&daemon.core)
        {
            let at = daemon.clock(now);
            daemon.core.ask_mode(network, mode, at);
        }
    }

    /// Kills the daemon.
    pub fn kill(&mut self) {
        self.daemon = None;
        self.kernel.close_listener();
    }

    /// The machine goes down.
    pub fn fail(&mut self) {
        self.kill();
        self.is_up = false;
    }

    /// The machine comes back with an empty table.
    pub fn boot(&mut self, table_id: u64) {
        self.is_up = true;
        self.boots += 1;
        self.kernel = Kernel::new(table_id);
    }

    /// A datagram arrives over a network; it is lost when nobody listens or the socket is full.
    pub fn receive(&mut self, network: NetworkId, datagram: Vec<u8>) {
        if let Some(daemon) = self
            .daemon
            .as_mut()
            .filter(|daemon| daemon.inbox.len() < INBOX_MAX)
        {
            let datagram = self.build.understands(&datagram);
            daemon.inbox.push_back((network, datagram));
        }
    }

    /// One turn of the daemon's loop; `None` when nothing runs.
    pub fn turn(
        &mut self,
        now: Duration,
        options: &Options,
        random: &mut Random,
    ) -> Result<Option<Turned>, Violation> {
        let Some(daemon) = self
            .daemon
            .as_mut()
            .filter(|_| self.is_up && !self.is_stopped)
        else {
            return Ok(None);
        };
        let kernel = &mut self.kernel;
        let at = instant(now + daemon.origin);
        if random.percent(20) {
            checker::early_timeout_is_a_no_op(&mut daemon.core, at)?;
        }
        // Events are taken on a timer when they come fast, so datagrams may be handled while events wait.
        let mut more = kernel.has_events();
        if random.percent(70) {
            more = daemon.take_events(kernel, options.events_at_a_time);
        }
        daemon.take_datagrams(kernel, at);
        daemon.queue.take(&mut daemon.core, now, at);
        if !more || daemon.is_reading() {
            let interrupted = random.percent(options.faults.dump_interrupted_percent);
            daemon.read_rows(kernel, options.rows_at_a_time, interrupted);
        }
        daemon.look_up(kernel);
        daemon.core.handle_timeout(at);
        daemon.roll_key(self.incarnation, at);
        daemon.apply(kernel, at);
        let sent = daemon.transmit(at);
        let released = daemon.queue.judge(&mut daemon.core, now)?;
        daemon.note_modes(&mut self.modes);
        if random.percent(20) {
            checker::nothing_is_due_unannounced(&mut daemon.core, at)?;
        }
        let pause =
            random.pause(Duration::from_micros(20)..options.turn_max + Duration::from_micros(1));
        let due = daemon.due(kernel, now);
        checker::the_loop_comes_to_rest(daemon.busy_turns)?;
        checker::bounds_hold(&daemon.core, options)?;
        Ok(Some(Turned {
            sent,
            crossed: std::mem::take(&mut daemon.crossed),
            released,
            next: due.max(now + pause),
        }))
    }
}

impl Daemon {
    fn take_datagrams(&mut self, kernel: &mut Kernel, at: Instant) {
        for _ in 0..DATAGRAMS_AT_A_TIME {
            let Some((network, mut datagram)) = self.inbox.pop_front() else {
                break;
            };
            self.core.handle_datagram(&mut datagram, network, at);
            self.apply(kernel, at);
        }
    }

    fn roll_key(&mut self, incarnation: u64, at: Instant) {
        if self.core.wants_key(at) {
            self.keys += 1;
            self.core.roll_key(key(incarnation, self.keys), at);
        }
    }

    /// The modes that networks are spoken on from now on.
    fn note_modes(&mut self, modes: &mut [(Mode, Generation)]) {
        while let Some(event) = self.core.poll_event() {
            if let Event::Mode(Changed::Used {
                network,
                mode,
                generation,
            }) = event
            {
                modes[network.index()] = (mode, generation);
            }
        }
    }

    /// When its loop turns again: now if something waits. It also counts turns for which nothing waited.
    fn due(&mut self, kernel: &Kernel, now: Duration) -> Duration {
        let waiting = kernel.has_events()
            || self.queue.is_readable()
            || !self.inbox.is_empty()
            || (self.is_reading() && self.core.may_read_rows());
        let due =
            Duration::from_micros(self.core.poll_timeout().as_micros()).saturating_sub(self.origin);
        self.busy_turns = match !waiting && due <= now {
            true => self.busy_turns + 1,
            false => 0,
        };
        if waiting { now } else { due }
    }

    /// What its clock says.
    pub fn clock(&self, now: Duration) -> Instant {
        instant(now + self.origin)
    }

    /// True if there may be more.
    fn take_events(&mut self, kernel: &mut Kernel, max: usize) -> bool {
        let core = &mut self.core;
        kernel.drain(max, &mut |item| match item {
            Item::Event(event) => core.handle_event(&event),
            Item::Expectation(event) => core.handle_expectation(&event),
            Item::Overrun => core.handle_overrun(),
            Item::Malformed(_) => core.handle_malformed_event(),
        })
    }

    /// Flows whose delay is over.
    fn look_up(&mut self, kernel: &Kernel) {
        while let Some(wanted) = self.core.poll_lookup() {
            let flow = kernel.entry(&wanted.key);
            self.core.handle_lookup(&wanted.key, flow);
        }
    }

    fn is_reading(&self) -> bool {
        self.dump.is_some() || self.is_read
    }

    fn read_rows(&mut self, kernel: &Kernel, max: usize, interrupted: bool) {
        let core = &mut self.core;
        if self.is_read && core.may_read_rows() {
            self.is_read = !core.end_pass();
            return;
        }
        if core.wants_pass() && self.dump.is_none() {
            self.dump = Some(Dump::default());
            core.begin_pass();
        }
        let Some(dump) = &mut self.dump else { return };
        if interrupted {
            // The first interruptions restart the dump, the last one ends it.
            *dump = Dump::default();
            core.begin_pass();
            return;
        }
        for _ in 0..max {
            if !core.may_read_rows() {
                return;
            }
            match kernel.next_row(dump) {
                Some(row) => core.handle_row(&row),
                None => {
                    self.dump = None;
                    self.is_read = !core.end_pass();
                    return;
                }
            }
        }
    }

    /// The kernel takes what the daemon asks it for.
    pub fn apply(&mut self, kernel: &mut Kernel, at: Instant) {
        let mut batch = Vec::new();
        while let Some(apply) = self.core.poll_apply() {
            batch.push(apply);
        }
        for apply in batch {
            let key = convert::key(&apply.flow);
            if kernel.has_unread(&key) {
                self.crossed.push(key);
            }
            let stays = matches!(apply.action, Action::LookAndUpdate { .. })
                && (kernel.entry(&key))
                    .is_some_and(|entry| self.core.handle_look(apply.ticket, entry));
            let outcome = match stays {
                true => Outcome::Done,
                false => carry_out(kernel, apply.action, apply.flow),
            };
            self.core.handle_applied(apply.ticket, outcome, at);
        }
    }

    fn transmit(&mut self, at: Instant) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some((routes, datagram)) = self.core.poll_transmit(at) {
            let datagram = datagram.to_vec();
            for (network, members) in routes.iter() {
                let modes = self.core.node().modes();
                let mode = match routes.to_all {
                    true => routes.by.unwrap_or(modes.mode(network)),
                    false => Mode::Unicast,
                };
                sent.extend((members.iter()).map(|to| (to, network, mode, datagram.clone())));
            }
        }
        sent
    }
}

/// A key that no other run has, and no other draw: that is all that matters here.
pub fn key(incarnation: u64, number: u64) -> DatagramKey {
    let halves = [incarnation.to_be_bytes(), number.to_be_bytes()];
    let mut bytes = [0; 32];
    let filled = bytes.iter_mut().zip(halves.as_flattened().iter().cycle());
    filled.for_each(|(to, from)| *to = *from);
    DatagramKey::new(bytes)
}

/// The steps of `agent::kernel`, one change at a time.
fn carry_out(kernel: &mut Kernel, action: Action, flow: Flow) -> Outcome {
    let result = match action {
        Action::Create => create(kernel, flow),
        Action::Update | Action::LookAndUpdate { .. } => match update(kernel, flow) {
            Err(Errno::NOENT) => create(kernel, flow),
            result => result,
        },
        Action::Replace => match kernel.delete(&flow) {
            Ok(()) | Err(Errno::NOENT) => create(kernel, flow),
            result => result,
        },
        Action::Refresh => kernel.update(&Flow {
            zone: flow.zone,
            timeout: flow.timeout,
            ..Flow::new(flow.orig)
        }),
        Action::Delete => match kernel.delete(&flow) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        },
    };
    if result.is_ok() {
        Outcome::Done
    } else {
        Outcome::Refused
    }
}

fn create(kernel: &mut Kernel, flow: Flow) -> Result<(), Errno> {
    match kernel.create(&flow) {
        Err(Errno::EXIST) => update(kernel, flow),
        result => result,
    }
}

fn update(kernel: &mut Kernel, flow: Flow) -> Result<(), Errno> {
    match kernel.update(&flow) {
        Err(Errno::BUSY) => kernel.update(&Flow {
            status: None,
            ..flow
        }),
        result => result,
    }
}

fn instant(duration: Duration) -> Instant {
    Instant::from_micros(u64::try_from(duration.as_micros()).expect("simulations are short"))
}
