//! Every option of `conntrackd.conf(5)` that is no section, link or filter, and what becomes of it.

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// So it is here anyway if it is switched on; where it is not, this is what differs.
    Always(&'static str),
    /// It has no equivalent, for this reason.
    Without(&'static str),
}

/// What becomes of the option with this name; `None` if there is no such option.
pub fn fate(name: &str) -> Option<Fate> {
    use Fate::{Always, Without};
    Some(match name {
        // How changes are sent.
        "ResendQueueSize" | "ResendBufferSize" => Without(
            "what a peer lacks is repaired from the table, however much it is: there is no queue to size",
        ),
        "ACKWindowSize" => Without(
            "acknowledgements are sent when the kernel has taken the changes, not by number",
        ),
        "RefreshTime" | "CacheTimeout" => Without(
            "flows are told when they change, and copies kept as long as their carrier has them",
        ),
        "Checksum" => Without("every datagram is authenticated, which no checksum adds to"),
        "SndSocketBuffer" | "RcvSocketBuffer" | "ErrorQueueLength" => Without(
            "what the network loses is sent again: buffers of the sync network need no size",
        ),
        "Group" | "Port" => {
            Without("ctsync has UDP and TCP port 8116: let those in; so both can run side by side")
        }
        // What is done with it.
        "CommitTimeout" | "PurgeTimeout" | "CacheWriteThrough" => Without(
            "flows are in the peer's kernel from the start, with their own timeouts: there is no commit, and nothing to purge",
        ),
        "DisableExternalCache" => {
            Always("flows go into the peer's kernel as they are told: there is no cache outside it")
        }
        "DisableInternalCache" => Without(
            "what is remembered of a flow is a compact record, which is needed to repair what is lost",
        ),
        "StartupResync" => Always("a member that starts always fetches what the others have"),
        "TCPWindowTracking" => Without(
            "the kernel lets nobody set a TCP window: copies are not checked for it, and streams go on after a failover",
        ),
        "ExpectationSync" => {
            Without("expected flows are always replicated, those of every helper of the kernel")
        }
        "StripNAT" | "DelayDestroyMessages" | "Replicate" => {
            Without("conntrackd itself has dropped this option")
        }
        // How the kernel is listened to.
        "NetlinkBufferSize" | "SocketBufferSize" => Without(
            "the buffer for events has its full size from the start: see `kernel: event_buffer`",
        ),
        "NetlinkOverrunResync" | "NetlinkEventsReliable" => Without(
            "after lost events the kernel's table is compared at once: no packet is held up to avoid it",
        ),
        "PollSecs" | "EventIterationLimit" => Without(
            "events are read as they come, under load all at once: there is nothing to tune",
        ),
        "HashSize" | "HashLimit" => {
            Without("the table grows with the flows: there is nothing to size")
        }
        // How it runs.
        "Systemd" => Always("systemd is told how the daemon is whenever it asks to be"),
        "LockFile" | "Lockfile" => {
            Without("the control socket is the lock: a second daemon refuses to start")
        }
        "Backlog" => Without("the control socket serves 16 programs at a time"),
        "Path" => Without(
            "the control socket is /run/ctsync/control.sock, for the group ctsync: see `control.socket`",
        ),
        "LogFile" | "Syslog" => Without("the log goes to the journal: `journalctl -u ctsync`"),
        "Nice" | "Scheduler" => Without(
            "it needs no priority over others; the unit can give it one with `Nice=` in a drop-in",
        ),
        "IgnoreTrafficFor" | "IgnoreProtocol" => Without(
            "conntrackd itself calls this obsolete: write it as a `Filter`, and import again",
        ),
        "Stats" => Without(
            "flows that end are not logged one by one; accounting and metrics are in ctsync.yaml(5)",
        ),
        "Helper" => Without(
            "helpers in user space are conntrackd's own: keep a conntrackd with this section alone, or load the kernel's",
        ),
        _ => return None,
    })
}
