//! Follows one flow through a run, for whoever looks for the cause of a failure: `CTSYNC_FLOW=7` prints each change of
//! what the kernels have of the flow with this number and of what the daemons know of it.

use std::time::Duration;

use super::checker::knowledge;
use super::gateway::Gateway;
use super::workload::{Likeness, Workload};

/// Prints changes of one flow.
#[derive(Debug)]
pub struct Watch {
    flow: usize,
    seen: Vec<String>,
}

impl Watch {
    /// Asked for by the environment, or nothing.
    pub fn from_environment() -> Option<Self> {
        let flow = std::env::var("CTSYNC_FLOW").ok()?;
        Some(Self {
            flow: flow.parse().expect("CTSYNC_FLOW is the number of a flow"),
            seen: Vec::new(),
        })
    }

    /// Prints what is another since the last look.
    pub fn look(&mut self, now: Duration, gateways: &[Gateway], workload: &Workload) {
        let Some(flow) = workload.flows.get(self.flow) else {
            return;
        };
        self.seen.resize(gateways.len(), String::new());
        for (gateway, seen) in gateways.iter().zip(&mut self.seen) {
            let entry = gateway
                .kernel
                .entry(&flow.key)
                .map(|entry| Likeness::of(entry).to_string());
            let state = match (gateway.is_up, gateway.daemon.is_some(), gateway.is_stopped) {
                (false, _, _) => "down",
                (true, false, _) => "no daemon",
                (true, true, true) => "stopped",
                (true, true, false) => "runs",
            };
            let entry = entry.as_deref().unwrap_or("-");
            let now_seen = format!("{state}; {entry}; {}", knowledge(gateway, &flow.key));
            if now_seen != *seen {
                println!("{:>12.6} {now_seen}", now.as_secs_f64());
                *seen = now_seen;
            }
        }
    }
}
