//! The service policy: which flows the peers are told of, and when.
//!
//! `policy.yaml` and the files of `policy.d/` name *services* (what a flow is, and how it is treated) and *rules* (where a
//! service applies). What decides on a flow is the first *clause* that matches it, in this order: built-in services that
//! are not turned on, rules as they are written, services that no rule names. A flow that none matches is synchronised.
//!
//! [`Policy::load`] reads the files in the two steps that the configuration is read in: `file` is their shape, `resolve`
//! judges what they say; a fault is a [`ConfigError`](crate::config::ConfigError). [`Policy::decide`] is fast enough for every
//! event of the kernel ([`classify`]). Nothing here knows of kernels, daemons or time.

pub(crate) mod builtin;
pub mod classify;
mod file;
pub mod prefix;
mod problem;
pub mod push;
mod resolve;
pub mod service;

pub(crate) use problem::Problem;
pub use service::{Hold, Service, Sync};

use ccp::record::FlowKey;
use classify::{Classifier, Condition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A policy with no invalid state, compiled.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Every built-in service, by name.
    builtins: Vec<Builtin>,
    /// The services of the files, in the order of the files.
    services: Vec<Service>,
    rules: Vec<Rule>,
    /// In the order in which they are asked.
    clauses: Vec<Clause>,
    classifier: Classifier,
    digest: u64,
}

/// A built-in service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// What it is.
    pub service: Service,
    /// True if the operator turned it on: then it decides on nothing.
    pub on: bool,
}

/// Where a service applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The operator's name for it; `None` if it has none.
    pub name: Option<String>,
    /// Which flows it matches, its service's protocols and ports included.
    pub condition: Condition,
    /// Its service, by its place among the services.
    pub service: usize,
}

/// What decides on the flows that it matches first.
#[derive(Clone, Debug)]
struct Clause {
    by: By,
    condition: Condition,
    service: ServiceId,
    sync: Sync,
    hold: Hold,
}

/// A service by its place in a policy: built-in ones first, then those of the files, then what matches none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceId(u16);

impl ServiceId {
    /// Its place.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Who decides, by its place in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum By {
    Builtin(usize),
    Rule(usize),
    Service(usize),
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether and when the peers are told.
    pub sync: Sync,
    /// Whether its first packet waits for them.
    pub hold: Hold,
    /// The clause that decided, for [`Policy::decided_by`]; `None` if none matched.
    pub clause: Option<usize>,
    /// The service that it is of.
    pub service: ServiceId,
}

/// What decided on a flow, by the names that the operator knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "decided_by", rename_all = "kebab-case")]
pub enum DecidedBy {
    /// No rule and no service matches it: it is synchronised.
    Nothing,
    /// A built-in service.
    BuiltinService {
        /// Its name.
        service: String,
    },
    /// A service that no rule names.
    Service {
        /// Its name.
        service: String,
    },
    /// A rule, which chose a service.
    Rule {
        /// Its number, from 1.
        rule: usize,
        /// Its name, if it has one.
        rule_name: Option<String>,
        /// The service.
        service: String,
    },
}

impl Policy {
    /// The policy of who has written none: built-in services are left out, all else is synchronised. `ccp_port` is that of
    /// the cluster's own datagrams.
    pub fn new(ccp_port: u16) -> Self {
        let builtins = builtin::all(ccp_port).into_iter();
        let off = |service| Builtin { service, on: false };
        Self::compile(builtins.map(off).collect(), Vec::new(), Vec::new())
    }

    fn compile(builtins: Vec<Builtin>, services: Vec<Service>, rules: Vec<Rule>) -> Self {
        let clauses = clauses(&builtins, &services, &rules);
        let conditions: Vec<_> = (clauses.iter())
            .map(|clause| clause.condition.clone())
            .collect();
        let mut policy = Self {
            classifier: Classifier::new(&conditions),
            builtins,
            services,
            rules,
            clauses,
            digest: 0,
        };
        policy.digest = digest(&policy.to_yaml());
        policy
    }

