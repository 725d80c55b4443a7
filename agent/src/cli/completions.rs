//! `ctsync completions`: what a shell loads to complete this command line.

use std::io::Write;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::{Cli, Failure};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    shell: Word,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    Bash,
    Fish,
    Zsh,
}

impl Completions {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let shell = match self.shell {
            Word::Bash => Shell::Bash,
            Word::Fish => Shell::Fish,
            Word::Zsh => Shell::Zsh,
        };
        // The generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "ctsync", &mut script);
        Ok(out.write_all(&script)?)
    }
}
