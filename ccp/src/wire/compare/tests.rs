use super::{Against, Ask, BUCKETS_MAX, Digests, Message};
use proptest::prelude::*;
use std::vec::Vec;

fn messages() -> Vec<Message<'static>> {
    std::vec![
        Message::Ask(Ask {
            id: 1,
            asker: 2,
            carrier: u64::MAX,
            against: Against::Kernels,
            buckets: 64,
            wanted: std::vec![0, 63],
        }),
        Message::Digests(Digests {
            id: 1,
            cut: 77,
            flows: 3,
            sums: std::vec![9; usize::from(BUCKETS_MAX)],
        }),
        Message::Rows(1, &[1, 2, 3]),
        Message::End(1, 78),
    ]
}

#[test]
fn what_is_said_of_a_comparison_reads_back_as_it_was_and_not_when_cut() {
    for message in messages() {
        let mut body = Vec::new();
        let kind = message.encode(&mut body);
        assert_eq!(Message::decode(kind, &body), Ok(Some(message)));
        assert!(Message::decode(kind, &body[..7]).is_err());
    }
}

#[test]
fn a_bucket_that_there_is_not_and_a_number_of_buckets_that_is_no_power_of_two_are_refused() {
    let ask = |buckets, wanted| {
        let mut body = Vec::new();
        let ask = Ask {
            id: 1,
            asker: 2,
            carrier: 3,
            against: Against::Tables,
            buckets,
            wanted,
        };
        let kind = Message::Ask(ask).encode(&mut body);
        Message::decode(kind, &body).is_err()
    };
    assert!(ask(3, Vec::new()));
    assert!(ask(0, Vec::new()));
    assert!(ask(BUCKETS_MAX * 2, Vec::new()));
    assert!(ask(4, std::vec![4]));
    assert!(!ask(4, std::vec![3]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(kind in 48_u8..56, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(kind, &body);
    }
}
