//! The order in which the states of a connection are joined (PROTOCOL.md 6.9), against the transitions that the running
//! kernel makes: packets made by hand are tracked on their way out of a machine, and the entry is read after each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use ccp::progress::{begins_anew, merge};
use conntrack::consts::IPS_SEEN_REPLY;
use conntrack::{Flow, Injector, L4, ProtoInfo, SctpInfo, TcpInfo, Tuple, lookup};
use rustix::net::{AddressFamily, SendFlags, SocketType};

use tests::netns::Namespace;

const CLIENT: [u8; 4] = [10, 1, 0, 1];
const SERVER: [u8; 4] = [192, 0, 2, 80];
const SERVER_PORT: u16 = 80;

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const FIN: u8 = 0x11;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// `TCP_CONNTRACK_SYN_RECV`
const SYN_RECV: u8 = 2;

#[test]
fn every_transition_of_the_kernel_is_a_step_forward_or_begins_anew() {
    with_kernel(|kernel| {
        for protocol in [TCP, SCTP] {
            let mut left = [false; 10];
            let mut begun = 0;
            for (from, first, second) in protocol.walks() {
                let mut before = from;
                let flow = kernel.put(protocol, from);
                for packet in [first, second] {
                    let Some(after) = kernel.pass(protocol, &flow, packet) else {
                        break;
                    };
                    if after != before {
                        left[usize::from(before)] = true;
                        begun += u32::from(begins_anew(protocol.number, before, after));
                        assert!(
                            protocol.is_forward(before, after)
                                || begins_anew(protocol.number, before, after)
                                || protocol.is_agreed_anew(after, [first, second]),
                            "{} {before} -> {after} by {first:?} {second:?}",
                            protocol.number
                        );
                    }
                    before = after;
                }
            }
            // All but the last state, and that begins anew.
            let states = usize::from(protocol.states);
            assert_eq!(left[..states], [true; 10][..states], "{}", protocol.number);
            assert!(begun > 0, "{}", protocol.number);
        }
    });
}

#[test]
fn of_any_two_states_of_one_connection_the_later_counts() {
    const CONNECTIONS: u32 = 2_000;
    const PACKETS: usize = 10;
    with_kernel(|kernel| {
        for protocol in [TCP, SCTP] {
            let mut longest = 0;
            for _ in 0..CONNECTIONS {
                let flow = kernel.next_flow(protocol);
                let mut trace: Vec<u8> = Vec::new();
                kernel.pass(protocol, &flow, (Side::Client, protocol.packets[0]));
                for _ in 0..PACKETS {
                    let packet = kernel.draw(protocol);
                    let Some(state) = kernel.pass(protocol, &flow, packet) else {
                        break;
                    };
                    let before = trace.last().copied().unwrap_or(state);
                    if before != state && !protocol.is_forward(before, state) {
                        break;
                    }
                    for earlier in &trace {
                        assert_eq!(merge(protocol.number, *earlier, state), state);
                        assert_eq!(merge(protocol.number, state, *earlier), state);
                    }
                    trace.push(state);
                }
                trace.dedup();
                longest = longest.max(trace.len());
            }
            // Opened and closed.
            assert!(longest >= 4, "{}: {longest}", protocol.number);
        }
    });
}

/// Each of two gateways saw one packet that the other did not.
#[test]
fn states_that_cross_are_joined_to_no_more_than_who_saw_both_packets_has() {
    with_kernel(|kernel| {
        for protocol in [TCP, SCTP] {
            let mut crossings = 0;
            for (from, here, there) in protocol.walks() {
                let mut after = |packets: &[Packet]| {
                    let flow = kernel.put(protocol, from);
                    let mut state = None;
                    for packet in packets {
                        state = kernel.pass(protocol, &flow, *packet);
                    }
                    state.filter(|it| protocol.is_forward(from, *it))
                };
                // Where one of them changes nothing, nothing crosses.
                let (Some(a), Some(b)) = (after(&[here]), after(&[there])) else {
                    continue;
                };
                let joined = merge(protocol.number, a, b);
                let both = [[here, there], [there, here]].map(|packets| after(&packets));
                assert!(
                    both.iter()
                        .flatten()
                        .any(|both| merge(protocol.number, joined, *both) == *both),
                    "{} from {from}: {here:?} makes {a}, {there:?} makes {b}, both {both:?}",
                    protocol.number
                );
                crossings += 1;
            }
            assert!(crossings > 50, "{}: {crossings}", protocol.number);
        }
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Who sends it, and its flags (TCP) or the type of its chunk (SCTP).
type Packet = (Side, u8);

#[derive(Clone, Copy)]
struct Protocol {
    number: u8,
    /// They count from 0.
    states: u8,
    /// The first is the one that opens a connection.
    packets: &'static [u8],
}

const TCP: Protocol = Protocol {
    number: 6,
    states: 10,
    packets: &[SYN, SYN_ACK, FIN, ACK, RST],
};
const SCTP: Protocol = Protocol {
    number: 132,
    states: 9,
    // INIT, INIT ACK, DATA, SACK, heartbeats, ABORT, SHUTDOWN, SHUTDOWN ACK, ERROR, COOKIE ECHO, COOKIE ACK, SHUTDOWN COMPLETE.
    packets: &[1, 2, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14],
};

impl Protocol {
    fn each_packet(self) -> impl Iterator<Item = Packet> {
        let sides = [Side::Client, Side::Server];
        (sides.into_iter()).flat_map(move |side| self.packets.iter().map(move |it| (side, *it)))
    }

    /// Any two packets, one after the other, in any state.
    fn walks(self) -> impl Iterator<Item = (u8, Packet, Packet)> {
        (0..self.states).flat_map(move |state| {
            self.each_packet()
                .flat_map(move |first| self.each_packet().map(move |second| (state, first, second)))
        })
    }

    fn is_forward(self, before: u8, after: u8) -> bool {
        before != after
            && merge(self.number, before, after) == after
            && merge(self.number, after, before) == after
    }

    /// Client and server open anew what the kernel takes for something else: it follows them.
    fn is_agreed_anew(self, after: u8, packets: [Packet; 2]) -> bool {
        self.number == TCP.number
            && after == SYN_RECV
            && packets == [(Side::Client, SYN), (Side::Server, SYN_ACK)]
    }

    fn packet(self, (side, kind): Packet, client_port: u16) -> Vec<u8> {
        let ends = [(CLIENT, client_port), (SERVER, SERVER_PORT)];
        let [(src, src_port), (dst, dst_port)] = match side {
            Side::Client => ends,
            Side::Server => [ends[1], ends[0]],
        };
        let mut transport = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
        if self.number == TCP.number {
            // Sequence 1, acknowledges a SYN or a FIN of sequence 1.
            transport.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, kind, 255, 255, 0, 0, 0, 0]);
        } else {
            let tag = if kind == SCTP.packets[0] { 0 } else { TAG };
            transport.extend(tag.to_be_bytes());
            transport.extend([0, 0, 0, 0, kind, 0, 0, 20]);
            transport.extend(TAG.to_be_bytes());
            transport.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        }
        let length = u8::try_from(20 + transport.len()).expect("packets here are short");
        let mut packet = vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, self.number, 0, 0];
        packet.extend([src, dst].concat());
        packet.extend(transport);
        packet
    }

    fn info(self, state: u8) -> ProtoInfo {
        match self.number {
            6 => ProtoInfo::Tcp(TcpInfo {
                state,
                wscale: None,
                flags: None,
            }),
            _ => ProtoInfo::Sctp(SctpInfo {
                state,
                vtag: [TAG; 2],
            }),
        }
    }
}

