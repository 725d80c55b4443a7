//! More trouble than [`super::run`] draws, for runs of their own: builds of other versions, networks that flap, directions
//! that are cut alone, switches of modes on networks that do not carry each, keys that roll, and a death in the midst of a
//! full sync. It has its own stream of chance, so that a seed is the same run without it as ever.

use std::time::Duration;

use ccp::build::Capability;
use ccp::modes::Mode;
use ccp::network::NetworkId;

use super::builds::Build;
use super::checker::Violation;
use super::gateway::Gateway;
use super::links::Links;
use super::options::Options;
use super::random::Random;
use super::{Failure, Fault, Report, What, World, run_with};

/// What happens besides.
#[derive(Clone, Debug, Default)]
pub struct More {
    /// What the daemon of each gateway is; of those that are not named, this one.
    pub builds: Vec<Build>,
    /// Mean pause between two troubles; `None`: never.
    pub pause: Option<Duration>,
    /// The modes that each network does not carry.
    pub uncarried: Vec<Vec<Mode>>,
    /// The machine of the [`JOINER`] is rebooted.
    pub joins: bool,
    /// During that somebody dies.
    pub death: Option<Death>,
}

/// When somebody dies while the [`JOINER`] has a full sync.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Who.
    pub of: Party,
    /// After so many frames of it have arrived.
    pub step: u32,
}

/// A party to a full sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// It is given everything.
    Joiner,
    /// It gives.
    Server,
}

/// Who is rebooted, to join, where [`More::joins`].
pub const JOINER: usize = 0;
/// Counters of what was skipped as it is of another version.
pub const SKIPPED: [&str; 4] = [
    "unknown_attributes",
    "unknown_records",
    "datagrams_unknown_opcode",
    "tls_unknown",
];
/// When.
const JOINS_AT: Duration = Duration::from_secs(3);

/// What happens again and again.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// A network fails and comes back a few times in a row.
    Flap {
        /// Which.
        network: usize,
        /// How often it yet changes.
        left: u8,
    },
    /// Nothing gets from one gateway to another, over any network.
    OneWay,
    /// An operator wants another mode.
    Mode,
    /// An operator wants another key.
    Roll,
}

impl More {
    /// Drawn from `random`, for a run with these options.
    pub fn draw(random: &mut Random, options: &Options) -> Self {
        let build = |random: &mut Random| {
            random.choose(&[Build::This, Build::This, Build::Later, Build::Earlier])
        };
        let modes = [Mode::Unicast, Mode::Multicast, Mode::Broadcast];
        let uncarried = |random: &mut Random| {
            let some = modes.into_iter().skip(1);
            some.filter(|_| random.percent(30)).collect()
        };
        let mixed = random.percent(50);
        Self {
            builds: (0..options.gateways)
                .map(|_| if mixed { build(random) } else { Build::This })
                .collect(),
            pause: Some(random.pause(Duration::from_millis(200)..Duration::from_secs(4))),
            uncarried: (0..options.networks.len())
                .map(|_| uncarried(random))
                .collect(),
            joins: false,
            death: None,
        }
    }

    /// The build of a gateway's daemon.
    pub fn build(&self, at: usize) -> Build {
        self.builds.get(at).copied().unwrap_or_default()
    }

    /// True if datagrams that are sent so arrive.
    pub fn carries(&self, network: NetworkId, mode: Mode) -> bool {
        let uncarried = self.uncarried.get(network.index());
        !uncarried.is_some_and(|it| it.contains(&mode))
    }
}

/// As [`run`](super::run), with [`More`] trouble.
pub fn run_more(seed: u64) -> Result<Report, Box<Failure>> {
    let mut random = Random::new(seed);
    let mut options = Options {
        copy_bit: seed % 2 == 1,
        ..Options::draw(&mut random)
    };
    options.more = More::draw(&mut Random::new(!seed), &options);
    run_with(seed, options, random)
}

/// Two members of these builds, without any faults but that the first is rebooted.
pub fn run_builds(builds: [Build; 2]) -> Result<Report, Box<Failure>> {
    let mut random = Random::new(1);
    let mut options = Options::calm(2, &mut random);
    options.more.builds = builds.into();
    options.more.joins = true;
    run_with(1, options, random)
}

/// Three members without any faults but that the first is rebooted and joins, while flows come and go; a party to its full
/// sync is killed at a step of it.
pub fn run_death(of: Party, step: u32) -> Result<Report, Box<Failure>> {
    let mut random = Random::new(u64::from(step));
    let mut options = Options::calm(3, &mut random);
    options.more.joins = true;
    options.more.death = Some(Death { of, step });
    run_with(step.into(), options, random)
}

