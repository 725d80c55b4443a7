//! What is wrong with this machine, differs from its peers, or would surprise: each check says what it found, why that
//! matters, and the command that mends it.
//!
//! It only looks: nothing is changed, and whoever runs it needs what the daemon needs. `ctsync doctor` prints everything;
//! the daemon runs the same checks when it starts, on a thread of their own, and logs what is bad.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{Config, DEFAULT_COPY_BIT, HoldMode};
use crate::paragraph;

pub mod differences;
mod iptables;
mod kernel;
mod marks;
mod network;
pub mod peers;
mod push_down;
mod ruleset;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but may surprise.
    Warning,
    /// Replication, or a part of it, does not work so.
    Bad,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What there is.
    pub found: String,
    /// Why that matters; empty where all is well.
    pub why: &'static str,
    /// The command, or the change, that mends it; empty where all is well.
    pub cure: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            why: "",
            cure: String::new(),
        }
    }

    fn warning(
        check: &'static str,
        found: impl Into<String>,
        why: &'static str,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            check,
            verdict: Verdict::Warning,
            found: found.into(),
            why,
            cure: cure.into(),
        }
    }

    fn bad(
        check: &'static str,
        found: impl Into<String>,
        why: &'static str,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::warning(check, found, why, cure)
        }
    }

    /// As a line of the log.
    fn log(&self) {
        let Self {
            check, found, cure, ..
        } = self;
        tracing::warn!(event = "doctor", check, found, cure, "{}", self.why);
    }
}

/// Every check of this machine, in the order in which they are best read.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = kernel::examine();
    findings.extend(
        (config.hold.mode != HoldMode::Never)
            .then(kernel::queue)
            .into_iter()
            .flatten(),
    );
    findings.extend(config.accounting.is_on().then(kernel::accounting));
    findings.extend(network::examine(config));
    findings.push(push_down::examine(config));
    findings.extend(ruleset::examine(config.kernel.copy_bit));
    findings
}

/// The checks that need no configuration, for who has none that is good, as `error` says.
pub fn examine_unconfigured(error: String) -> Vec<Finding> {
    let mut findings = vec![Finding::bad(
        "configuration",
        error,
        "the daemon does not start with it; the sync network and the peers are not looked at below",
        "correct it until `ctsync check` is content",
    )];
    findings.extend(kernel::examine());
    findings.extend(kernel::queue());
    findings.extend(ruleset::examine(DEFAULT_COPY_BIT));
    findings
}

/// Examines, on a thread of its own, and logs what is bad.
pub fn examine_and_log(config: &Config) -> std::io::Result<()> {
    let config = config.clone();
    let examine = move || {
        let bad = |it: &Finding| it.verdict == Verdict::Bad;
        let findings = examine(&config).into_iter().filter(bad);
        findings.for_each(|finding| finding.log());
    };
    // Nobody waits for it: it ends by itself, or with the daemon.
    let thread = std::thread::Builder::new().name("doctor".into());
    thread.spawn(examine).map(drop)
}

impl Verdict {
    /// Its name on the page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// As people read it: a line, and where something is wrong two more.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            check,
            verdict,
            found,
            why,
            cure,
        } = self;
        let verdict = verdict.name();
        paragraph::write(f, &format!("{verdict:<7}  {check:<12}  "), found)?;
        if !why.is_empty() {
            paragraph::write(f, "         why           ", why)?;
            paragraph::write(f, "         cure          ", cure)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
