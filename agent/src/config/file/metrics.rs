//! The section `metrics` of the file.

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Spanned<String>>,
}
