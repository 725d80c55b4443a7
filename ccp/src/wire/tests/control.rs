//! Acknowledgements and hellos (PROTOCOL.md 3.1, 5.3).

use super::{member, seq};
use crate::build::{Build, Capabilities, Version};
use crate::election::{Fitness, Load, Mode, Standing, State};
use crate::network::NetworkSet;
use crate::range::RangeSet;
use crate::record::MemberSet;
use crate::wire::control::{ACK_RANGES_MAX, Ack, Ask, Heard, Hello, PathReport};
use crate::wire::{DecodeError, Skipped};
use alloc::vec::Vec;
use proptest::option;
use proptest::prelude::*;
use std::vec;

prop_compose! {
    fn ack()(base in seq(), frontier in 0u64..1 << 40, delay_micros in any::<u32>(), refused in any::<u64>(),
        gaps in prop::collection::vec((0u64..1000, 0u64..1000), 0..ACK_RANGES_MAX)) -> Ack {
        let mut beyond = RangeSet::new(ACK_RANGES_MAX);
        let mut next = frontier + 2;
        for (gap, len) in gaps {
            beyond.insert_range(next + gap, next + gap + len);
            next += gap + len + 2;
        }
        Ack { base, frontier, delay_micros, refused, beyond }
    }
}

prop_compose! {
    fn path()(member in member(), over in any::<u8>(), hears in any::<u16>(), numbers in any::<[u32; 3]>(),
        loss_permille in option::of(0u16..1001)) -> PathReport {
        PathReport {
            member,
            heard_over: NetworkSet::from_bits(over),
            hears: MemberSet::from_bits(hears),
            echo: numbers[0],
            delay_micros: numbers[1],
            sent: numbers[2],
            loss_permille,
        }
    }
}

prop_compose! {
    fn hello()(table in any::<u64>(), last_seq in seq(), paths in prop::collection::vec(path(), 0..16),
        heard in prop::collection::vec((member(), any::<u64>(), seq(), any::<u64>()), 0..32),
        build in option::of((any::<[u8; 3]>(), any::<u64>())), standing in option::of(standing()), joined in any::<bool>(),
        asks in prop::collection::vec((member(), any::<u64>(), seq(), seq()), 0..16)) -> Hello {
        let heard = heard.into_iter().map(|(member, incarnation, base, packet_number)| {
            Heard { member, incarnation, base, packet_number }
        });
        let asks = asks.into_iter().map(|(member, incarnation, base, from)| Ask { member, incarnation, base, from });
        let build = build.map(|([major, minor, patch], bits)| Build {
            version: Version { major, minor, patch },
            capabilities: Capabilities::from_bits(bits),
        });
        Hello { table, last_seq, build, heard: heard.collect(), modes: Vec::new(), paths, standing, joined, asks: asks.collect() }
    }
}

prop_compose! {
    fn standing()(state in 0usize..6, flags in any::<[bool; 2]>(), priority in any::<u8>(), fitness in any::<u8>(),
        problems in any::<u16>(), seconds in any::<u32>()) -> Standing {
        Standing {
            state: State::ALL[state],
            mode: if flags[0] { Mode::LoadSharing } else { Mode::HighAvailability },
            load: if flags[1] { Load::Starved } else { Load::Normal },
            priority,
            fitness: Fitness(fitness),
            problems,
            seconds,
        }
    }
}

proptest! {
    /// PROTOCOL.md 5.3
    #[test]
    fn an_acknowledgement_reads_back_as_it_was(ack in ack()) {
        let mut bytes = Vec::new();
        ack.encode(&mut bytes);
        prop_assert_eq!(Ack::decode(&bytes), Ok(ack));
    }

    /// PROTOCOL.md 3.1
    #[test]
    fn a_hello_reads_back_as_it_was_with_what_it_does_not_know_skipped(hello in hello(), tag in 128u8..) {
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        for cut in 0..16 {
            prop_assert_eq!(Hello::decode(&bytes[..cut], &mut Skipped::default()), Err(DecodeError::Truncated));
        }
        bytes.extend_from_slice(&[tag, 3, 1, 2, 3]);
        let mut skipped = Skipped::default();
        prop_assert_eq!(Hello::decode(&bytes, &mut skipped), Ok(hello));
        prop_assert_eq!(skipped, Skipped { attributes: 1, records: 0 });
    }
}

#[test]
fn more_than_thirty_two_of_anything_is_refused() {
    let mut bytes = vec![1, 1, 0, 0];
    bytes.extend((0..=ACK_RANGES_MAX).flat_map(|_| [1, 0]));
    assert_eq!(Ack::decode(&bytes), Err(DecodeError::Record));
    let mut bytes = vec![0; 16];
    bytes.extend((0..33).flat_map(|_| {
        let mut heard = vec![1, 25, 1];
        heard.extend([0; 24]);
        heard
    }));
    assert_eq!(
        Hello::decode(&bytes, &mut Skipped::default()),
        Err(DecodeError::Record)
    );
}
