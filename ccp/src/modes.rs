//! How datagrams for all members leave on each network, and how that is changed while the cluster runs (PROTOCOL.md 10.5).
//!
//! A change is tried first: hellos go by the new mode besides, until every live peer has echoed one to every member. Only
//! then does whoever was asked say that it counts; otherwise it is given up. What counts is told by all hellos, the greater
//! (generation, member) wins, so that who was away learns it.

use crate::network::{NetworkId, NetworkSet};
use crate::record::{MemberId, MemberSet};
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// A trial that is not over by then is given up.
const TRIAL: Duration = Duration::from_secs(3);
/// Whose trial was begun by another is given up if that one says nothing of it for so long.
const ORPHANED: Duration = Duration::from_secs(5);
/// Who is so far ahead errs: nobody switches so often.
const AHEAD_MAX: u32 = 1 << 16;
/// From one change that a peer says is used to the next that is followed: each is logged and stored.
const PACE: Duration = Duration::from_secs(1);
/// Hellos of a trial that are remembered.
const HELLOS_KEPT: usize = 64;

/// How a datagram for all members leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A copy to each.
    Unicast,
    /// One to a group.
    Multicast,
    /// One to the network.
    Broadcast,
}

/// Which change it is: the greater counts. The first is what the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation {
    /// Counts the changes.
    pub number: u32,
    /// The member that was asked, to tell apart what was asked at once.
    pub by: u8,
}

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It counts.
    Used,
    /// It is tried.
    Tried,
    /// It was given up.
    Undone,
}

/// What a hello says of the mode of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeReport {
    /// Which network.
    pub network: NetworkId,
    /// Which mode.
    pub mode: Mode,
    /// How far it is.
    pub stage: Stage,
    /// Which change.
    pub generation: Generation,
    /// The members that have heard the sender of the hello by it.
    pub carried: MemberSet,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is used from now on.
    Used {
        /// Where.
        network: NetworkId,
        /// What.
        mode: Mode,
        /// Which change.
        generation: Generation,
    },
    /// It was undone: somebody was not heard by it.
    Undone {
        /// Where.
        network: NetworkId,
        /// What was tried.
        mode: Mode,
        /// Live members that did not hear every other.
        deaf: MemberSet,
    },
}

#[derive(Debug)]
struct Trial {
    mode: Mode,
    generation: Generation,
    until: Instant,
    hellos: VecDeque<u32>,
    /// Who has heard us by it.
    carried: MemberSet,
    /// Of each member, who has heard it.
    peers: [MemberSet; MemberId::MAX],
}

#[derive(Clone, Copy, Debug)]
struct Undone {
    mode: Mode,
    generation: Generation,
    /// It is told until nobody tries it any longer, or another is begun; then what is used is told again.
    until: Instant,
}

#[derive(Debug)]
struct Place {
    mode: Mode,
    generation: Generation,
    trial: Option<Trial>,
    /// What we gave up ourselves.
    undone: Option<Undone>,
    /// When a peer was followed last.
    followed: Option<Instant>,
}

/// The modes of all networks.
#[derive(Debug)]
pub struct Modes {
    me: MemberId,
    places: Vec<Place>,
}

impl Modes {
    /// What the networks begin with, in their order.
    pub fn new(me: MemberId, modes: &[(Mode, Generation)]) -> Self {
        let places = modes.iter().map(|(mode, generation)| Place {
            mode: *mode,
            generation: *generation,
            trial: None,
            undone: None,
            followed: None,
        });
        Self {
            me,
            places: places.collect(),
        }
    }

    /// The mode that is used on a network.
    pub fn mode(&self, network: NetworkId) -> Mode {
        let place = self.places.get(network.index());
        place.map_or(Mode::Unicast, |place| place.mode)
    }

    /// The mode that is tried on a network.
    pub fn tried(&self, network: NetworkId) -> Option<Mode> {
        let trial = self.places.get(network.index())?.trial.as_ref()?;
        Some(trial.mode)
    }

    /// The networks on which a mode is tried.
    pub fn tries(&self) -> NetworkSet {
        let all = NetworkId::all().take(self.places.len());
        all.filter(|network| self.tried(*network).is_some())
            .collect()
    }

    /// Networks on which one datagram reaches all.
    pub fn groups(&self) -> NetworkSet {
        let all = NetworkId::all().take(self.places.len());
        all.filter(|network| self.mode(*network) != Mode::Unicast)
            .collect()
    }

    /// The operator wants another mode: it is tried.
    pub fn ask(&mut self, network: NetworkId, mode: Mode, now: Instant) {
        let by = self.me.get();
        if let Some(place) = self.places.get_mut(network.index()) {
            let trial = place.trial.as_ref().map(|trial| trial.generation.number);
            let undone = place.undone.map(|it| it.generation.number);
            let last = [Some(place.generation.number), trial, undone];
            let last = last.into_iter().flatten().max().unwrap_or(0);
            let number = last.saturating_add(1);
            place.begin(mode, Generation { number, by }, now + TRIAL);
        }
    }

