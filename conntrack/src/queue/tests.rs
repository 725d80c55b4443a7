use proptest::prelude::*;

use super::*;
use crate::consts::*;
use crate::nfnl::Builder;

const PACKET: PacketId = PacketId {
    queue: 5,
    number: 0x0102_0304,
};

/// A message of a held packet, and what `fill` puts.
fn held(fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let kind = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET;
    let mut buffer = Vec::new();
    let mut message = Builder::message(&mut buffer, kind, 0, 0, AF_INET, PACKET.queue);
    message.put(NFQA_PACKET_HDR, &[1, 2, 3, 4, 8, 0, NF_INET_FORWARD]);
    fill(&mut message);
    message.finish();
    buffer
}

/// The items that a datagram is, as text.
fn items(datagram: &[u8]) -> Vec<String> {
    let mut items = Vec::new();
    for message in Messages::new(datagram) {
        give(message, &mut |item| items.push(format!("{item:?}")));
    }
    items
}

fn only_item<T>(datagram: &[u8], read: impl Fn(QueueItem<'_>) -> T) -> T {
    let mut found = Vec::new();
    for message in Messages::new(datagram) {
        give(message, &mut |item| found.push(read(item)));
    }
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn a_packet_is_read() {
    let message = held(|message| {
        message.put_be32(NFQA_MARK, 7);
        message.put_be32(NFQA_IFINDEX_INDEV, 2);
        message.put_be32(NFQA_CAP_LEN, 1500);
        message.put_be32(NFQA_SKB_INFO, NFQA_SKB_GSO);
        message.put(NFQA_PAYLOAD, b"abc");
        message.put(0x3ffe, b"unknown");
    });
    only_item(&message, |item| {
        let QueueItem::Held(held) = item else {
            panic!("{item:?}");
        };
        assert_eq!((held.id, held.hook), (PACKET, NF_INET_FORWARD));
        assert_eq!((held.mark, held.skb_info), (7, NFQA_SKB_GSO));
        assert_eq!(held.indev.map(u32::from), Some(2));
        assert_eq!(held.outdev, None);
        assert_eq!((held.payload, held.length), (&b"abc"[..], 1500));
    });
}

#[test]
fn a_packet_whose_message_is_malformed_is_known_all_the_same() {
    let message = held(|message| message.put(NFQA_MARK, b"abc"));
    only_item(&message, |item| {
        let expected = QueueItem::Malformed {
            packet: Some(PACKET),
            error: DecodeError::AttributeSize {
                attribute: NFQA_MARK,
            },
        };
        assert_eq!(item, expected);
    });
}

#[test]
fn a_flow_that_is_malformed_leaves_its_packet_known() {
    let message = held(|message| message.nest(NFQA_CT, |_| {}));
    only_item(&message, |item| {
        let expected = QueueItem::Malformed {
            packet: Some(PACKET),
            error: DecodeError::TupleMissing,
        };
        assert_eq!(item, expected);
    });
}

#[test]
fn what_is_no_packet_is_an_error() {
    let mut buffer = Vec::new();
    Builder::request(&mut buffer, IPCTNL_MSG_CT_NEW, 0, 0, AF_INET).finish();
    only_item(&buffer, |item| {
        let expected = QueueItem::Malformed {
            packet: None,
            error: DecodeError::MessageKind { kind: 0x100 },
        };
        assert_eq!(item, expected);
    });
}

#[test]
fn a_failed_verdict_names_its_packet() {
    let mut verdict = Vec::new();
    request::verdict(&mut verdict, PACKET, Verdict::Drop);
    assert_eq!(verdict.len(), request::VERDICT_LEN);
    let answer = |errno: i32| {
        let mut answer = Vec::new();
        answer.extend(
            u32::try_from(20 + verdict.len())
                .expect("it is short")
                .to_ne_bytes(),
        );
        answer.extend(NLMSG_ERROR.to_ne_bytes());
        answer.extend([0; 10]);
        answer.extend((-errno).to_ne_bytes());
        answer.extend(&verdict);
        answer
    };
    only_item(&answer(2), |item| assert_eq!(item, QueueItem::Gone(PACKET)));
    only_item(&answer(1), |item| {
        let expected = QueueItem::Refused {
            packet: PACKET,
            errno: Errno::PERM,
        };
        assert_eq!(item, expected);
    });
    assert!(items(&answer(0)).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn noise_in_a_message_is_survived(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut message = held(|message| message.put(NFQA_CT | NLA_F_NESTED, &noise));
        items(&message);
        let half = message.len() / 2;
        message[half..].reverse();
        items(&message);
        items(&noise);
    }
}