impl World {
    /// Schedules what there is besides.
    pub(super) fn schedule_more(&mut self) {
        if self.options.more.joins {
            self.schedule(JOINS_AT, What::Fault(Fault::Joiner));
        }
        self.schedule_trouble();
    }

    fn schedule_trouble(&mut self) {
        let Some(pause) = self.options.more.pause else {
            return;
        };
        let random = &mut self.more;
        let networks = u64::try_from(self.nets.len()).expect("few networks");
        let flap = Trouble::Flap {
            network: usize::try_from(random.within(0..networks)).expect("few"),
            left: 6,
        };
        let trouble = random.choose(&[flap, Trouble::OneWay, Trouble::Mode, Trouble::Roll]);
        let pause = random.pause(Duration::ZERO..pause * 2);
        self.schedule(pause, What::Trouble(trouble));
    }

    /// Makes some, and sees to what follows.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        match self.make_trouble(trouble) {
            Some((pause, next)) => self.schedule(pause, What::Trouble(next)),
            None => self.schedule_trouble(),
        }
    }

    /// How it goes on, and when.
    fn make_trouble(&mut self, trouble: Trouble) -> Option<(Duration, Trouble)> {
        let random = &mut self.more;
        let count = u64::try_from(self.gateways.len()).expect("few gateways");
        let at = usize::try_from(random.within(0..count)).expect("few gateways");
        match trouble {
            Trouble::Flap { left: 0, .. } => None,
            Trouble::Flap { network, left } => {
                match left % 2 {
                    0 => self.nets[network].cut_all(),
                    _ => self.nets[network].join(),
                }
                let pause = random.pause(Duration::from_millis(1)..Duration::from_millis(400));
                let left = left - 1;
                Some((pause, Trouble::Flap { network, left }))
            }
            Trouble::OneWay => {
                let other = random.within(1..count);
                let other = (at + usize::try_from(other).expect("few")) % self.gateways.len();
                self.nets.iter_mut().for_each(|net| net.cut(at, other));
                let pause = random.pause(Duration::ZERO..Duration::from_secs(4));
                self.schedule(pause, What::Join);
                None
            }
            Trouble::Mode => {
                let network = random.within(0..u64::try_from(self.nets.len()).expect("few"));
                let network = u8::try_from(network).ok().and_then(NetworkId::new);
                let mode = random.choose(&[Mode::Unicast, Mode::Multicast, Mode::Broadcast]);
                self.gateways[at].ask_mode(network.expect("few networks"), mode, self.now);
                self.call(at, Duration::ZERO);
                None
            }
            Trouble::Roll => {
                if let Some(daemon) = &mut self.gateways[at].daemon {
                    daemon.core.ask_roll();
                }
                None
            }
        }
    }

    /// The sum of counters of all daemons.
    pub(super) fn counted(&self, names: &[&str]) -> u64 {
        let daemons = self.gateways.iter().filter_map(|it| it.daemon.as_ref());
        let counters = daemons.flat_map(|daemon| daemon.core.counters());
        let wanted = counters.filter(|(name, _)| names.contains(&&**name));
        wanted.map(|(_, value)| value).sum()
    }

    /// A frame of a full sync is about to arrive; who dies of it, if it is time.
    pub(super) fn note_frame(&mut self, [from, to]: [usize; 2]) -> Option<usize> {
        let Death { of, step } = self.options.more.death?;
        if self.now < JOINS_AT || !Links::is_sync(self.links.next([from, to])) {
            return None;
        }
        self.sync_frames += 1;
        let other = if from == JOINER { to } else { from };
        let who = match of {
            Party::Joiner => JOINER,
            Party::Server => other,
        };
        (self.sync_frames == step && [from, to].contains(&JOINER)).then_some(who)
    }
}

/// Whether all members that know of modes use the same, and such as every network carries.
pub fn modes_agree(gateways: &[Gateway], more: &More) -> Result<(), Violation> {
    let knowing = |it: &&Gateway| it.daemon.is_some() && it.build != Build::Earlier;
    let running = || gateways.iter().filter(knowing);
    for at in 0..more.uncarried.len() {
        let network = u8::try_from(at).ok().and_then(NetworkId::new);
        let network = network.expect("few networks");
        let modes: Vec<Mode> = running().map(|it| it.mode(network)).collect();
        let same = modes.windows(2).all(|pair| pair[0] == pair[1]);
        if !same || modes.iter().any(|mode| !more.carries(network, *mode)) {
            return Err(Violation(format!("modes of network {at}: {modes:?}")));
        }
    }
    Ok(())
}

/// True if an operator may ask this daemon for another mode: `ctsync mode` refuses otherwise.
pub fn may_switch(core: &agent::core::Core) -> bool {
    let lacking = core.node().membership().lacking(Capability::Modes);
    !core.live_peers().is_empty() && lacking.is_empty()
}
