//! What one flow costs at each end: `cargo bench -p ccp`. No sealing, no sockets, no kernel.

use ccp::network::NetworkId;
use ccp::node::{Config, End, Local, Node, Outcome, PassEnd, Row};
use ccp::record::{Family, FlowKey, MemberId, Patch, Status, ZoneDirection};
use ccp::table::Origin;
use ccp::time::Instant;
use ccp::wire::header::Header;
use core::time::Duration;

const FLOWS: u32 = 200_000;
/// Flows between two flushes: 1 ms at 100,000 flows/s.
const FLUSH: u32 = 100;

fn node(member: u8, peer: u8) -> Node {
    let [member, peer] = [member, peer].map(|id| MemberId::new(id).expect("1 or 2"));
    let config = Config {
        hash_seed: [1, 2],
        ..Config::new(1, member, vec![peer], u64::from(member.get()))
    };
    let mut node = Node::new(config, Instant::from_micros(1));
    node.begin_pass();
    assert_eq!(node.end_pass(), PassEnd::Complete);
    node
}

fn key(n: u32) -> FlowKey {
    let mut src = [0; 16];
    src[..4].copy_from_slice(&n.to_be_bytes());
    let mut dst = [0; 16];
    dst[..4].copy_from_slice(&[10, 0, 0, 1]);
    FlowKey {
        src,
        dst,
        l4: [n as u16, 443],
        zone: 0,
        proto: 6,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    }
}

fn patch(proto_state: u8) -> Patch {
    Patch {
        timeout_secs: Some(432_000),
        proto_state: Some(proto_state),
        status: Some(Status {
            seen_reply: proto_state >= 2,
            assured: proto_state >= 3,
        }),
        ..Patch::default()
    }
}

/// Everything that `from` has to send, decoded at `to`; returns datagrams, bytes and the time that each end took.
fn pump(from: &mut Node, to: &mut Node, now: Instant) -> (u64, u64, [Duration; 2]) {
    let (mut datagrams, mut bytes) = (0, 0);
    let mut spent = [Duration::ZERO; 2];
    let mut out = Vec::with_capacity(2048);
    loop {
        let begin = std::time::Instant::now();
        out.clear();
        let transmit = from.poll_transmit(now, &mut out);
        spent[0] += begin.elapsed();
        if transmit.is_none() {
            return (datagrams, bytes, spent);
        }
        datagrams += 1;
        bytes += out.len() as u64;
        let begin = std::time::Instant::now();
        let (header, body) = Header::decode(&out).expect("well formed");
        to.handle_datagram(&header, body, NetworkId::FIRST, now)
            .expect("well formed");
        while let Some(apply) = to.poll_apply() {
            let ticket = apply.ticket;
            to.handle_applied(ticket, Outcome::Done, now);
        }
        spent[1] += begin.elapsed();
    }
}

fn main() {
    let (mut a, mut b) = (node(1, 2), node(2, 1));
    let mut now = Instant::from_micros(1_000_000);
    for _ in 0..10 {
        now = now + Duration::from_millis(100);
        a.handle_timeout(now);
        b.handle_timeout(now);
        pump(&mut a, &mut b, now);
        pump(&mut b, &mut a, now);
    }
    assert!(!a.membership().live().is_empty() && !b.membership().live().is_empty());
    let mut round = |a: &mut Node,
                     b: &mut Node,
                     name: &str,
                     change: &mut dyn FnMut(&mut Node, &FlowKey)| {
        let (mut datagrams, mut bytes, mut spent) = (0, 0, [Duration::ZERO; 2]);
        for first in (0..FLOWS).step_by(FLUSH as usize) {
            now = now + Duration::from_millis(1);
            let begin = std::time::Instant::now();
            for n in first..first + FLUSH {
                change(a, &key(n));
            }
            a.handle_timeout(now);
            spent[0] += begin.elapsed();
            let (d, n, s) = pump(a, b, now);
            (datagrams, bytes) = (datagrams + d, bytes + n);
            spent = [spent[0] + s[0], spent[1] + s[1]];
            b.handle_timeout(now);
            pump(b, a, now);
        }
        let per_flow = |spent: Duration| spent.as_nanos() as f64 / f64::from(FLOWS);
        println!(
            "{name:32} sender {:4.0} ns, receiver {:4.0} ns, {:5.1} bytes a flow; {datagrams} datagrams",
            per_flow(spent[0]),
            per_flow(spent[1]),
            (bytes + datagrams * (16 + 8 + 20)) as f64 / f64::from(FLOWS),
        );
    };
    for _ in 0..2 {
        round(
            &mut a,
            &mut b,
            "new, update, update: one record",
            &mut |node, key| {
                node.handle_local(key, Local::New(&patch(1)));
                node.handle_local(key, Local::Update(&patch(2)));
                node.handle_local(key, Local::Update(&patch(3)));
            },
        );
        round(&mut a, &mut b, "update", &mut |node, key| {
            node.handle_local(key, Local::Update(&patch(4)));
        });
        round(
            &mut a,
            &mut b,
            "row of a pass, nothing new",
            &mut |node, key| {
                let state = patch(4);
                node.handle_row(
                    Row {
                        key,
                        state: &state,
                        mark_mask: u32::MAX,
                    },
                    Origin::Found,
                );
            },
        );
        round(&mut a, &mut b, "destroy", &mut |node, key| {
            node.handle_local(key, Local::Destroy(End::Over));
        });
    }
    for _ in 0..3 {
        now = now + Duration::from_millis(10);
        pump(&mut a, &mut b, now);
        pump(&mut b, &mut a, now);
    }
    assert!(a.table().is_empty() && b.table().is_empty());
}
