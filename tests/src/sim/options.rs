//! What one seed draws: how many gateways, which faults how often, how much load.
//!
//! Every fault is off in some seeds, so that a failure shows which faults it needs; some seeds have none at all.

use std::time::Duration;

use super::policies::Policies;
use super::random::Random;
use super::trouble::More;

/// The circumstances of one simulation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Gateways, each a member of the cluster.
    pub gateways: usize,
    /// Whether copies are marked.
    pub copy_bit: bool,
    /// How long faults and load go on before everything heals.
    pub trouble: Duration,
    /// Each network between the gateways.
    pub networks: Vec<NetworkOptions>,
    /// Whether everything goes over all of them at once.
    pub duplicate: bool,
    /// Flows that are opened.
    pub flows: u64,
    /// Longest pause between two packets of a flow that change something.
    pub packet_pause_max: Duration,
    /// Percentage of packets that come through another gateway than the one before.
    pub moves_percent: u64,
    /// Percentage of flows that are opened again with the same addresses and ports after they ended.
    pub reopened_percent: u64,
    /// Mean pause between two of each fault; `None`: never.
    pub faults: FaultOptions,
    /// Events that a gateway's event socket holds.
    pub event_queue: usize,
    /// Events that a daemon takes at a time.
    pub events_at_a_time: usize,
    /// Rows of the table that a daemon reads at a time.
    pub rows_at_a_time: usize,
    /// Entries that a table holds while there is trouble.
    pub table_max: usize,
    /// Flows that a daemon knows at most.
    pub flows_max: usize,
    /// Time that one turn of a daemon's loop takes at most.
    pub turn_max: Duration,
    /// Greatest payload of a datagram.
    pub datagram_bytes_max: usize,
    /// Whether the first packets of TCP wait for the peers; not drawn here.
    pub holds: bool,
    /// What else happens; not drawn here.
    pub more: More,
    /// Service policies, if there are any; not drawn here.
    pub policies: Option<Policies>,
}

/// How bad the network is.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// Datagrams lost, in a million.
    pub loss: u64,
    /// Datagrams that arrive twice, in a million.
    pub duplication: u64,
    /// Datagrams damaged on the way, in a million.
    pub damage: u64,
    /// Datagrams that come seconds late, in a million.
    pub late: u64,
    /// Shortest way.
    pub delay_min: Duration,
    /// What may come on top of it; reorders what is sent within it.
    pub jitter: Duration,
}

/// Mean pauses between faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultOptions {
    /// Some gateways don't hear some others.
    pub partition: Option<Duration>,
    /// A daemon is killed and started again; its machine and table stay.
    pub crash: Option<Duration>,
    /// A machine goes down and comes back with an empty table.
    pub reboot: Option<Duration>,
    /// A daemon does not run for a while.
    pub stop: Option<Duration>,
    /// A link between two daemons breaks.
    pub unlink: Option<Duration>,
    /// A dump of the table is inconsistent: percentage of slices that say so.
    pub dump_interrupted_percent: u64,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Options {
    /// Drawn from `random`.
    pub fn draw(random: &mut Random) -> Self {
        let calm = random.percent(5);
        let fault = |random: &mut Random, means: std::ops::Range<u64>| {
            (!calm && random.percent(50)).then(|| random.pause(ms(means.start)..ms(means.end)))
        };
        let faults = FaultOptions {
            partition: fault(random, 1_000..10_000),
            crash: fault(random, 1_500..15_000),
            reboot: fault(random, 3_000..20_000),
            stop: fault(random, 1_000..15_000),
            unlink: fault(random, 500..5_000),
            dump_interrupted_percent: if calm {
                0
            } else {
                random.choose(&[0, 0, 1, 10])
            },
        };
        let rarely = |random: &mut Random, normal: usize, few: std::ops::Range<u64>| {
            if calm || random.percent(60) {
                normal
            } else {
                usize::try_from(random.within(few)).unwrap_or(normal)
            }
        };
        Self {
            copy_bit: false,
            gateways: random.choose(&[2, 2, 2, 3, 3, 4, 5]),
            trouble: random.pause(ms(2_000)..ms(20_000)),
            networks: {
                let count = random.choose(&[1, 1, 1, 2, 3]);
                (0..count)
                    .map(|_| NetworkOptions::draw(random, calm))
                    .collect()
            },
            duplicate: random.percent(25),
            flows: random.choose(&[1, 3, 10, 30, 100, 250]),
            packet_pause_max: random.pause(ms(5)..ms(4_000)),
            moves_percent: random.choose(&[0, 2, 10, 50]),
            reopened_percent: random.choose(&[0, 10, 50]),
            event_queue: rarely(random, 50_000, 2..64),
            events_at_a_time: rarely(random, 4_096, 1..32),
            rows_at_a_time: rarely(random, 1_024, 1..24),
            table_max: if random.percent(90) {
                usize::MAX
            } else {
                rarely(random, usize::MAX, 4..100)
            },
            flows_max: 10_000,
            turn_max: random.choose(&[ms(0), ms(0), ms(1), ms(20)]) + Duration::from_micros(20),
            datagram_bytes_max: random.choose(&[1_472, 1_472, 508, 8_972]),
            faults,
            holds: false,
            more: More::default(),
            policies: None,
        }
    }
}

impl Options {
    /// So many gateways, a good network, flows that come and go and stay where they are, and no faults.
    pub fn calm(gateways: usize, random: &mut Random) -> Self {
        let drawn = Self::draw(random);
        Self {
            gateways,
            copy_bit: true,
            trouble: ms(7_500),
            networks: vec![NetworkOptions {
                delay_min: Duration::from_micros(50),
                jitter: Duration::from_micros(20),
                ..drawn.networks[0].healed()
            }],
            duplicate: false,
            flows: 150,
            packet_pause_max: ms(2_000),
            moves_percent: 0,
            event_queue: 50_000,
            events_at_a_time: 4_096,
            rows_at_a_time: 1_024,
            table_max: usize::MAX,
            faults: FaultOptions::default(),
            ..drawn
        }
    }
}

impl NetworkOptions {
    fn draw(random: &mut Random, calm: bool) -> Self {
        let rate = |random: &mut Random, rates: &[u64]| if calm { 0 } else { random.choose(rates) };
        Self {
            loss: rate(random, &[0, 0, 1_000, 50_000, 300_000]),
            duplication: rate(random, &[0, 0, 10_000, 200_000]),
            damage: rate(random, &[0, 0, 0, 10_000]),
            late: rate(random, &[0, 0, 1_000, 20_000]),
            delay_min: random.choose(&[Duration::from_micros(50), ms(1), ms(50)]),
            jitter: random.choose(&[Duration::from_micros(20), ms(2), ms(40)]),
        }
    }

    /// A network without faults, of the same length.
    pub fn healed(&self) -> Self {
        Self {
            loss: 0,
            duplication: 0,
            damage: 0,
            late: 0,
            delay_min: self.delay_min,
            jitter: self.jitter,
        }
    }
}
