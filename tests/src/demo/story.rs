//! How a demonstration tells what happens.

use std::io::IsTerminal as _;
use std::time::Instant;

/// Tells what happens, and when.
#[derive(Debug)]
pub struct Story<'a> {
    paint: &'a Paint,
    start: Instant,
}

impl<'a> Story<'a> {
    /// It begins now.
    pub fn new(paint: &'a Paint) -> Story<'a> {
        Story {
            paint,
            start: Instant::now(),
        }
    }

    /// Something happens.
    pub fn tell(&self, event: &str) {
        println!("  {:7.3} s  {event}", self.start.elapsed().as_secs_f64());
    }

    /// Something bad happens.
    pub fn strike(&self, event: &str) {
        self.tell(&self.paint.bad(event));
    }
}

/// Colours, on a terminal.
#[derive(Debug)]
pub struct Paint {
    is_terminal: bool,
}

impl Paint {
    /// What standard output can show.
    pub fn of_stdout() -> Paint {
        Paint {
            is_terminal: std::io::stdout().is_terminal(),
        }
    }

    /// A title.
    pub fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    /// What is as it should be.
    pub fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    /// What is not.
    pub fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.is_terminal {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
