//! The configuration of a member: what `ctsync.yaml` says, with every default filled in and no invalid state.
//!
//! [`Config::load`] reads the file in two steps: `file` is its shape (unknown and duplicate keys are refused while
//! parsing), `resolve` judges the values and makes a [`Config`] of them. Both kinds of fault become a
//! [`ConfigError`], which knows file, line and column, and says what to write instead.
//!
//! Nothing here looks at the machine, but [`Config::load_with_key`] at the key that it is to fit: whether the interface
//! exists is found out by who needs it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

use crate::identity::PublicKey;
use crate::ruleset::CopyBit;
use ccp::hold::Deadline;

pub use ccp::record::MemberId;
pub use error::ConfigError;
pub use load::LoadError;
pub use resolve::networks::default_group;

pub mod accounting;
pub(crate) mod error;
pub(crate) mod file;
mod load;
mod resolve;
pub mod roles;
pub(crate) mod scalar;
pub(crate) mod spanned;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/ctsync/ctsync.yaml";
/// Where the control socket is when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ctsync/control.sock";
/// What the policy's file is called, beside the configuration.
pub const DEFAULT_POLICY_FILE: &str = "policy.yaml";
/// What the directory with more of it is called.
pub const DEFAULT_POLICY_DIRECTORY: &str = "policy.d";
/// The bit of the connmark that marks copies when nobody says otherwise.
pub const DEFAULT_COPY_BIT: Option<CopyBit> = CopyBit::new(31);

/// What one member needs to know to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Number of the cluster, the same on every member: datagrams of other clusters are ignored.
    pub cluster: NonZeroU16,
    /// This machine.
    pub this: Member,
    /// The other members, by ascending id; 1 to 15 of them.
    pub peers: Vec<Member>,
    /// The networks that members talk over, the best first; 1 to 4.
    pub networks: Vec<Network>,
    /// How several networks are used.
    pub sync: Sync,
    /// File with this member's key, unless systemd passes one ([`crate::identity::file`]).
    pub key_file: PathBuf,
    /// When the keys that seal datagrams are replaced.
    pub keys: Keys,
    /// How changes are sent.
    pub delta: Delta,
    /// How a dead peer is told from a quiet one.
    pub liveness: Liveness,
    /// What is asked of this machine's kernel.
    pub kernel: Kernel,
    /// Where the service policy is.
    pub policy: Policy,
    /// How often the kernel's table is compared with what is known.
    pub audit: Audit,
    /// Whether what has passed is counted.
    pub accounting: accounting::Accounting,
    /// Who is active.
    pub roles: roles::Roles,
    /// Which interfaces are monitored.
    pub interfaces: roles::Interfaces,
    /// What else makes a member fit.
    pub checks: roles::Checks,
    /// What is run when this member becomes something else.
    pub hooks: roles::Hooks,
    /// Where what has to survive a restart is kept.
    pub state_directory: PathBuf,
    /// How packets wait until the peers have their flow.
    pub hold: Hold,
    /// The control socket.
    pub control: Control,
    /// What is measured, for Prometheus.
    pub metrics: Metrics,
    /// What is logged.
    pub log: Log,
}

/// One machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, unique in the cluster.
    pub id: MemberId,
    /// Its name, unique in the cluster; for people.
    pub name: String,
    /// Its address on each of [`Config::networks`], with the port; on one network, all members' are of one family.
    ///
    /// A link-local IPv6 address has no scope here: it is the one of [`Network::interface`].
    pub addresses: Vec<SocketAddr>,
    /// What it proves its identity against, unique in the cluster.
    pub public_key: PublicKey,
}

/// How several networks are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Whether everything goes over all networks at once, rather than over the best.
    pub duplicate: bool,
}

/// A network that members talk over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name in the configuration.
    pub name: String,
    /// The interface of this machine that is on it.
    pub interface: InterfaceName,
    /// How a datagram for all peers is sent.
    pub transport: Transport,
    /// Port of every member, the same on all networks: UDP for changes, TCP for keys.
    pub port: NonZeroU16,
}

/// Name of a network interface: 1 to 15 bytes (`IFNAMSIZ` is 16 with its NUL), no `/`, no white space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceName(String);

/// How a datagram for all peers is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A copy to each peer's address.
    Unicast,
    /// One to a multicast group, of the family of the members' addresses.
    Multicast {
        /// The group.
        group: IpAddr,
    },
    /// One to the broadcast address of the interface; IPv4 only.
    Broadcast,
}

impl Transport {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Multicast { .. } => "multicast",
            Self::Broadcast => "broadcast",
        }
    }
}

/// When a key that seals datagrams is replaced; whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// When it is that old; 1 s to 24 h.
    pub max_age: Duration,
    /// When it has sealed so many datagrams; 1000 to 2^32, far below what AES-GCM can stand with counted nonces.
    pub max_packets: u64,
}

/// How changes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The longest that a change waits for others to share its datagram; 100 us to 100 ms.
    pub flush: Duration,
}

/// How a dead peer is told from a quiet one; `hello` is less than half of `dead_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// A member that has nothing else to send says that it lives this often; 10 ms to 10 s.
    pub hello: Duration,
    /// A peer not heard of for this long is dead; 50 ms to 60 s.
    pub dead_after: Duration,
}

/// What is asked of this machine's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Receive buffer of the socket that hears conntrack events, in bytes; 1 MiB to 512 MiB.
    pub event_buffer_bytes: u32,
    /// The bits of the connmark that are replicated; never `copy_bit`.
    pub mark_mask: u32,
    /// The bit of the connmark that marks a copy; `None` to do without.
    pub copy_bit: Option<CopyBit>,
    /// The connection labels that are replicated, a bit each.
    pub label_mask: u128,
}

