//! The sync network: datagrams are lost, doubled, damaged, late, or cut off in one direction or both.

use std::time::Duration;

use super::options::NetworkOptions;
use super::random::Random;

/// Longest delay of a datagram that is late: it survives restarts of both ends.
const LATE_MAX: Duration = Duration::from_secs(8);

/// All links between gateways, each direction its own.
#[derive(Debug)]
pub struct Net {
    options: NetworkOptions,
    gateways: usize,
    cut: Vec<bool>,
}

impl Net {
    /// Everyone hears everyone, as well as `options` lets them.
    pub fn new(options: NetworkOptions, gateways: usize) -> Self {
        Self {
            options,
            gateways,
            cut: vec![false; gateways * gateways],
        }
    }

    /// Draws which gateways are cut off from which: a group from the rest, or single directions.
    pub fn partition(&mut self, random: &mut Random) {
        let two_way = random.percent(50);
        let group: Vec<bool> = (0..self.gateways).map(|_| random.percent(50)).collect();
        for from in 0..self.gateways {
            for to in 0..self.gateways {
                self.cut[from * self.gateways + to] = if two_way {
                    group[from] != group[to]
                } else {
                    random.percent(40)
                };
            }
        }
    }

    /// True while nothing gets from one to the other.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from * self.gateways + to]
    }

    /// Nothing gets from one to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut[from * self.gateways + to] = true;
    }

    /// Nothing gets to anybody.
    pub fn cut_all(&mut self) {
        self.cut.fill(true);
    }

    /// Ends every partition.
    pub fn join(&mut self) {
        self.cut.fill(false);
    }

    /// From now on the network is perfect but for its length.
    pub fn heal(&mut self) {
        self.options = self.options.healed();
        self.join();
    }

    /// What becomes of a datagram: the delay and the bytes of each copy that arrives.
    pub fn send(
        &self,
        random: &mut Random,
        from: usize,
        to: usize,
        datagram: &[u8],
    ) -> Vec<(Duration, Vec<u8>)> {
        let options = &self.options;
        if self.is_cut(from, to) || random.one_in_million(options.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(random.one_in_million(options.duplication));
        let copy = |_| {
            let mut bytes = datagram.to_vec();
            if random.one_in_million(options.damage) {
                damage(random, &mut bytes);
            }
            let mut delay = options.delay_min + random.pause(Duration::ZERO..options.jitter);
            if random.one_in_million(options.late) {
                delay += random.pause(Duration::ZERO..LATE_MAX);
            }
            (delay, bytes)
        };
        (0..copies).map(copy).collect()
    }
}

/// A bit is flipped, or the end is missing.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    let len = u64::try_from(bytes.len()).expect("datagrams are short");
    let at = usize::try_from(random.within(0..len)).expect("an index of the datagram");
    if random.percent(50) {
        bytes[at] ^= 1 << random.within(0..8);
    } else {
        bytes.truncate(at);
    }
}
