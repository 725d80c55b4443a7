//! After all trouble: until the kernels agree.

use std::time::Duration;

use super::checker::{self, CONVERGED_WITHIN, Violation};
use super::{LOOK, World, trouble};

/// Time that an audit that was asked for takes at most: it waits a second with each peer for what is on its way.
const AUDITED_WITHIN: Duration = Duration::from_secs(10);
/// Rounds of it that lost information may take: what one ends may be missing then, and is found by the next.
const AUDITS_MAX: u32 = 2;

impl World {
    /// When all was as it should be, and how many audits it took. Where what would decide is remembered by nobody any longer
    /// (PROTOCOL.md 8), kernels come to agree by these, and not before. That has to be rare: who runs seeds sees to it.
    pub(super) fn agree(&mut self) -> Result<(Duration, u32), Violation> {
        let mut agreed = self.agree_within(CONVERGED_WITHIN)?;
        let mut audits = 0;
        while agreed.is_err() && audits < AUDITS_MAX {
            audits += 1;
            for at in 0..self.gateways.len() {
                if let Some(daemon) = &mut self.gateways[at].daemon {
                    daemon.core.ask_round();
                    self.call(at, Duration::ZERO);
                }
            }
            agreed = self.agree_within(AUDITED_WITHIN)?;
        }
        Ok((agreed?, audits))
    }

    /// Looks again and again until all is as it should be; when that was, or what was not in the end. What may never be is an
    /// error at once.
    fn agree_within(&mut self, limit: Duration) -> Result<Result<Duration, Violation>, Violation> {
        let deadline = self.now + limit;
        loop {
            self.turn_until(self.now + LOOK)?;
            let agrees = self
                .agrees()
                .and_then(|()| trouble::modes_agree(&self.gateways, &self.options.more));
            match agrees {
                Ok(()) => return Ok(Ok(self.now)),
                Err(violation) if self.now >= deadline => return Ok(Err(violation)),
                Err(_) => {}
            }
        }
    }

    /// Whether every kernel has what it should.
    pub(super) fn agrees(&self) -> Result<(), Violation> {
        checker::agrees(
            &self.gateways,
            &self.workload.flows,
            &self.refused,
            self.options.policies.as_ref(),
        )
    }
}
