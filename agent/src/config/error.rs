//! What can be wrong with a configuration: where, why, and what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use problem::{Problem, either, listed};
pub(crate) use roles::RolesProblem;

mod problem;
mod roles;

/// A configuration that cannot be used.
///
/// Its text is one line: `FILE:LINE:COLUMN: REASON; CURE`.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    place: Option<Place>,
    problem: Box<Problem>,
}

/// A place in a file; both count from 1, columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The character of the line.
    pub column: u64,
}

impl ConfigError {
    pub(crate) fn new(file: &Path, place: Option<Place>, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            place,
            problem: Box::new(problem),
        }
    }

    /// The file that is wrong.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where it is wrong; `None` when the file as a whole is.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// True when the file is not there, or may not be read.
    pub fn is_unreadable(&self) -> bool {
        matches!(*self.problem, Problem::Unreadable { .. })
    }

    /// What is wrong.
    pub fn reason(&self) -> String {
        self.problem.say().0
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        self.problem.say().1
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, cure) = self.problem.say();
        match self.place {
            Some(Place { line, column }) => write!(
                f,
                "{}:{line}:{column}: {reason}; {cure}",
                self.file.display()
            ),
            None => write!(f, "{}: {reason}; {cure}", self.file.display()),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.problem {
            Problem::Unreadable { error } => Some(error),
            _ => None,
        }
    }
}

impl Place {
    /// Where the parser saw something; `None` for its "unknown".
    pub(crate) fn of(location: &serde_saphyr::Location) -> Option<Self> {
        let place = Self {
            line: location.line(),
            column: location.column(),
        };
        (place.line > 0 && place.column > 0).then_some(place)
    }
}

/// A [`Problem`] with its place, before anyone said which file it is in.
#[derive(Debug)]
pub(crate) struct Fault {
    pub place: Option<Place>,
    pub problem: Problem,
}

impl Fault {
    pub fn in_file(self, file: &Path) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            place: self.place,
            problem: Box::new(self.problem),
        }
    }
}
