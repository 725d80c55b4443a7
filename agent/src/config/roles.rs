//! The part of the configuration that says who is active, and what a member needs to be fit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::InterfaceName;
pub use ccp::election::Mode;
pub use ccp::probe::Timers;

/// Where what has to survive a restart is kept when nobody says otherwise.
pub const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/ctsync";

/// Who is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// One, or all that are fit.
    pub mode: Mode,
    /// Of members by name; who is not in it has [`DEFAULT_PRIORITY`].
    pub priority: BTreeMap<String, u8>,
    /// Whether a greater priority takes the role from one that is active and fit.
    pub preempt: bool,
    /// How long a member that starts waits for the others before it can become active; 0 to 10 min.
    pub settle: Duration,
    /// The file that tells keepalived and its like what this member is.
    pub track_file: PathBuf,
}

/// Priority of a member that is given none.
pub const DEFAULT_PRIORITY: u8 = 100;

/// Which interfaces are monitored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// How often they are probed, 50 ms to 10 s, and how long silence lasts until one is down, 100 ms to 60 s.
    pub timers: Timers,
    /// Those that have to be up, and those VLANs that are left out of it.
    pub monitored: Vec<Monitored>,
}

/// An interface, or a VLAN of one, written as `eth1.30`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitored {
    /// Its name.
    pub name: InterfaceName,
    /// False to leave it out, with all its VLANs.
    pub monitor: bool,
    /// Which of its VLANs are monitored, if it has any.
    pub vlans: Vlans,
}

/// Which VLANs of an interface are monitored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vlans {
    /// That with the lowest number.
    Lowest,
    /// That with the highest.
    Highest,
    /// Those two.
    Both,
    /// These, by ascending number, whether they are there or not.
    List(Vec<u16>),
    /// All.
    All,
}

/// What besides its interfaces makes a member fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The kernel's table may be full to this part, in percent; 1 to 100, `None` to look away.
    pub table_percent: Option<u8>,
    /// Whether the state directory has to be writable.
    pub state_directory: bool,
}

/// What is run when this member becomes something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Every executable in it is; `None` for none.
    pub directory: Option<PathBuf>,
    /// It is killed when it takes longer; 1 s to 10 min.
    pub timeout: Duration,
}
