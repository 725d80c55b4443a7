//! Opens TCP flows through gateway A with real packets: two TUN devices are its two sides, and whatever is written to
//! one of them arrives at the gateway as if from a wire.
//!
//! A flow is three packets: the client's SYN, the server's SYN/ACK, the client's ACK. What the gateway forwards leaves by
//! the other device, where nobody reads it and the device throws it away: that costs the gateway least, so that what a
//! contestant costs shows most.
//!
//! The subtle thing: one thread writes all packets, and each write returns when the gateway has dealt with the packet. So
//! the gateway's work is done in this thread, and what slows the gateway slows the generator: it never sends too much.

use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use tappers::{Interface, Tun};

use super::gateways::{CLIENT_SIDE, SERVER_SIDE};
use super::interrupt;
use crate::netns::Namespace;

/// The benchmarking range of RFC 2544, cut in two: clients here, ...
const CLIENT_NET: u32 = Ipv4Addr::new(198, 18, 0, 0).to_bits();
/// ... and the one server in the other half, ...
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// ... which has these ports, each flow the next.
pub const SERVER_PORT_FIRST: u16 = 8_000;
/// How many.
pub const SERVER_PORTS: u16 = 20;

/// Each client opens a flow from each of these ports, then it is the next client's turn.
const CLIENT_PORT_FIRST: u16 = 16_384;
const CLIENT_PORT_BITS: u32 = 15;

/// From one packet of a flow to the next at a fixed rate: the round trip of a local network.
const STEP: Duration = Duration::from_micros(200);

/// Flows between two looks at clock and interrupt at full speed.
const BATCH: u32 = 64;

/// Which flow: counted from the first that a generator opened; its addresses and ports follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowNumber(pub u32);

impl FlowNumber {
    /// The client's address and port.
    pub fn client(self) -> (Ipv4Addr, u16) {
        let host = (self.0 >> CLIENT_PORT_BITS) + 1;
        let port = (self.0 & ((1 << CLIENT_PORT_BITS) - 1)) as u16;
        (
            Ipv4Addr::from_bits(CLIENT_NET + host),
            CLIENT_PORT_FIRST + port,
        )
    }

    /// The server's address and port.
    fn server(self) -> (Ipv4Addr, u16) {
        let port = (self.0 % u32::from(SERVER_PORTS)) as u16;
        (SERVER, SERVER_PORT_FIRST + port)
    }

    /// The flow of a client's address and port; `None` when no generator made it.
    pub fn of_client(address: Ipv4Addr, port: u16) -> Option<FlowNumber> {
        let host = address.to_bits().checked_sub(CLIENT_NET + 1)?;
        let port = port.checked_sub(CLIENT_PORT_FIRST)?;
        (host < 1 << 16).then_some(FlowNumber(host << CLIENT_PORT_BITS | u32::from(port)))
    }
}

/// What a load was in the end.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Flows opened: all three packets written.
    pub flows: u32,
    /// From the first packet to the last.
    pub elapsed: Duration,
}

impl Opened {
    /// Flows a second.
    pub fn rate(&self) -> f64 {
        f64::from(self.flows) / self.elapsed.as_secs_f64()
    }
}

/// Writes the packets of both sides of gateway A.
pub struct Generator {
    client_side: Tun,
    server_side: Tun,
    next: u32,
}

impl Generator {
    /// Makes the two devices in the gateway's namespace, where they still need to be set up.
    pub fn new(gateway: &Namespace) -> Generator {
        let device = |name: &str| {
            let interface = Interface::new(name).expect("a short name");
            Tun::new_named(interface).unwrap_or_else(|error| panic!("TUN device {name}: {error}"))
        };
        gateway.inside(|| Generator {
            client_side: device(CLIENT_SIDE),
            server_side: device(SERVER_SIDE),
            next: 0,
        })
    }

    /// The number of the flow that is opened next.
    pub fn next_flow(&self) -> FlowNumber {
        FlowNumber(self.next)
    }

    /// Opens flows as fast as the gateway takes them.
    pub fn at_full_speed(&mut self, duration: Duration) -> Opened {
        let (first, start) = (self.next, now());
        let mut elapsed = Duration::ZERO;
        while elapsed < duration {
            for _ in 0..BATCH {
                let flow = self.take();
                self.send_syn(flow);
                self.send_syn_ack(flow);
                self.send_ack(flow);
            }
            interrupt::check();
            elapsed = now() - start;
        }
        Opened {
            flows: self.next - first,
            elapsed,
        }
    }

