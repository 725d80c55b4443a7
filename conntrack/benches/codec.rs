//! Decoding one event, as the kernel sent it.

use std::hint::black_box;

use conntrack::decode::decode_event;
use criterion::Criterion;

/// The first captured message whose line of the `conntrack` tool has all the words.
fn capture(words: &[&str]) -> Vec<u8> {
    let lines: Vec<_> = include_str!("../tests/data/events.txt").lines().collect();
    let pair = lines
        .chunks_exact(2)
        .find(|pair| words.iter().all(|word| pair[0].contains(word)));
    let hex = pair.expect("a capture")[1].as_bytes();
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

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode(&mut criterion);
    criterion.final_summary();
}
