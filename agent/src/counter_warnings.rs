//! What an operator should look at: one line of the log for each counter that grows and should not, and then silence
//! about it for a while, however fast it grows.

use std::time::Duration;

/// A counter that should stay as it is, and what to do when it does not.
struct Watch {
    counter: &'static str,
    /// If set, `counter` may grow by up to 1 % of this one.
    of: Option<&'static str>,
    advice: &'static str,
}

const WATCHED: &[Watch] = &[
    Watch {
        counter: "event_overruns",
        of: None,
        advice: "the kernel had to drop conntrack events, its table is compared again; raise kernel.event_buffer",
    },
    Watch {
        counter: "refused_changes",
        of: None,
        advice: "the kernel refused flows of peers, or a part of them; compare the loaded helpers of the members",
    },
    Watch {
        counter: "conflicts",
        of: None,
        advice: "peers' flows use address and port pairs that other flows use here, and are not installed; give each gateway \
                 its own range of ports to translate to",
    },
    Watch {
        counter: "kernel_full",
        of: None,
        advice: "the kernel's table is full and took no flows of peers; raise net.netfilter.nf_conntrack_max; they are \
                 tried again",
    },
    Watch {
        counter: "helpers_missing",
        of: None,
        advice: "the kernel took flows without their helper, which it has not: what they announce is not let in here; \
                 load the module that the other members have, such as nf_conntrack_ftp",
    },
    Watch {
        counter: "table_full",
        of: None,
        advice: "the daemon's flow table is full: new flows are not replicated; exclude services by policy (`ctsync \
                 services` shows the costliest)",
    },
    Watch {
        counter: "datagrams_forged",
        of: None,
        advice: "datagrams failed authentication: corruption, or somebody on the sync network who poses as a member; see who \
                 sends them with `tcpdump -ni INTERFACE port 8116`",
    },
    Watch {
        counter: "datagrams_unknown_member",
        of: None,
        advice: "datagrams came from a member that is not configured here; `members` must be the same everywhere",
    },
    Watch {
        counter: "datagrams_other_network",
        of: None,
        advice: "datagrams came over another sync network than they were sent over; `networks` must be in the same \
                 order on every member, and no two of them on one wire",
    },
    Watch {
        counter: "datagrams_other_version",
        of: None,
        advice: "datagrams of another version of the protocol came; see what version the peers run",
    },
    Watch {
        counter: "datagrams_unsent",
        of: None,
        advice: "the kernel would not send datagrams; is the interface of the sync network up, with its address?",
    },
    Watch {
        counter: "held_deadline",
        of: Some("held"),
        advice: "more than 1 % of the packets that were held went on when their time was over, so that connections may open \
                 a second later; see `ctsync syncstat` for who is slow, and raise hold.deadline",
    },
];

/// How long nothing more is said about a counter.
const SILENCE: Duration = Duration::from_secs(60);

/// What was said when.
#[derive(Debug, Default)]
pub struct CounterWarnings {
    said: [Option<Said>; WATCHED.len()],
}

#[derive(Clone, Copy, Debug)]
struct Said {
    at: Duration,
    value: u64,
    /// The counter that it may be a part of.
    of: u64,
}

/// One line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterWarning {
    /// Name of the counter.
    pub counter: &'static str,
    /// How much it grew since it was last warned of.
    pub grown: u64,
    /// What to look at.
    pub advice: &'static str,
}

impl CounterWarnings {
    /// What is to be said at `now` (since the start), the counters being what `counter` tells.
    pub fn look(&mut self, now: Duration, counter: impl Fn(&str) -> u64) -> Vec<CounterWarning> {
        let mut warnings = Vec::new();
        for (watch, said) in WATCHED.iter().zip(&mut self.said) {
            let value = counter(watch.counter);
            let of = watch.of.map_or(0, &counter);
            let before = said.map_or([0; 2], |said| [said.value, said.of]);
            let [grown, of_grown] = [value - before[0], of - before[1]];
            let is_due = match (watch.of, &said) {
                // A part is judged by what came in an interval, not since the start.
                (Some(_), None) => now >= SILENCE,
                (_, said) => said.is_none_or(|said| now.saturating_sub(said.at) >= SILENCE),
            };
            if !is_due || (grown == 0 && watch.of.is_none()) {
                continue;
            }
            *said = Some(Said { at: now, value, of });
            if grown * 100 > of_grown {
                warnings.push(CounterWarning {
                    counter: watch.counter,
                    grown,
                    advice: watch.advice,
                });
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::{CounterWarnings, SILENCE, WATCHED};
    use std::time::Duration;

    #[test]
    fn each_cause_is_told_once_an_interval_with_all_that_came_meanwhile() {
        let mut warnings = CounterWarnings::default();
        let look = |warnings: &mut CounterWarnings, at, forged| {
            warnings
                .look(at, |name| {
                    if name == "datagrams_forged" {
                        forged
                    } else {
                        0
                    }
                })
                .iter()
                .map(|warning| (warning.counter, warning.grown))
                .collect::<Vec<_>>()
        };
        let second = Duration::from_secs(1);
        assert_eq!(look(&mut warnings, second, 0), []);
        assert_eq!(
            look(&mut warnings, second * 2, 5),
            [("datagrams_forged", 5)]
        );
        assert_eq!(look(&mut warnings, second * 3, 900), []);
        assert_eq!(
            look(&mut warnings, second * 2 + SILENCE, 1000),
            [("datagrams_forged", 995)]
        );
        assert_eq!(look(&mut warnings, second * 3 + SILENCE * 2, 1000), []);
    }

    #[test]
    fn a_part_is_told_when_it_is_more_than_a_hundredth_of_what_came_in_an_interval() {
        let mut warnings = CounterWarnings::default();
        let look = |warnings: &mut CounterWarnings, intervals: u32, late, held| {
            warnings
                .look(SILENCE * intervals, |name| match name {
                    "held_deadline" => late,
                    "held" => held,
                    _ => 0,
                })
                .iter()
                .map(|warning| (warning.counter, warning.grown))
                .collect::<Vec<_>>()
        };
        assert_eq!(look(&mut warnings, 0, 5, 10), []);
        assert_eq!(look(&mut warnings, 1, 100, 10_000), []);
        assert_eq!(look(&mut warnings, 2, 103, 10_200), [("held_deadline", 3)]);
        assert_eq!(look(&mut warnings, 3, 103, 10_200), []);
    }

    #[test]
    fn every_watched_counter_exists() {
        let core = crate::core::tests::core(1, 7, 9);
        let names: Vec<_> = core.counters().into_iter().map(|(name, _)| name).collect();
        for watch in WATCHED {
            assert!(
                names.iter().any(|name| name == watch.counter),
                "{}",
                watch.counter
            );
        }
    }
}
