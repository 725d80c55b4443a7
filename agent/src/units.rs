//! Times, rates and counts as answers have them, and as people read them, with their units.

use std::fmt::{self, Display};
use std::time::Duration;

/// In microseconds; what is too long for that is as long as can be.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// In milliseconds; what is too long for that is as long as can be.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number of microseconds: in milliseconds below a second, else as [`time`] has it.
pub fn short_time(micros: u64) -> String {
    match micros {
        0..1_000_000 => format!("{}.{:03} ms", micros / 1000, micros % 1000),
        _ => time(micros / 1000),
    }
}

/// A number of milliseconds: in seconds below a minute, else as [`Age`] has it.
pub fn time(millis: u64) -> String {
    match millis {
        0..60_000 => format!("{}.{:03} s", millis / 1000, millis % 1000),
        _ => Age(millis / 1000).to_string(),
    }
}

/// A rate in permille, as percent.
pub fn percent(permille: u16) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// A count and what is counted: `1 entry`, `2 entries`.
pub fn counted<T: Display + PartialEq + From<u8>>(count: T, one: &str, many: &str) -> String {
    let noun = if count == T::from(1) { one } else { many };
    format!("{count} {noun}")
}

/// Seconds, in the two largest units that fit.
pub struct Age(pub u64);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, hours, days) = (self.0 / 60, self.0 / 3600, self.0 / 86_400);
        match self.0 {
            0..60 => write!(f, "{} s", self.0),
            60..3600 => write!(f, "{minutes} min {} s", self.0 % 60),
            3600..86_400 => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_not_many() {
        let entries = |count: u64| counted(count, "entry", "entries");
        let said = [0, 1, 2].map(entries);
        assert_eq!(said, ["0 entries", "1 entry", "2 entries"]);
    }
}
