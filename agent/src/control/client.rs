//! The command line's end of the control socket.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::accounting::Accounting;
use super::answer::audit::Report;
use super::answer::explain::{Explanation, FlowQuery};
use super::answer::facts::FactsReport;
use super::answer::members::{Done, Members, RolesRequest};
use super::answer::services::Services;
use super::answer::sync::SyncStatus;
use super::answer::{FlowRow, Reloaded, Rolled, SplitDestinations, Status, SyncStat};
use super::{End, Failure, Request, Verb};
use crate::modes::ModeRequest;

/// Longer than the server waits for the driver, so that the server's reason comes first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where it waits for a round of the audit.
const ROUND_TIMEOUT: Duration = Duration::from_secs(70);
/// A line is a flow or a status; this only keeps a stranger's socket from filling our memory.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens.
    NoDaemon {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The connection could not be made, or broke.
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The daemon said why not.
    Refused {
        /// What it said.
        reason: String,
    },
    /// What came is no answer to what was asked.
    Garbled {
        /// Path of the socket.
        path: PathBuf,
        /// What does not fit.
        error: serde_json::Error,
    },
}

/// The flows of an answer, one by one.
#[derive(Debug)]
pub struct Flows<'a> {
    client: &'a mut Client,
    rows: u64,
    ended: bool,
}

impl Client {
    /// Connects to the daemon at `path`.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon {
                path: path.to_owned(),
            },
            _ => ClientError::Io {
                path: path.to_owned(),
                error,
            },
        })?;
        stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)))
            .map_err(|error| ClientError::Io {
                path: path.to_owned(),
                error,
            })?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// How things are.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.ask(Verb::Status)
    }

    /// Switches the mode of a network, and waits until it is used or given up.
    pub fn switch_mode(&mut self, request: ModeRequest) -> Result<Done, ClientError> {
        self.ask(Verb::Mode(request))
    }

    /// How well changes get from member to member.
    pub fn syncstat(&mut self) -> Result<SyncStat, ClientError> {
        self.ask(Verb::Syncstat)
    }

    /// Destinations whose flows pass two gateways.
    pub fn paths(&mut self) -> Result<SplitDestinations, ClientError> {
        self.ask(Verb::Paths)
    }

    /// What the members' machines are like.
    pub fn facts(&mut self) -> Result<FactsReport, ClientError> {
        self.ask(Verb::Facts)
    }

    /// What has passed.
    pub fn accounting(&mut self) -> Result<Accounting, ClientError> {
        self.ask(Verb::Accounting)
    }

    /// What each service costs.
    pub fn services(&mut self) -> Result<Services, ClientError> {
        self.ask(Verb::Services)
    }

    /// Has another key drawn for the daemon's datagrams, and waits until it is in use.
    pub fn roll_keys(&mut self) -> Result<Rolled, ClientError> {
        self.ask(Verb::KeysRoll)
    }

    /// What the audit has found.
    pub fn audit(&mut self) -> Result<Report, ClientError> {
        self.ask(Verb::Audit)
    }

    /// The same after a round that begins now.
    pub fn audit_now(&mut self) -> Result<Report, ClientError> {
        let patient = self.stream.get_ref().set_read_timeout(Some(ROUND_TIMEOUT));
        patient.map_err(|error| self.broken(error))?;
        self.ask(Verb::AuditNow)
    }

    /// What the members are.
    pub fn members(&mut self) -> Result<Members, ClientError> {
        self.ask(Verb::Roles(RolesRequest::Members))
    }

    /// Asks for something about the role of this member.
    pub fn change_role(&mut self, request: RolesRequest) -> Result<Done, ClientError> {
        self.ask(Verb::Roles(request))
    }

    /// Why a flow is, or is not, where it should be.
    pub fn explain(&mut self, flow: FlowQuery) -> Result<Explanation, ClientError> {
        self.ask(Verb::Explain(flow))
    }

    /// Has the daemon take the policy as it is written now.
    pub fn reload(&mut self) -> Result<Reloaded, ClientError> {
        self.ask(Verb::Reload)
    }

    /// Has everything fetched from the peers anew; [`Self::status`] says how far it is.
    pub fn resync(&mut self) -> Result<SyncStatus, ClientError> {
        self.ask(Verb::Resync)
    }

    fn ask<T: DeserializeOwned>(&mut self, verb: Verb) -> Result<T, ClientError> {
        self.send(verb)?;
        match self.receive()? {
            Line::Wanted(answer) => Ok(answer),
            Line::Failure(Failure { error }) => Err(ClientError::Refused { reason: error }),
        }
    }

    /// All flows that the daemon knows.
    pub fn flows(&mut self) -> Result<Flows<'_>, ClientError> {
        self.send(Verb::Flows)?;
        Ok(Flows {
            client: self,
            rows: 0,
            ended: false,
        })
    }

    fn send(&mut self, verb: Verb) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(&Request { verb }).expect("a verb has a JSON form");
        line.push(b'\n');
        match self.stream.get_mut().write_all(&line) {
            // The server has put us out already; its reason is there to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(|error| self.broken(error)),
        }
    }

    fn receive<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(LINE_BYTES_MAX);
        bounded
            .read_until(b'\n', &mut line)
            .map_err(|error| self.broken(error))?;
        if !line.ends_with(b"\n") {
            return Err(self.broken(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| ClientError::Garbled {
            path: self.path.clone(),
            error,
        })
    }

    fn broken(&self, error: io::Error) -> ClientError {
        ClientError::Io {
            path: self.path.clone(),
            error,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line<T> {
    Failure(Failure),
    Wanted(T),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RowOrEnd {
    Row(Box<FlowRow>),
    End(End),
}

impl Iterator for Flows<'_> {
    type Item = Result<FlowRow, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = match self.client.receive() {
            Ok(Line::Wanted(RowOrEnd::Row(row))) => {
                self.rows += 1;
                return Some(Ok(*row));
            }
            Ok(Line::Wanted(RowOrEnd::End(End { end }))) if end.count == self.rows => None,
            Ok(Line::Wanted(RowOrEnd::End(_))) => {
                Some(Err(self.client.broken(io::ErrorKind::UnexpectedEof.into())))
            }
            Ok(Line::Failure(Failure { error })) => {
                Some(Err(ClientError::Refused { reason: error }))
            }
            Err(error) => Some(Err(error)),
        };
        self.ended = true;
        item
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon { path } => {
                write!(
                    f,
                    "no daemon answers at {}: is it running? See `systemctl status ctsync`",
                    path.display()
                )
            }
            Self::Io { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "you may not talk to the daemon at {}; be root, or of the socket's group",
                    path.display()
                )
            }
            Self::Io { path, error } if matches!(error.kind(), io::ErrorKind::WouldBlock) => {
                write!(
                    f,
                    "the daemon at {} does not answer; see `systemctl status ctsync`",
                    path.display()
                )
            }
            Self::Io { path, error } => write!(
                f,
                "the daemon at {} went away ({error}); try again",
                path.display()
            ),
            Self::Refused { reason } => write!(f, "the daemon refused: {reason}"),
            Self::Garbled { path, error } => write!(
                f,
                "what answers at {} is not a ctsync of this version ({error}); restart it after an upgrade",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Garbled { error, .. } => Some(error),
            Self::NoDaemon { .. } | Self::Refused { .. } => None,
        }
    }
}
