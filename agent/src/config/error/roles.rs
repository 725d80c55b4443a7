//! What can be wrong with the sections on roles and interfaces.

use super::{either, listed};

/// The faults of these sections.
#[derive(Debug)]
pub(crate) enum RolesProblem {
    PriorityOfNobody { name: String, known: Vec<String> },
    InterfaceTwice { given: String },
    TooManyInterfaces { count_max: usize },
    ProbeTooSlow { probe: String, dead_after: String },
    NotVlans { given: String },
    NotAPercentage { given: String },
}

impl RolesProblem {
    /// The reason and the cure.
    pub fn say(&self) -> (String, String) {
        let said = |reason: String, cure: &str| (reason, cure.to_owned());
        match self {
            Self::PriorityOfNobody { name, known } => (
                format!("no member is called `{name}`"),
                format!("name one of {}", either(known)),
            ),
            Self::InterfaceTwice { given } => said(
                format!("the interface `{given}` is in the list twice"),
                "keep one of the two",
            ),
            Self::TooManyInterfaces { count_max } => said(
                format!("more than {count_max} interfaces cannot be monitored"),
                "of a trunk, monitor the lowest and the highest VLAN (`vlans: both`)",
            ),
            Self::ProbeTooSlow { probe, dead_after } => said(
                format!(
                    "with a probe every {probe}, one that is lost makes an interface silent for {dead_after}"
                ),
                "let `dead_after` be twice `probe` or more, better five times",
            ),
            Self::NotVlans { given } => (
                format!("`{given}` names no VLANs"),
                format!(
                    "write {}, or numbers from 1 to 4094 with commas between",
                    listed(&["lowest", "highest", "both", "all"])
                ),
            ),
            Self::NotAPercentage { given } => said(
                format!("`table_full` cannot be `{given}`"),
                "write a percentage from 1% to 100%, such as 90%, or off",
            ),
        }
    }
}
