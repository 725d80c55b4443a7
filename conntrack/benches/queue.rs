//! What holding a packet costs in the running kernel: queued, read, and let go, by verdicts in each send, in the order in
//! which the packets came or in another, over one queue or several.
//!
//! Needs root and iptables; runs in a network namespace of its own. Packets are UDP datagrams over loopback, which the
//! verdict's send delivers: what a send costs without any queue is the first line.

use std::hint::black_box;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Instant;

use conntrack::*;
use rustix::thread::UnshareFlags;

/// Held at once: what the daemon holds at most.
const PACKETS: usize = 4096;
const ROUNDS: usize = 15;
const FIRST_PORT: u16 = 5000;

/// How verdicts follow the packets.
#[derive(Clone, Copy, Debug)]
enum Order {
    Same,
    Reverse,
    Random,
}

fn main() {
    // `cargo test` runs benches too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    unshare_net();
    run("ip link set lo up");
    println!(
        "ns a packet, {PACKETS} held at once, median of {ROUNDS}; unheld: {}",
        unheld()
    );
    println!(
        "{:>6} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "queues", "verdicts", "order", "queue", "read", "verdict"
    );
    for (queues, batch, order) in [
        (1, 1, Order::Same),
        (1, 8, Order::Same),
        (1, 64, Order::Same),
        (1, 256, Order::Same),
        (1, 256, Order::Reverse),
        (1, 256, Order::Random),
        (4, 256, Order::Same),
        (4, 256, Order::Random),
        (16, 256, Order::Random),
    ] {
        let mut rounds: Vec<_> = (0..ROUNDS).map(|_| round(queues, batch, order)).collect();
        let [queue, read, verdict] = [0, 1, 2].map(|part| {
            rounds.sort_by_key(|round| round[part]);
            rounds[ROUNDS / 2][part]
        });
        println!("{queues:>6} {batch:>8} {order:>8?} {queue:>8} {read:>8} {verdict:>8}");
    }
}

#[expect(deprecated, reason = "it is unsafe for other flags than NEWNET")]
fn unshare_net() {
    rustix::thread::unshare(UnshareFlags::NEWNET).expect("a network namespace: run as root");
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let program = words.next().expect("a command has a first word");
    let status = Command::new(program).args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "{command}");
}

/// Senders to as many ports as there are queues, and who receives.
fn sockets(queues: u16) -> Vec<[UdpSocket; 2]> {
    (0..queues)
        .map(|queue| {
            let server =
                UdpSocket::bind(("127.0.0.1", FIRST_PORT + queue)).expect("the port is free");
            let client = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
            client
                .connect(("127.0.0.1", FIRST_PORT + queue))
                .expect("it is there");
            rustix::net::sockopt::set_socket_send_buffer_size_force(&client, 64 << 20)
                .expect("root");
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&server, 64 << 20)
                .expect("root");
            [client, server]
        })
        .collect()
}

fn send(sockets: &[[UdpSocket; 2]]) -> u128 {
    let start = Instant::now();
    for number in 0..PACKETS {
        let [client, _] = &sockets[number % sockets.len()];
        client.send(b"x").expect("it is sent");
    }
    each(start)
}

fn each(start: Instant) -> u128 {
    start.elapsed().as_nanos() / PACKETS as u128
}

/// A datagram that no queue holds.
fn unheld() -> u128 {
    let sockets = sockets(1);
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| send(&sockets)).collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// Nanoseconds a packet: to send it into the queue, to read and parse it, to let it go.
fn round(queues: u16, batch: usize, order: Order) -> [u128; 3] {
    let sockets = sockets(queues);
    for queue in 0..queues {
        let port = FIRST_PORT + queue;
        run(&format!(
            "iptables -t mangle -A OUTPUT -p udp --dport {port} -j NFQUEUE --queue-num {queue} --queue-bypass"
        ));
    }
    let options = QueueOptions {
        queues: 0..=queues - 1,
        length_max: PACKETS as u32,
        when_full: Verdict::Drop,
    };
    let mut queue = QueueSocket::open(&options).expect("a queue");
    let queued = send(&sockets);

    let mut ids = Vec::with_capacity(PACKETS);
    let start = Instant::now();
    let mut sink = |item: QueueItem<'_>| {
        if let QueueItem::Held(held) = item {
            black_box(held.packet()).expect("it is UDP");
            ids.push(held.id);
        }
    };
    queue.drain(usize::MAX, &mut sink).expect("it is readable");
    let read = each(start);
    assert_eq!(ids.len(), PACKETS);

    put_in_order(&mut ids, order);
    let start = Instant::now();
    for batch in ids.chunks(batch) {
        for &id in batch {
            queue.judge(id, Verdict::Accept);
        }
        queue.commit().expect("verdicts are sent");
    }
    let judged = each(start);
    run("iptables -t mangle -F OUTPUT");
    [queued, read, judged]
}

fn put_in_order(ids: &mut [PacketId], order: Order) {
    match order {
        Order::Same => {}
        Order::Reverse => ids.reverse(),
        Order::Random => {
            // Any fixed shuffle does: steps of a number that shares no factor with the length.
            let copy = ids.to_vec();
            for (at, id) in ids.iter_mut().enumerate() {
                *id = copy[at * 2654435761 % copy.len()];
            }
        }
    }
}
