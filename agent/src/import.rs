//! From a `conntrackd.conf` to what means the same here: a configuration to fill in, a policy, and for everything that
//! has no equivalent a note that says why.
//!
//! conntrackd does not know its peers by number, name or key, so what comes out has places to fill in; `ctsync check`
//! says which. Nothing of the file is left out silently: every line is in the result, or has a note.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::policy::service;

mod options;
mod parse;
mod write;

use options::Fate;
use parse::Statement;
pub use parse::SyntaxError;

/// A configuration is a page; what is larger is another file.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What `kernel: event_buffer` is by default.
const DEFAULT_EVENT_BUFFER_BYTES: u64 = 64 << 20;

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Import {
    /// `ctsync.yaml`, with places to fill in.
    pub config: String,
    /// `policy.yaml`; `None` when the file filters nothing.
    pub policy: Option<String>,
    /// What was not taken over as it stands, by line.
    pub notes: Vec<Note>,
}

/// Something to know about a line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Note {
    /// Counted from 1.
    pub line: u64,
    /// What stands there.
    pub option: String,
    /// What became of it.
    pub reason: String,
}

/// Why nothing came of a file.
#[derive(Debug)]
pub enum ImportError {
    /// It cannot be read.
    Unreadable {
        file: PathBuf,
        error: std::io::Error,
    },
    /// It is no configuration of conntrackd.
    Syntax { file: PathBuf, error: SyntaxError },
}

/// What the file says that has a place in ours.
#[derive(Debug, Default)]
struct Facts {
    links: Vec<Link>,
    /// `kernel.event_buffer`, in bytes.
    event_buffer_bytes: Option<u64>,
    filter: Filter,
}

/// A dedicated link.
#[derive(Debug, Default)]
struct Link {
    kind: LinkKind,
    interface: Option<String>,
    own: Option<IpAddr>,
    peer: Option<IpAddr>,
    group: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinkKind {
    Multicast,
    #[default]
    Unicast,
}

/// What is replicated and what is not.
#[derive(Debug, Default)]
struct Filter {
    protocols: Option<(Sense, Vec<u8>)>,
    addresses: Option<(Sense, Vec<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Accept,
    Ignore,
}

/// Reads and converts the file at `path`.
pub fn load(path: &Path) -> Result<Import, ImportError> {
    let unreadable = |error| ImportError::Unreadable {
        file: path.to_owned(),
        error,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(std::io::Error::other(
            "it is too large for a configuration",
        )));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    convert(&String::from_utf8_lossy(&bytes)).map_err(|error| ImportError::Syntax {
        file: path.to_owned(),
        error,
    })
}

/// Converts the text of a file.
pub fn convert(text: &str) -> Result<Import, SyntaxError> {
    let statements = parse::parse(text)?;
    let mut reader = Reader::default();
    for section in &statements {
        reader.section(section);
    }
    let Reader { facts, mut notes } = reader;
    notes.sort_by_key(|note| note.line);
    Ok(Import {
        config: write::config(&facts),
        policy: write::policy(&facts.filter),
        notes,
    })
}

#[derive(Debug, Default)]
struct Reader {
    facts: Facts,
    notes: Vec<Note>,
}

impl Reader {
    fn note(&mut self, statement: &Statement, reason: impl Into<String>) {
        self.notes.push(Note {
            line: statement.line,
            option: statement.words.join(" "),
            reason: reason.into(),
        });
    }

    /// A statement at any depth but those that a section reads itself.
    fn section(&mut self, statement: &Statement) {
        match statement.name() {
            "Sync" | "General" | "Options" | "UNIX" => self.each(statement),
            "Mode" => {
                if statement.word(1) != "FTFW" {
                    let reason = "there is one mode: what is lost is recovered, and an acknowledgement means the peer's kernel";
                    self.note(statement, reason);
                }
                self.each(statement);
            }
            "Multicast" => self.link(statement, LinkKind::Multicast),
            "UDP" => self.link(statement, LinkKind::Unicast),
            "TCP" => {
                let reason = "changes travel in UDP datagrams, each recovered when lost; TCP carries keys and full tables";
                self.note(statement, reason);
                self.link(statement, LinkKind::Unicast);
            }
            "Filter" => self.filter(statement),
            "NetlinkBufferSizeMaxGrowth" | "SocketBufferSizeMaxGrown" => {
                self.event_buffer(statement)
            }
            _ => self.option(statement),
        }
    }

    fn each(&mut self, statement: &Statement) {
        for child in &statement.children {
            self.section(child);
        }
    }

