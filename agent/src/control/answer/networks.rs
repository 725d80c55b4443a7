//! What is told of sync networks: in `status` of each peer, and in `syncstat` of everything.

use serde::{Deserialize, Serialize};

/// How a peer and this member reach each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Whether the peer is heard.
    pub heard: bool,
    /// Whether the peer hears this member, as it says itself or others say of it; `None` if nobody can tell.
    pub hears_us: Option<bool>,
    /// Name of the network that is used to it.
    pub network: String,
    /// Each network.
    pub networks: Vec<PathStatus>,
}

/// The way to and from a peer over one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// Name of the network.
    pub name: String,
    /// Which directions work.
    pub state: PathState,
    /// Smoothed round trip of a hello, in microseconds; `None` before the first.
    pub rtt_us: Option<u64>,
    /// Loss of what the peer sends, in thousandths, over the last ten seconds or so; `None` if too little was sent.
    pub loss_in_permille: Option<u16>,
    /// Loss of what this member sends, as the peer says.
    pub loss_out_permille: Option<u16>,
    /// Whether round trip or loss are past what the protocol was made for.
    pub degraded: bool,
    /// Datagrams sent to the peer over it.
    pub sent: u32,
    /// Datagrams of the peer's present run that came over it.
    pub received: u32,
}

/// Which directions of a way work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// Both.
    Up,
    /// The peer is heard, but does not hear this member.
    InOnly,
    /// The peer hears this member, but is not heard.
    OutOnly,
    /// None.
    Down,
}

impl PathState {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::InOnly => "in-only",
            Self::OutOnly => "out-only",
            Self::Down => "down",
        }
    }
}
