//! From what the files say to what they mean: fills in defaults, and finds every value that cannot be.

mod order;
mod values;

use super::builtin;
use super::classify::{CLAUSES_MAX, Condition};
use super::file::{self, BuiltinWord, File, HoldWord, Named, SyncWord, Words};
use super::prefix::Prefix;
use super::problem::Problem;
use super::service::{Hold, Kind, Service, Sync};
use super::{Builtin, Policy, Rule};
use crate::config::error::{ConfigError, Fault, Place, Problem as Any};
use crate::config::file::{parse_bounded, read_bounded, written};
use crate::config::scalar::{print_duration, print_mask};
use crate::config::spanned::Spanned;
use hashbrown::HashMap;
use schemars::{Schema, schema_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Room for the clauses that there can be at most, each a few lines long.
const FILE_BYTES_MAX: u64 = 4 << 20;
const NODES_MAX: usize = 400_000;

/// Services and rules at most; together with the built-in services they are no more than [`CLAUSES_MAX`].
const SERVICES_MAX: usize = 4_096;
const RULES_MAX: usize = 8_192;
const _: () = assert!(SERVICES_MAX + RULES_MAX + 64 <= CLAUSES_MAX);

/// Of a service that is delayed without saying how long.
const DELAY: Duration = Duration::from_secs(15);
/// Less would save little, and more is what `never` is for.
const DELAY_MIN: Duration = Duration::from_secs(1);
pub const DELAY_MAX: Duration = Duration::from_secs(3600);

/// Something of a file.
struct From<T> {
    file: PathBuf,
    place: Option<Place>,
    value: T,
}

impl Policy {
    /// Reads and judges these files, in this order. `ccp_port` is the port of the cluster's own datagrams.
    pub fn load(files: &[PathBuf], ccp_port: u16) -> Result<Self, ConfigError> {
        let texts: Vec<_> = (files.iter())
            .map(|path| Ok((path.clone(), read_bounded(path, FILE_BYTES_MAX)?)))
            .collect::<Result<_, ConfigError>>()?;
        Self::parse(&texts, ccp_port)
    }

    /// Judges texts; errors name the paths as where they came from.
    pub fn parse(texts: &[(PathBuf, String)], ccp_port: u16) -> Result<Self, ConfigError> {
        let mut parts = Parts::default();
        for (path, text) in texts {
            // A file with nothing but comments says nothing.
            let file: Option<File> = parse_bounded(text, path, NODES_MAX)?;
            parts.add(path, file.unwrap_or_default())?;
        }
        parts.resolve(ccp_port)
    }

    /// The whole policy, built-in services and defaults included, as a file that means the same.
    pub fn to_yaml(&self) -> String {
        let options = serde_saphyr::ser_options! { compact_list_indent: false };
        serde_saphyr::to_string_with_options(&File::from(self), options)
            .expect("names, numbers and text have a YAML form")
    }

    /// The JSON Schema of the files.
    pub fn schema() -> Schema {
        schema_for!(File)
    }

    /// The same in JSON, which is YAML too.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&File::from(self))
            .expect("names, numbers and text have a JSON form")
    }
}

/// What all files say, before it is judged as a whole.
#[derive(Default)]
struct Parts {
    on: HashMap<String, From<bool>>,
    services: Vec<From<Service>>,
    rules: Vec<From<file::Rule>>,
}

impl Parts {
    fn add(&mut self, path: &Path, file: File) -> Result<(), ConfigError> {
        let in_file = |fault: Fault| fault.in_file(path);
        for (name, word) in file.builtins.map_or_else(Vec::new, |Named(it)| it) {
            self.add_builtin(path, &name, word).map_err(in_file)?;
        }
        for (name, service) in file.services.map_or_else(Vec::new, |Named(it)| it) {
            self.add_service(path, &name, service).map_err(in_file)?;
        }
        for rule in file.rules.unwrap_or_default() {
            self.rules.push(From {
                file: path.to_owned(),
                place: Place::of(&rule.referenced),
                value: rule.value,
            });
        }
        Ok(())
    }

