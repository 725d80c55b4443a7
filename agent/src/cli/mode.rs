//! `ctsync mode`: how datagrams for all members leave, switched while the cluster runs.

use std::io::Write;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Daemon, Failure, print_json};
use crate::modes::{ModeRequest, ModeWord};

#[derive(Debug, Args)]
pub(super) struct Mode {
    #[command(flatten)]
    daemon: Daemon,
    /// How datagrams for all members are to leave
    mode: ModeWord,
    /// On which sync network [default: all of them]
    network: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A network whose mode was switched.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Used {
    /// Its name.
    network: String,
    /// What is used on every member: `unicast`, `multicast` or `broadcast`.
    mode: &'static str,
}

impl Mode {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut daemon = self.daemon.connect()?;
        let networks = match &self.network {
            Some(network) => vec![network.clone()],
            None => {
                let networks = daemon.syncstat()?.networks;
                networks.into_iter().map(|network| network.name).collect()
            }
        };
        let mode = crate::modes::name(self.mode.into());
        let mut used = Vec::new();
        for network in networks {
            let request = ModeRequest {
                network: network.clone(),
                mode: self.mode,
            };
            let done = daemon.switch_mode(request)?;
            if let Some(refused) = done.refused {
                return Err(Failure::Problem(refused));
            }
            if !self.json {
                writeln!(out, "{network}: {mode} is used, on every member")?;
            }
            used.push(Used { network, mode });
        }
        if self.json {
            print_json(out, &used)?;
        }
        Ok(())
    }
}
