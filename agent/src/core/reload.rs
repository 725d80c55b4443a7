//! Another policy in the place of the one in force: flows that are there are judged anew.
//!
//! The kernel's table is read once, and each row judged. What is not to be synchronised any longer is withdrawn from the
//! peers, what is from now on is told; copies are their carrier's to withdraw. So that neither floods the peers, no more is
//! read while a live one has much to acknowledge.

use super::Core;
use super::ended::Ended;
use crate::policy::Policy;
use std::sync::Arc;

/// Deltas that a live peer may have to acknowledge while the table is read on: as many as a telling may be ahead
/// (PROTOCOL.md 5.4).
const UNACKNOWLEDGED_MAX: u64 = 256;

/// Whether flows are judged anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejudging {
    /// They are as the policy says.
    Over,
    /// The next pass judges them.
    Wanted,
    /// This pass does.
    Running,
}

impl Core {
    /// This policy is in force from now on.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.costs.replace(&self.policy, &policy);
        self.policy = policy;
        // What decided on them was of the old one.
        self.ended = Ended::default();
        self.tell_policy();
        self.rejudging = Rejudging::Wanted;
        self.passes.want();
    }

    /// True if more rows of the kernel's table may be handed in now.
    pub fn may_read_rows(&self) -> bool {
        let sent = self.node.last_seq();
        let is_behind = |member| {
            let peer = self.node.peer_send(member);
            peer.is_some_and(|peer| sent > peer.frontier() + UNACKNOWLEDGED_MAX)
        };
        self.rejudging != Rejudging::Running || !self.live_peers().iter().any(is_behind)
    }
}
