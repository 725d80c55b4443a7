//! How long a gateway that joins takes to have the flows of the other, and what memory that takes.

use std::net::Ipv4Addr;

use conntrack::{Flow, Injector};

use super::Bench;
use super::gateways::flows;
use super::report::Row;
use super::rivals::{Contestant, join};
use crate::table::established;

/// So many flows, and the rows for them: seconds, per cent that arrived, MiB above the table.
pub const SIZES: [(u32, [Row; 3]); 2] = [
    (200_000, [Row::JoinTime, Row::JoinArrived, Row::JoinMemory]),
    (
        1_000_000,
        [Row::BigJoinTime, Row::BigJoinArrived, Row::BigJoinMemory],
    ),
];
const PORTS: u32 = 50_000;

impl Bench {
    pub(super) fn join(&mut self, contestant: Contestant) {
        if contestant == Contestant::NoListener {
            return;
        }
        for (count, [time, arrived, memory]) in SIZES {
            eprintln!("join, {count} flows: {}", contestant.name());
            self.gateways.flush();
            self.fill(count);
            let join = join::measure(contestant, &self.gateways, count.into());
            let mut add = |row, value| self.report.add(contestant, row, value);
            add(time, join.took.as_secs_f64());
            add(arrived, super::per_cent(join.flows, count.into()));
            add(memory, join.memory_above as f64 / f64::from(1 << 20));
        }
        self.gateways.flush();
    }

    /// Puts flows into gateway A's table.
    fn fill(&self, count: u32) {
        self.gateways.a.inside(|| {
            let mut injector = Injector::open().expect("a socket of the kernel's");
            for number in 0..count {
                injector.create(&numbered(number));
                if injector.len() == 64 || number + 1 == count {
                    let mut check =
                        |_, outcome: Result<(), _>| assert!(outcome.is_ok(), "{outcome:?}");
                    injector.commit(&mut check).expect("the kernel answers");
                }
            }
        });
        assert_eq!(flows(&self.gateways.a), u64::from(count));
    }
}

fn numbered(number: u32) -> Flow {
    let client = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + number / PORTS);
    let port = u16::try_from(10_000 + number % PORTS).expect("below 60,000");
    established(client, port, Ipv4Addr::new(198, 19, 0, 1))
}
