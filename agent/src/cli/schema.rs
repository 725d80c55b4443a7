//! `ctsync schema`: what `--json` of a verb prints, and what may stand in the files, as a JSON Schema made of the types that are
//! printed and read.

use std::io::Write;

use clap::{Args, ValueEnum};
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, schema_for};
use serde_json::Value;

use super::{Failure, check, keygen, mode, policy, print_json, role, rules, top};
use crate::accounting::writer::Line;
use crate::config::Config;
use crate::control::answer::accounting::Accounting;
use crate::control::answer::audit::Report;
use crate::control::answer::explain::Explanation;
use crate::control::answer::members::{Done, Interface, Members};
use crate::control::answer::services::Services;
use crate::control::answer::sync::SyncStatus;
use crate::control::answer::{
    Counters, FlowRow, Reloaded, Rolled, SplitDestinations, Status, SyncStat,
};
use crate::doctor::Finding;
use crate::import::Import;
use crate::policy::Policy;

#[derive(Debug, Args)]
pub(super) struct PrintSchema {
    /// Of what; of `flows` it describes one line, of `top` one page [default: list what there is]
    #[arg(value_enum)]
    of: Option<Output>,
}

/// What is printed with `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Accounting,
    /// A line of the file that `accounting.target` names
    AccountingLine,
    Audit,
    /// What is wrong with a file; one that is good is printed as it is written
    Check,
    CheckIn,
    /// The configuration itself
    #[value(name = "ctsync.yaml")]
    Configuration,
    Doctor,
    Down,
    Drain,
    Explain,
    Flows,
    ImportConntrackd,
    Interfaces,
    Keygen,
    KeysRoll,
    Members,
    Mode,
    Paths,
    PolicyDryRun,
    /// The service policy itself
    #[value(name = "policy.yaml")]
    PolicyFile,
    Reload,
    Resync,
    Rules,
    Services,
    Status,
    Syncstat,
    Top,
    Up,
}

impl PrintSchema {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some(of) = self.of {
            let mut schema = of.schema();
            in_words_of_json().transform(&mut schema);
            return Ok(print_json(out, &schema)?);
        }
        for of in Output::value_variants() {
            let name = of.to_possible_value().expect("none is hidden");
            writeln!(out, "{}", name.get_name())?;
        }
        Ok(())
    }
}

impl Output {
    fn schema(self) -> Schema {
        match self {
            Self::Accounting => schema_for!(Accounting),
            Self::AccountingLine => schema_for!(Line<'_>),
            Self::Audit => schema_for!(Report),
            Self::Check => schema_for!(check::Refusal<'_>),
            Self::CheckIn => schema_for!(Done),
            Self::Configuration => Config::schema(),
            Self::Doctor => schema_for!(Vec<Finding>),
            Self::Down | Self::Drain | Self::Up => schema_for!(role::Outcome),
            Self::Explain => schema_for!(Explanation),
            Self::Flows => schema_for!(FlowRow),
            Self::ImportConntrackd => schema_for!(Import),
            Self::Interfaces => schema_for!(Vec<Interface>),
            Self::Keygen => schema_for!(keygen::PublicHalf),
            Self::KeysRoll => schema_for!(Rolled),
            Self::Members => schema_for!(Members),
            Self::Mode => schema_for!(Vec<mode::Used>),
            Self::Paths => schema_for!(SplitDestinations),
            Self::PolicyDryRun => schema_for!(policy::Outcome),
            Self::PolicyFile => Policy::schema(),
            Self::Reload => schema_for!(Reloaded),
            Self::Resync => schema_for!(SyncStatus),
            Self::Rules => schema_for!(rules::Sections),
            Self::Services => schema_for!(Services),
            Self::Status => schema_for!(Status),
            Self::Syncstat => schema_for!(SyncStat),
            Self::Top => schema_for!(top::Page),
        }
    }
}

/// Descriptions are those of the code, where nothing has another name.
fn in_words_of_json() -> impl Transform {
    RecursiveTransform(|schema: &mut Schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace("`None`", "`null`");
        }
    })
}

/// An object of numbers.
impl JsonSchema for Counters {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Counters".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "Numbers by name; ctsync(8) says under COUNTERS what each counts.",
            "type": "object",
            "additionalProperties": { "type": "integer", "minimum": 0 },
        })
    }
}
