//! No event and no held packet costs an allocation: every captured message of a real kernel is decoded, and the allocator asked.

use conntrack::QueueItem;
use conntrack::decode::decode_event;
use conntrack::queue::decode_item;

/// Lines of bytes in hexadecimal digits.
fn messages<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<u8>> {
    let bytes = |hex: &str| {
        let digits: Vec<_> = hex
            .chars()
            .map(|digit| digit.to_digit(16).expect("a digit") as u8)
            .collect();
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    };
    lines.map(bytes).collect()
}

#[test]
fn decoding_an_event_allocates_nothing() {
    let messages = messages(include_str!("data/events.txt").lines().skip(1).step_by(2));
    assert!(messages.len() > 50);
    let allocations = allocation_counter::measure(|| {
        for message in &messages {
            assert!(decode_event(message).is_ok());
        }
    });
    assert_eq!(allocations.count_total, 0);
    let counted = allocation_counter::measure(|| drop(Box::new(1)));
    assert_eq!(counted.count_total, 1, "the counter counts");
}

#[test]
fn decoding_a_held_packet_and_its_headers_allocates_nothing() {
    let messages = messages(include_str!("data/held.txt").lines().step_by(2));
    assert!(messages.len() > 15);
    let allocations = allocation_counter::measure(|| {
        for message in &messages {
            let Some(QueueItem::Held(held)) = decode_item(message) else {
                panic!("a capture");
            };
            assert!(held.flow.is_some() && held.packet().is_ok());
        }
    });
    assert_eq!(allocations.count_total, 0);
}
