//! Where the role belongs.

use ccp::election::{Mode, State};

use super::wire::Talk;
use super::{Fault, World};

/// Of one member's state in a period, by one or two faults: away, ready, active and back, for each of what a fault breaks.
const CHANGES_MAX: u32 = 8;

/// A daemon that runs.
#[derive(Clone, Copy, Debug)]
struct Member {
    at: usize,
    state: State,
    is_fit: bool,
}

impl World {
    /// In mode `ha` no two that can talk have the role, and in every group of those that can somebody has it: one that is fit, if
    /// all of the group can talk to each other and one of them is. In mode `load-sharing` all that are fit are active, and if
    /// none is, one is all the same. Nobody changed too often, and not at all if nothing happened but that daemons were late.
    pub fn check(&mut self, faults: &[Fault]) -> Result<(), String> {
        self.report.checks += 1;
        let members = self.members();
        let mut groups: Vec<Vec<Member>> = members.iter().map(|it| vec![*it]).collect();
        for (number, one) in members.iter().enumerate() {
            for two in &members[number + 1..] {
                let talk = self.talk([one.at, two.at]);
                self.report.by_probes += u32::from(talk == Talk::ByProbes);
                if talk != Talk::Not {
                    self.check_pair(one, two)?;
                    join(&mut groups, [one.at, two.at]);
                }
            }
        }
        for group in &groups {
            self.check_group(group)?;
        }
        self.check_changes(faults)
    }

    fn members(&self) -> Vec<Member> {
        let all = self.machines.iter().enumerate();
        let running = all.filter_map(|(at, it)| {
            let standing = it.node.as_ref()?.election().standing(self.now);
            Some(Member {
                at,
                state: standing.state,
                is_fit: standing.is_fit(),
            })
        });
        running.collect()
    }

    fn check_pair(&self, one: &Member, two: &Member) -> Result<(), String> {
        let both = one.state.is_active() && two.state.is_active();
        match self.mode {
            Mode::LoadSharing if one.state == State::Active && two.state == State::Active => Ok(()),
            Mode::LoadSharing | Mode::HighAvailability if both => {
                Err(format!("both have the role: {one:?}, {two:?}"))
            }
            Mode::LoadSharing | Mode::HighAvailability => Ok(()),
        }
    }

    fn check_group(&mut self, group: &[Member]) -> Result<(), String> {
        if !group.iter().any(|it| it.state.is_active()) {
            return Err(format!("nobody has the role of {group:?}"));
        }
        let pairs = group
            .iter()
            .flat_map(|one| group.iter().map(move |two| [one.at, two.at]));
        let all_talk = pairs
            .filter(|[one, two]| one < two)
            .all(|it| self.talk(it) != Talk::Not);
        let active = group.iter().filter(|it| it.state == State::Active).count();
        let fit = group.iter().filter(|it| it.is_fit).count();
        let wanted = match self.mode {
            Mode::LoadSharing => fit,
            Mode::HighAvailability if all_talk => fit.min(1),
            Mode::HighAvailability => return Ok(()),
        };
        self.report.shared += u32::from(active > 1);
        match active == wanted {
            true => Ok(()),
            false => Err(format!("{wanted} should be active of {group:?}")),
        }
    }

    fn check_changes(&mut self, faults: &[Fault]) -> Result<(), String> {
        let only_late = !faults.is_empty() && faults.iter().all(|it| *it == Fault::Hungry);
        self.report.starved += u32::from(only_late);
        let allowed = if only_late { 0 } else { CHANGES_MAX };
        for (at, machine) in self.machines.iter_mut().enumerate() {
            let changes = std::mem::take(&mut machine.changes);
            self.report.changes += changes;
            if changes > allowed {
                return Err(format!("{at} changed {changes} times"));
            }
        }
        Ok(())
    }
}

/// The groups of two are one from now on.
fn join(groups: &mut Vec<Vec<Member>>, [one, two]: [usize; 2]) {
    let place = |groups: &[Vec<Member>], at| {
        let has = |group: &Vec<Member>| group.iter().any(|it| it.at == at);
        groups.iter().position(has).expect("each is in one")
    };
    let from = groups.swap_remove(place(groups, two));
    if from.iter().any(|it| it.at == one) {
        groups.push(from);
    } else {
        let to = place(groups, one);
        groups[to].extend(from);
    }
}
