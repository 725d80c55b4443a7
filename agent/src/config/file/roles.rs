//! The sections that say who is active and what a member needs for it.

use std::collections::BTreeMap;

use crate::config::spanned::Spanned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::roles;
use super::super::{Config, scalar};
use super::written;

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Roles {
    pub mode: Option<ModeWord>,
    /// By name of the member.
    #[serde(default)]
    pub priority: BTreeMap<String, Spanned<u64>>,
    pub preempt: Option<bool>,
    pub settle: Option<Spanned<String>>,
    pub track_file: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum ModeWord {
    Ha,
    LoadSharing,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Interfaces {
    pub probe: Option<Spanned<String>>,
    pub dead_after: Option<Spanned<String>>,
    #[serde(default)]
    pub monitored: Vec<Monitored>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Monitored {
    pub name: Spanned<String>,
    pub monitor: Option<bool>,
    /// A word, or numbers with commas between.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub vlans: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Checks {
    /// A percentage, or `off`.
    pub table_full: Option<Spanned<String>>,
    pub state_directory: Option<bool>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Hooks {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<Spanned<String>>,
    pub timeout: Option<Spanned<String>>,
}

impl Roles {
    pub fn of(config: &Config) -> Self {
        let roles::Roles {
            mode,
            priority,
            preempt,
            settle,
            track_file,
        } = &config.roles;
        Self {
            mode: Some(match mode {
                roles::Mode::HighAvailability => ModeWord::Ha,
                roles::Mode::LoadSharing => ModeWord::LoadSharing,
            }),
            priority: (priority.iter())
                .map(|(name, priority)| (name.clone(), written((*priority).into())))
                .collect(),
            preempt: Some(*preempt),
            settle: Some(written(scalar::print_duration(*settle))),
            track_file: Some(written(track_file.display().to_string())),
        }
    }
}

impl Interfaces {
    pub fn of(config: &Config) -> Self {
        let roles::Interfaces { timers, monitored } = &config.interfaces;
        Self {
            probe: Some(written(scalar::print_duration(timers.interval))),
            dead_after: Some(written(scalar::print_duration(timers.dead_after))),
            monitored: monitored.iter().map(Monitored::of).collect(),
        }
    }
}

impl Monitored {
    fn of(interface: &roles::Monitored) -> Self {
        let numbers = |list: &[u16]| {
            list.iter()
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        Self {
            name: written(interface.name.to_string()),
            monitor: Some(interface.monitor),
            vlans: Some(written(match &interface.vlans {
                roles::Vlans::Lowest => "lowest".to_owned(),
                roles::Vlans::Highest => "highest".to_owned(),
                roles::Vlans::Both => "both".to_owned(),
                roles::Vlans::All => "all".to_owned(),
                roles::Vlans::List(list) => numbers(list),
            })),
        }
    }
}

impl Checks {
    pub fn of(config: &Config) -> Self {
        let percent = config.checks.table_percent;
        Self {
            table_full: Some(written(
                percent.map_or_else(|| "off".to_owned(), |percent| format!("{percent}%")),
            )),
            state_directory: Some(config.checks.state_directory),
        }
    }
}

impl Hooks {
    pub fn of(config: &Config) -> Self {
        let directory = config.hooks.directory.as_ref();
        Self {
            directory: directory.map(|it| written(it.display().to_string())),
            timeout: Some(written(scalar::print_duration(config.hooks.timeout))),
        }
    }
}
