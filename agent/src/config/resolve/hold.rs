//! How first packets are held.

use std::time::Duration;

use crate::config::spanned::Spanned;
use ccp::hold::Deadline;

use super::super::error::{Fault, Problem};
use super::super::file;
use super::super::{Hold, HoldMode, Otherwise};
use super::values::{Limits, duration, fault, number};
use crate::ruleset::CopyBit;

const DEADLINE: Limits<Duration> = Limits {
    min: Duration::from_millis(1),
    default: Duration::from_millis(20),
    max: Duration::from_secs(1),
};
/// More than the kernel can be asked to hold in one queue makes no sense.
const HELD_MAX: Limits<u32> = Limits {
    min: 1,
    default: 4096,
    max: 65_536,
};

/// How first packets are held; answers are known by the copy bit.
pub fn hold(written: file::hold::Hold, copy_bit: Option<CopyBit>) -> Result<Hold, Fault> {
    let mode = match (&written.mode, copy_bit) {
        (Some(mode), None) if mode.value != HoldMode::Never => {
            return Err(fault(mode, Problem::HoldWithoutCopyBit));
        }
        (Some(mode), _) => mode.value,
        (None, Some(_)) => HoldMode::Auto,
        (None, None) => HoldMode::Never,
    };
    Ok(Hold {
        mode,
        deadline: deadline(written.deadline.as_ref())?,
        held_max: match &written.held_max {
            Some(held_max) => number(held_max, "held_max", HELD_MAX.min, HELD_MAX.max)?,
            None => HELD_MAX.default,
        },
        on_deadline: written.on_deadline.unwrap_or(Otherwise::Release),
        on_limit: written.on_limit.unwrap_or(Otherwise::Release),
        on_no_peer: written.on_no_peer.unwrap_or(Otherwise::Release),
        on_shutdown: written.on_shutdown.unwrap_or(Otherwise::Release),
        on_unread: written.on_unread.unwrap_or(Otherwise::Release),
    })
}

fn deadline(written: Option<&Spanned<String>>) -> Result<Deadline, Fault> {
    match written {
        Some(written) if written.value == "auto" => Ok(Deadline::Auto),
        written => duration(written, "deadline", &DEADLINE).map(Deadline::Fixed),
    }
}
