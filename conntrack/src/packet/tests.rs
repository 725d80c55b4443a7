use proptest::prelude::*;

use super::*;

/// An IPv4 packet without transport header.
const IPV4: [u8; 20] = [
    0x45,
    0,
    0,
    20,
    0,
    0,
    0x40,
    0,
    64,
    IPPROTO_TCP,
    0,
    0,
    10,
    0,
    0,
    1,
    192,
    0,
    2,
    80,
];

/// Ports 1 and 2, SYN, window scale 7.
const SYN: [u8; 24] = [
    0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0, 0, 0, 0, 1, 3, 3, 7,
];

fn syn() -> Vec<u8> {
    [&IPV4[..], &SYN].concat()
}

/// A SYN behind these extension headers, each with its type.
fn syn_behind(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, IPPROTO_TCP, 64];
    packet.extend([0xfd; 32]);
    let mut next_at = 6;
    for (kind, rest) in extensions {
        packet[next_at] = *kind;
        next_at = packet.len();
        packet.push(IPPROTO_TCP);
        packet.extend(*rest);
    }
    packet.extend(SYN);
    packet
}

fn with(mut packet: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    packet[at] = value;
    packet
}

#[test]
fn a_syn_is_read() {
    let packet = Packet::parse(&syn()).expect("it is whole");
    assert_eq!(packet.tuple.src, IpAddr::from([10, 0, 0, 1]));
    assert_eq!(packet.tuple.dst, IpAddr::from([192, 0, 2, 80]));
    assert_eq!(packet.tuple.l4, L4::Ports { src: 1, dst: 2 });
    let Transport::Tcp(header) = packet.transport else {
        panic!("{packet:?}");
    };
    assert_eq!((header.kind, header.window_scale), (TcpKind::Syn, Some(7)));
    assert!(!header.sack_permitted);
}

#[test]
fn flags_mean_what_the_tracker_takes_them_for() {
    for (flags, expected) in [
        (0x02, TcpKind::Syn),
        (0xc2, TcpKind::Syn),
        (0x03, TcpKind::Syn),
        (0x12, TcpKind::SynAck),
        (0x10, TcpKind::Ack),
        (0x18, TcpKind::Ack),
        (0x11, TcpKind::Fin),
        (0x01, TcpKind::Fin),
        (0x04, TcpKind::Rst),
        (0x16, TcpKind::Rst),
        (0x00, TcpKind::None),
        (0x28, TcpKind::None),
    ] {
        let packet = Packet::parse(&with(syn(), 33, flags)).expect("it is whole");
        let Transport::Tcp(header) = packet.transport else {
            panic!("{packet:?}");
        };
        assert_eq!(header.kind, expected, "{flags:#x}");
    }
}

#[test]
fn each_error_has_its_cause() {
    const FRAGMENT: u8 = IPPROTO_FRAGMENT;
    let cases = [
        (Vec::new(), PacketError::Short),
        (with(syn(), 0, 0x55), PacketError::Version),
        (with(syn(), 0, 0x44), PacketError::HeaderLength),
        (with(syn(), 32, 0x40), PacketError::HeaderLength),
        (with(syn(), 6, 0x20), PacketError::Fragment),
        (with(syn(), 7, 1), PacketError::Fragment),
        (
            syn_behind(&[(FRAGMENT, &[0, 0, 1, 0, 0, 0, 0])]),
            PacketError::Fragment,
        ),
        (
            syn_behind(&[(FRAGMENT, &[0, 1, 0, 0, 0, 0, 0])]),
            PacketError::Fragment,
        ),
        (syn_behind(&[(IPPROTO_NONE, &[0; 7])]), PacketError::NoFlow),
        (
            syn_behind(&[(IPPROTO_DSTOPTS, &[255, 0, 0, 0, 0, 0, 0])]),
            PacketError::Short,
        ),
        // Destination unreachable.
        (
            with(with(syn(), 9, IPPROTO_ICMP), 20, 3),
            PacketError::NoFlow,
        ),
        // Router solicitation.
        (
            with(with(syn(), 9, IPPROTO_ICMPV6), 20, 133),
            PacketError::NoFlow,
        ),
        (with(syn(), 9, IPPROTO_DCCP), PacketError::NotInPacket),
        // GRE of PPTP.
        (with(syn(), 9, IPPROTO_GRE), PacketError::NotInPacket),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Packet::parse(&bytes), Err(expected), "{bytes:x?}");
    }
}

#[test]
fn a_whole_packet_in_a_fragment_header_is_whole() {
    let packet = syn_behind(&[(IPPROTO_FRAGMENT, &[0, 0, 0, 0, 0, 0, 7])]);
    assert!(Packet::parse(&packet).is_ok());
}

#[test]
fn a_packet_cut_within_its_headers_is_short() {
    let packets = [
        syn(),
        syn_behind(&[]),
        syn_behind(&[
            (IPPROTO_HOPOPTS, &[0; 7]),
            (IPPROTO_AH, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ]),
    ];
    for packet in packets {
        assert!(Packet::parse(&packet).is_ok(), "{packet:x?}");
        for len in 0..packet.len() {
            assert_eq!(Packet::parse(&packet[..len]), Err(PacketError::Short));
        }
    }
}

#[test]
fn what_follows_the_headers_does_not_matter() {
    let mut longer = syn();
    longer.extend([9; 100]);
    assert_eq!(Packet::parse(&longer), Packet::parse(&syn()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn damage_is_an_error_or_another_packet(
        ipv6 in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut packet = if ipv6 { syn_behind(&[(IPPROTO_HOPOPTS, &[0; 7])]) } else { syn() };
        for (at, value) in damage {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        let _ = Packet::parse(&packet);
    }

    #[test]
    fn noise_is_an_error_or_a_packet(noise in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = Packet::parse(&noise);
    }

    #[test]
    fn noise_as_options_is_survived(noise in prop::collection::vec(any::<u8>(), 40)) {
        let header = with(with(syn(), 32, 0xf0), 33, 0x02);
        let _ = Packet::parse(&[&header[..40], &noise].concat());
    }
}
