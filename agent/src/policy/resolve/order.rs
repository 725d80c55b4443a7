//! What is wrong between services and rules that are each right: clauses that can never match, and services that nobody
//! chooses between.

use super::From;
use crate::config::error::{ConfigError, Problem as Any};
use crate::policy::classify::Condition;
use crate::policy::problem::Problem;
use crate::policy::service::Service;
use crate::policy::{Builtin, Rule};

/// Refuses more of `what` than `max`.
pub fn count<T>(all: &[From<T>], what: &'static str, max: usize) -> Result<(), ConfigError> {
    match all.get(max) {
        Some(first_over) => {
            let count = all.len();
            Err(first_over.wrong(Problem::TooMany { what, count, max }))
        }
        None => Ok(()),
    }
}

/// Refuses clauses that can never match, and services among which the order would decide by chance.
pub fn check(
    builtins: &[Builtin],
    services: &[From<Service>],
    rules: &[From<Rule>],
) -> Result<(), ConfigError> {
    let mut by_service = vec![false; services.len()];
    for rule in rules {
        by_service[rule.value.service] = true;
    }
    let unnamed: Vec<_> = (services.iter().zip(by_service))
        .filter_map(|(service, has_rule)| (!has_rule).then_some(service))
        .collect();
    for (at, rule) in rules.iter().enumerate() {
        let condition = &rule.value.condition;
        let what = || format!("rule {}", at + 1);
        unless_builtin(builtins, rule, condition, what)?;
        let earlier = rules[..at].iter().enumerate();
        if let Some((by, first)) = earlier
            .into_iter()
            .find(|(_, earlier)| earlier.value.condition.covers(condition))
        {
            let by = format!("rule {} ({first})", by + 1);
            return Err(rule.wrong(Problem::Shadowed { what: what(), by }));
        }
    }
    for (at, service) in unnamed.iter().enumerate() {
        let condition = Condition {
            flows: service.value.flows.clone(),
            ..Condition::default()
        };
        let what = || format!("service `{}`", service.value.name);
        unless_builtin(builtins, service, &condition, what)?;
        if let Some((by, first)) =
            (rules.iter().enumerate()).find(|(_, rule)| rule.value.condition.covers(&condition))
        {
            let by = format!("rule {} ({first})", by + 1);
            return Err(service.wrong(Problem::Shadowed { what: what(), by }));
        }
        let other =
            (unnamed[..at].iter()).find(|other| other.value.flows.meets(&service.value.flows));
        if let Some(other) = other {
            return Err(service.wrong(Problem::ServicesOverlap {
                name: service.value.name.clone(),
                other: other.value.name.clone(),
            }));
        }
    }
    Ok(())
}

fn unless_builtin<T>(
    builtins: &[Builtin],
    it: &From<T>,
    condition: &Condition,
    what: impl Fn() -> String,
) -> Result<(), ConfigError> {
    let mut off = builtins.iter().filter(|builtin| !builtin.on);
    match off.find(|builtin| builtin.service.flows.covers(&condition.flows)) {
        Some(builtin) => Err(it.wrong(Problem::ShadowedByBuiltin {
            what: what(),
            builtin: builtin.service.name.clone(),
        })),
        None => Ok(()),
    }
}

impl<T> From<T> {
    fn wrong(&self, problem: Problem) -> ConfigError {
        ConfigError::new(&self.file, self.place, Any::Policy(Box::new(problem)))
    }
}
