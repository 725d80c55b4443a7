//! `--json` and `--watch`: an answer as a page or as JSON; once, or again and again until it is interrupted or there is
//! nobody to ask.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{Failure, print_json, screen};

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
            let mut text = Vec::new();
            match page(&mut text) {
                Ok(()) | Err(Failure::Printed) => {}
                Err(failure) => return Err(failure),
            }
            match self.json {
                true => out.write_all(&text).and_then(|()| out.flush())?,
                false => screen::show(out, &String::from_utf8_lossy(&text))?,
            }
            std::thread::sleep(Duration::from_secs(seconds.into()));
        }
    }
}

/// The verdict on what is shown already.
pub(super) fn verdict(is_well: bool) -> Result<(), Failure> {
    match is_well {
        true => Ok(()),
        false => Err(Failure::Printed),
    }
}
