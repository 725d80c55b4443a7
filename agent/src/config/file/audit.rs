//! The section `audit`.

use crate::config::spanned::Spanned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::written;
use crate::config::{self, scalar};

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Audit {
    pub interval: Option<Spanned<String>>,
}

impl From<&config::Audit> for Audit {
    fn from(audit: &config::Audit) -> Self {
        let config::Audit { interval } = audit;
        Self {
            interval: Some(written(scalar::print_duration(*interval))),
        }
    }
}
