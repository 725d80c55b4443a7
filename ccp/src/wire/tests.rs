mod control;
mod expected;
mod golden;
mod header;
mod record;

use super::control::{Ack, Hello};
use super::cursor::{Reader, put_varint};
use super::header::Header;
use super::{DecodeError, SEQ_MAX, Skipped, flow};
use crate::record::{MemberId, Record};
use alloc::vec::Vec;
use proptest::prelude::*;

fn member() -> impl Strategy<Value = MemberId> {
    (1u8..=16).prop_map(|id| MemberId::new(id).unwrap())
}

fn seq() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..1000, 0..=SEQ_MAX]
}

fn put(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Upsert {
            key,
            state,
            term,
            claim,
        } => flow::put_upsert(out, key, state, *term, *claim),
        Record::Delete { key, term, claim } => flow::put_delete(out, key, *term, *claim),
        Record::Told(told) => flow::put_told(out, *told),
    }
}

fn take_all(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let (mut reader, mut records) = (Reader::new(bytes), Vec::new());
    while !reader.is_empty() {
        records.extend(flow::take_record(&mut reader, &mut Skipped::default())?);
    }
    Ok(records)
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(records) = take_all(&bytes) {
            prop_assert!(records.len() <= bytes.len());
        }
        let _ = (Hello::decode(&bytes, &mut Skipped::default()), Ack::decode(&bytes), Header::decode(&bytes));
    }

    #[test]
    fn a_varint_reads_back_as_it_was(number in any::<u64>()) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, number);
        prop_assert_eq!(Reader::new(&bytes).varint(), Ok(number));
    }
}

/// PROTOCOL.md 4.1
#[test]
fn numbers_out_of_range_are_refused() {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, SEQ_MAX + 1);
    put_varint(&mut bytes, 0);
    assert_eq!(Ack::decode(&bytes), Err(DecodeError::Number));
    let mut bytes = Vec::new();
    for number in [1, SEQ_MAX, 0, 0, SEQ_MAX, SEQ_MAX] {
        put_varint(&mut bytes, number);
    }
    assert_eq!(Ack::decode(&bytes), Err(DecodeError::Number));
    assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(DecodeError::Number));
    assert_eq!(Reader::new(&[0xff; 8]).seq(), Err(DecodeError::Number));
}