    /// What is in the list of options: so anyway, or noted with the reason.
    fn option(&mut self, statement: &Statement) {
        match options::fate(statement.name()) {
            Some(Fate::Always(_)) if is_on(statement.word(1)) => {}
            Some(Fate::Always(reason) | Fate::Without(reason)) => self.note(statement, reason),
            None => self.note(
                statement,
                "this is no option of conntrackd that is known here",
            ),
        }
    }

    fn event_buffer(&mut self, statement: &Statement) {
        match statement.word(1).parse() {
            // It never grows here: it has its full size from the start.
            Ok(bytes) if bytes > DEFAULT_EVENT_BUFFER_BYTES => {
                self.facts.event_buffer_bytes = Some(bytes);
            }
            Ok(_) => self.note(
                statement,
                "`kernel: event_buffer` is larger by itself: 64MiB",
            ),
            Err(_) => self.note(statement, "this is no number of bytes"),
        }
    }

    fn link(&mut self, statement: &Statement, kind: LinkKind) {
        let mut link = Link {
            kind,
            ..Link::default()
        };
        for child in &statement.children {
            let value = child.word(1);
            let address = value.parse().ok();
            let place = match (child.name(), kind) {
                ("Interface" | "IPv6_interface", _) => {
                    link.interface = Some(value.to_owned());
                    continue;
                }
                ("IPv4_address" | "IPv6_address", LinkKind::Multicast) => &mut link.group,
                ("IPv4_address" | "IPv6_address" | "IPv4_interface", _) => &mut link.own,
                ("IPv4_Destination_Address" | "IPv6_Destination_Address", _) => &mut link.peer,
                _ => {
                    self.option(child);
                    continue;
                }
            };
            match address {
                Some(address) => {
                    if place.replace(address).is_some() {
                        let reason =
                            "a link has one such address: the last is taken, as conntrackd does";
                        self.note(child, reason);
                    }
                }
                None => self.note(child, "this is no IP address"),
            }
        }
        self.facts.links.push(link);
    }

    fn filter(&mut self, statement: &Statement) {
        for list in &statement.children {
            let sense = match list.word(1) {
                "Accept" => Sense::Accept,
                "Ignore" => Sense::Ignore,
                _ => {
                    self.note(list, "a list says `Accept` or `Ignore`");
                    continue;
                }
            };
            match list.name() {
                "Protocol" => self.filter_protocols(list, sense),
                "Address" => self.filter_addresses(list, sense),
                "State" => self.note(
                    list,
                    "every state is replicated, so that a handshake survives; `sync: delayed` leaves short flows out",
                ),
                _ => self.note(list, "this is no filter of conntrackd that is known here"),
            }
        }
    }

    fn filter_protocols(&mut self, list: &Statement, sense: Sense) {
        let mut protocols = Vec::new();
        for child in &list.children {
            match protocol(&child.name().to_lowercase()) {
                Some(protocol) => protocols.push(protocol),
                None => self.note(
                    child,
                    "write its number, in the policy too: the name is not known here",
                ),
            }
        }
        if !protocols.is_empty() {
            self.facts.filter.protocols = Some((sense, protocols));
        }
    }

    fn filter_addresses(&mut self, list: &Statement, sense: Sense) {
        let addresses = list.children.iter().map(|it| it.word(1).to_owned());
        let loopback = |it: &String| it.starts_with("127.") || it.starts_with("::1");
        let addresses: Vec<_> = addresses.filter(|it| !loopback(it)).collect();
        if !addresses.is_empty() {
            let reason = "what begins or ends at the gateway is never replicated, and its addresses are \
                          found out: leave them out of the rules in which they stand only for that";
            self.note(list, reason);
            self.facts.filter.addresses = Some((sense, addresses));
        }
    }
}

/// A protocol by its number, our name, or that of `/etc/protocols`.
fn protocol(word: &str) -> Option<u8> {
    let word = match word {
        "ipv6-icmp" => "icmpv6",
        other => other,
    };
    service::parse_protocol(word)
}

/// As conntrackd reads it.
fn is_on(word: &str) -> bool {
    ["on", "yes", "1"].contains(&word.to_lowercase().as_str())
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => {
                let file = file.display();
                write!(
                    f,
                    "{file}: cannot be read ({error}); name the configuration of conntrackd"
                )
            }
            Self::Syntax { file, error } => write!(f, "{}:{error}", file.display()),
        }
    }
}

impl std::error::Error for ImportError {}

#[cfg(test)]
mod tests;
