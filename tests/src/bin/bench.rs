//! `tests/bench`: measures, prints the table, writes the record.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tests::bench::rivals::{Contestant, ctsync::program};
use tests::bench::{Options, Part, interrupt, run};

/// Opens flows with real packets and compares ctsync with conntrackd and with nobody listening.
#[derive(Parser)]
struct Arguments {
    /// Measure these alone.
    #[arg(long, value_delimiter = ',', default_values = ["none", "conntrackd", "ctsync"])]
    only: Vec<Contestant>,
    /// Measure these rows alone.
    #[arg(long, value_delimiter = ',', default_values = ["speed", "cost", "delay", "policy"])]
    rows: Vec<Part>,
    /// Measure everything so many times.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Write the figures of every round to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments {
        only: contestants,
        rows: parts,
        rounds,
        json,
    } = Arguments::parse();
    if contestants.contains(&Contestant::Ctsync) && !program().exists() {
        eprintln!(
            "{} is missing: start this as tests/bench, which builds it",
            program().display()
        );
        return ExitCode::FAILURE;
    }
    interrupt::listen();
    let options = Options {
        contestants,
        parts,
        rounds,
    };
    // A failed step has said what failed; what was built is gone when it arrives here.
    let report = match std::panic::catch_unwind(|| run(&options)) {
        Ok(report) => report,
        Err(cause) if cause.is::<interrupt::Interrupted>() => return ExitCode::from(130),
        Err(_) => return ExitCode::FAILURE,
    };
    print!("{report}");
    if let Some(path) = json
        && let Err(error) = std::fs::write(&path, format!("{:#}\n", report.to_json()))
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
