//! Packets held, in the running kernel: what comes, what verdicts do, and what happens when it is too much.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use conntrack::consts::*;
use conntrack::*;

use crate::packets;
use crate::support::*;
use crate::tool::proto_name;

/// Gives what the machine itself sends and `what` matches, of both families, to a queue.
pub fn hold(what: &str, queue: u16) {
    for iptables in ["iptables", "ip6tables"] {
        run(&format!(
            "{iptables} -w -t mangle -A OUTPUT {what} -j NFQUEUE --queue-num {queue} --queue-bypass"
        ));
    }
}

/// Queues of 4,096 packets.
pub fn open_queue(queues: RangeInclusive<u16>) -> QueueSocket {
    let options = QueueOptions {
        queues,
        length_max: 4096,
        when_full: Verdict::Accept,
    };
    QueueSocket::open(&options).expect("a queue is to be had")
}

/// What `read` makes of the next held packet, within 10 s; anything else fails.
pub fn next_held<T>(queue: &mut QueueSocket, mut read: impl FnMut(&Held<'_>) -> T) -> T {
    let mut found = None;
    next_items(queue, 1, &mut |item| match item {
        QueueItem::Held(held) => found = Some(read(&held)),
        other => panic!("{other:?}"),
    });
    found.expect("an item was given")
}

/// Gives the next items, so many, to `sink`, within 10 s.
fn next_items(queue: &mut QueueSocket, count: usize, sink: &mut impl FnMut(QueueItem<'_>)) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut missing = count;
    while missing > 0 {
        missing -= queue.drain(missing, sink).expect("it is readable").count;
        assert!(
            Instant::now() < deadline,
            "{missing} of {count} items did not come"
        );
        wait_readable(queue);
    }
}

/// The next held packets, so many.
fn next_ids(queue: &mut QueueSocket, count: usize) -> Vec<PacketId> {
    let mut ids = Vec::new();
    next_items(queue, count, &mut |item| match item {
        QueueItem::Held(held) => ids.push(held.id),
        other => panic!("{other:?}"),
    });
    ids
}

/// Whether nothing waits to be read.
fn is_quiet(queue: &mut QueueSocket) -> bool {
    let drained = queue.drain(1, &mut |item| panic!("{item:?}"));
    drained.expect("it is readable").count == 0
}

/// Datagrams of one byte, which says their number, over loopback.
struct Datagrams {
    client: UdpSocket,
    server: UdpSocket,
}

impl Datagrams {
    fn open() -> Self {
        let server = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        let address = server.local_addr().expect("it is bound");
        client.connect(address).expect("the address is there");
        let deadline = Some(Duration::from_secs(10));
        server.set_read_timeout(deadline).expect("it can be");
        Self { client, server }
    }

    fn send(&self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.client.send(&[number]).expect("it is sent");
        }
    }

    /// Asserts that these come next, and within 10 s.
    #[track_caller]
    fn assert_come(&self, expected: &[u8]) {
        let numbers: Vec<u8> = expected
            .iter()
            .map_while(|_| {
                let mut byte = [0];
                self.server.recv(&mut byte).ok().map(|_| byte[0])
            })
            .collect();
        assert_eq!(numbers, expected);
    }
}

#[test]
fn verdicts_go_in_one_send_and_in_any_order() {
    in_netns(|| {
        hold("-p udp", 7);
        let mut queue = open_queue(7..=7);
        let datagrams = Datagrams::open();
        datagrams.send(0..5);
        let ids = next_ids(&mut queue, 5);
        for (index, verdict) in [
            (3, Verdict::Accept),
            (0, Verdict::Drop),
            (4, Verdict::Accept),
            (1, Verdict::Accept),
        ] {
            queue.judge(ids[index], verdict);
        }
        queue.commit().expect("verdicts are sent");
        datagrams.assert_come(&[3, 4, 1]);
        queue.judge(ids[2], Verdict::Accept);
        queue.commit().expect("verdicts are sent");
        datagrams.assert_come(&[2]);
        assert!(is_quiet(&mut queue));
    });
}

#[test]
fn a_held_packet_says_where_it_waits_and_what_it_is() {
    in_netns(|| {
        run("iptables -t mangle -A OUTPUT -p udp -j MARK --set-mark 0x1234");
        hold("-p udp -m conntrack --ctstate NEW", 9);
        let mut queue = open_queue(9..=9);
        let datagrams = Datagrams::open();
        datagrams.client.send(&[b'x'; 1000]).expect("it is sent");
        let attached = queue.attaches_flows();
        let tuple = ports(
            IPPROTO_UDP,
            (
                "127.0.0.1",
                datagrams.client.local_addr().expect("it is bound").port(),
            ),
            (
                "127.0.0.1",
                datagrams.server.local_addr().expect("it is bound").port(),
            ),
        );
        let number = next_held(&mut queue, |held| {
            assert_eq!(held.id.queue, 9);
            assert_eq!(held.hook, NF_INET_LOCAL_OUT);
            assert_eq!(held.mark, 0x1234);
            assert_eq!((held.indev, held.outdev), (None, NonZeroU32::new(1)));
            assert_eq!((held.payload.len(), held.length), (256, 1028));
            assert_eq!(held.packet().map(|packet| packet.tuple), Ok(tuple));
            assert_eq!(held.flow.map(|flow| flow.orig), attached.then_some(tuple));
            assert_eq!(held.ct_info, attached.then_some(CtInfo::New));
            held.id.number
        });
        datagrams.send([1]);
        assert_eq!(next_held(&mut queue, |held| held.id.number), number + 1);
    });
}

#[test]
fn a_verdict_for_a_packet_that_is_gone_is_told_and_spoils_no_other() {
    in_netns(|| {
        hold("-p udp", 7);
        let mut queue = open_queue(7..=7);
        let datagrams = Datagrams::open();
        datagrams.send(0..3);
        let ids = next_ids(&mut queue, 3);
        let elsewhere = PacketId { queue: 8, ..ids[0] };
        for id in [ids[2], ids[2], elsewhere, ids[0]] {
            queue.judge(id, Verdict::Accept);
        }
        queue.commit().expect("verdicts are sent");
        datagrams.assert_come(&[2, 0]);
        // The complaints stand among the packets.
        datagrams.send([3]);
        let mut told = Vec::new();
        next_items(&mut queue, 3, &mut |item| {
            told.push(match item {
                QueueItem::Gone(packet) => (packet, Some(Errno::NOENT)),
                QueueItem::Refused { packet, errno } => (packet, Some(errno)),
                QueueItem::Held(held) => (held.id, None),
                other => panic!("{other:?}"),
            });
        });
        let next = PacketId {
            number: ids[2].number + 1,
            ..ids[2]
        };
        assert_eq!(
            told,
            [
                (ids[2], Some(Errno::NOENT)),
                (elsewhere, Some(Errno::NODEV)),
                (next, None)
            ]
        );
    });
}

#[test]
fn one_socket_reads_several_queues() {
    in_netns(|| {
        let mut queue = open_queue(3..=5);
        let datagrams: Vec<_> = (3..=5)
            .map(|number| {
                let datagrams = Datagrams::open();
                let port = datagrams.server.local_addr().expect("it is bound").port();
                hold(&format!("-p udp --dport {port}"), number);
                datagrams
            })
            .collect();
        for datagrams in datagrams.iter().rev() {
            datagrams.send(0..2);
        }
        let ids = next_ids(&mut queue, 6);
        let queues: Vec<_> = ids.iter().map(|id| id.queue).collect();
        assert_eq!(queues, [5, 5, 4, 4, 3, 3]);
        for id in ids {
            queue.judge(id, Verdict::Accept);
        }
        queue.commit().expect("verdicts are sent");
        for datagrams in datagrams {
            datagrams.assert_come(&[0, 1]);
        }
        assert!(is_quiet(&mut queue));
    });
}

#[test]
fn what_a_full_queue_cannot_hold_passes_or_is_dropped() {
    for (when_full, passed) in [(Verdict::Accept, &[4, 5][..]), (Verdict::Drop, &[])] {
        in_netns(|| {
            hold("-p udp", 7);
            let options = QueueOptions {
                queues: 7..=7,
                length_max: 4,
                when_full,
            };
            let mut queue = QueueSocket::open(&options).expect("a queue is to be had");
            let datagrams = Datagrams::open();
            datagrams.send(0..6);
            datagrams.assert_come(passed);
            for id in next_ids(&mut queue, 4) {
                queue.judge(id, Verdict::Accept);
            }
            queue.commit().expect("verdicts are sent");
            datagrams.assert_come(&[0, 1, 2, 3]);
            assert!(is_quiet(&mut queue));
        });
    }
}

#[test]
fn an_unread_queue_holds_as_many_as_it_should() {
    const COUNT: usize = 4096;
    in_netns(|| {
        hold("-p udp", 7);
        let mut queue = open_queue(7..=7);
        let sockets: Vec<_> = (0..32).map(|_| Datagrams::open()).collect();
        for datagrams in &sockets {
            datagrams.send([7; COUNT / 32]);
        }
        let ids = next_ids(&mut queue, COUNT);
        // The worst order for the kernel, and more than one chunk.
        for id in ids.into_iter().rev() {
            queue.judge(id, Verdict::Accept);
        }
        queue.commit().expect("verdicts are sent");
        for datagrams in &sockets {
            datagrams.assert_come(&[7; COUNT / 32]);
        }
        assert!(is_quiet(&mut queue));
    });
}

#[test]
fn a_receive_buffer_that_is_full_is_told_and_packets_pass() {
    in_netns(|| {
        hold("-p udp", 7);
        let mut queue = open_queue(7..=7);
        rustix::net::sockopt::set_socket_recv_buffer_size(&queue, 1).expect("it can be set");
        let datagrams = Datagrams::open();
        datagrams.send(0..100);
        let (mut held, mut overruns) = (Vec::new(), 0);
        let mut sink = |item: QueueItem<'_>| match item {
            QueueItem::Held(packet) => held.push(packet.id),
            QueueItem::Overrun => overruns += 1,
            other => panic!("{other:?}"),
        };
        queue.drain(usize::MAX, &mut sink).expect("it is readable");
        assert!(overruns > 0 && !held.is_empty() && held.len() < 100);
        // Those that passed came first.
        let count = u8::try_from(held.len()).expect("fewer than 100");
        for id in held {
            queue.judge(id, Verdict::Accept);
        }
        queue.commit().expect("verdicts are sent");
        let passed: Vec<u8> = (count..100).chain(0..count).collect();
        datagrams.assert_come(&passed);
    });
}