    /// Opens `count` flows at `rate` flows a second, the packets of each 200 us apart, those of others in between.
    /// `started` is told when each flow's SYN was about to be written.
    pub fn at_rate(
        &mut self,
        rate: u32,
        count: u32,
        mut started: impl FnMut(FlowNumber, Duration),
    ) -> Opened {
        sleep_exactly();
        let first = self.next;
        let start = now();
        let due = |sent: u32, step: u32| start + Duration::from_secs(1) * sent / rate + STEP * step;
        let (mut syns, mut syn_acks, mut acks) = (0, 0, 0);
        while acks < count {
            // A later packet of an earlier flow goes first when both are due: no flow waits for a newer one.
            let next_ack = due(acks, 2);
            let next_syn_ack = if syn_acks < count {
                due(syn_acks, 1)
            } else {
                Duration::MAX
            };
            let next_syn = if syns < count {
                due(syns, 0)
            } else {
                Duration::MAX
            };
            sleep_until(next_ack.min(next_syn_ack).min(next_syn));
            if next_ack <= next_syn_ack && next_ack <= next_syn {
                self.send_ack(FlowNumber(first + acks));
                acks += 1;
                interrupt::check();
            } else if next_syn_ack <= next_syn {
                self.send_syn_ack(FlowNumber(first + syn_acks));
                syn_acks += 1;
            } else {
                let flow = self.take();
                started(flow, now());
                self.send_syn(flow);
                syns += 1;
            }
        }
        Opened {
            flows: count,
            elapsed: now() - start,
        }
    }

    fn take(&mut self) -> FlowNumber {
        let flow = FlowNumber(self.next);
        self.next += 1;
        flow
    }

    fn send_syn(&self, flow: FlowNumber) {
        send(
            &self.client_side,
            &packet(flow.client(), flow.server(), isn(flow), 0, SYN),
        );
    }

    fn send_syn_ack(&self, flow: FlowNumber) {
        let acknowledged = isn(flow).wrapping_add(1);
        send(
            &self.server_side,
            &packet(
                flow.server(),
                flow.client(),
                !isn(flow),
                acknowledged,
                SYN | ACK,
            ),
        );
    }

    fn send_ack(&self, flow: FlowNumber) {
        let (next, acknowledged) = (isn(flow).wrapping_add(1), (!isn(flow)).wrapping_add(1));
        send(
            &self.client_side,
            &packet(flow.client(), flow.server(), next, acknowledged, ACK),
        );
    }
}

fn send(device: &Tun, packet: &[u8]) {
    let sent = device
        .send(packet)
        .unwrap_or_else(|error| panic!("write to a TUN device: {error}"));
    assert_eq!(sent, packet.len(), "a TUN device takes a packet whole");
}

/// `CLOCK_MONOTONIC`, the same in all namespaces.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).expect("the clock is past its start")
}

fn sleep_until(due: Duration) {
    if due <= now() {
        return;
    }
    let due = Timespec::try_from(due).expect("a time near now");
    // Woken early by a signal, a packet goes out early, and the interrupt is seen after it.
    let _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &due);
}

/// Makes the sleeps of the calling thread end when they should, not up to 50 us later.
fn sleep_exactly() {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))
        .expect("the slack is a thread's own");
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Maximum segment size 1460, selective acknowledgements, window scale 7.
const SYN_OPTIONS: [u8; 12] = [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];

/// Length of the IPv4 header, and of a TCP header without options.
const HEADER: usize = 20;

/// The client's first sequence number; the server's is its complement. Any will do that differ from flow to flow.
fn isn(flow: FlowNumber) -> u32 {
    flow.0.wrapping_mul(2_654_435_761)
}

/// An IPv4 packet with a TCP segment without data.
fn packet(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), seq: u32, ack: u32, flags: u8) -> Packet {
    let options: &[u8] = if flags & SYN != 0 { &SYN_OPTIONS } else { &[] };
    let len = 2 * HEADER + options.len();
    let mut bytes = [0; 2 * HEADER + SYN_OPTIONS.len()];

    let ip = &mut bytes[..HEADER];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    ip[6] = 0x40; // don't fragment
    ip[8] = 64; // time to live
    ip[9] = 6; // TCP
    ip[12..16].copy_from_slice(&src.0.octets());
    ip[16..20].copy_from_slice(&dst.0.octets());
    let sum = checksum(0, ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let tcp = &mut bytes[HEADER..len];
    tcp[0..2].copy_from_slice(&src.1.to_be_bytes());
    tcp[2..4].copy_from_slice(&dst.1.to_be_bytes());
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    tcp[12] = ((HEADER + options.len()) as u8 / 4) << 4;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes()); // window
    tcp[HEADER..].copy_from_slice(options);
    let sum = checksum(pseudo_header(src.0, dst.0, tcp.len()), tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());

    Packet { bytes, len }
}

/// A packet no longer than a SYN.
struct Packet {
    bytes: [u8; 2 * HEADER + SYN_OPTIONS.len()],
    len: usize,
}

impl std::ops::Deref for Packet {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The sum of what a TCP checksum covers besides the segment (RFC 9293 section 3.1).
fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, len: usize) -> u32 {
    let halves = |address: Ipv4Addr| (address.to_bits() >> 16) + (address.to_bits() & 0xffff);
    halves(src) + halves(dst) + 6 + len as u32
}

/// The Internet checksum (RFC 1071) of an even number of bytes, on top of `sum`.
fn checksum(sum: u32, bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = sum + words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests;
