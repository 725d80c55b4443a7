//! Which of two states of a TCP connection or an SCTP association is further, for updates that cross on the wire
//! (PROTOCOL.md 6.9).
//!
//! The order is the kernel's: every transition of its trackers is a step forward here, or begins anew. The one exception is a
//! TCP connection whose ends agree on new sequence numbers, which the kernel puts back to SYN_RECV: its carrier tells that,
//! and what a carrier tells of its own flow is not merged.

use crate::record::{FlowState, TcpOptions};
use crate::wire::flow::{SCTP, TCP};

/// How far a connection is, the least first: `enum tcp_conntrack`, in which SYN_SENT2 of a simultaneous open stands last.
const TCP_ORDER: [u8; 10] = [
    NONE,
    SYN_SENT,
    SYN_SENT2,
    SYN_RECV,
    ESTABLISHED,
    FIN_WAIT,
    CLOSE_WAIT,
    LAST_ACK,
    TIME_WAIT,
    CLOSE,
];
const NONE: u8 = 0;
const SYN_SENT: u8 = 1;
const SYN_RECV: u8 = 2;
const ESTABLISHED: u8 = 3;
const FIN_WAIT: u8 = 4;
const CLOSE_WAIT: u8 = 5;
const LAST_ACK: u8 = 6;
const TIME_WAIT: u8 = 7;
const CLOSE: u8 = 8;
const SYN_SENT2: u8 = 9;

/// How far an association is, the least first: `enum sctp_conntrack`. The heartbeats are of an association of which only a
/// further path was seen; an INIT may follow them. HEARTBEAT_ACKED is gone since Linux 6.2.
const SCTP_ORDER: [u8; 10] = [
    NONE,
    sctp::HEARTBEAT_SENT,
    sctp::HEARTBEAT_ACKED,
    sctp::COOKIE_WAIT,
    sctp::COOKIE_ECHOED,
    sctp::ESTABLISHED,
    sctp::SHUTDOWN_SENT,
    sctp::SHUTDOWN_RECD,
    sctp::SHUTDOWN_ACK_SENT,
    sctp::CLOSED,
];
mod sctp {
    pub const CLOSED: u8 = 1;
    pub const COOKIE_WAIT: u8 = 2;
    pub const COOKIE_ECHOED: u8 = 3;
    pub const ESTABLISHED: u8 = 4;
    pub const SHUTDOWN_SENT: u8 = 5;
    pub const SHUTDOWN_RECD: u8 = 6;
    pub const SHUTDOWN_ACK_SENT: u8 = 7;
    pub const HEARTBEAT_SENT: u8 = 8;
    pub const HEARTBEAT_ACKED: u8 = 9;
}

/// The state that a flow has when two gateways saw `ours` and `theirs` of it: the further one. For other protocols theirs
/// counts.
pub fn merge(proto: u8, ours: u8, theirs: u8) -> u8 {
    let order = match proto {
        TCP => TCP_ORDER,
        SCTP => SCTP_ORDER,
        _ => return theirs,
    };
    // States that no kernel has yet come before all others.
    let progress = |state| (order.iter().position(|it| *it == state), state);
    if progress(theirs) >= progress(ours) {
        theirs
    } else {
        ours
    }
}

/// True if `theirs` is of a new connection over the finished one that we have: the same ports again. The last packets of the
/// old one may not have passed here.
pub fn begins_anew(proto: u8, ours: u8, theirs: u8) -> bool {
    match proto {
        TCP => theirs == SYN_SENT && merge(TCP, ours, LAST_ACK) == ours,
        SCTP => theirs == sctp::COOKIE_WAIT && merge(SCTP, ours, sctp::SHUTDOWN_ACK_SENT) == ours,
        _ => false,
    }
}

/// True if a flow in this state may go on for any time without another. A TCP connection or SCTP association that is being
/// opened or closed goes on to the next state, or ends when its timeout says so.
pub fn goes_on(proto: u8, state: u8) -> bool {
    match proto {
        TCP => matches!(state, ESTABLISHED | FIN_WAIT | CLOSE_WAIT),
        SCTP => matches!(
            state,
            sctp::ESTABLISHED | sctp::HEARTBEAT_SENT | sctp::HEARTBEAT_ACKED
        ),
        _ => true,
    }
}

/// `IP_CT_TCP_FLAG_CLOSE_INIT` of both directions: whose end is the first that its gateway saw.
const CLOSE_INIT: u8 = 0x44;
/// `tcp_timeouts` of TIME_WAIT.
const TIME_WAIT_SECS: u32 = 120;

/// Brings together what two gateways have seen of the end of a connection. Where the two FINs pass different ones, each
/// takes its own for the only one and waits for the other: the kernel would have such a connection half closed for ever.
/// `state` is joined with what was known `before`; true if that shows it to be closed from both sides.
pub fn join_ends(proto: u8, before: TcpOptions, state: &mut FlowState) -> bool {
    if proto != TCP || !(FIN_WAIT..=LAST_ACK).contains(&state.proto_state) {
        return false;
    }
    state.tcp.flags |= before.flags & CLOSE_INIT;
    if state.tcp.flags & CLOSE_INIT != CLOSE_INIT {
        return false;
    }
    state.proto_state = TIME_WAIT;
    state.timeout_secs = TIME_WAIT_SECS;
    true
}

#[cfg(test)]
mod tests;
