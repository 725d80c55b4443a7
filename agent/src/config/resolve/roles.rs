//! Who is active, which interfaces are monitored, what is checked and what is run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::config::spanned::Spanned;

use super::super::error::{Fault, Problem, RolesProblem};
use super::super::file::roles as file;
use super::super::roles::{Checks, Hooks, Interfaces, Mode, Monitored, Roles, Timers, Vlans};
use super::super::{InterfaceName, scalar};
use super::values::{Limits, absolute, duration, fault, interface, number, place};

const SETTLE: Limits<Duration> = Limits {
    min: Duration::ZERO,
    default: Duration::from_secs(3),
    max: Duration::from_secs(600),
};
const PROBE: Limits<Duration> = Limits {
    min: Duration::from_millis(50),
    default: Duration::from_millis(200),
    max: Duration::from_secs(10),
};
const SILENCE: Limits<Duration> = Limits {
    min: Duration::from_millis(100),
    default: Duration::from_secs(1),
    max: Duration::from_secs(60),
};
const HOOK_TIMEOUT: Limits<Duration> = Limits {
    min: Duration::from_secs(1),
    default: Duration::from_secs(10),
    max: Duration::from_secs(600),
};
/// So that what a member tells of its interfaces fits a datagram.
const INTERFACES_MAX: usize = 64;
const TABLE_PERCENT: u8 = 90;
/// 802.1Q has twelve bits for it, and keeps the first and the last.
const VLAN_MAX: u16 = 4094;

/// Who is active, of members of these names. The track file is beside the control `socket` if nobody says otherwise.
pub fn roles(written: file::Roles, names: Vec<String>, socket: &Path) -> Result<Roles, Fault> {
    let mut priority = BTreeMap::new();
    for (name, value) in &written.priority {
        if !names.contains(name) {
            return Err(fault(
                value,
                Problem::Roles(RolesProblem::PriorityOfNobody {
                    name: name.clone(),
                    known: names,
                }),
            ));
        }
        priority.insert(name.clone(), number(value, "priority", 0, u8::MAX)?);
    }
    Ok(Roles {
        mode: match written.mode {
            None | Some(file::ModeWord::Ha) => Mode::HighAvailability,
            Some(file::ModeWord::LoadSharing) => Mode::LoadSharing,
        },
        priority,
        preempt: written.preempt.unwrap_or(false),
        settle: duration(written.settle.as_ref(), "settle", &SETTLE)?,
        track_file: match &written.track_file {
            Some(path) => absolute(path, "track_file")?,
            None => socket.with_file_name("track"),
        },
    })
}

/// Which interfaces are monitored.
pub fn interfaces(written: file::Interfaces) -> Result<Interfaces, Fault> {
    let mut monitored: Vec<Monitored> = Vec::new();
    for each in &written.monitored {
        let name = interface(&each.name)?;
        if monitored.iter().any(|other| other.name == name) {
            let given = each.name.value.clone();
            return Err(fault(
                &each.name,
                Problem::Roles(RolesProblem::InterfaceTwice { given }),
            ));
        }
        if monitored.len() == INTERFACES_MAX {
            let count_max = INTERFACES_MAX;
            return Err(fault(
                &each.name,
                Problem::Roles(RolesProblem::TooManyInterfaces { count_max }),
            ));
        }
        monitored.push(one(each, name)?);
    }
    Ok(Interfaces {
        timers: timers(&written)?,
        monitored,
    })
}

fn timers(written: &file::Interfaces) -> Result<Timers, Fault> {
    let interval = duration(written.probe.as_ref(), "probe", &PROBE)?;
    let dead_after = duration(written.dead_after.as_ref(), "dead_after", &SILENCE)?;
    if interval * 2 > dead_after {
        let culprit = written.probe.as_ref().or(written.dead_after.as_ref());
        let problem = RolesProblem::ProbeTooSlow {
            probe: scalar::print_duration(interval),
            dead_after: scalar::print_duration(dead_after),
        };
        return Err(Fault {
            place: culprit.and_then(place),
            problem: Problem::Roles(problem),
        });
    }
    Ok(Timers {
        interval,
        dead_after,
    })
}

fn one(written: &file::Monitored, name: InterfaceName) -> Result<Monitored, Fault> {
    Ok(Monitored {
        name,
        monitor: written.monitor.unwrap_or(true),
        vlans: written.vlans.as_ref().map_or(Ok(Vlans::Lowest), vlans)?,
    })
}

fn vlans(written: &Spanned<String>) -> Result<Vlans, Fault> {
    match written.value.as_str() {
        "lowest" => return Ok(Vlans::Lowest),
        "highest" => return Ok(Vlans::Highest),
        "both" => return Ok(Vlans::Both),
        "all" => return Ok(Vlans::All),
        _ => {}
    }
    let number = |text: &str| {
        let number = text.trim().parse().ok();
        number.filter(|number| (1..=VLAN_MAX).contains(number))
    };
    let list: Option<Vec<u16>> = written.value.split(',').map(number).collect();
    let mut list = list.ok_or_else(|| {
        let given = written.value.clone();
        fault(written, Problem::Roles(RolesProblem::NotVlans { given }))
    })?;
    list.sort_unstable();
    list.dedup();
    Ok(Vlans::List(list))
}

/// What is checked.
pub fn checks(written: file::Checks) -> Result<Checks, Fault> {
    let percent = |written: &Spanned<String>| match written.value.as_str() {
        "off" => Some(None),
        text => {
            let percent = text.strip_suffix('%')?.parse().ok()?;
            (1..=100).contains(&percent).then_some(Some(percent))
        }
    };
    Ok(Checks {
        table_percent: match &written.table_full {
            None => Some(TABLE_PERCENT),
            Some(value) => percent(value).ok_or_else(|| {
                let given = value.value.clone();
                fault(
                    value,
                    Problem::Roles(RolesProblem::NotAPercentage { given }),
                )
            })?,
        },
        state_directory: written.state_directory.unwrap_or(true),
    })
}

/// What is run.
pub fn hooks(written: file::Hooks) -> Result<Hooks, Fault> {
    let directory = written.directory.as_ref();
    Ok(Hooks {
        directory: directory.map(|it| absolute(it, "directory")).transpose()?,
        timeout: duration(written.timeout.as_ref(), "timeout", &HOOK_TIMEOUT)?,
    })
}
