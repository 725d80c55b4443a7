//! How long a gateway that joins takes to have the flows of the other, and what memory that takes.

use std::net::Ipv4Addr;

use conntrack::consts::{IPS_ASSURED, IPS_SEEN_REPLY};
use conntrack::{Flow, Injector, L4, ProtoInfo, TcpInfo, Tuple};

use super::Bench;
use super::gateways::flows;
use super::report::Row;
use super::rivals::{Contestant, join};

/// So many flows, and the rows for them: seconds, per cent that arrived, MiB above the table.
pub const SIZES: [(u32, [Row; 3]); 2] = [
    (200_000, [Row::JoinTime, Row::JoinArrived, Row::JoinMemory]),
    (
        1_000_000,
        [Row::BigJoinTime, Row::BigJoinArrived, Row::BigJoinMemory],
    ),
];
/// `TCP_CONNTRACK_ESTABLISHED`
const TCP_ESTABLISHED: u8 = 3;
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
                injector.create(&established(number));
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

fn established(number: u32) -> Flow {
    let client = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + number / PORTS);
    let port = u16::try_from(10_000 + number % PORTS).expect("below 60,000");
    Flow {
        status: Some(IPS_SEEN_REPLY | IPS_ASSURED),
        timeout: Some(3600),
        protoinfo: Some(ProtoInfo::Tcp(TcpInfo {
            state: TCP_ESTABLISHED,
            wscale: None,
            flags: None,
        })),
        ..Flow::new(Tuple {
            src: client.into(),
            dst: Ipv4Addr::new(198, 19, 0, 1).into(),
            proto: 6,
            l4: L4::Ports {
                src: port,
                dst: 443,
            },
            zone: 0,
        })
    }
}
