//! The track file: a number by which keepalived, and scripts for routing daemons, know what this member is.

use crate::files;
use ccp::election::State;
use std::io;
use std::path::{Path, PathBuf};

/// A track file; it is replaced whole, so that nobody reads a part of it.
#[derive(Debug)]
pub struct TrackFile(PathBuf);

impl TrackFile {
    /// The file at `path`, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes what `state` is worth.
    pub fn write(&self, state: State) -> io::Result<()> {
        files::replace(&self.0, format!("{}\n", value(state)).as_bytes())
    }
}

/// What stands in it: keepalived adds it to its priority, the scripts for routing daemons look whether it is
/// greater than 0. So with equal priorities who is active is preferred; with nobody active, who is fit; and a member that is
/// not is the last resort.
fn value(state: State) -> i16 {
    match state {
        State::Active => 100,
        State::Attention => 50,
        State::Ready | State::Standby => 0,
        State::Init => -90,
        State::Down => -95,
    }
}

#[cfg(test)]
mod tests {
    use super::{State, value};

    #[test]
    fn who_is_active_is_preferred_to_who_is_fit_and_he_to_who_is_not() {
        let order = [
            State::Down,
            State::Init,
            State::Standby,
            State::Attention,
            State::Active,
        ];
        assert!(order.is_sorted_by(|a, b| value(*a) < value(*b)));
        assert_eq!(value(State::Ready), value(State::Standby));
        // With the usual priorities of 100 keepalived stays within 1 to 254.
        let least = value(State::Down);
        assert!((1..=254).contains(&(100 + least)));
    }
}
