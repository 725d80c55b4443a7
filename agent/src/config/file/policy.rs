//! The section `policy`: where the service policy is, and how much of it the kernel does.

use crate::config::spanned::Spanned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::written;
use crate::config::{self, PushDown};

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub file: Option<Spanned<String>>,
    pub directory: Option<Spanned<String>>,
    pub kernel: Option<PushDown>,
}

impl From<&config::Policy> for Policy {
    fn from(policy: &config::Policy) -> Self {
        Self {
            file: Some(written(policy.file.display().to_string())),
            directory: Some(written(policy.directory.display().to_string())),
            kernel: Some(policy.kernel),
        }
    }
}
