//! Another policy in the place of the one in force: flows that are there are judged anew.
//!
//! The kernel's table is read once, and each row judged. What is not to be synchronised any longer is withdrawn from the
//! peers, what is from now on is told; copies are their carrier's to withdraw.

use super::Core;
use super::ended::Ended;
use crate::policy::Policy;
use std::sync::Arc;

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
}
