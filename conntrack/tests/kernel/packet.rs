//! What is read of a packet's headers is what the kernel's tracker makes of the packet.

use conntrack::*;

use crate::packets;
use crate::queue::{hold, next_held, open_queue};
use crate::support::*;

/// Gives this namespace the addresses that packets go between.
fn add_addresses() {
    for address in packets::V4 {
        run(&format!("ip addr add {address}/32 dev lo"));
    }
    for address in packets::V6 {
        run(&format!("ip addr add {address}/128 dev lo nodad"));
    }
}

#[test]
fn a_held_packet_tells_the_flow_that_the_kernel_then_makes() {
    in_netns(|| {
        add_addresses();
        hold("-m conntrack --ctstate NEW", 7);
        let mut events = open_events();
        let mut queue = open_queue(7..=7);
        for (name, bytes) in packets::openers() {
            packets::send(&bytes);
            let (id, told) = next_held(&mut queue, |held| {
                let told = held.packet().map(|packet| packet.opened_flow());
                (
                    held.id,
                    told.unwrap_or_else(|error| panic!("{name}: {error}")),
                )
            });
            queue.judge(id, Verdict::Accept);
            queue.commit().expect("a verdict is sent");
            let is_new =
                |item: &&Item| matches!(item, Item::Event(event) if event.kind == EventKind::New);
            let items = read_until(&mut events, |items| items.iter().any(|item| is_new(&item)));
            let Some(Item::Event(event)) = items.iter().find(is_new) else {
                panic!("{name}: {items:?}");
            };
            let made = event.flow;
            assert_eq!(
                (told.orig, told.reply, told.protoinfo),
                (made.orig, made.reply, made.protoinfo),
                "{name}"
            );
        }
    });
}

/// A reassembled packet is held whole: the kernel has put it together before any rule sees it.
#[test]
fn fragments_are_held_as_the_packet_they_make() {
    in_netns(|| {
        add_addresses();
        hold("-p udp -m conntrack --ctstate NEW", 7);
        let mut queue = open_queue(7..=7);
        let datagram = packets::ipv4(
            17,
            packets::V4,
            &[],
            &[udp_of(40_000, 53, 32), vec![1; 24]].concat(),
        );
        for (offset, more) in [(0, true), (16, false)] {
            let mut part = datagram[..20].to_vec();
            part.extend(&datagram[20 + offset..][..16]);
            part[2..4].copy_from_slice(&36u16.to_be_bytes());
            part[4..6].copy_from_slice(&[0x12, 0x34]);
            let place = u16::try_from(offset / 8).expect("it is small") | u16::from(more) << 13;
            part[6..8].copy_from_slice(&place.to_be_bytes());
            assert_eq!(Packet::parse(&part), Err(PacketError::Fragment));
            packets::send(&part);
        }
        let (length, tuple) = next_held(&mut queue, |held| {
            (held.length, held.packet().map(|packet| packet.tuple))
        });
        assert_eq!(length, 52);
        assert_eq!(
            tuple,
            Ok(ports(17, (packets::V4[0], 40_000), (packets::V4[1], 53)))
        );
    });
}

fn udp_of(src: u16, dst: u16, len: u16) -> Vec<u8> {
    let mut header = packets::udp(src, dst);
    header[4..6].copy_from_slice(&len.to_be_bytes());
    header
}

/// The tracker of the first packet and of the answers: what a SYN/ACK says is what the entry then has.
#[test]
fn a_held_answer_tells_what_the_entry_becomes() {
    in_netns(|| {
        hold(
            "-p tcp --tcp-flags SYN,ACK SYN,ACK -m conntrack --ctstate ESTABLISHED",
            7,
        );
        let mut queue = open_queue(7..=7);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is up");
        let address = listener.local_addr().expect("it is bound");
        let client =
            std::thread::spawn(move || std::net::TcpStream::connect(address).expect("it connects"));
        let (id, answer) = next_held(&mut queue, |held| {
            (held.id, held.packet().expect("it is TCP"))
        });
        let Transport::Tcp(header) = answer.transport else {
            panic!("{answer:?}");
        };
        assert_eq!(header.kind, TcpKind::SynAck);
        queue.judge(id, Verdict::Accept);
        queue.commit().expect("a verdict is sent");
        client.join().expect("it connects");
        let flow = lookup(&answer.tuple.mirror(), 0)
            .expect("it is answered")
            .expect("it is there");
        let Some(ProtoInfo::Tcp(tcp)) = flow.protoinfo else {
            panic!("{flow:?}");
        };
        assert_eq!(tcp.wscale.map(|scale| scale[1]), header.window_scale);
        let flags = tcp.flags.expect("flags are told")[1];
        assert_eq!(flags & header.conntrack_flags(), header.conntrack_flags());
    });
}
