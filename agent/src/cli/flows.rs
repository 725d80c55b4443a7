//! `ctsync flows`: the flows that this member knows, its own and the copies.

use std::io::{self, Write};

use clap::Args;

use super::view::View;
use super::{Daemon, Failure};
use crate::control::answer::{Endpoints, FlowRow, Origin, Translation};
use crate::protocols::endpoint;

/// Longer lines are continued on the next.
const COLUMNS_MAX: usize = 100;
/// Columns before those of the flow itself.
const INDENT: usize = 48;

#[derive(Debug, Args)]
pub(super) struct Flows {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Flows {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.view.repeat(out, |out| self.show(out))
    }

    fn show(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut client = self.daemon.connect()?;
        let flows = client.flows()?;
        if !self.view.json {
            heading(out)?;
        }
        for row in flows {
            let row = row?;
            match self.view.json {
                true => {
                    let json = serde_json::to_string(&row).expect("a flow has a JSON form");
                    writeln!(out, "{json}")?;
                }
                false => line(out, &row)?,
            }
        }
        Ok(())
    }
}

pub(super) fn heading(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<7}  {:<13}  {:>6}  {:<6}  {:<6}  FLOW",
        "PROTO", "STATE", "LEFT", "ORIGIN", "MEMBER"
    )
}

/// One flow: on one line if it fits, else continued at word boundaries under its beginning.
pub(super) fn line(out: &mut dyn Write, row: &FlowRow) -> io::Result<()> {
    let FlowRow {
        family: _,
        proto,
        orig,
        nat_src,
        nat_dst,
        state,
        timeout,
        mark,
        zone,
        origin,
        member,
    } = row;
    let origin = match origin {
        Origin::Own => "own",
        Origin::Found => "found",
        Origin::Copy => "copy",
    };
    let left = timeout.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
    let state = state.as_deref().unwrap_or("-");
    write!(
        out,
        "{proto:<7}  {state:<13}  {left:>6}  {origin:<6}  {member:<6}  "
    )?;
    let Endpoints {
        src,
        dst,
        sport,
        dport,
    } = orig;
    let mut words = vec![
        endpoint(*src, *sport),
        format!("> {}", endpoint(*dst, *dport)),
    ];
    let translation = |what, to: Translation| format!("{what}={}", endpoint(to.addr, to.port));
    words.extend(nat_src.map(|to| translation("snat", to)));
    words.extend(nat_dst.map(|to| translation("dnat", to)));
    words.extend((*mark != 0).then(|| format!("mark={mark:#x}")));
    words.extend((*zone != 0).then(|| format!("zone={zone}")));
    let mut column = INDENT;
    for (index, word) in words.iter().enumerate() {
        if index > 0 && column + 1 + word.len() > COLUMNS_MAX {
            write!(out, "\n{:INDENT$}", "")?;
            column = INDENT;
        } else if index > 0 {
            out.write_all(b" ")?;
            column += 1;
        }
        out.write_all(word.as_bytes())?;
        column += word.len();
    }
    writeln!(out)
}
