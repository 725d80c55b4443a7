//! Durations, sizes and masks as the configuration writes them: a whole number with its unit, nothing else.
//!
//! `1ms`, `64MiB`, `0xff`; not `1`, not `1.5s`, not `1 ms`, not `64M`: a unit that has to be guessed is guessed wrong.

use crate::ruleset::CopyBit;
use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
];
const SIZE_UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `20ms` and the like; units are `us`, `ms`, `s`, `min`, `h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    parse_with_unit(text, &DURATION_UNITS).map(Duration::from_micros)
}

/// The shortest form of a `duration` of whole microseconds.
pub(crate) fn print_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).expect("a configured duration is short");
    print_with_unit(micros, &DURATION_UNITS)
}

/// Bytes of `64MiB` and the like; units are `KiB`, `MiB`, `GiB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    parse_with_unit(text, &SIZE_UNITS)
}

/// The shortest form of a size of whole KiB.
pub(crate) fn print_size(bytes: u64) -> String {
    print_with_unit(bytes, &SIZE_UNITS)
}

/// 32 bits, in hexadecimal after `0x` or in decimal.
pub(crate) fn parse_mask(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// `mask` in hexadecimal.
pub(crate) fn print_mask(mask: u32) -> String {
    format!("0x{mask:08x}")
}

/// Labels, a bit each: 128 bits in hexadecimal after `0x`, or `none`.
pub(crate) fn parse_label_mask(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u128::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => (text == "none").then_some(0),
    }
}

/// `mask` as [`parse_label_mask`] reads it.
pub(crate) fn print_label_mask(mask: u128) -> String {
    match mask {
        0 => "none".to_owned(),
        _ => format!("0x{mask:x}"),
    }
}

/// The number of a bit, or `none`.
pub(crate) fn parse_bit(text: &str) -> Option<Option<CopyBit>> {
    match text {
        "none" => Some(None),
        number => number.parse().ok().and_then(CopyBit::new).map(Some),
    }
}

/// `bit` as [`parse_bit`] reads it.
pub(crate) fn print_bit(bit: Option<CopyBit>) -> String {
    bit.map_or_else(|| "none".to_owned(), |bit| bit.number().to_string())
}

fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn print_with_unit(value: u64, units: &[(&str, u64)]) -> String {
    let largest = units
        .iter()
        .rev()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let (unit, factor) = largest.unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests;