/// Where the service policy is; a path that is not absolute begins where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its file. It need not be there if it has the default name.
    pub file: PathBuf,
    /// The directory with more files of it, `*.yaml` in the order of their names; the same holds for it.
    pub directory: PathBuf,
    /// With what the kernel is made to do what it can of it.
    pub kernel: PushDown,
}

/// With what the kernel is kept from making events that nobody needs, or from handing them over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PushDown {
    /// The first of the next three that is to be had.
    Auto,
    /// Rules in our own table of nftables.
    Nftables,
    /// Rules in chains of our own of xtables.
    Xtables,
    /// It makes every event, but hands over only what a filter on our own socket lets pass.
    Filter,
    /// It makes every event and hands it over, and the daemon puts away what is not needed.
    Off,
}

/// How often the kernel's table is compared with what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// From the end of one round to the begin of the next, or longer if the table is so large that it took more than 2 % of a
    /// processor; 1 s to 24 h.
    pub interval: Duration,
}

/// How packets wait until the peers have their flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which first packets wait; `Never` if there is no copy bit.
    pub mode: HoldMode,
    /// How long at most; 1 ms to 1 s, or derived.
    pub deadline: Deadline,
    /// How many at most; 1 to 65536.
    pub held_max: u32,
    /// What becomes of a packet whose time is over.
    pub on_deadline: Otherwise,
    /// Of one that comes when no more can wait.
    pub on_limit: Otherwise,
    /// Of one when there is no peer to wait for.
    pub on_no_peer: Otherwise,
    /// Of one that waits when the daemon ends.
    pub on_shutdown: Otherwise,
    /// Of one that comes while nobody reads the queue: the daemon is dead, or its queue is.
    pub on_unread: Otherwise,
}

impl Default for Hold {
    fn default() -> Self {
        let ccp::hold::Config { deadline, .. } = ccp::hold::Config::default();
        Self {
            mode: HoldMode::Auto,
            deadline,
            held_max: 4096,
            on_deadline: Otherwise::Release,
            on_limit: Otherwise::Release,
            on_no_peer: Otherwise::Release,
            on_shutdown: Otherwise::Release,
            on_unread: Otherwise::Release,
        }
    }
}

/// Which first packets of flows wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HoldMode {
    /// Those of every TCP connection.
    Always,
    /// Those to destinations whose flows were seen on two gateways.
    Auto,
    /// None, and no answers either.
    Never,
}

/// What becomes of a packet that not everybody has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// It goes on all the same.
    Release,
    /// It is dropped: whoever sent it sends it again.
    Drop,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its absolute path; at most 107 bytes, so that it fits `sockaddr_un`.
    pub socket: PathBuf,
    /// Path of the socket for monitoring, as long at most; `None` for none.
    pub monitor_socket: Option<PathBuf>,
}

/// What is measured, for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where it is to be had; `None` for nowhere.
    pub listen: Option<Listen>,
}

/// Where to listen, out of reach from other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On a loopback address.
    Tcp(SocketAddr),
    /// At an absolute path of at most 107 bytes.
    Socket(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: Level,
    /// File that the keys of datagrams are written to, for who has to read a capture; `None` for none.
    pub datagram_keys: Option<PathBuf>,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The daemon cannot do its work.
    Error,
    /// Worth a look.
    Warn,
    /// A change that an operator cares about.
    Info,
    /// A line a flow.
    Debug,
    /// A line a packet.
    Trace,
}

impl Config {
    /// The UDP port of datagrams, and the TCP port of links.
    pub fn port(&self) -> NonZeroU16 {
        let first = self.networks.first();
        first.expect("a configuration has a network").port
    }

    /// This machine and its peers, by ascending id.
    pub fn members(&self) -> Vec<&Member> {
        let mut members: Vec<_> = self.peers.iter().chain([&self.this]).collect();
        members.sort_unstable_by_key(|member| member.id);
        members
    }

    /// The keys at the top that say something else in `other`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let keys = |config: &Self| match serde_json::to_value(file::File::from(config)) {
            Ok(serde_json::Value::Object(keys)) => keys,
            Ok(_) | Err(_) => unreachable!("a configuration is written as keys with values"),
        };
        let (ours, theirs) = (keys(self), keys(other));
        (ours.into_iter())
            .filter(|(key, value)| theirs.get(key) != Some(value))
            .map(|(key, _)| key)
            .collect()
    }

    /// The whole configuration, defaults included, as a file that means the same.
    pub fn to_yaml(&self) -> String {
        let options = serde_saphyr::ser_options! { compact_list_indent: false };
        serde_saphyr::to_string_with_options(&file::File::from(self), options)
            .expect("names, numbers and text have a YAML form")
    }

    /// The JSON Schema of the file.
    pub fn schema() -> Schema {
        schema_for!(file::File)
    }

    /// The same in JSON, which is YAML too.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&file::File::from(self))
            .expect("names, numbers and text have a JSON form")
    }
}

impl InterfaceName {
    /// `name`, if an interface can be called so (`dev_valid_name` in the kernel).
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
        let clean =
            !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace());
        (fits && clean).then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A duration, written as in the configuration: `10s`.
pub fn duration(text: &str) -> Option<Duration> {
    scalar::parse_duration(text)
}

#[cfg(test)]
mod tests;
