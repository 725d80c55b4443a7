//! Single values of a policy: each in its limits, or a fault that says them.

use super::{delay_word, fault};
use crate::config::error::{Fault, Place, Problem as Any};
use crate::config::file::written;
use crate::config::scalar::{parse_duration, parse_mask, print_duration};
use crate::config::spanned::Spanned;
use crate::policy::file::{self, HoldWord, SyncWord, Word, Words};
use crate::policy::prefix::{Prefix, PrefixError};
use crate::policy::problem::Problem;
use crate::policy::service::{
    Flows, Hold, Service, Sync, has_ports, has_types, parse_protocol, protocol_word,
};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A name: what a file, a metric and a log line can hold.
pub fn name(written: &Spanned<String>, key: &'static str) -> Result<String, Fault> {
    let name = &written.value;
    let clean = (name.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match (1..=63).contains(&name.len()) && clean {
        true => Ok(name.clone()),
        false => Err(Fault {
            place: Place::of(&written.referenced),
            problem: Any::BadName {
                key,
                given: name.clone(),
            },
        }),
    }
}

/// A duration within `limits`.
pub fn duration(
    written: &Spanned<String>,
    key: &'static str,
    limits: RangeInclusive<Duration>,
) -> Result<Duration, Fault> {
    let given = written.value.clone();
    let problem = match parse_duration(&given) {
        Some(duration) if limits.contains(&duration) => return Ok(duration),
        Some(_) => Any::OutOfRange {
            key,
            given,
            min: print_duration(*limits.start()),
            max: print_duration(*limits.end()),
        },
        None => Any::NotADuration { key, given },
    };
    Err(Fault {
        place: Place::of(&written.referenced),
        problem,
    })
}

/// A zone of conntrack.
pub fn zone(written: &Spanned<u64>) -> Result<u16, Fault> {
    u16::try_from(written.value).map_err(|_| Fault {
        place: Place::of(&written.referenced),
        problem: Any::OutOfRange {
            key: "zone",
            given: written.value.to_string(),
            min: "0".into(),
            max: u16::MAX.to_string(),
        },
    })
}

/// Value and mask; a value alone is the whole mark.
pub fn mark(words: &Words) -> Result<(u32, u32), Fault> {
    let [word] = words.0.as_slice() else {
        let place = words.0.first().and_then(|word| Place::of(&word.referenced));
        let given = words.0.iter().map(|word| word.value.0.as_str());
        let given = given.collect::<Vec<_>>().join(", ");
        let problem = Any::Policy(Box::new(Problem::NotAMark { given }));
        return Err(Fault { place, problem });
    };
    let given = || word.value.0.clone();
    let (value, mask) = match word.value.0.split_once('/') {
        Some((value, mask)) => (parse_mask(value), parse_mask(mask)),
        None => (parse_mask(&word.value.0), Some(u32::MAX)),
    };
    match (value, mask) {
        (Some(value), Some(mask)) if value & !mask == 0 => Ok((value, mask)),
        (Some(_), Some(_)) => Err(fault(word, Problem::MarkOutsideMask { given: given() })),
        (None, _) | (_, None) => Err(fault(word, Problem::NotAMark { given: given() })),
    }
}

/// Prefixes, as they stand.
pub fn prefixes(words: Option<&Words>) -> Result<Vec<Prefix>, Fault> {
    let words = words.map_or(&[][..], |words| &words.0);
    let prefix = |word: &Spanned<Word>| {
        let given = word.value.0.clone();
        Prefix::parse(&word.value.0).map_err(|error| match error {
            PrefixError::Malformed => fault(word, Problem::NotAPrefix { given }),
            PrefixError::HostBits(meant) => fault(word, Problem::HostBits { given, meant }),
        })
    };
    words.iter().map(prefix).collect()
}

/// What flows a service is.
pub fn flows(service: &file::Service) -> Result<Flows, Fault> {
    let mut protocols = Vec::new();
    for word in service.protocol.as_ref().map_or(&[][..], |words| &words.0) {
        let given = word.value.0.clone();
        let protocol =
            parse_protocol(&given).ok_or_else(|| fault(word, Problem::NotAProtocol { given }))?;
        protocols.push(protocol);
    }
    protocols.sort_unstable();
    protocols.dedup();
    let selectors = match (&service.ports, &service.icmp_types) {
        (None, None) => Vec::new(),
        (Some(_), Some(types)) => return Err(at_first(types, Problem::PortsAndTypes)),
        (Some(ports), None) => {
            fits(ports, &protocols, has_ports, |protocol| Problem::NoPorts {
                protocol,
            })?;
            let not_one = |given| Problem::NotAPort { given };
            ranges(ports, 1..=u16::MAX, not_one)?
        }
        (None, Some(types)) => {
            fits(types, &protocols, has_types, |protocol| Problem::NoTypes {
                protocol,
            })?;
            let not_one = |given| Problem::NotAType { given };
            ranges(types, 0..=u8::MAX.into(), not_one)?
        }
    };
    Ok(Flows {
        protocols,
        selectors,
    })
}

/// Refuses ports or types of protocols that have none.
fn fits(
    words: &Words,
    protocols: &[u8],
    has: impl Fn(u8) -> bool,
    problem: impl Fn(String) -> Problem,
) -> Result<(), Fault> {
    match protocols.iter().find(|protocol| !has(**protocol)) {
        Some(protocol) => Err(at_first(words, problem(protocol_word(*protocol).into()))),
        None if protocols.is_empty() => Err(at_first(words, Problem::PortsWithoutProtocol)),
        None => Ok(()),
    }
}

/// Ranges in order, those that touch made one.
fn ranges(
    words: &Words,
    limits: RangeInclusive<u16>,
    not_one: impl Fn(String) -> Problem,
) -> Result<Vec<(u16, u16)>, Fault> {
    let mut ranges: Vec<(u16, u16, &Spanned<Word>)> = Vec::new();
    for word in &words.0 {
        let text = word.value.0.as_str();
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number.filter(|number| limits.contains(number))
        };
        let ends = match text.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)),
            None => number(text).zip(number(text)),
        };
        let given = || text.to_owned();
        let (first, last) = ends.ok_or_else(|| fault(word, not_one(given())))?;
        if first > last {
            return Err(fault(word, Problem::RangeBackwards { given: given() }));
        }
        if let Some((.., other)) = (ranges.iter()).find(|it| it.0 <= last && first <= it.1) {
            let (one, other) = (other.value.0.clone(), given());
            return Err(fault(word, Problem::Overlap { one, other }));
        }
        ranges.push((first, last, word));
    }
    ranges.sort_unstable_by_key(|(first, ..)| *first);
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last, _) in ranges {
        match joined.last_mut() {
            Some(before) if before.1 + 1 == first => before.1 = last,
            Some(_) | None => joined.push((first, last)),
        }
    }
    Ok(joined)
}

