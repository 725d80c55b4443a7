//! What is left out of the kernel's events by the filter of our socket, where no rules keep the kernel from making them.
//!
//! The filter judges by protocol and port, and so cannot tell a flow of ours, which nobody is to know, from the copy of a
//! peer's that moves here. So it is attached only while every peer has this policy, which they tell over their links:
//! then no copy is of a service that is left out.

use crate::core::Core;
use crate::kernel::Kernel;
use ccp::time::Instant;
use conntrack::{SocketError, Unwanted};
use std::time::Duration;
use tracing::info;

/// How long all have to have this policy: so long may a peer that has just taken it withdraw what it told by another.
const SAME_FOR: Duration = Duration::from_secs(10);

/// What is to be left out, and what is.
#[derive(Debug)]
pub struct Filter {
    wanted: Unwanted,
    attached: Unwanted,
    /// Since when all peers have this policy.
    same_since: Option<Instant>,
}

impl Filter {
    /// To leave out these as soon as that may be.
    pub fn new(wanted: Unwanted) -> Self {
        Self {
            wanted,
            attached: Unwanted::default(),
            same_since: None,
        }
    }

    /// Another policy wants others to be left out.
    pub fn want(&mut self, wanted: Unwanted) {
        if self.wanted != wanted {
            *self = Self {
                attached: std::mem::take(&mut self.attached),
                ..Self::new(wanted)
            };
        }
    }

    /// To be called about once a second, and when a peer tells of itself.
    pub fn follow(
        &mut self,
        core: &Core,
        kernel: &mut Kernel,
        now: Instant,
    ) -> Result<(), SocketError> {
        let is_same = core.have_all_this_policy();
        self.same_since = is_same.then(|| self.same_since.unwrap_or(now));
        let is_settled = (self.same_since).is_some_and(|since| now.since(since) >= SAME_FOR);
        let next = match is_settled {
            true => self.wanted.clone(),
            false => Unwanted::default(),
        };
        if next == self.attached {
            return Ok(());
        }
        let is_on = next != Unwanted::default();
        kernel.leave_out(&next)?;
        self.attached = next;
        match is_on {
            true => info!(
                event = "filter",
                "all members have this policy: what it never synchronises is left out of the kernel's events"
            ),
            false => info!(
                event = "filter",
                "nothing is left out of the kernel's events until all members have this policy"
            ),
        }
        Ok(())
    }
}
