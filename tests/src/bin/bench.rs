//! `tests/bench`: measures, prints the table, writes the record.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tests::bench::plot::svg;
use tests::bench::rivals::{Contestant, ctsync::program};
use tests::bench::{Options, Part, interrupt, run};

/// Opens flows with real packets and compares ctsync with conntrackd and with nobody listening.
#[derive(Parser)]
struct Arguments {
    /// Measure these alone.
    #[arg(long, value_delimiter = ',', default_values = ["none", "conntrackd", "ctsync"])]
    only: Vec<Contestant>,
    /// Measure these rows alone.
    #[arg(long, value_delimiter = ',', default_values = ["speed", "cost", "delay", "join", "asymmetric", "policy"])]
    rows: Vec<Part>,
    /// Measure everything so many times.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Write the figures of every round to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Measure nothing: draw what an earlier run has written with --json.
    #[arg(long, value_name = "FILE", requires = "plot")]
    from: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments {
        only: contestants,
        rows: parts,
        rounds,
        json,
        plot,
        from,
    } = Arguments::parse();
    if let (Some(from), Some(plot)) = (&from, &plot) {
        return match draw(from, plot) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{} to {}: {error}", from.display(), plot.display());
                ExitCode::FAILURE
            }
        };
    }
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
    let record = report.to_json();
    let written = [
        json.map(|path| (path, format!("{record:#}\n"))),
        plot.map(|path| (path, svg(&record))),
    ];
    for (path, text) in written.into_iter().flatten() {
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn draw(from: &Path, to: &Path) -> io::Result<()> {
    let record = serde_json::from_slice(&std::fs::read(from)?)?;
    std::fs::write(to, svg(&record))
}