    fn add_builtin(
        &mut self,
        path: &Path,
        name: &Spanned<String>,
        word: BuiltinWord,
    ) -> Result<(), Fault> {
        let given = || name.value.clone();
        if builtin::NEVER.contains(&name.value.as_str()) {
            return Err(fault(name, Problem::BuiltinForMany { name: given() }));
        }
        if !builtin::names().contains(&name.value.as_str()) {
            return Err(fault(name, Problem::BuiltinUnknown { name: given() }));
        }
        let on = From {
            file: path.to_owned(),
            place: Place::of(&name.referenced),
            value: word == BuiltinWord::On,
        };
        match self.on.get(&name.value) {
            Some(first) => Err(fault(
                name,
                Problem::BuiltinTwice {
                    name: given(),
                    first: first.to_string(),
                },
            )),
            None => {
                self.on.insert(given(), on);
                Ok(())
            }
        }
    }

    fn add_service(
        &mut self,
        path: &Path,
        name: &Spanned<String>,
        service: file::Service,
    ) -> Result<(), Fault> {
        let given = || name.value.clone();
        values::name(name, "service name")?;
        let for_many = builtin::NEVER.contains(&name.value.as_str());
        if for_many || builtin::names().contains(&name.value.as_str()) {
            return Err(fault(name, Problem::BuiltinName { name: given() }));
        }
        if let Some(first) = (self.services.iter()).find(|it| it.value.name == name.value) {
            return Err(fault(
                name,
                Problem::ServiceTwice {
                    name: given(),
                    first: first.to_string(),
                },
            ));
        }
        let service = service_of(given(), service)?;
        self.services.push(From {
            file: path.to_owned(),
            place: Place::of(&name.referenced),
            value: service,
        });
        Ok(())
    }

    fn resolve(self, ccp_port: u16) -> Result<Policy, ConfigError> {
        let Self {
            on,
            services,
            rules,
        } = self;
        order::count(&services, "services", SERVICES_MAX)?;
        order::count(&rules, "rules", RULES_MAX)?;
        let builtins: Vec<_> = builtin::all(ccp_port)
            .into_iter()
            .map(|service| Builtin {
                on: on.get(&service.name).is_some_and(|on| on.value),
                service,
            })
            .collect();
        let places: HashMap<String, usize> = (services.iter().zip(0..))
            .map(|(service, at)| (service.value.name.clone(), at))
            .collect();
        let rules = (rules.into_iter())
            .map(|rule| {
                let From { file, place, value } = rule;
                let value = rule_of(value, &services, &places).map_err(|it| it.in_file(&file))?;
                Ok(From { file, place, value })
            })
            .collect::<Result<Vec<_>, ConfigError>>()?;
        order::check(&builtins, &services, &rules)?;
        Ok(Policy::compile(
            builtins,
            services.into_iter().map(|it| it.value).collect(),
            rules.into_iter().map(|it| it.value).collect(),
        ))
    }
}

fn service_of(name: String, service: file::Service) -> Result<Service, Fault> {
    let flows = values::flows(&service)?;
    let kind = match &service.r#type {
        Some(word) => Kind::parse(&word.value).ok_or_else(|| {
            let given = word.value.clone();
            fault(word, Problem::NotAKind { given })
        })?,
        None => Kind::None,
    };
    let word = (service.sync.as_ref()).map_or(SyncWord::Always, |word| word.value);
    let sync = match (word, &service.delay) {
        (SyncWord::Always, None) => Sync::Always,
        (SyncWord::Never, None) => Sync::Never,
        (SyncWord::Always | SyncWord::Never, Some(delay)) => {
            return Err(fault(delay, Problem::DelayWithoutDelayed { service: name }));
        }
        (SyncWord::Delayed, None) => Sync::Delayed(DELAY),
        (SyncWord::Delayed, Some(delay)) => {
            Sync::Delayed(values::duration(delay, "delay", DELAY_MIN..=DELAY_MAX)?)
        }
    };
    if let (Sync::Delayed(_), Kind::Helper(helper), Some(place)) = (sync, kind, &service.sync) {
        let service = name;
        return Err(fault(place, Problem::DelayOnHelper { service, helper }));
    }
    let hold = match service.hold.as_ref().map(|word| word.value) {
        Some(HoldWord::Always) => Hold::Always,
        Some(HoldWord::Auto) | None => Hold::Auto,
        Some(HoldWord::Never) => Hold::Never,
    };
    let sync_word = match sync {
        Sync::Always => None,
        Sync::Never => Some("never"),
        Sync::Delayed(_) => Some("delayed"),
    };
    if let (Hold::Always, Some(sync), Some(place)) = (hold, sync_word, &service.hold) {
        let service = name;
        return Err(fault(place, Problem::HoldWithoutSync { service, sync }));
    }
    Ok(Service {
        name,
        flows,
        kind,
        sync,
        hold,
    })
}

