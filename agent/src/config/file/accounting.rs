//! The section `accounting`.

use crate::config::spanned::Spanned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::written;
use crate::config::{self, scalar};

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Accounting {
    pub target: Option<Spanned<String>>,
    pub interval: Option<Spanned<String>>,
}

impl From<&config::accounting::Accounting> for Accounting {
    fn from(accounting: &config::accounting::Accounting) -> Self {
        let config::accounting::Accounting { target, interval } = accounting;
        Self {
            target: Some(written(target.to_string())),
            interval: Some(written(scalar::print_duration(*interval))),
        }
    }
}
