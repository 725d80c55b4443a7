//! Flows that the kernel attaches to held packets (NFQA_CT).
//!
//! Kernels of distributions do it, others may be built without; `tests/tests/debian.rs` runs this on one that does. With
//! `HELD_CAPTURES` it writes there what it saw, for `captures.rs`: for each packet that opens a flow the message of the
//! queue, then the event that came of it.

use std::fmt::Write as _;
use std::thread;

use conntrack::decode::decode_event;
use conntrack::queue::decode_item;
use conntrack::*;
use rustix::net::RecvFlags;

use crate::packets;
use crate::queue::{next_held, open_queue};
use crate::record;
use crate::support::*;

/// Holds what opens a flow, and the answers to it, after all translation.
const HOLD: &str = "
    table inet hold {
        chain translated {
            type filter hook postrouting priority 101
            meta l4proto != icmpv6 ct state new,established queue flags bypass to 7
            icmpv6 type { echo-request, echo-reply } queue flags bypass to 7
        }
    }
";

/// The messages of all packets that were held while every kind of packet was sent, in order.
fn hold_packets() -> Vec<Vec<u8>> {
    let mut queue = open_queue(7..=7);
    assert!(queue.attaches_flows(), "this kernel attaches no flows");
    let sender = thread::spawn(record::send_packets);
    let mut messages = Vec::new();
    loop {
        let all_sent = sender.is_finished();
        let mut buffer = vec![0; 8192];
        // The bytes themselves, past the decoder.
        match rustix::net::recv(&queue, &mut buffer[..], RecvFlags::empty()) {
            Ok((len, _)) => buffer.truncate(len),
            Err(Errno::AGAIN) if all_sent => break,
            Err(Errno::AGAIN) => {
                wait_readable(&queue);
                continue;
            }
            Err(errno) => panic!("{errno}"),
        }
        queue.judge(held(&buffer).id, Verdict::Accept);
        queue.commit().expect("a verdict is sent");
        messages.push(buffer);
    }
    sender.join().expect("all packets were answered");
    messages
}

fn held(message: &[u8]) -> Held<'_> {
    match decode_item(message) {
        Some(QueueItem::Held(held)) => held,
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT and nft queue; tests/tests/debian.rs runs it"]
fn a_packet_held_after_all_translation_tells_both_tuples() {
    in_netns(|| {
        record::prepare();
        nft(HOLD);
        let events = record::open_raw_events();
        let messages = hold_packets();
        let born: Vec<_> = record::drain(&events)
            .into_iter()
            .filter(|event| decode_event(event).is_ok_and(|it| it.kind == EventKind::New))
            .collect();

        let mut captures = String::new();
        let (mut translated, mut answers) = (Vec::new(), 0);
        for message in &messages {
            let held = held(message);
            let flow = held.flow.expect("the kernel attaches it");
            match held.ct_info {
                Some(CtInfo::New) => {}
                Some(CtInfo::Reply) => {
                    answers += 1;
                    continue;
                }
                _ => continue,
            }
            let event = born
                .iter()
                .find(|it| decode_event(it).is_ok_and(|it| it.flow.orig == flow.orig))
                .unwrap_or_else(|| panic!("no event of {flow:?}"));
            let made = decode_event(event).expect("it is one").flow;
            assert_eq!((flow.reply, flow.id), (made.reply, made.id));
            assert_eq!((flow.protoinfo, flow.labels), (made.protoinfo, made.labels));
            assert_eq!(flow.mark.unwrap_or(0), made.mark.unwrap_or(0));
            if let Ok(packet) = held.packet() {
                // The packet is translated already.
                let sent = flow.reply.mirror();
                assert_eq!((packet.tuple.src, packet.tuple.dst), (sent.src, sent.dst));
            }
            if flow.reply != flow.orig.mirror() {
                translated.push((flow.orig.src.is_ipv4(), flow.orig.dst == flow.reply.src));
            }
            writeln!(captures, "{}\n{}", hex(message), hex(event)).expect("a string");
        }
        for ipv4 in [true, false] {
            for source_only in [true, false] {
                assert!(translated.contains(&(ipv4, source_only)), "{translated:?}");
            }
        }
        assert!(answers > 4, "{answers}");
        if let Ok(path) = std::env::var("HELD_CAPTURES") {
            std::fs::write(&path, captures).expect(&path);
        }
    });
}

/// Two clients with the same source port, both held before either is in the table: source NAT gives both the same port, and
/// only the first to be let go goes on; the other's retransmission gets another port.
#[test]
#[ignore = "needs a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT and nft queue; tests/tests/debian.rs runs it"]
fn of_two_held_flows_that_are_translated_alike_one_goes_on() {
    in_netns(|| {
        for address in ["10.1.0.1", "10.1.0.2", "192.0.2.80"] {
            run(&format!("ip addr add {address}/32 dev lo"));
        }
        run("ip route add default dev lo");
        nft("
            table inet t {
                chain snatting {
                    type nat hook postrouting priority 100
                    ip saddr { 10.1.0.1, 10.1.0.2 } snat to 198.51.100.7
                }
                chain hold {
                    type filter hook postrouting priority 101
                    tcp dport 443 ct state new queue flags bypass to 7
                }
            }
        ");
        let mut queue = open_queue(7..=7);
        let mut told = Vec::new();
        let mut send = |queue: &mut QueueSocket, client: &str| {
            let syn = packets::tcp(40_000, 443, 2, &[]);
            let packet = packets::ipv4(6, [client, "192.0.2.80"], &[], &syn);
            packets::send(&packet);
            let (id, reply) = next_held(queue, |held| (held.id, held.flow.map(|it| it.reply)));
            told.push(reply.expect("it is attached"));
            id
        };
        let ids = ["10.1.0.1", "10.1.0.2"].map(|client| send(&mut queue, client));
        for id in ids {
            queue.judge(id, Verdict::Accept);
        }
        queue.commit().expect("verdicts are sent");
        assert_eq!(dump().len(), 1);
        send(&mut queue, "10.1.0.2");
        assert_eq!(told[0], told[1]);
        assert_ne!(told[0], told[2]);
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string");
        text
    })
}
