//! Decoding one event or one held packet, as the kernel sent it.

use std::hint::black_box;

use conntrack::QueueItem;
use conntrack::decode::decode_event;
use conntrack::queue::decode_item;
use criterion::Criterion;

/// The first captured message whose line of the `conntrack` tool has all the words.
fn capture(words: &[&str]) -> Vec<u8> {
    let lines: Vec<_> = include_str!("../tests/data/events.txt").lines().collect();
    let pair = lines
        .chunks_exact(2)
        .find(|pair| words.iter().all(|word| pair[0].contains(word)));
    bytes(pair.expect("a capture")[1])
}

/// The first captured packet that was held.
fn held_capture() -> Vec<u8> {
    let text = include_str!("../tests/data/held.txt");
    bytes(text.lines().next().expect("a capture"))
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex = hex.as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a digit");
    hex.chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0]) << 4 | digit(pair[1])).expect("8 bits"))
        .collect()
}

fn decode(criterion: &mut Criterion) {
    for (name, words) in [
        ("tcp_v4_established", ["[UPDATE]", "ipv4", "ESTABLISHED"]),
        ("tcp_v6_established", ["[UPDATE]", "ipv6", "ESTABLISHED"]),
        ("udp_v4_new", ["[NEW]", "ipv4", "udp"]),
    ] {
        let message = capture(&words);
        let name = format!("decode/{name}_{}_bytes", message.len());
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let event = decode_event(black_box(&message));
                // By reference: an event of 288 bytes is not copied on its way to its sink either.
                black_box(&event);
            });
        });
    }
}

fn read_held(criterion: &mut Criterion) {
    let message = held_capture();
    let name = format!("decode/held_tcp_v4_with_flow_{}_bytes", message.len());
    criterion.bench_function(&name, |bencher| {
        bencher.iter(|| {
            let item = decode_item(black_box(&message));
            black_box(&item);
        });
    });
    let Some(QueueItem::Held(held)) = decode_item(&message) else {
        panic!("a capture");
    };
    criterion.bench_function("parse/syn_v4", |bencher| {
        bencher.iter(|| {
            let packet = black_box(&held).packet();
            black_box(&packet);
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode(&mut criterion);
    read_held(&mut criterion);
    criterion.final_summary();
}