    /// What a hello says.
    pub fn reports(&self) -> impl Iterator<Item = ModeReport> {
        NetworkId::all()
            .zip(&self.places)
            .filter_map(|(network, place)| {
                let (mode, stage, generation, carried) = match (&place.trial, place.undone) {
                    (Some(trial), _) => (trial.mode, Stage::Tried, trial.generation, trial.carried),
                    (None, Some(undone)) => (
                        undone.mode,
                        Stage::Undone,
                        undone.generation,
                        MemberSet::default(),
                    ),
                    (None, None) if place.generation.number == 0 => return None,
                    (None, None) => (
                        place.mode,
                        Stage::Used,
                        place.generation,
                        MemberSet::default(),
                    ),
                };
                Some(ModeReport {
                    network,
                    mode,
                    stage,
                    generation,
                    carried,
                })
            })
    }

    /// A live peer says this of a network.
    pub fn handle_report(
        &mut self,
        from: MemberId,
        report: &ModeReport,
        now: Instant,
    ) -> Option<Changed> {
        let place = self.places.get_mut(report.network.index())?;
        let current = place.trial.as_ref().map(|trial| trial.generation);
        let [ours, theirs] = [place.generation, report.generation].map(|it| it.number);
        if theirs.saturating_sub(ours) > AHEAD_MAX {
            return None;
        }
        match report.stage {
            // Who was asked, and was killed before it was stored, may have drawn the same generation for another mode since.
            Stage::Used if (report.generation, report.mode) > (place.generation, place.mode) => {
                if place.followed.is_some_and(|at| now.since(at) < PACE) {
                    return None;
                }
                place.followed = Some(now);
                place.mode = report.mode;
                place.generation = report.generation;
                place.trial = None;
                place.undone = None;
                Some(Changed::Used {
                    network: report.network,
                    mode: report.mode,
                    generation: report.generation,
                })
            }
            Stage::Tried => {
                let newer = report.generation > current.unwrap_or(place.generation);
                let given_up = (place.undone).is_some_and(|it| report.generation <= it.generation);
                if newer && !given_up && report.generation > place.generation {
                    place.begin(report.mode, report.generation, now + ORPHANED);
                }
                let trial = place.trial.as_mut();
                let trial = trial.filter(|trial| trial.is_of(report))?;
                *trial.peers.get_mut(from.index())? = report.carried;
                None
            }
            Stage::Undone => {
                place.trial.take_if(|trial| trial.is_of(report));
                None
            }
            Stage::Used => None,
        }
    }

    /// A hello goes out over a network by the mode that is tried there.
    pub fn note_hello(&mut self, network: NetworkId, packet_number: u64) {
        let place = self.places.get_mut(network.index());
        if let Some(trial) = place.and_then(|place| place.trial.as_mut()) {
            if trial.hellos.len() == HELLOS_KEPT {
                trial.hellos.pop_front();
            }
            trial.hellos.push_back(packet_number as u32);
        }
    }

    /// A peer echoes a hello that went over a network, by the low half of its packet number.
    pub fn handle_echo(&mut self, from: MemberId, network: NetworkId, echo: u32) {
        let place = self.places.get_mut(network.index());
        if let Some(trial) = place.and_then(|place| place.trial.as_mut())
            && trial.hellos.contains(&echo)
        {
            trial.carried.insert(from);
        }
    }

    /// The next trial that came to its end, `live` being the peers that it has to carry to.
    pub fn poll(&mut self, live: MemberSet, now: Instant) -> Option<Changed> {
        let me = self.me;
        for (network, place) in NetworkId::all().zip(&mut self.places) {
            place.undone.take_if(|it| it.until <= now);
            let Some(trial) = &place.trial else { continue };
            let mine = trial.generation.by == me.get();
            let deaf = trial.deaf(me, live);
            let (mode, generation) = (trial.mode, trial.generation);
            // Who hears nobody proves nothing.
            if mine && deaf.is_empty() && !live.is_empty() {
                place.trial = None;
                place.mode = mode;
                place.generation = generation;
                return Some(Changed::Used {
                    network,
                    mode,
                    generation,
                });
            }
            if trial.until <= now {
                place.trial = None;
                if mine {
                    place.undone = Some(Undone {
                        mode,
                        generation,
                        until: now + ORPHANED * 2,
                    });
                    return Some(Changed::Undone {
                        network,
                        mode,
                        deaf,
                    });
                }
            }
        }
        None
    }

    /// When [`Self::poll`] has something to say at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let trials = self.places.iter().filter_map(|place| place.trial.as_ref());
        trials.map(|trial| trial.until).min()
    }
}

impl Place {
    fn begin(&mut self, mode: Mode, generation: Generation, until: Instant) {
        self.undone = None;
        self.trial = Some(Trial {
            mode,
            generation,
            until,
            hellos: VecDeque::new(),
            carried: MemberSet::default(),
            peers: [MemberSet::default(); MemberId::MAX],
        });
    }
}

impl Trial {
    fn is_of(&self, report: &ModeReport) -> bool {
        (self.generation, self.mode) == (report.generation, report.mode)
    }

    /// Members that have not heard every other by the new mode.
    fn deaf(&self, me: MemberId, live: MemberSet) -> MemberSet {
        let mut all = live;
        all.insert(me);
        let heard = |sender: MemberId| match sender == me {
            true => self.carried,
            false => self.peers.get(sender.index()).copied().unwrap_or_default(),
        };
        let deaf = |member: &MemberId| {
            (all.iter()).any(|sender| sender != *member && !heard(sender).contains(*member))
        };
        all.iter().filter(deaf).collect()
    }
}

#[cfg(test)]
mod tests;
