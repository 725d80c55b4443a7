//! The shape of `ctsync.yaml`: which keys there are, and nothing of what values mean.
//!
//! Values whose meaning is judged later are kept as written, with their place. The same types write a [`Config`] out
//! again, so that what `ctsync check` prints is what the file could have said.

pub(super) mod hold;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy, UserMessageFormatter};

use super::spanned::Spanned;

use super::error::{ConfigError, Fault, Place, Problem};
use super::{Config, Level, Transport, scalar};

pub(super) mod accounting;
pub(super) mod audit;
pub mod policy;
pub(super) mod roles;

/// A configuration is a page; what is larger is another file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const NODES_MAX: usize = 10_000;

pub(super) mod metrics;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "ctsync.yaml")]
pub(super) struct File {
    pub cluster: Spanned<u64>,
    pub member: Spanned<u64>,
    pub members: Spanned<Vec<Member>>,
    pub networks: Spanned<Vec<Network>>,
    pub sync: Option<Sync>,
    pub key_file: Option<Spanned<String>>,
    pub keys: Option<Keys>,
    pub delta: Option<Delta>,
    pub liveness: Option<Liveness>,
    pub kernel: Option<Kernel>,
    pub policy: Option<policy::Policy>,
    pub audit: Option<audit::Audit>,
    pub accounting: Option<accounting::Accounting>,
    pub roles: Option<roles::Roles>,
    pub interfaces: Option<roles::Interfaces>,
    pub checks: Option<roles::Checks>,
    pub hooks: Option<roles::Hooks>,
    pub state_directory: Option<Spanned<String>>,
    pub hold: Option<hold::Hold>,
    pub control: Option<Control>,
    pub metrics: Option<metrics::Metrics>,
    pub log: Option<Log>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub id: Spanned<u64>,
    pub name: Spanned<String>,
    /// By name of the network.
    pub addresses: Spanned<BTreeMap<String, Spanned<String>>>,
    pub public_key: Spanned<String>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub name: Spanned<String>,
    pub interface: Spanned<String>,
    pub transport: Option<Spanned<TransportWord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Spanned<String>>,
    pub port: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sync {
    pub duplicate: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum TransportWord {
    Unicast,
    Multicast,
    Broadcast,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub max_age: Option<Spanned<String>>,
    pub max_packets: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Delta {
    pub flush: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Liveness {
    pub hello: Option<Spanned<String>>,
    pub dead_after: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    pub event_buffer: Option<Spanned<String>>,
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub mark_mask: Option<Spanned<String>>,
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub copy_bit: Option<Spanned<String>>,
    pub label_mask: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub socket: Option<Spanned<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_socket: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub level: Option<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datagram_keys: Option<Spanned<String>>,
}

/// Where public keys stand, by the id of the member.
pub type Places = BTreeMap<u64, Option<Place>>;

impl File {
    /// Where each member's public key stands, by the id that is written beside it.
    pub fn public_key_places(&self) -> Places {
        let members = self.members.value.iter();
        members
            .map(|member| (member.id.value, Place::of(&member.public_key.referenced)))
            .collect()
    }
}

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    read_bounded(path, FILE_BYTES_MAX)
}

/// The text of the file at `path`, if it has no more than `bytes_max` bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<String, ConfigError> {
    let fault = |problem| ConfigError::new(path, None, problem);
    let unreadable = |error| fault(Problem::Unreadable { error });
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(fault(Problem::TooLarge { bytes_max }));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let column = 1 + good.iter().rev().take_while(|&&byte| byte != b'\n').count() as u64;
        ConfigError::new(path, Some(Place { line, column }), Problem::NotUtf8)
    })
}

/// `text` in the shape of a configuration.
pub(super) fn parse(text: &str, path: &Path) -> Result<File, ConfigError> {
    let says_nothing = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(says_nothing) {
        let fault = Fault {
            place: None,
            problem: Problem::Empty,
        };
        return Err(fault.in_file(path));
    }
    parse_bounded(text, path, NODES_MAX)
}

/// `text` in the shape of a `T`, of at most `nodes_max` values.
pub(crate) fn parse_bounded<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    nodes_max: usize,
) -> Result<T, ConfigError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 2,
            max_depth: 16,
            max_nodes: nodes_max,
            max_events: nodes_max * 4,
            max_anchors: 0,
            max_aliases: 0,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| syntax_error(&error).in_file(path))
}

