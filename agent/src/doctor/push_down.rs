//! What keeps back the events that the policy does not need, and why nothing better does.

use super::Finding;
use crate::config::Config;
use crate::ruleset::tools::{Means, Tools};

pub fn examine(config: &Config) -> Finding {
    const CHECK: &str = "push-down";
    let wanted = config.policy.kernel;
    let tools = Tools::look(wanted);
    match (tools.means(wanted), tools.why(wanted)) {
        (Ok(means), None) => Finding::ok(
            CHECK,
            format!("events of flows that the policy excludes are suppressed by {means}"),
        ),
        (Ok(means), Some(reason)) => Finding::warning(
            CHECK,
            format!("events of flows that the policy excludes are suppressed by {means}: {reason}"),
            match means {
                Means::Xtables => {
                    "TCP makes twice as many events, and every packet is compared with the rules; none is held"
                }
                Means::Nftables | Means::Filter | Means::Nothing => {
                    "the kernel makes those events all the same"
                }
            },
            "install the package nftables, on a kernel with nf_tables; or write what you want under policy: kernel",
        ),
        (Err(error), _) => Finding::bad(
            CHECK,
            error.to_string(),
            "the daemon does not start, or not again",
            "write `kernel: auto` under `policy`",
        ),
    }
}
