//! Who is active, and why (PROTOCOL.md 12): each member judges itself, tells the others where it stands, and decides alone,
//! from what all those tell that it can talk to.
//!
//! There is no vote and no leader. All members rank all alike, so that among those that hear each other one finds itself the
//! best and the rest find it so too. The subtle thing is the hand-over: the best one does not take the role while another
//! has it, it says that it is [`State::Ready`]; who has the role gives it up when it hears that. So nobody lets go before
//! somebody is there to take it, and two have it no longer than a hello takes after they can talk.

use crate::record::{MemberId, MemberSet};
use crate::time::Instant;
use core::cmp::Reverse;
use core::time::Duration;

/// What a member is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// It is not fit, or was asked to be down.
    Down = 0,
    /// It starts, or has not all flows yet.
    Init = 1,
    /// It is fit, and another is active.
    Standby = 2,
    /// It is to be active, and waits for another to give the role up.
    Ready = 3,
    /// It is active.
    Active = 4,
    /// It is active though it is not fit: nobody is.
    Attention = 5,
}

/// How many are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One.
    HighAvailability,
    /// All that are fit.
    LoadSharing,
}

/// Why a member is not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Problem {
    /// The operator asked it to be down.
    Asked = 0,
    /// It has just started, and cannot know yet who else is there.
    Starting = 1,
    /// It has not all flows of the others yet.
    Sync = 2,
    /// A check of the operator's says that something has only begun.
    CheckInit = 3,
    /// A required interface is down.
    Interface = 4,
    /// A check of the operator's says that something is wrong, or says nothing any longer.
    Check = 5,
    /// The kernel's connection table is nearly full.
    Table = 6,
    /// No sync network works, though the peers are there.
    Network = 7,
    /// The state directory cannot be written.
    Storage = 8,
}

/// All that keeps a member from being fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    kinds: u16,
    count: u8,
}

/// How fit a member is; the greater the fitter. 255 has no problem, 254 has one, 253 two; 1 was asked to be down, 0 has not
/// begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fitness(pub u8);

/// Whether a member's own loop keeps its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It does.
    Normal,
    /// It ran late recently: its silence means less than another's.
    Starved,
}

/// How many times longer a peer may be silent if it has said that its loop is late.
const STARVED_PATIENCE: u32 = 3;

impl Load {
    /// How long a peer may be silent, if it says this of itself, before it is dead (PROTOCOL.md 12.7).
    pub fn patience(self, dead_after: Duration) -> Duration {
        match self {
            Self::Normal => dead_after,
            Self::Starved => dead_after * STARVED_PATIENCE,
        }
    }
}

/// What a member says of itself, in every hello and probe (PROTOCOL.md 12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it is.
    pub state: State,
    /// How it elects.
    pub mode: Mode,
    /// Whether it gets enough time to run.
    pub load: Load,
    /// Its priority; the greater the better.
    pub priority: u8,
    /// How fit it is.
    pub fitness: Fitness,
    /// The kinds of its problems, a bit each, by the number of [`Problem`].
    pub problems: u16,
    /// Seconds that it has been what it is.
    pub seconds: u32,
}

/// Why a member is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has problems of its own, and another is active or will be.
    Unfit,
    /// It is the best of those that it can talk to.
    Best,
    /// There is nobody else.
    Alone,
    /// All that are fit are active.
    Sharing,
    /// Nobody is fit, and it is the least unfit.
    NobodyFit,
    /// This one is active, or ranks before it.
    Behind(MemberId),
    /// It is the best, and waits for this one to give the role up.
    WaitsFor(MemberId),
    /// It is to give the role up as soon as this one is ready.
    Until(MemberId),
    /// It ends.
    Leaving,
}

/// A member became something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why.
    pub why: Why,
    /// What it lacked at the time.
    pub problems: Problems,
}

/// How this member elects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many are active.
    pub mode: Mode,
    /// Of this member; the greater the better.
    pub priority: u8,
    /// Whether a greater priority takes the role from one that is active and fit.
    pub preempt: bool,
    /// How long a member that has started waits for others before it can become active.
    pub settle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::HighAvailability,
            priority: 100,
            preempt: false,
            settle: Duration::from_secs(3),
        }
    }
}

/// What another member said last.
#[derive(Clone, Copy, Debug)]
struct Heard {
    standing: Standing,
    packet_number: u64,
}

/// This member's part in the election.
#[derive(Debug)]
pub struct Election {
    me: MemberId,
    config: Config,
    others: [Option<Heard>; MemberId::MAX],
    state: State,
    why: Why,
    problems: Problems,
    since: Instant,
    /// Until then it waits for others to be heard; `None` when that is over.
    settles: Option<Instant>,
    leaving: bool,
    load: Load,
}

