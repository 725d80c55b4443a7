//! Colours, where a person looks: headings, and the words that say how something is.
//!
//! A page is printed without any thought of it, and painted line by line on its way to the terminal.

use std::io::{self, IsTerminal, Write};

/// ECMA-48 SGR.
const PLAIN: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";

/// A page on its way to the terminal.
pub(super) struct Painter<'a> {
    out: &'a mut dyn Write,
    /// What was written of a line that has not ended.
    line: Vec<u8>,
}

/// Whether there is a terminal that shows colours, and no wish to have none (no-color.org).
pub(super) fn is_wanted() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

impl<'a> Painter<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            line: Vec::new(),
        }
    }
}

impl Write for Painter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.out
                    .write_all(paint(&String::from_utf8_lossy(&line)).as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&std::mem::take(&mut self.line))?;
        self.out.flush()
    }
}

fn paint(line: &str) -> String {
    let text = line.trim_end_matches('\n');
    let is_heading = text.contains(|it: char| it.is_ascii_uppercase())
        && !text.contains(|it: char| !(it.is_ascii_uppercase() || it == ' '));
    if is_heading {
        return format!("{BOLD}{text}{PLAIN}\n");
    }
    let painted = text.split(' ').map(|word| match colour(word) {
        Some(colour) => format!("{colour}{word}{PLAIN}"),
        None => word.to_owned(),
    });
    let painted: Vec<_> = painted.collect();
    format!("{}\n", painted.join(" "))
}

fn colour(word: &str) -> Option<&'static str> {
    match word {
        "live" | "up" | "ok" | "active" => Some(GREEN),
        "dead" | "down" | "problem" | "bad" => Some(RED),
        "never" | "degraded" | "warning" | "active-attention" => Some(YELLOW),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_bold_and_states_have_colours() {
        let mut out = Vec::new();
        let mut painter = Painter::new(&mut out);
        write!(painter, "PEER  HEARD AGO\n2     de").unwrap();
        writeln!(painter, "ad  0.098 s").unwrap();
        painter.flush().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\x1b[1mPEER  HEARD AGO\x1b[0m\n2     \x1b[31mdead\x1b[0m  0.098 s\n"
        );
    }
}
