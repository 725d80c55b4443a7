//! What is asked and answered about members, their states and their checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an operator, or a script of his, can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RolesRequest {
    /// What the members are, and how this one became so.
    Members,
    /// This member is to be down, until it is asked to be up.
    Down {
        /// Also after a restart.
        persist: bool,
    },
    /// It is to be up again.
    Up,
    /// As down, but only when a fit member has everything that this one has told until now in its kernel.
    Drain {
        /// Given up when it takes longer.
        timeout_ms: u64,
    },
    /// A check of the operator's says how things are.
    CheckIn {
        /// Its name.
        name: String,
        /// What it says.
        says: CheckSays,
        /// When it has to say something again, or counts as a problem.
        timeout_ms: Option<u64>,
    },
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckSays {
    /// All is well.
    Ok,
    /// This member should not be active.
    Problem,
    /// What is checked has only begun.
    Init,
    /// There is no such check any longer.
    Gone,
}

/// The answer to each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RolesAnswer {
    /// To `members`.
    Members(Box<Members>),
    /// To a request that changes something.
    Done(Done),
}

/// It was done, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// `None`: it was done. Else why not, and what to do.
    pub refused: Option<String>,
}

/// The members, as this one sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Members {
    /// `ha` or `load-sharing`.
    pub mode: String,
    /// Whether a greater priority takes the role from one that is active.
    pub preempt: bool,
    /// All of them, by id.
    pub members: Vec<Member>,
    /// What of them does not go together.
    pub differences: Vec<String>,
    /// The interfaces of this member that have to be up.
    pub interfaces: Vec<Interface>,
    /// The checks of this member.
    pub checks: Vec<Check>,
    /// A planned failover that goes on, or how the last one ended.
    pub drain: Option<Drain>,
    /// How this member became what it is, the newest first; at most 50.
    pub history: Vec<Transition>,
    /// Times that this member became something else since its start.
    pub state_changes: u64,
    /// Times that it got the active role, or gave it up.
    pub failovers: u64,
    /// Milliseconds since the last of these.
    pub last_failover_ms: Option<u64>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Its number.
    pub id: u8,
    /// Its name.
    pub name: String,
    /// Whether it is the one that answers.
    pub this: bool,
    /// `down`, `init`, `standby`, `ready`, `active`, `active-attention`; `dead` if it cannot be talked to, `unknown` if it
    /// says nothing of this.
    pub state: String,
    /// Seconds that it has been so; `None` if that is not known.
    pub seconds: Option<u64>,
    /// Its priority; `None` if that is not known.
    pub priority: Option<u8>,
    /// Whether nothing keeps it from being active.
    pub fit: bool,
    /// Whether its loop is late, so that it may be silent for longer.
    pub starved: bool,
    /// What keeps it from being active.
    pub problems: Vec<String>,
    /// Why it is what it is; of other members only this one's guess by their problems.
    pub why: String,
}

/// An interface that has to be up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    /// Its name; a VLAN's is its parent's and its number, `eth1.30`.
    pub name: String,
    /// Its number, of a VLAN.
    pub vlan: Option<u16>,
    /// The link itself: `up`, `down`, or `missing`.
    pub link: String,
    /// What comes in.
    pub inbound: Direction,
    /// What goes out.
    pub outbound: Direction,
    /// Whether it carries a sync network.
    pub sync: bool,
    /// How datagrams for all members leave on it: `unicast`, `multicast`, `broadcast`.
    pub mode: String,
    /// The member that was heard on it last; `None` if none ever was.
    pub last_seen: Option<Seen>,
}

impl Interface {
    /// True if neither direction is down.
    pub fn is_up(&self) -> bool {
        self.inbound.state != "down" && self.outbound.state != "down"
    }
}

/// One direction of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Direction {
    /// `up`; `assumed`, if nobody can tell and nothing says otherwise; `down`.
    pub state: String,
    /// Seconds that it has been so.
    pub seconds: u64,
}

/// A member that was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Its name.
    pub member: String,
    /// Milliseconds ago.
    pub ago_ms: u64,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// `ok`, `problem`, or `init`.
    pub state: String,
    /// What it looks at, or what is wrong.
    pub text: String,
    /// Of an operator's check: milliseconds until it has to say something again.
    pub due_ms: Option<u64>,
}

impl Check {
    /// One that is no operator's.
    pub fn built_in(name: &str, is_ok: bool, text: String) -> Self {
        Self {
            name: name.to_owned(),
            state: if is_ok { "ok" } else { "problem" }.to_owned(),
            text,
            due_ms: None,
        }
    }
}

/// A planned failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// `waiting`, `done`, `failed`.
    pub state: String,
    /// What is waited for, how long it took, or what went wrong.
    pub text: String,
}

/// This member became something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// Milliseconds ago.
    pub ago_ms: u64,
    /// What it was.
    pub from: String,
    /// What it became.
    pub to: String,
    /// Why.
    pub why: String,
}