impl Election {
    /// A member that has just started.
    pub fn new(me: MemberId, config: Config, now: Instant) -> Self {
        let mut problems = Problems::default();
        problems.add(Problem::Starting);
        Self {
            me,
            config,
            others: [None; MemberId::MAX],
            state: State::Init,
            why: Why::Unfit,
            problems,
            since: now,
            settles: Some(now + config.settle),
            leaving: false,
            load: Load::Normal,
        }
    }

    /// What this member says of itself now.
    pub fn standing(&self, now: Instant) -> Standing {
        Standing {
            state: self.state,
            mode: self.config.mode,
            load: self.load,
            priority: self.config.priority,
            fitness: self.problems.fitness(),
            problems: self.problems.kinds,
            seconds: u32::try_from(now.since(self.since).as_secs()).unwrap_or(u32::MAX),
        }
    }

    /// Whether a greater priority takes the role from one that is active and fit.
    pub fn preempts(&self) -> bool {
        self.config.preempt
    }

    /// Why it is what it is.
    pub fn why(&self) -> Why {
        self.why
    }

    /// What it lacks.
    pub fn problems(&self) -> Problems {
        self.problems
    }

    /// What another member said last, whether it is still there or not.
    pub fn other(&self, member: MemberId) -> Option<&Standing> {
        Some(&self.others.get(member.index())?.as_ref()?.standing)
    }

    /// Of those that are there, the one that is fit and ranks first.
    pub fn successor(&self, there: MemberSet) -> Option<MemberId> {
        let others = there.iter().filter_map(|it| Some((it, *self.other(it)?)));
        let fit = others.filter(|(_, standing)| standing.is_fit());
        let first = fit.max_by_key(|it| rank(self.config.preempt, it));
        first.map(|(member, _)| member)
    }

    /// Takes in what the present run of a member says; what was overtaken by a later word of it is nothing new.
    pub fn handle_standing(&mut self, member: MemberId, packet_number: u64, standing: Standing) {
        if let Some(place) = self.others.get_mut(member.index())
            && place.is_none_or(|heard| heard.packet_number < packet_number)
        {
            *place = Some(Heard {
                standing,
                packet_number,
            });
        }
    }

    /// A new run of the member begins, which has said nothing yet.
    pub fn forget(&mut self, member: MemberId) {
        if let Some(place) = self.others.get_mut(member.index()) {
            *place = None;
        }
    }

    /// This member is about to end: it gives its role up at once.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// This member's loop keeps its times, or does not.
    pub fn set_load(&mut self, load: Load) {
        self.load = load;
    }

    /// True until the others had time to be heard.
    pub fn is_settling(&self) -> bool {
        self.settles.is_some()
    }

    /// When [`Self::elect`] has to be called though nothing happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.settles
    }

    /// Decides anew. `there` are those that hear us and are heard, `expected` is everybody else that is configured, `problems`
    /// what this member lacks.
    pub fn elect(
        &mut self,
        there: MemberSet,
        expected: MemberSet,
        mut problems: Problems,
        now: Instant,
    ) -> Option<StateChange> {
        let all_there = (expected.iter()).all(|it| there.contains(it) && !self.is_awaited(it));
        let has_begun = all_there && !problems.contains(Problem::Sync);
        self.settles = self.settles.filter(|at| *at > now && !has_begun);
        if self.settles.is_some() {
            problems.add(Problem::Starting);
        }
        if self.leaving {
            problems.add(Problem::Asked);
        }
        self.problems = problems;
        let me = self.standing(now);
        let others = there
            .iter()
            .filter_map(|member| Some((member, *self.other(member)?)));
        let (state, why) = if self.leaving {
            (State::Down, Why::Leaving)
        } else {
            decide(self.config.preempt, (self.me, me), others)
        };
        self.why = why;
        if state == self.state {
            return None;
        }
        let from = core::mem::replace(&mut self.state, state);
        self.since = now;
        Some(StateChange {
            from,
            to: state,
            why,
            problems,
        })
    }
}

impl Election {
    /// True if the election does not begin without this member: it has said nothing yet; or it starts as we do, and is to have
    /// the role rather than we.
    fn is_awaited(&self, member: MemberId) -> bool {
        let Some(theirs) = self.other(member) else {
            return true;
        };
        let starts = theirs.has(Problem::Starting) || theirs.has(Problem::Sync);
        let mine = (self.config.priority, Reverse(self.me));
        starts && (theirs.priority, Reverse(member)) > mine
    }
}

