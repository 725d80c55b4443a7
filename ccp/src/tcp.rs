//! Which of two states of a TCP connection or an SCTP association is further, for updates that cross on the wire.

use crate::record::{FlowState, TcpOptions};
use crate::wire::flow::{SCTP, TCP};

const SYN_SENT: u8 = 1;
const LAST_ACK: u8 = 6;
const SYN_SENT2: u8 = 9;

const SCTP_CLOSED: u8 = 1;
const COOKIE_WAIT: u8 = 2;
const SHUTDOWN_ACK_SENT: u8 = 7;

/// The state that a flow has when two gateways saw `ours` and `theirs` of it. Of a connection that goes on the further
/// state counts; a new one over a finished one begins anew. For other protocols theirs counts.
pub fn merge(proto: u8, ours: u8, theirs: u8) -> u8 {
    let progress = match proto {
        TCP => progress,
        SCTP => sctp_progress,
        _ => return theirs,
    };
    if begins_anew(proto, ours, theirs) || progress(theirs) >= progress(ours) {
        theirs
    } else {
        ours
    }
}

/// True if `theirs` is of a new connection over the finished one that we have: the same ports again.
pub fn begins_anew(proto: u8, ours: u8, theirs: u8) -> bool {
    match proto {
        TCP => theirs == SYN_SENT && ours >= LAST_ACK && ours != SYN_SENT2,
        SCTP => theirs == COOKIE_WAIT && matches!(ours, SCTP_CLOSED | SHUTDOWN_ACK_SENT),
        _ => false,
    }
}

/// True if a flow in this state may go on for any time without another. A TCP connection or SCTP association that is being
/// opened or closed goes on to the next state, or ends when its timeout says so.
pub fn goes_on(proto: u8, state: u8) -> bool {
    match proto {
        TCP => matches!(state, 3..=5),
        SCTP => !matches!(state, 0..=3 | 5..=7),
        _ => true,
    }
}

/// `IP_CT_TCP_FLAG_CLOSE_INIT` of both directions: whose end is the first that its gateway saw.
const CLOSE_INIT: u8 = 0x44;
const FIN_WAIT: u8 = 4;
const TIME_WAIT: u8 = 7;
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

/// How far a connection is: NONE, SYN_SENT, SYN_SENT2 (simultaneous open), SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT,
/// LAST_ACK, TIME_WAIT, CLOSE (`enum tcp_conntrack` but for SYN_SENT2, which stands last there).
fn progress(state: u8) -> u8 {
    match state {
        0 | 1 => state,
        SYN_SENT2 => 2,
        2..=8 => state + 1,
        _ => 0,
    }
}

/// How far an association is: NONE, COOKIE_WAIT, COOKIE_ECHOED, HEARTBEAT_SENT (an association of which only a further path
/// was seen), ESTABLISHED, SHUTDOWN_SENT, SHUTDOWN_RECD, SHUTDOWN_ACK_SENT, CLOSED (`enum sctp_conntrack`, where CLOSED
/// stands first, though a flow comes to it only at its end).
fn sctp_progress(state: u8) -> u8 {
    match state {
        COOKIE_WAIT | 3 => state - 1,
        8 | 9 => 3,
        4..=7 => state,
        SCTP_CLOSED => 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{goes_on, merge};
    use alloc::vec::Vec;

    #[test]
    fn the_further_state_of_an_association_counts_and_a_new_one_begins_anew() {
        const SCTP: u8 = 132;
        let order = [0, 2, 3, 8, 4, 5, 6, 7, 1];
        for (i, earlier) in order.into_iter().enumerate() {
            for later in order.into_iter().skip(i) {
                assert_eq!(merge(SCTP, earlier, later), later);
                let reopened = earlier == 2 && matches!(later, 7 | 1);
                let merged = if reopened { earlier } else { later };
                assert_eq!(merge(SCTP, later, earlier), merged, "{later} {earlier}");
            }
        }
        let goes_on: Vec<u8> = (0..=8).filter(|state| goes_on(SCTP, *state)).collect();
        assert_eq!(goes_on, [4, 8]);
    }

    #[test]
    fn the_further_state_counts_and_a_new_connection_begins_anew() {
        const ESTABLISHED: u8 = 3;
        const TIME_WAIT: u8 = 7;
        let order = [0, 1, 9, 2, 3, 4, 5, 6, 7, 8];
        for (i, earlier) in order.into_iter().enumerate() {
            for later in order.into_iter().skip(i) {
                assert_eq!(merge(6, earlier, later), later);
                let reopened = earlier == 1 && matches!(later, 6..=8);
                assert_eq!(
                    merge(6, later, earlier),
                    if reopened { earlier } else { later },
                    "{later} {earlier}"
                );
            }
        }
        assert_eq!(
            merge(33, TIME_WAIT, ESTABLISHED),
            ESTABLISHED,
            "of DCCP none is further"
        );
    }
}
