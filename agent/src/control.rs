//! The control socket: how `ctsync status` and its like talk to the daemon.
//!
//! A Unix socket that speaks JSON, an object a line. A request names a verb, as in `{"verb":"status"}`; some take values, as in
//! `{"verb":{"roles":"members"}}`. Each is answered by one line, but for `flows`: one line a flow, then `{"end":{"count":N}}`.
//! What cannot be answered gets `{"error":"..."}`. A client may ask again on the same connection.
//!
//! The socket for monitoring speaks the same, but refuses requests that would change something.
//!
//! [`Server`] runs on a thread of its own and knows nothing of flows: it puts an [`Ask`] into a bounded queue, wakes
//! the driver, and writes what comes back. So a client, however slow, costs the driver one page of flows at a time.
//! [`Client`] is the other end.

use tokio::sync::{mpsc, oneshot};

use crate::facts::Facts;
use crate::metrics::SCRAPERS_MAX;
use crate::modes::ModeRequest;
use crate::reload;
use answer::accounting::Accounting;
use answer::audit::Report;
use answer::explain::{Explanation, FlowQuery};
use answer::facts::FactsReport;
use answer::members::{RolesAnswer, RolesRequest};
use answer::services::Services;
use answer::sync::SyncStatus;
use answer::{Cursor, FlowPage, Rolled, SplitDestinations, Status, SyncStat};
pub use client::{Client, ClientError};
pub use server::{Server, StartError};

pub mod answer;
mod client;
mod server;

/// Clients of a socket that are served at a time. Each has at most one [`Ask`] under way, so the queue of asks is never full.
pub const CLIENTS_MAX: usize = 16;

/// The control socket, and the one for monitoring.
const SOCKETS_MAX: usize = 2;

/// What the server asks of the driver. An answer that nobody waits for any more is simply not taken.
#[derive(Debug)]
pub enum Ask {
    /// How things are.
    Status(oneshot::Sender<Status>),
    /// Flows, a page at a time.
    Flows {
        /// Where the page begins.
        from: Cursor,
        /// The most rows that the page may have.
        limit: usize,
        /// Takes the page.
        answer: oneshot::Sender<FlowPage>,
    },
    /// Another key for our datagrams; the answer comes when it is in use.
    RollKeys(oneshot::Sender<Rolled>),
    /// Why a flow is, or is not, where it should be.
    Explain(FlowQuery, oneshot::Sender<Explanation>),
    /// The policy as it is written now.
    Reload(reload::Answer),
    /// Another mode for a network; the answer comes when it is used, or given up.
    Mode(ModeRequest, oneshot::Sender<answer::members::Done>),
    /// How well changes get from member to member.
    SyncStat(oneshot::Sender<SyncStat>),
    /// Everything of the peers anew; the answer says that it has begun.
    Resync(oneshot::Sender<SyncStatus>),
    /// What has passed.
    Accounting(oneshot::Sender<Accounting>),
    /// What each service costs.
    Services(oneshot::Sender<Services>),
    /// Destinations whose flows pass two gateways.
    Paths(oneshot::Sender<SplitDestinations>),
    /// What was found by comparing the kernel's table with what is known.
    Audit(oneshot::Sender<Report>),
    /// The same, when a round that begins now is over.
    AuditNow(oneshot::Sender<Report>),
    /// What the members' machines are like.
    Facts(oneshot::Sender<FactsReport>),
    /// What this one is like now: no question, and from no client.
    TakeFacts(Facts),
    /// About members, states and checks.
    Roles(RolesRequest, oneshot::Sender<RolesAnswer>),
}

/// Called after each [`Ask`] is queued, from the server's thread: makes the driver look at the queue.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// The queue between server and driver. The driver takes with `try_recv`, after it was woken.
pub fn asks() -> (mpsc::Sender<Ask>, mpsc::Receiver<Ask>) {
    mpsc::channel(SOCKETS_MAX * CLIENTS_MAX + SCRAPERS_MAX + 1)
}

/// What a client can say.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Status,
    Syncstat,
    Flows,
    KeysRoll,
    Explain(FlowQuery),
    Reload,
    Resync,
    Audit,
    AuditNow,
    Paths,
    Facts,
    Accounting,
    Services,
    Roles(RolesRequest),
    Mode(ModeRequest),
}

impl Verb {
    /// Whether it does more than ask how things are.
    fn changes(&self) -> bool {
        match self {
            Self::Status | Self::Syncstat | Self::Flows | Self::Explain(_) | Self::Audit => false,
            Self::Paths | Self::Facts | Self::Services | Self::Accounting => false,
            Self::Roles(RolesRequest::Members) => false,
            Self::Mode(_) | Self::KeysRoll | Self::Resync | Self::Reload => true,
            Self::AuditNow | Self::Roles(_) => true,
        }
    }
}

/// The last line of the answer to `flows`.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct End {
    end: Total,
}

#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Total {
    count: u64,
}

/// The line that says why there is no answer, or no more of it.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Failure {
    error: String,
}

#[cfg(test)]
pub(crate) mod tests;