#[test]
fn packets_pass_when_nobody_reads_any_more() {
    in_netns(|| {
        hold("-p udp", 7);
        let datagrams = Datagrams::open();
        datagrams.send([1]);
        datagrams.assert_come(&[1]);
        let mut queue = open_queue(7..=7);
        datagrams.send([2]);
        assert_eq!(next_ids(&mut queue, 1).len(), 1);
        drop(queue);
        // What was held then is lost.
        datagrams.send([3]);
        datagrams.assert_come(&[3]);
    });
}

#[test]
fn packets_of_an_interface_that_goes_down_are_gone() {
    in_netns(|| {
        run("ip link add outer type veth peer name other");
        run("ip addr add 10.1.0.1/24 dev outer");
        run("ip link set outer up");
        run("ip link set other up");
        run("ip neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev outer");
        hold("-p udp", 7);
        let mut queue = open_queue(7..=7);
        let client = UdpSocket::bind("10.1.0.1:0").expect("the address is ours");
        client.send_to(b"x", "10.1.0.2:9").expect("it is sent");
        let ids = next_ids(&mut queue, 1);
        run("ip link set outer down");
        queue.judge(ids[0], Verdict::Accept);
        queue.commit().expect("a verdict is sent");
        let mut told = None;
        next_items(&mut queue, 1, &mut |item| {
            told = matches!(item, QueueItem::Gone(_)).then_some(ids[0]);
        });
        assert_eq!(told, Some(ids[0]));
    });
}

