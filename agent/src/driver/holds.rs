//! Packets that are held: taken from their queue, judged, and which ones are to be held.

use super::Driver;
use ccp::time::Instant;
use std::sync::Arc;
use tracing::{info, warn};

impl Driver {
    /// Learns from flows that were seen on two gateways which first packets to hold.
    pub(super) fn learn(&mut self, now: Instant) {
        while let Some(key) = self.core.poll_split() {
            if let Some((address, bits)) = self.core.splits().learn(&key, now) {
                info!(
                    event = "split",
                    destination = format!("{address}/{bits}"),
                    "a flow passes this gateway one way and another the other: first packets to there are held"
                );
            }
        }
        let Some(holding) = self.holding.as_ref().filter(|holding| holding.learns()) else {
            return;
        };
        // One at a time, should it hang: what is learnt meanwhile is in the next list.
        if (self.learning.as_ref()).is_some_and(|it| !it.is_finished()) {
            return;
        }
        if let Some(destinations) = self.core.splits().poll_change(now) {
            let holding = Arc::clone(holding);
            // It runs programs; packets are not to wait for them.
            let thread = std::thread::Builder::new().name("destinations".into());
            let begun = thread.spawn(move || {
                if let Err(error) = holding.replace(destinations) {
                    warn!(event = "not-held", %error, "cannot update the destinations whose first packets are held; the previous list stays in force");
                }
            });
            self.learning = self.faults.survive("start a thread", begun);
        }
    }

    pub(super) fn take_packets(&mut self) {
        let now = self.now();
        if let Some(queue) = &mut self.queue {
            let result = queue.drain(&mut self.core, now);
            self.faults.survive("read held packets", result);
        }
    }

    /// No more packets are steered here, and those that wait go on: who closes a queue drops what is in it.
    pub(super) fn let_go(&mut self) {
        drop(self.holding.take());
        self.take_packets();
        self.core.end_holds();
        self.judge_packets();
    }

    pub(super) fn judge_packets(&mut self) {
        if let Some(queue) = &mut self.queue {
            let result = queue.judge(&mut self.core);
            self.faults.survive("let go of held packets", result);
        }
    }
}
