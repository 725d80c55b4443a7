//! What a flow costs in the running kernel: created, updated, deleted in batches, told to a listener, dumped.
//!
//! Needs root; runs in a network namespace of its own.

use std::io;
use std::net::Ipv4Addr;
use std::time::Instant;

use conntrack::consts::*;
use conntrack::*;
use rustix::thread::UnshareFlags;

const FLOWS: u32 = 50_000;

fn main() {
    // `cargo test` runs benches too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    unshare_net();
    println!("ns a flow, {FLOWS} TCP flows, median of 5");
    println!(
        "{:>6} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "batch", "listener", "create", "update", "delete", "event", "dump"
    );
    for listener in [false, true] {
        for batch in [1, 8, 64, 1024] {
            let mut rounds: Vec<_> = (0..5).map(|_| round(batch, listener)).collect();
            rounds.sort_by_key(|round| round[0]);
            let [create, update, delete, event, dump] = rounds[2];
            println!(
                "{batch:>6} {listener:>9} {create:>8} {update:>8} {delete:>8} {event:>8} {dump:>8}"
            );
        }
    }
}

#[expect(deprecated, reason = "it is unsafe for other flags than NEWNET")]
fn unshare_net() {
    rustix::thread::unshare(UnshareFlags::NEWNET).expect("a network namespace: run as root");
}

/// Nanoseconds a flow of create, update, delete, reading the event of an update, dump.
fn round(batch: u32, listener: bool) -> [u128; 5] {
    let mut injector = Injector::open().expect("an injector");
    let options = EventSocketOptions {
        receive_buffer_bytes: 512 << 20,
        ignore: None,
    };
    let mut socket = listener.then(|| EventSocket::open(&options).expect("events"));
    let create = timed(&mut injector, batch, Injector::create);
    drain(&mut socket);
    let update = timed(&mut injector, batch, Injector::update);
    let event = drain(&mut socket);
    let start = Instant::now();
    let flows = Dump::open()
        .expect("a dump")
        .filter(|item| matches!(item, Ok(DumpItem::Flow(_))))
        .count();
    assert_eq!(flows, FLOWS as usize);
    let dump = start.elapsed().as_nanos() / u128::from(FLOWS);
    let delete = timed(&mut injector, batch, Injector::delete);
    [create, update, delete, event, dump]
}

fn timed(
    injector: &mut Injector,
    batch: u32,
    request: impl Fn(&mut Injector, &Flow) -> usize,
) -> u128 {
    let start = Instant::now();
    for first in (0..FLOWS).step_by(batch as usize) {
        for number in first..(first + batch).min(FLOWS) {
            request(injector, &flow(number));
        }
        commit(injector).expect("the kernel takes requests");
    }
    start.elapsed().as_nanos() / u128::from(FLOWS)
}

fn commit(injector: &mut Injector) -> io::Result<()> {
    injector
        .commit(&mut |index, outcome| outcome.unwrap_or_else(|errno| panic!("{index}: {errno}")))
}

fn drain(socket: &mut Option<EventSocket>) -> u128 {
    let Some(socket) = socket else { return 0 };
    let start = Instant::now();
    let mut events = 0;
    socket
        .drain(usize::MAX, &mut |item| {
            events += u128::from(matches!(item, Item::Event(_)))
        })
        .expect("events");
    assert_eq!(events, u128::from(FLOWS));
    start.elapsed().as_nanos() / events
}

fn flow(number: u32) -> Flow {
    let src = Ipv4Addr::from(0x0a00_0000 + (number >> 8)).into();
    let l4 = L4::Ports {
        src: 1024 + (number & 0xff) as u16,
        dst: 443,
    };
    let tcp = TcpInfo {
        state: TCP_CONNTRACK_ESTABLISHED,
        wscale: Some([7, 7]),
        flags: Some([3, 3]),
    };
    Flow {
        status: Some(IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED),
        timeout: Some(600),
        mark: Some(1),
        protoinfo: Some(ProtoInfo::Tcp(tcp)),
        ..Flow::new(Tuple {
            src,
            dst: Ipv4Addr::new(192, 0, 2, 80).into(),
            proto: 6,
            l4,
            zone: 0,
        })
    }
}
