//! What the operator is told of members and states.

use super::super::Core;
use crate::control::answer::RoleStatus;
use crate::control::answer::members::{Check, Member, Members, Transition};
use crate::units::millis;
use ccp::election::{Load, Mode, Problem, Standing, State, StateChange, Why};
use ccp::membership::PeerState;
use ccp::record::MemberId;
use ccp::time::Instant;

/// A state, as it is written everywhere.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Down => "down",
        State::Init => "init",
        State::Standby => "standby",
        State::Ready => "ready",
        State::Active => "active",
        State::Attention => "active-attention",
    }
}

/// Why a member is what it is; `name` says who the others are.
pub fn why_sentence(why: Why, name: impl Fn(MemberId) -> String) -> String {
    match why {
        Why::Unfit => "it is not fit".to_owned(),
        Why::Best => "it is the best of those that are there".to_owned(),
        Why::Alone => "no other member can be talked to".to_owned(),
        Why::Sharing => "all that are fit are active".to_owned(),
        Why::NobodyFit => "nobody is fit, and it is the least unfit".to_owned(),
        Why::Behind(other) => format!("{} ranks first", name(other)),
        Why::WaitsFor(other) => format!("it waits for {} to give the role up", name(other)),
        Why::Until(other) => format!("it has the role until {} is ready", name(other)),
        Why::Leaving => "its daemon ends".to_owned(),
    }
}

fn problem_sentence(problem: Problem) -> &'static str {
    match problem {
        Problem::Asked => "it was asked to be down",
        Problem::Starting => "it has just started",
        Problem::Sync => "it has not all flows yet",
        Problem::CheckInit => "a check has only begun",
        Problem::Interface => "an interface is down",
        Problem::Check => "a check is bad",
        Problem::Table => "its connection table is nearly full",
        Problem::Network => "no sync network works",
        Problem::Storage => "its state directory cannot be written",
    }
}

impl Core {
    /// The answer to `members`.
    pub(super) fn members(&self, now: Instant) -> Members {
        let mut ids: Vec<_> = self.peers.iter().copied().chain([self.me]).collect();
        ids.sort_unstable();
        let counters = self.node.counters();
        let mine = self.node.election().standing(now);
        let history = self.roles.history.iter().map(|past| Transition {
            ago_ms: millis(now.since(past.at)),
            from: state_name(past.change.from).to_owned(),
            to: state_name(past.change.to).to_owned(),
            why: past.why.clone(),
        });
        Members {
            mode: match mine.mode {
                Mode::HighAvailability => "ha",
                Mode::LoadSharing => "load-sharing",
            }
            .to_owned(),
            preempt: self.node.election().preempts(),
            members: ids.into_iter().map(|it| self.member_row(it, now)).collect(),
            differences: self.differences(&mine),
            interfaces: self.interface_rows(now),
            checks: self.checks(now),
            drain: self.drain_status(),
            history: history.collect(),
            state_changes: counters.state_changes,
            failovers: counters.failovers,
            last_failover_ms: self.roles.last_failover.map(|at| millis(now.since(at))),
        }
    }

    /// The part of `status`.
    pub(in crate::core) fn role_status(&self, now: Instant) -> RoleStatus {
        let standing = self.node.election().standing(now);
        let mut why = vec![self.sentence(self.node.election().why())];
        why.extend(self.own_problems(now));
        RoleStatus {
            state: state_name(standing.state).to_owned(),
            seconds: standing.seconds.into(),
            why: why.join("; "),
            checks: self.checks(now),
        }
    }

