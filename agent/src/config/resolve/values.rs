//! Single values: each in its limits, or a fault that says them.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::spanned::Spanned;

use super::super::error::{Fault, Place, Problem};
use super::super::scalar::{parse_duration, print_duration};
use super::super::{InterfaceName, MemberId};

/// What a value can be, and what it is when nobody says.
pub struct Limits<T> {
    pub min: T,
    pub default: T,
    pub max: T,
}

/// A number between `min` and `max`.
pub fn number<T: TryFrom<u64> + Into<u64> + Copy>(
    written: &Spanned<u64>,
    key: &'static str,
    min: T,
    max: T,
) -> Result<T, Fault> {
    let in_range = (min.into()..=max.into()).contains(&written.value);
    in_range
        .then(|| T::try_from(written.value).ok())
        .flatten()
        .ok_or_else(|| {
            let (min, max) = (min.into().to_string(), max.into().to_string());
            fault(
                written,
                Problem::OutOfRange {
                    key,
                    given: written.value.to_string(),
                    min,
                    max,
                },
            )
        })
}

/// A number that was judged to be 1 or more.
pub fn nonzero(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("it was judged to be 1 or more")
}

/// A number of a member.
pub fn member_id(written: &Spanned<u64>, key: &'static str) -> Result<MemberId, Fault> {
    let max = u8::try_from(MemberId::MAX).expect("an id is a byte");
    let id = number(written, key, 1, max)?;
    Ok(MemberId::new(id).expect("it was judged to be in range"))
}

/// A duration within its limits, or its default if nothing is written.
pub fn duration(
    written: Option<&Spanned<String>>,
    key: &'static str,
    limits: &Limits<Duration>,
) -> Result<Duration, Fault> {
    let Some(written) = written else {
        return Ok(limits.default);
    };
    let given = written.value.clone();
    match parse_duration(&given) {
        Some(duration) if (limits.min..=limits.max).contains(&duration) => Ok(duration),
        Some(_) => {
            let (min, max) = (print_duration(limits.min), print_duration(limits.max));
            Err(fault(
                written,
                Problem::OutOfRange {
                    key,
                    given,
                    min,
                    max,
                },
            ))
        }
        None => Err(fault(written, Problem::NotADuration { key, given })),
    }
}

/// A name of 1 to 63 letters, digits, dots, underscores and hyphens.
pub fn name(written: &Spanned<String>, key: &'static str) -> Result<String, Fault> {
    let name = &written.value;
    let clean = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match (1..=63).contains(&name.len()) && clean {
        true => Ok(name.clone()),
        false => Err(fault(
            written,
            Problem::BadName {
                key,
                given: name.clone(),
            },
        )),
    }
}

/// The name of a network interface.
pub fn interface(written: &Spanned<String>) -> Result<InterfaceName, Fault> {
    InterfaceName::new(&written.value).ok_or_else(|| {
        fault(
            written,
            Problem::BadInterface {
                given: written.value.clone(),
            },
        )
    })
}

/// An IPv4 or IPv6 address.
pub fn address(written: &Spanned<String>) -> Result<IpAddr, Fault> {
    written.value.parse().map_err(|_| {
        fault(
            written,
            Problem::NotAnAddress {
                given: written.value.clone(),
            },
        )
    })
}

/// An absolute path.
pub fn absolute(written: &Spanned<String>, key: &'static str) -> Result<PathBuf, Fault> {
    match Path::new(&written.value).is_absolute() {
        true => Ok(written.value.clone().into()),
        false => Err(fault(
            written,
            Problem::RelativePath {
                key,
                given: written.value.clone(),
            },
        )),
    }
}

/// A fault at the place of a value.
pub fn fault<T>(written: &Spanned<T>, problem: Problem) -> Fault {
    Fault {
        place: place(written),
        problem,
    }
}

/// Where a value is written.
pub fn place<T>(written: &Spanned<T>) -> Option<Place> {
    Place::of(&written.referenced)
}