fn rule_of(
    rule: file::Rule,
    services: &[From<Service>],
    places: &HashMap<String, usize>,
) -> Result<Rule, Fault> {
    if let Some(interface) = &rule.interface {
        return Err(fault(interface, Problem::InterfaceUnknowable));
    }
    let Some(&at) = places.get(&rule.service.value) else {
        let known = services.iter().map(|it| it.value.name.clone()).collect();
        let name = rule.service.value.clone();
        return Err(fault(
            &rule.service,
            Problem::ServiceUnknown { name, known },
        ));
    };
    let service = &services[at].value;
    let source = values::prefixes(rule.source.as_ref())?;
    let destination = values::prefixes(rule.destination.as_ref())?;
    if let Some(words) = &rule.destination
        && service.sync != Sync::Never
        && let Some((word, prefix)) =
            (words.0.iter().zip(&destination)).find(|(_, prefix)| prefix.is_for_many())
    {
        let (prefix, service) = (*prefix, service.name.clone());
        return Err(fault(word, Problem::ForMany { prefix, service }));
    }
    let meets = |source: &Prefix| destination.iter().any(|it| it.family == source.family);
    if let (Some(words), Some(first)) = (&rule.destination, source.first())
        && !destination.is_empty()
        && !source.iter().any(meets)
    {
        let (source, destination) = (*first, destination[0]);
        return Err(fault(
            &words.0[0],
            Problem::MixedFamilies {
                source,
                destination,
            },
        ));
    }
    Ok(Rule {
        name: match &rule.name {
            Some(name) => Some(values::name(name, "rule name")?),
            None => None,
        },
        condition: Condition {
            source,
            destination,
            zone: (rule.zone.as_ref()).map(values::zone).transpose()?,
            mark: (rule.mark.as_ref()).map(values::mark).transpose()?,
            flows: service.flows.clone(),
        },
        service: at,
    })
}

impl std::convert::From<&Policy> for File {
    fn from(policy: &Policy) -> Self {
        let builtin = |it: &Builtin| {
            let word = if it.on {
                BuiltinWord::On
            } else {
                BuiltinWord::Off
            };
            (written(it.service.name.clone()), word)
        };
        let service = |it: &Service| (written(it.name.clone()), values::service_file(it));
        let words = |prefixes: &[Prefix]| (!prefixes.is_empty()).then(|| Words::of(prefixes));
        let rule = |it: &Rule| {
            written(file::Rule {
                name: it.name.clone().map(written),
                source: words(&it.condition.source),
                destination: words(&it.condition.destination),
                zone: it.condition.zone.map(|zone| written(zone.into())),
                mark: (it.condition.mark).map(|(value, mask)| {
                    Words::of([format!("{}/{}", print_mask(value), print_mask(mask))])
                }),
                interface: None,
                service: written(policy.services[it.service].name.clone()),
            })
        };
        Self {
            builtins: Some(Named(policy.builtins.iter().map(builtin).collect())),
            services: Some(Named(policy.services.iter().map(service).collect())),
            rules: Some(policy.rules.iter().map(rule).collect()),
        }
    }
}

impl<T> std::fmt::Display for From<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place {
            Some(place) => write!(f, "{}:{}", self.file.display(), place.line),
            None => write!(f, "{}", self.file.display()),
        }
    }
}

fn fault<T>(written: &Spanned<T>, problem: Problem) -> Fault {
    Fault {
        place: Place::of(&written.referenced),
        problem: Any::Policy(Box::new(problem)),
    }
}

/// How a delay is written.
fn delay_word(sync: Sync) -> Option<Spanned<String>> {
    match sync {
        Sync::Delayed(delay) => Some(written(print_duration(delay))),
        Sync::Always | Sync::Never => None,
    }
}
