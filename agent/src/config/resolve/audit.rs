//! How often the kernel's table is compared with what is known.

use std::time::Duration;

use super::super::error::Fault;
use super::super::{Audit, file};
use super::values::{Limits, duration};

const INTERVAL: Limits<Duration> = Limits {
    min: Duration::from_secs(1),
    default: Duration::from_secs(60),
    max: Duration::from_secs(24 * 3600),
};

pub fn audit(written: &file::audit::Audit) -> Result<Audit, Fault> {
    Ok(Audit {
        interval: duration(written.interval.as_ref(), "interval", &INTERVAL)?,
    })
}
