//! What is asked of this machine's kernel.

use crate::config::spanned::Spanned;

use super::super::error::{Fault, Problem};
use super::super::scalar::{parse_bit, parse_label_mask, parse_mask, parse_size, print_size};
use super::super::{DEFAULT_COPY_BIT, Kernel, file};
use super::values::{Limits, fault};
use crate::ruleset::CopyBit;

/// The kernel doubles what it is given and keeps it in an int: 512 MiB is the last power of two that fits.
const EVENT_BUFFER: Limits<u32> = Limits {
    min: 1 << 20,
    default: 64 << 20,
    max: 512 << 20,
};
/// What is asked of this machine's kernel.
pub fn kernel(written: file::Kernel) -> Result<Kernel, Fault> {
    let copy_bit = match &written.copy_bit {
        Some(bit) => parse_bit(&bit.value).ok_or_else(|| {
            fault(
                bit,
                Problem::NotABit {
                    given: bit.value.clone(),
                },
            )
        })?,
        None => DEFAULT_COPY_BIT,
    };
    Ok(Kernel {
        event_buffer_bytes: match &written.event_buffer {
            Some(size) => event_buffer(size)?,
            None => EVENT_BUFFER.default,
        },
        mark_mask: match &written.mark_mask {
            Some(mask) => mark_mask(mask, copy_bit)?,
            None => copy_bit.map_or(u32::MAX, |bit| !bit.mask()),
        },
        copy_bit,
        label_mask: match &written.label_mask {
            Some(mask) => parse_label_mask(&mask.value).ok_or_else(|| {
                fault(
                    mask,
                    Problem::NotALabelMask {
                        given: mask.value.clone(),
                    },
                )
            })?,
            None => 0,
        },
    })
}

fn mark_mask(written: &Spanned<String>, copy_bit: Option<CopyBit>) -> Result<u32, Fault> {
    let given = || written.value.clone();
    let not_a_mask = || {
        fault(
            written,
            Problem::NotAMask {
                key: "mark_mask",
                given: given(),
            },
        )
    };
    let mask = parse_mask(&written.value).ok_or_else(not_a_mask)?;
    match copy_bit {
        Some(bit) if mask & bit.mask() != 0 => Err(fault(
            written,
            Problem::CopyBitReplicated { bit: bit.number() },
        )),
        Some(_) | None => Ok(mask),
    }
}

fn event_buffer(written: &Spanned<String>) -> Result<u32, Fault> {
    let key = "event_buffer";
    let given = || written.value.clone();
    let Some(bytes) = parse_size(&written.value) else {
        return Err(fault(
            written,
            Problem::NotASize {
                key,
                given: given(),
            },
        ));
    };
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (EVENT_BUFFER.min..=EVENT_BUFFER.max).contains(bytes))
        .ok_or_else(|| {
            let (min, max) = (
                print_size(EVENT_BUFFER.min.into()),
                print_size(EVENT_BUFFER.max.into()),
            );
            fault(
                written,
                Problem::OutOfRange {
                    key,
                    given: given(),
                    min,
                    max,
                },
            )
        })
}
