//! How long connections take to open whose directions pass different gateways, beside the same through one gateway alone,
//! where nobody listens.
//!
//! Client and server are machines of their own here, with sockets, in the lab of the tests: what counts is what they see.

use std::time::Duration;

use super::Bench;
use super::gateways::{SYNC, SYNC_A, SYNC_B};
use super::report::Row;
use super::rivals::{Contestant, Copies, Running};
use crate::connects::{Connects, connect};
use crate::lab::{Family, Lab, Path};
use crate::netns::holds_within;

/// Connections opened one after the other, in a round.
pub const CONNECTS: usize = 1000;
/// Connections that are known to take seconds, all at once.
pub const LATE_CONNECTS: usize = 40;
/// A SYN or SYN/ACK that was dropped is sent again after a second.
pub const SENT_AGAIN: Duration = Duration::from_millis(900);
/// ctsync learns from the first connections that their destination's packets take two ways.
const LEARN_DEADLINE: Duration = Duration::from_secs(30);

impl Bench {
    pub(super) fn asymmetric(&mut self, contestant: Contestant) {
        eprintln!("asymmetric routes: {}", contestant.name());
        let lab = lab();
        let gateways = [&lab.gateways[0], &lab.gateways[1]];
        let _running = Running::start_on(contestant, Copies::InKernel, gateways);
        let open =
            |[clients, count]: [usize; 2]| connect(&lab, Path::Plain, Family::Ipv4, clients, count);
        let connects = match contestant {
            Contestant::NoListener => open([1, CONNECTS]),
            Contestant::Conntrackd => {
                lab.split(0, 1);
                open([LATE_CONNECTS, LATE_CONNECTS])
            }
            Contestant::Ctsync => {
                lab.split(0, 1);
                holds_within(LEARN_DEADLINE, || open([1, 10]).at_least(SENT_AGAIN) == 0);
                open([1, CONNECTS])
            }
        };
        self.add_connects(contestant, &connects);
    }

    fn add_connects(&mut self, contestant: Contestant, connects: &Connects) {
        let count = connects.count() + connects.failed;
        let late = connects.at_least(SENT_AGAIN) + connects.failed;
        let mut add = |row, value| self.report.add(contestant, row, value);
        add(Row::ConnectMedian, millis(connects.percentile(50)));
        add(Row::ConnectTail, millis(connects.percentile(99)));
        add(Row::ConnectLate, super::per_cent(late as u64, count as u64));
    }
}

/// Two gateways, with a sync network as the contestants are configured for.
fn lab() -> Lab {
    let lab = Lab::new(2);
    let [a, b] = [&lab.gateways[0], &lab.gateways[1]];
    a.ip("link del sync0");
    a.cable(SYNC, b, SYNC);
    for (gateway, address) in [(a, SYNC_A), (b, SYNC_B)] {
        gateway.ip(&format!("addr add {address}/24 dev {SYNC}"));
        gateway.nft(&format!("add rule inet filter input iifname {SYNC} accept"));
    }
    lab
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