/// The verification tag of both directions.
const TAG: u32 = 7;

struct Kernel {
    injector: Injector,
    socket: OwnedFd,
    client_port: u16,
    random: u64,
}

/// Runs `work` on a machine of its own that sends everything to itself.
#[track_caller]
fn with_kernel(work: impl FnOnce(&mut Kernel) + Send) {
    const IPPROTO_RAW: u32 = 255;
    let machine = Namespace::new("progress");
    machine.ip("route add default dev lo");
    // What is not in the table is not looked at before a rule asks.
    machine.nft(
        "table inet filter { chain output { type filter hook output priority 0; ct state new accept; }; }",
    );
    machine.sysctl("netfilter.nf_conntrack_tcp_be_liberal", 1);
    machine.inside(|| {
        let raw = IPPROTO_RAW.try_into().expect("not 0");
        let protocol = rustix::net::Protocol::from_raw(raw);
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(protocol));
        work(&mut Kernel {
            injector: Injector::open().expect("root may change the table"),
            socket: socket.expect("root may open raw sockets"),
            client_port: 1024,
            random: 1,
        });
    });
}

impl Kernel {
    /// A flow that there is none of yet.
    fn next_flow(&mut self, protocol: Protocol) -> Flow {
        self.client_port = self.client_port.checked_add(1).unwrap_or(1024);
        let flow = Flow::new(Tuple {
            src: IpAddr::from(CLIENT),
            dst: IpAddr::from(SERVER),
            proto: protocol.number,
            l4: L4::Ports {
                src: self.client_port,
                dst: SERVER_PORT,
            },
            zone: 0,
        });
        // It may be there from a round before.
        self.injector.delete(&flow);
        let _ = self.commit();
        flow
    }

    /// A flow in this state.
    #[track_caller]
    fn put(&mut self, protocol: Protocol, state: u8) -> Flow {
        let flow = Flow {
            status: Some(IPS_SEEN_REPLY),
            timeout: Some(600),
            protoinfo: Some(protocol.info(state)),
            ..self.next_flow(protocol)
        };
        self.injector.create(&flow);
        assert_eq!(self.commit(), Ok(()), "{flow:?}");
        flow
    }

    fn commit(&mut self) -> Result<(), conntrack::Errno> {
        let mut result = Ok(());
        let committed = self.injector.commit(&mut |_, outcome| result = outcome);
        committed.expect("the kernel takes requests");
        result
    }

    /// Sends a packet, and returns the state that the flow is in then; nothing if it is not there any more.
    fn pass(&mut self, protocol: Protocol, flow: &Flow, packet: Packet) -> Option<u8> {
        let L4::Ports { src, .. } = flow.orig.l4 else {
            unreachable!("all flows here have ports");
        };
        let bytes = protocol.packet(packet, src);
        let to = match packet.0 {
            Side::Client => SERVER,
            Side::Server => CLIENT,
        };
        let to = SocketAddr::from((Ipv4Addr::from(to), 0));
        let sent = rustix::net::sendto(&self.socket, &bytes, SendFlags::empty(), &to);
        sent.expect("there is a route");
        let now = lookup(&flow.orig, 0).expect("a lookup is answered")?;
        // A packet of the server may have opened another, the other way round.
        match now.protoinfo.filter(|_| now.orig == flow.orig)? {
            ProtoInfo::Tcp(TcpInfo { state, .. }) | ProtoInfo::Sctp(SctpInfo { state, .. }) => {
                Some(state)
            }
            ProtoInfo::Dccp(_) => None,
        }
    }

    /// A packet, by chance; the same in each run.
    fn draw(&mut self, protocol: Protocol) -> Packet {
        let mut below = |limit: usize| {
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(self.random >> 33).expect("31 bits") % limit
        };
        let side = [Side::Client, Side::Server][below(2)];
        (side, protocol.packets[below(protocol.packets.len())])
    }
}
