//! The shape of a `conntrackd.conf`: statements of words, each with others in braces or without, and comments.

use std::fmt;

/// No configuration nests deeper than `General`, `Filter`, a list and its entries.
const DEPTH_MAX: usize = 8;

/// Some words, and what stands in the braces after them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Counted from 1.
    pub line: u64,
    pub words: Vec<String>,
    pub children: Vec<Statement>,
}

/// Why a text is no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    line: u64,
    what: &'static str,
}

impl Statement {
    /// The first word.
    pub fn name(&self) -> &str {
        self.word(0)
    }

    /// The word at a place, or nothing.
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }
}

/// The statements of a text.
pub fn parse(text: &str) -> Result<Vec<Statement>, SyntaxError> {
    // The last of these is open; each belongs to the one before.
    let mut open = vec![Statement::default()];
    for (line, content) in (1..).zip(text.lines()) {
        let fail = |what| SyntaxError { line, what };
        let content = content.split('#').next().unwrap_or_default();
        let spaced = content.replace('{', " { ").replace('}', " } ");
        let mut words: Vec<String> = Vec::new();
        for word in spaced.split_ascii_whitespace() {
            match word {
                "{" if words.is_empty() => return Err(fail("a brace opens without a name")),
                "{" if open.len() == DEPTH_MAX => return Err(fail("braces are nested too deep")),
                "{" => open.push(Statement {
                    line,
                    words: std::mem::take(&mut words),
                    children: Vec::new(),
                }),
                "}" => {
                    end(&mut open, line, &mut words);
                    let closed = open.pop().filter(|_| !open.is_empty());
                    let closed =
                        closed.ok_or_else(|| fail("a brace closes that was never opened"))?;
                    if let Some(parent) = open.last_mut() {
                        parent.children.push(closed);
                    }
                }
                word => words.push(word.trim_matches('"').to_owned()),
            }
        }
        end(&mut open, line, &mut words);
    }
    match (open.pop(), open.last()) {
        (Some(file), None) => Ok(file.children),
        (unclosed, _) => Err(SyntaxError {
            line: unclosed.map_or(1, |it| it.line),
            what: "a brace opens and never closes",
        }),
    }
}

/// A statement without braces ends with its line.
fn end(open: &mut [Statement], line: u64, words: &mut Vec<String>) {
    if let (false, Some(parent)) = (words.is_empty(), open.last_mut()) {
        parent.children.push(Statement {
            line,
            words: std::mem::take(words),
            children: Vec::new(),
        });
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

impl std::error::Error for SyntaxError {}
