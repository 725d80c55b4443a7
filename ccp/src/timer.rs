//! Why a node wants to be called again.

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Changes have been gathered for long enough, or a bulk update goes on.
    Flush,
    /// A peer waits for an acknowledgement.
    Ack,
    /// A peer has not acknowledged for too long: its oldest missing delta is resent.
    Probe,
    /// Copies that ended while their carriers live are put back, and tombstones give way.
    Grace,
    /// Copies would run out soon.
    Refresh,
    /// Copies that the kernel's table had no room for are tried again.
    NoRoom,
    /// The settling time is over and the election begins, or the owner's loop has been on time for long enough.
    Election,
    /// Probes of interfaces are due.
    Interfaces,
    /// A comparison with a peer goes on.
    Audit,
    /// A held packet has waited for long enough.
    Hold,
    /// There is more of a snapshot to send or to ask for, or whom it comes from has been silent for too long.
    Snapshot,
    /// A hello is due, or a peer has been silent for so long that it is dead.
    Membership,
}
