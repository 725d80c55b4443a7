//! The section `policy`. Its paths may be relative: to where the configuration is.

use super::super::file::policy as file;
use super::super::{DEFAULT_POLICY_DIRECTORY, DEFAULT_POLICY_FILE, Policy, PushDown};
use crate::config::spanned::Spanned;

/// What the section means.
pub fn policy(written: file::Policy) -> Policy {
    let path = |written: Option<Spanned<String>>, default: &str| {
        written.map_or_else(|| default.into(), |path| path.value.into())
    };
    Policy {
        file: path(written.file, DEFAULT_POLICY_FILE),
        directory: path(written.directory, DEFAULT_POLICY_DIRECTORY),
        kernel: written.kernel.unwrap_or(PushDown::Auto),
    }
}
