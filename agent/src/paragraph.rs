//! Text beside a heading, within 100 columns.

use std::fmt;

const COLUMNS_MAX: usize = 100;

/// Broken at blanks and continued below where it began; a word that is longer than a line stands out.
pub fn write(f: &mut fmt::Formatter<'_>, heading: &str, text: &str) -> fmt::Result {
    f.write_str(heading)?;
    let begin = heading.chars().count();
    let mut column = begin;
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > COLUMNS_MAX {
            write!(f, "\n{:begin$}", "")?;
            column = begin;
        } else if index > 0 {
            f.write_str(" ")?;
            column += 1;
        }
        f.write_str(word)?;
        column += width;
    }
    f.write_str("\n")
}
