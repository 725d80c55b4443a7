//! Whether and how often what has passed is counted, and where it is written.

use std::time::Duration;

use super::super::accounting::{Accounting, Target};
use super::super::error::Fault;
use super::super::file;
use super::values::{Limits, absolute, duration};

const INTERVAL: Limits<Duration> = Limits {
    min: Duration::from_secs(1),
    default: Duration::from_secs(60),
    max: Duration::from_secs(24 * 3600),
};

pub fn accounting(written: &file::accounting::Accounting) -> Result<Accounting, Fault> {
    let target = match &written.target {
        None => Target::Off,
        Some(target) => match target.value.as_str() {
            "off" => Target::Off,
            "journal" => Target::Journal,
            _ => Target::File(absolute(target, "target")?),
        },
    };
    Ok(Accounting {
        target,
        interval: duration(written.interval.as_ref(), "interval", &INTERVAL)?,
    })
}
