//! The section `hold`.

use crate::config::spanned::Spanned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{scalar, written};
use crate::config::{self, HoldMode, Otherwise};
use ccp::hold::Deadline;

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Hold {
    pub mode: Option<Spanned<HoldMode>>,
    pub deadline: Option<Spanned<String>>,
    pub held_max: Option<Spanned<u64>>,
    pub on_deadline: Option<Otherwise>,
    pub on_limit: Option<Otherwise>,
    pub on_no_peer: Option<Otherwise>,
    pub on_shutdown: Option<Otherwise>,
    pub on_unread: Option<Otherwise>,
}

impl From<&config::Hold> for Hold {
    fn from(hold: &config::Hold) -> Self {
        let config::Hold {
            mode,
            deadline,
            held_max,
            on_deadline,
            on_limit,
            on_no_peer,
            on_shutdown,
            on_unread,
        } = hold;
        Self {
            mode: Some(written(*mode)),
            deadline: Some(written(match deadline {
                Deadline::Fixed(deadline) => scalar::print_duration(*deadline),
                Deadline::Auto => "auto".to_owned(),
            })),
            held_max: Some(written((*held_max).into())),
            on_deadline: Some(*on_deadline),
            on_limit: Some(*on_limit),
            on_no_peer: Some(*on_no_peer),
            on_shutdown: Some(*on_shutdown),
            on_unread: Some(*on_unread),
        }
    }
}