    /// Every check of this member: what the protocol looks at itself, what the core does, and the operator's.
    fn checks(&self, now: Instant) -> Vec<Check> {
        let problems = self.node.election().problems();
        let by_protocol = |name: &str, problem, text: String| {
            let is_bad = problems.contains(problem);
            Check::built_in(name, !is_bad, if is_bad { text } else { String::new() })
        };
        let faults: Vec<_> = self.interface_faults().collect();
        let no_network = problem_sentence(Problem::Network).to_owned();
        let mut checks = vec![
            by_protocol("full-sync", Problem::Sync, self.lacking()),
            by_protocol("interfaces", Problem::Interface, faults.join("; ")),
            by_protocol("sync-network", Problem::Network, no_network),
        ];
        checks.extend(self.roles.checks.list(now));
        checks
    }

    fn member_row(&self, id: MemberId, now: Instant) -> Member {
        let election = self.node.election();
        let is_this = id == self.me;
        let mine = election.standing(now);
        let standing = if is_this {
            Some(&mine)
        } else {
            election.other(id)
        };
        let peer = self.node.membership().peer(id);
        let is_there = is_this || peer.is_some_and(|peer| peer.state == PeerState::Live);
        let standing = standing.filter(|_| is_there);
        let state = match (is_there, standing) {
            (false, _) => "dead",
            (true, None) => "unknown",
            (true, Some(it)) => state_name(it.state),
        };
        let problems = match standing {
            Some(_) if is_this => self.own_problems(now),
            Some(it) => problems_of(it),
            None => Vec::new(),
        };
        let why = match standing {
            Some(_) if is_this => self.sentence(election.why()),
            Some(_) | None => String::new(),
        };
        Member {
            id: id.get(),
            name: self.name(id),
            this: is_this,
            state: state.to_owned(),
            seconds: standing.map(|it| it.seconds.into()),
            priority: standing.map(|it| it.priority),
            fit: standing.is_some_and(Standing::is_fit),
            starved: standing.is_some_and(|it| it.load == Load::Starved),
            problems,
            why,
        }
    }

    /// What this member lacks, in words, most telling first.
    pub(super) fn own_problems(&self, now: Instant) -> Vec<String> {
        let problems = self.node.election().problems();
        // Those that have words of their own follow from the checks.
        let general = [
            Problem::Asked,
            Problem::Starting,
            Problem::Sync,
            Problem::Network,
        ];
        let general = general.into_iter().filter(|it| problems.contains(*it));
        let general = general.map(|it| match it {
            Problem::Sync => self.lacking(),
            other => problem_sentence(other).to_owned(),
        });
        (general.chain(self.interface_faults()))
            .chain(self.roles.checks.sentences(now))
            .collect()
    }

    /// Whose flows are not all here yet.
    fn lacking(&self) -> String {
        let live = self.live_peers();
        let missing = live.iter().filter(|it| !self.node.incoming(*it).synced);
        let names: Vec<_> = missing.map(|it| self.name(it)).collect();
        if names.is_empty() {
            "its own kernel's table was not read yet".to_owned()
        } else {
            format!("it has not all flows of {} yet", names.join(", "))
        }
    }

    /// Why this member became something else, with what it lacked.
    pub(super) fn reason(&self, change: &StateChange, now: Instant) -> String {
        let mut reasons = vec![self.sentence(change.why)];
        if change.why == Why::Leaving {
            return reasons.concat();
        }
        reasons.extend(self.own_problems(now));
        reasons.join("; ")
    }

    fn sentence(&self, why: Why) -> String {
        why_sentence(why, |member| self.name(member))
    }

    /// What of the members does not go together.
    fn differences(&self, mine: &Standing) -> Vec<String> {
        let live = self.live_peers();
        let modes = live.iter().filter_map(|it| {
            let theirs = self.node.election().other(it)?;
            (theirs.mode != mine.mode).then(|| {
                format!(
                    "{} has another `roles.mode` than this member",
                    self.name(it)
                )
            })
        });
        modes.chain(self.interface_differences()).collect()
    }
}

fn problems_of(standing: &Standing) -> Vec<String> {
    let those = Problem::ALL.into_iter().filter(|it| standing.has(*it));
    those.map(|it| problem_sentence(it).to_owned()).collect()
}
