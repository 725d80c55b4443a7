//! `ctsync resync`: everything is fetched from the peers anew.

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;

use super::{Daemon, Failure, print_json};

/// How often the daemon is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Resync {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Resync {
    /// Ends when everything is here.
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut client = self.daemon.connect()?;
        let mut last = client.resync()?;
        loop {
            let sync = client.status()?.sync;
            if sync.complete {
                break;
            }
            last = sync;
            sleep(LOOK);
        }
        if self.json {
            print_json(out, &last)?;
        } else {
            writeln!(out, "everything that the peers have is in this kernel")?;
        }
        Ok(())
    }
}
