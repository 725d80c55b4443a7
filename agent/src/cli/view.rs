//! `--json` and `--watch`: an answer as a page or as JSON; once, or again and again until it is interrupted or there is
//! nobody to ask.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{Failure, print_json};

/// From the top left corner, on an empty screen (ECMA-48: CUP, ED).
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";

#[derive(Debug, Args)]
pub(super) struct View {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show it again every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    watch: Option<u32>,
}

impl View {
    /// Shows what `ask` answers. `verdict` says whether it tells of a problem.
    pub fn show<T: Serialize>(
        &self,
        out: &mut dyn Write,
        ask: impl Fn() -> Result<T, Failure>,
        page: impl Fn(&mut dyn Write, &T) -> io::Result<()>,
        verdict: impl Fn(&T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.repeat(out, |out| {
            let answer = ask()?;
            match self.json {
                true => print_json(out, &answer)?,
                false => page(out, &answer)?,
            }
            verdict(&answer)
        })
    }

    /// Does it once or for ever. Watched, a problem on the page is no reason to stop.
    pub fn repeat(
        &self,
        out: &mut dyn Write,
        page: impl Fn(&mut dyn Write) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(seconds) = self.watch else {
            return page(out);
        };
        loop {
            if io::stdout().is_terminal() {
                out.write_all(CLEAR.as_bytes())?;
            }
            match page(out) {
                Ok(()) | Err(Failure::Printed) => out.flush()?,
                Err(failure) => return Err(failure),
            }
            std::thread::sleep(Duration::from_secs(seconds.into()));
        }
    }
}

/// The verdict on what is shown already.
pub(super) fn is_well(is_well: bool) -> Result<(), Failure> {
    match is_well {
        true => Ok(()),
        false => Err(Failure::Printed),
    }
}