    /// The same for policies that say the same, on every machine; another, as good as certainly, for others.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The services of the files.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What becomes of a flow with this key and this connmark.
    pub fn decide(&self, key: &FlowKey, mark: u32) -> Decision {
        let clause = self.classifier.first(key, mark);
        let (service, sync, hold) = match clause.and_then(|clause| self.clauses.get(clause)) {
            Some(clause) => (clause.service, clause.sync, clause.hold),
            None => (self.no_service(), Sync::Always, Hold::Auto),
        };
        Decision {
            sync,
            hold,
            clause,
            service,
        }
    }

    /// Every service that a flow can be of, in the order of their [`ServiceId`]; true of built-in ones. The last stands for
    /// flows that match none.
    pub fn all_services(&self) -> impl Iterator<Item = (Option<&Service>, bool)> {
        let builtins = (self.builtins.iter()).map(|builtin| (Some(&builtin.service), true));
        let services = self.services.iter().map(|service| (Some(service), false));
        builtins.chain(services).chain([(None, false)])
    }

    fn no_service(&self) -> ServiceId {
        service_id(self.builtins.len() + self.services.len())
    }

    /// The service; `None` if this stands for flows that match none.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        match id.index().checked_sub(self.builtins.len()) {
            None => (self.builtins.get(id.index())).map(|builtin| &builtin.service),
            Some(at) => self.services.get(at),
        }
    }

    /// What made a decision.
    pub fn decided_by(&self, decision: Decision) -> DecidedBy {
        let clause = decision.clause.and_then(|at| self.clauses.get(at));
        let name = |service: &Service| service.name.clone();
        match clause.map(|clause| clause.by) {
            None => DecidedBy::Nothing,
            Some(By::Builtin(at)) => DecidedBy::BuiltinService {
                service: name(&self.builtins[at].service),
            },
            Some(By::Service(at)) => DecidedBy::Service {
                service: name(&self.services[at]),
            },
            Some(By::Rule(at)) => {
                let rule = &self.rules[at];
                DecidedBy::Rule {
                    rule: at + 1,
                    rule_name: rule.name.clone(),
                    service: name(&self.services[rule.service]),
                }
            }
        }
    }
}

/// Two policies are equal if they say the same.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        (&self.builtins, &self.services, &self.rules)
            == (&other.builtins, &other.services, &other.rules)
    }
}

impl Eq for Policy {}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no rule and no service matches it"),
            Self::BuiltinService { service } => write!(f, "built-in service {service}"),
            Self::Service { service } => write!(f, "service {service}"),
            Self::Rule {
                rule,
                rule_name,
                service,
            } => {
                write!(f, "rule {rule}")?;
                if let Some(name) = rule_name {
                    write!(f, " ({name})")?;
                }
                write!(f, ", service {service}")
            }
        }
    }
}

/// Half of half a SHA-256.
fn digest(text: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let first = digest.as_ref().first_chunk();
    u64::from_be_bytes(*first.expect("it has 32 bytes"))
}

fn service_id(at: usize) -> ServiceId {
    ServiceId(u16::try_from(at).expect("services are counted when they are read"))
}

/// What is asked of a flow, in order.
fn clauses(builtins: &[Builtin], services: &[Service], rules: &[Rule]) -> Vec<Clause> {
    let id = |by| match by {
        By::Builtin(at) => service_id(at),
        By::Service(at) => service_id(builtins.len() + at),
        By::Rule(at) => service_id(builtins.len() + rules[at].service),
    };
    let clause = |by, service: &Service, condition: Option<&Condition>| Clause {
        by,
        service: id(by),
        condition: condition.cloned().unwrap_or_else(|| Condition {
            flows: service.flows.clone(),
            ..Condition::default()
        }),
        sync: service.sync,
        hold: service.hold,
    };
    let off = (builtins.iter().enumerate()).filter(|(_, builtin)| !builtin.on);
    let off = off.map(|(at, builtin)| clause(By::Builtin(at), &builtin.service, None));
    let by_rule = (rules.iter().enumerate())
        .map(|(at, rule)| clause(By::Rule(at), &services[rule.service], Some(&rule.condition)));
    let unnamed = (services.iter().enumerate())
        .filter(|(at, _)| rules.iter().all(|rule| rule.service != *at))
        .map(|(at, service)| clause(By::Service(at), service, None));
    off.chain(by_rule).chain(unnamed).collect()
}

#[cfg(test)]
pub(crate) mod tests;
