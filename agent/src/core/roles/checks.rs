//! What a member needs to be fit besides the flows: the checks that are built in, and those of the operator.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::answer::members::{Check, CheckSays};
use crate::units::millis;
use ccp::election::{Problem, Problems};
use ccp::time::Instant;

/// Checks of the operator at most; more are refused.
const CHECKS_MAX: usize = 32;
/// The longest name of one.
const NAME_BYTES_MAX: usize = 32;
/// A table that was nearly full is not before it has fallen by this much, in percent.
const TABLE_SLACK: u8 = 5;

/// What is checked.
#[derive(Debug, Default)]
pub struct Checks {
    own: BTreeMap<String, CheckIn>,
    /// What is too full; `None` to look away.
    table_limit: Option<u8>,
    table_percent: Option<u8>,
    table_is_full: bool,
    /// Why the state directory cannot be written.
    storage: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct CheckIn {
    says: CheckSays,
    /// When it has to have said something again.
    due: Option<Instant>,
}

impl CheckIn {
    fn says_at(&self, now: Instant) -> CheckSays {
        match self.due {
            Some(due) if due <= now => CheckSays::Problem,
            Some(_) | None => self.says,
        }
    }
}

/// The name of a check of the operator's; an error says what one is.
pub fn check_name(name: &str) -> Result<String, String> {
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_clean) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "a check has a name of 1 to {NAME_BYTES_MAX} letters, digits, dots, underscores and hyphens"
        )),
    }
}

impl Checks {
    /// The kernel's table may be full to `table_limit` percent.
    pub fn new(table_limit: Option<u8>) -> Self {
        Self {
            table_limit,
            ..Self::default()
        }
    }

    /// A check of the operator's says something; an error says why it is refused.
    pub fn check_in(
        &mut self,
        name: &str,
        says: CheckSays,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<(), String> {
        check_name(name)?;
        if says == CheckSays::Gone {
            let gone = self.own.remove(name);
            return gone.map(drop).ok_or(format!("there is no check {name}"));
        }
        if self.own.len() == CHECKS_MAX && !self.own.contains_key(name) {
            return Err(format!(
                "there are {CHECKS_MAX} checks already: let one go with `ctsync check-in NAME gone`"
            ));
        }
        let due = timeout.map(|timeout| now + timeout);
        self.own.insert(name.to_owned(), CheckIn { says, due });
        Ok(())
    }

    /// The kernel's table has so many entries of so many.
    pub fn set_table(&mut self, count: u64, max: u64) {
        let percent = (count.saturating_mul(100)).checked_div(max).unwrap_or(0);
        let percent = u8::try_from(percent).unwrap_or(u8::MAX);
        self.table_percent = Some(percent);
        let slack = if self.table_is_full { TABLE_SLACK } else { 0 };
        self.table_is_full = self
            .table_limit
            .is_some_and(|limit| percent + slack >= limit);
    }

    /// The state directory can be written, or why not.
    pub fn set_storage(&mut self, fault: Option<String>) {
        self.storage = fault;
    }

    /// When [`Self::problems`] may be others though nobody said anything.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let dues = self.own.values().filter_map(|check| check.due);
        dues.filter(|due| *due > now).min()
    }

    /// What is wrong.
    pub fn problems(&self, now: Instant) -> Problems {
        let mut problems = Problems::default();
        for check in self.own.values() {
            match check.says_at(now) {
                CheckSays::Ok | CheckSays::Gone => {}
                CheckSays::Problem => problems.add(Problem::Check),
                CheckSays::Init => problems.add(Problem::CheckInit),
            }
        }
        if self.table_is_full {
            problems.add(Problem::Table);
        }
        if self.storage.is_some() {
            problems.add(Problem::Storage);
        }
        problems
    }

    /// What is wrong, in words.
    pub fn sentences(&self, now: Instant) -> Vec<String> {
        let bad = self.list(now).into_iter().filter(|it| it.state != "ok");
        bad.map(|it| match it.text.as_str() {
            "" => format!("check {}: {}", it.name, it.state),
            text => format!("check {}: {text}", it.name),
        })
        .collect()
    }

    /// All of them.
    pub fn list(&self, now: Instant) -> Vec<Check> {
        let mut list = Vec::new();
        if let (Some(limit), Some(percent)) = (self.table_limit, self.table_percent) {
            let text =
                format!("the connection table is full to {percent} %, {limit} % is too much");
            list.push(Check::built_in("table", !self.table_is_full, text));
        }
        let text = self.storage.clone().unwrap_or_default();
        list.push(Check::built_in(
            "state-directory",
            self.storage.is_none(),
            text,
        ));
        list.extend(self.own.iter().map(|(name, check)| {
            let is_late = check.due.is_some_and(|due| due <= now);
            let late = "has not been heard of in time".to_owned();
            Check {
                name: name.clone(),
                state: match check.says_at(now) {
                    CheckSays::Ok | CheckSays::Gone => "ok",
                    CheckSays::Problem => "problem",
                    CheckSays::Init => "init",
                }
                .to_owned(),
                text: if is_late { late } else { String::new() },
                due_ms: check.due.map(|due| millis(due.since(now))),
            }
        }));
        list
    }
}

#[cfg(test)]
mod tests;
