//! Pages that are shown again and again: on a terminal each from its top left corner, and no larger than it is now.

use std::io::{self, Write};

use rustix::termios::tcgetwinsize;

use crate::units::counted;

/// From the top left corner, on an empty screen (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows a page in the place of the one before.
pub(super) fn show(out: &mut dyn Write, page: &str) -> io::Result<()> {
    match tcgetwinsize(io::stdout()) {
        Ok(size) => {
            out.write_all(CLEAR.as_bytes())?;
            let (rows, columns) = (size.ws_row.into(), size.ws_col.into());
            out.write_all(fitted(page, rows, columns).as_bytes())?;
        }
        Err(_) => out.write_all(page.as_bytes())?,
    }
    out.flush()
}

/// As much of a page as there is room for. The last row is the cursor's.
fn fitted(page: &str, rows: usize, columns: usize) -> String {
    // A terminal that does not know its size says 0.
    if rows < 3 || columns == 0 {
        return page.to_owned();
    }
    let count = page.lines().count();
    let shown = if count < rows { count } else { rows - 2 };
    let mut fitted: String = (page.lines().take(shown))
        .flat_map(|line| line.chars().take(columns).chain(['\n']))
        .collect();
    if shown < count {
        let more = format!("({})", counted(count - shown, "more line", "more lines"));
        fitted.extend(more.chars().take(columns).chain(['\n']));
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn a_page_is_cut_to_the_terminal_and_says_how_much_is_not_shown() {
        let page = "one\ntwo\nthree\nfour\n";
        assert_eq!(fitted(page, 5, 80), page);
        assert_eq!(fitted(page, 4, 80), "one\ntwo\n(2 more lines)\n");
        assert_eq!(fitted(page, 5, 3), "one\ntwo\nthr\nfou\n");
        assert_eq!(fitted(page, 0, 0), page);
    }
}