/// What this member is from now on, given what it and the others are.
fn decide(
    preempt: bool,
    me: (MemberId, Standing),
    others: impl Iterator<Item = (MemberId, Standing)> + Clone,
) -> (State, Why) {
    let (_, mine) = me;
    if mine.has(Problem::Starting) {
        return (State::Init, Why::Unfit);
    }
    let rank = |it: &(MemberId, Standing)| rank(preempt, it);
    let before = others.clone().max_by_key(rank);
    let before = before.filter(|other| rank(other) > rank(&me));
    match (mine.mode, before) {
        (Mode::LoadSharing, _) if mine.is_fit() => (State::Active, Why::Sharing),
        (Mode::LoadSharing, Some((_, best))) if best.is_fit() => (mine.at_rest(), Why::Unfit),
        (Mode::LoadSharing, None) => (State::Attention, Why::NobodyFit),
        (Mode::LoadSharing, Some((best, _))) => (mine.at_rest(), Why::Behind(best)),
        (Mode::HighAvailability, Some(best)) => behind(&mine, best),
        (Mode::HighAvailability, None) => ahead(&mine, others),
    }
}

/// What a member is of which another is the best. It keeps the role until that one can have it.
fn behind(mine: &Standing, (best, theirs): (MemberId, Standing)) -> (State, Why) {
    let takes_over = theirs.state == State::Ready || theirs.state.is_active();
    if mine.state.is_active() && !takes_over {
        (mine.in_role(), Why::Until(best))
    } else if mine.is_fit() {
        (State::Standby, Why::Behind(best))
    } else {
        (mine.at_rest(), Why::Unfit)
    }
}

/// What the best member is. It gets the role when nobody else has it any longer.
fn ahead(
    mine: &Standing,
    mut others: impl Iterator<Item = (MemberId, Standing)> + Clone,
) -> (State, Why) {
    let is_alone = others.clone().next().is_none();
    let holder = others.find(|(_, it)| it.state.is_active());
    match holder {
        Some((holder, _)) if !mine.state.is_active() => (State::Ready, Why::WaitsFor(holder)),
        Some(_) | None if !mine.is_fit() => (mine.in_role(), Why::NobodyFit),
        Some(_) | None if is_alone => (mine.in_role(), Why::Alone),
        Some(_) | None => (mine.in_role(), Why::Best),
    }
}

/// The order in which members are to be active: fitness, then the one that is active, then priority, then the smaller number.
/// With `preempt`, priority counts more than being active.
fn rank(preempt: bool, (member, it): &(MemberId, Standing)) -> impl Ord + use<> {
    let is_active = it.state.is_active();
    let (before, after) = if preempt {
        (it.priority, 0)
    } else {
        (0, it.priority)
    };
    (it.fitness, before, is_active, after, Reverse(*member))
}

impl Standing {
    /// True if nothing is wrong.
    pub fn is_fit(&self) -> bool {
        self.fitness == Fitness::FIT
    }

    /// True if this is one of its problems.
    pub fn has(&self, problem: Problem) -> bool {
        self.problems & problem.bit() != 0
    }

    /// What it is while another is active.
    fn at_rest(&self) -> State {
        match self.fitness {
            Fitness::FIT => State::Standby,
            Fitness::INIT => State::Init,
            Fitness(_) => State::Down,
        }
    }

    /// What it is while it has the role.
    fn in_role(&self) -> State {
        if self.is_fit() {
            State::Active
        } else {
            State::Attention
        }
    }
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Down,
        Self::Init,
        Self::Standby,
        Self::Ready,
        Self::Active,
        Self::Attention,
    ];

    /// True if it has the role.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Active | Self::Attention)
    }
}

impl Problem {
    /// Every problem, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Asked,
        Self::Starting,
        Self::Sync,
        Self::CheckInit,
        Self::Interface,
        Self::Check,
        Self::Table,
        Self::Network,
        Self::Storage,
    ];

    /// Its bit in [`Standing::problems`].
    pub const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl Problems {
    /// One more; several of a kind count each.
    pub fn add(&mut self, problem: Problem) {
        self.kinds |= problem.bit();
        self.count = self.count.saturating_add(1);
    }

    /// True if this is one of them.
    pub fn contains(self, problem: Problem) -> bool {
        self.kinds & problem.bit() != 0
    }

    /// How fit who has these is.
    pub fn fitness(self) -> Fitness {
        let begins = Problem::Starting.bit() | Problem::Sync.bit() | Problem::CheckInit.bit();
        if self.kinds & begins != 0 {
            Fitness::INIT
        } else if self.contains(Problem::Asked) {
            Fitness::ASKED
        } else {
            Fitness(Fitness::FIT.0.saturating_sub(self.count).max(2))
        }
    }
}

impl Fitness {
    /// It has not begun.
    pub const INIT: Self = Self(0);
    /// Asked to be down. It counts more than having no flows: who is to go stays until somebody has them.
    pub const ASKED: Self = Self(1);
    /// Nothing is wrong.
    pub const FIT: Self = Self(255);
}

#[cfg(test)]
mod tests;