/// Each copy that comes while none has passed has an entry of its own, of which one goes into the table. What becomes of
/// the other packet depends on the kernel.
#[test]
fn a_first_packet_and_its_retransmission_make_one_entry() {
    for (proto, bytes) in [
        (IPPROTO_TCP, packets::tcp(40_000, 443, 2, &[])),
        (IPPROTO_UDP, packets::udp(40_000, 443)),
    ] {
        in_netns(|| {
            for address in packets::V4 {
                run(&format!("ip addr add {address}/32 dev lo"));
            }
            hold(
                &format!(
                    "-p {} --dport 443 -m conntrack --ctstate NEW",
                    proto_name(proto)
                ),
                7,
            );
            let mut events = open_events();
            let mut queue = open_queue(7..=7);
            let packet = packets::ipv4(proto, packets::V4, &[], &bytes);
            packets::send(&packet);
            packets::send(&packet);
            for id in next_ids(&mut queue, 2) {
                queue.judge(id, Verdict::Accept);
            }
            queue.commit().expect("verdicts are sent");
            let is_new =
                |item: &&Item| matches!(item, Item::Event(it) if it.kind == EventKind::New);
            let items = read_until(&mut events, |items| items.iter().any(|item| is_new(&item)));
            assert_eq!(items.iter().filter(is_new).count(), 1, "{items:?}");
            assert!(is_quiet(&mut queue));
        });
    }
}