/// What the parser said, in our words where it has a kind for it.
fn syntax_error(error: &Error) -> Fault {
    let error = error.without_snippet();
    let wrong_kind = |wanted: &str| Problem::WrongKind {
        wanted: wanted.to_owned(),
    };
    let problem = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => Problem::UnknownKey {
            key: field.clone(),
            known: expected.clone(),
        },
        Error::SerdeMissingField { field, .. } => Problem::MissingKey { key: field },
        Error::DuplicateMappingKey { key, .. } => Problem::DuplicateKey {
            key: key.clone().unwrap_or_default(),
        },
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => Problem::UnknownWord {
            word: variant.clone(),
            known: expected.clone(),
        },
        Error::InvalidScalar { ty, .. } if ty.starts_with(['u', 'i']) => Problem::NotANumber,
        Error::InvalidBooleanStrict { .. } => Problem::NotABoolean,
        Error::NullIntoString { .. } => Problem::NoValue,
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => wrong_kind("one value"),
        Error::Unexpected {
            expected: "sequence start",
            ..
        } => wrong_kind("a list"),
        Error::Unexpected {
            expected: "mapping start",
            ..
        } => wrong_kind("keys with values"),
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::UnexpectedValueForUnitEnumVariant { .. } => wrong_kind("one word"),
        Error::SerdeInvalidType { expected, .. } => wrong_kind(expected),
        Error::MultipleDocuments { .. } => Problem::SecondDocument,
        Error::Budget { .. } | Error::MergeKeyNotAllowed { .. } => Problem::TooComplex,
        other => Problem::Yaml {
            message: serde_saphyr::MessageFormatter::format_message(&UserMessageFormatter, other)
                .into(),
        },
    };
    Fault {
        place: error.location().and_then(|location| Place::of(&location)),
        problem,
    }
}

impl From<&Config> for File {
    fn from(config: &Config) -> Self {
        let Config {
            cluster,
            this,
            peers: _,
            networks,
            sync,
            key_file,
            keys,
            delta,
            liveness,
            kernel,
            policy,
            audit,
            accounting,
            roles: _,
            interfaces: _,
            checks: _,
            hooks: _,
            state_directory,
            hold,
            control,
            metrics,
            log,
        } = config;
        let member = |member: &super::Member| Member {
            id: written(member.id.get().into()),
            name: written(member.name.clone()),
            addresses: written(
                (networks.iter().zip(&member.addresses))
                    .map(|(network, address)| {
                        (network.name.clone(), written(address.ip().to_string()))
                    })
                    .collect(),
            ),
            public_key: written(member.public_key.to_string()),
        };
        Self {
            cluster: written(cluster.get().into()),
            member: written(this.id.get().into()),
            members: written(config.members().into_iter().map(member).collect()),
            networks: written(networks.iter().map(Network::from).collect()),
            sync: Some(Sync {
                duplicate: Some(sync.duplicate),
            }),
            key_file: Some(written(key_file.display().to_string())),
            keys: Some(Keys {
                max_age: Some(written(scalar::print_duration(keys.max_age))),
                max_packets: Some(written(keys.max_packets)),
            }),
            delta: Some(Delta {
                flush: Some(written(scalar::print_duration(delta.flush))),
            }),
            liveness: Some(Liveness {
                hello: Some(written(scalar::print_duration(liveness.hello))),
                dead_after: Some(written(scalar::print_duration(liveness.dead_after))),
            }),
            kernel: Some(Kernel {
                event_buffer: Some(written(scalar::print_size(
                    kernel.event_buffer_bytes.into(),
                ))),
                mark_mask: Some(written(scalar::print_mask(kernel.mark_mask))),
                copy_bit: Some(written(scalar::print_bit(kernel.copy_bit))),
                label_mask: Some(written(scalar::print_label_mask(kernel.label_mask))),
            }),
            policy: Some(policy.into()),
            audit: Some(audit.into()),
            accounting: Some(accounting.into()),
            roles: Some(roles::Roles::of(config)),
            interfaces: Some(roles::Interfaces::of(config)),
            checks: Some(roles::Checks::of(config)),
            hooks: Some(roles::Hooks::of(config)),
            state_directory: Some(written(state_directory.display().to_string())),
            hold: Some(hold::Hold::from(hold)),
            control: Some(Control {
                socket: Some(written(control.socket.display().to_string())),
                monitor_socket: (control.monitor_socket.as_ref())
                    .map(|path| written(path.display().to_string())),
            }),
            metrics: Some(metrics::Metrics {
                listen: metrics.listen.as_ref().map(|it| written(it.to_string())),
            }),
            log: Some(Log {
                level: Some(log.level),
                datagram_keys: (log.datagram_keys.as_ref())
                    .map(|path| written(path.display().to_string())),
            }),
        }
    }
}

impl From<&super::Network> for Network {
    fn from(network: &super::Network) -> Self {
        let (transport, group) = match network.transport {
            Transport::Unicast => (TransportWord::Unicast, None),
            Transport::Multicast { group } => {
                (TransportWord::Multicast, Some(written(group.to_string())))
            }
            Transport::Broadcast => (TransportWord::Broadcast, None),
        };
        Self {
            name: written(network.name.clone()),
            interface: written(network.interface.to_string()),
            transport: Some(written(transport)),
            group,
            port: Some(written(network.port.get().into())),
        }
    }
}

/// A value that comes from no file.
pub(crate) fn written<T>(value: T) -> Spanned<T> {
    Spanned::nowhere(value)
}