fn at_first(words: &Words, problem: Problem) -> Fault {
    match words.0.first() {
        Some(word) => fault(word, problem),
        None => Fault {
            place: None,
            problem: Any::Policy(Box::new(problem)),
        },
    }
}

/// A service as a file has it, defaults included.
pub fn service_file(service: &Service) -> file::Service {
    let Flows {
        protocols,
        selectors,
    } = &service.flows;
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let words = (!selectors.is_empty()).then(|| Words::of(selectors.iter().map(range)));
    let is_icmp = protocols.iter().all(|protocol| has_types(*protocol));
    let (ports, icmp_types) = match is_icmp {
        true => (None, words),
        false => (words, None),
    };
    file::Service {
        protocol: (!protocols.is_empty())
            .then(|| Words::of(protocols.iter().map(|it| protocol_word(*it)))),
        ports,
        icmp_types,
        r#type: Some(written(service.kind.word().to_owned())),
        sync: Some(written(match service.sync {
            Sync::Always => SyncWord::Always,
            Sync::Never => SyncWord::Never,
            Sync::Delayed(_) => SyncWord::Delayed,
        })),
        delay: delay_word(service.sync),
        hold: Some(written(match service.hold {
            Hold::Always => HoldWord::Always,
            Hold::Auto => HoldWord::Auto,
            Hold::Never => HoldWord::Never,
        })),
    }
}