#[test]
fn a_queue_has_one_reader() {
    in_netns(|| {
        let queue = open_queue(7..=7);
        let options = QueueOptions {
            queues: 6..=7,
            length_max: 1,
            when_full: Verdict::Drop,
        };
        let error = QueueSocket::open(&options).err().expect("it is taken");
        assert!(
            matches!(error, SocketError::QueueTaken { queue: 7 }),
            "{error}"
        );
        assert!(error.to_string().contains("queue 7"), "{error}");
        drop(queue);
        assert!(QueueSocket::open(&options).is_ok());
    });
}

#[test]
fn a_queue_needs_net_admin() {
    in_netns(|| {
        drop_net_admin();
        let options = QueueOptions {
            queues: 7..=7,
            length_max: 1,
            when_full: Verdict::Drop,
        };
        let error = QueueSocket::open(&options).err().expect("it is refused");
        assert!(matches!(error, SocketError::Privilege), "{error}");
    });
}

/// A large packet, several segments in one, is held as such, and goes on as such.
#[test]
fn large_packets_are_held_uncut() {
    const BYTES: usize = 4 << 20;
    in_netns(|| {
        run("ip link set lo mtu 1500");
        hold("-p tcp", 7);
        let mut queue = open_queue(7..=7);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
        let address = listener.local_addr().expect("it is bound");
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("it connects");
            stream.write_all(&vec![b'x'; BYTES]).expect("it is sent");
        });
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it connects");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("it is sent");
            bytes.len()
        });
        let mut large = 0;
        while !server.is_finished() {
            let mut ids = Vec::new();
            let mut sink = |item: QueueItem<'_>| match item {
                QueueItem::Held(held) => {
                    assert!(held.packet().is_ok());
                    if held.skb_info & NFQA_SKB_GSO != 0 {
                        large = large.max(held.length);
                    }
                    ids.push(held.id);
                }
                other => panic!("{other:?}"),
            };
            queue.drain(64, &mut sink).expect("it is readable");
            for id in ids {
                queue.judge(id, Verdict::Accept);
            }
            queue.commit().expect("verdicts are sent");
            wait_readable(&queue);
        }
        client.join().expect("it was sent");
        assert_eq!(server.join().expect("it was received"), BYTES);
        assert!(large > 3000, "{large}");
    });
}
