//! What is demanded, at every step and after everything healed.
//!
//! At every step:
//!
//! - What a member acknowledges is in its kernel as it was told, at the time that the acknowledgement is made.
//! - A call of `handle_timeout` before its time changes nothing; nothing is due that was not announced.
//! - The loop comes to rest: with nothing to read, the next deadline is in the future.
//! - The table keeps to its bound.
//! - Nothing but packets and timers removes an entry of the gateway that carries the flow.
//! - A flow that ended, that no kernel has and no daemon knows any longer, is in no kernel ever after.
//!
//! After everything healed, within [`CONVERGED_WITHIN`]:
//!
//! - A flow that goes on is in every kernel with the state, status, mark and translation that the last packet left.
//! - A flow that ended is in none.
//! - Where this cannot be asked ([`Doubt`]): all kernels have a flow that goes on, or none does.
//! - A daemon knows every entry of its kernel.
//!
//! Less is asked only where the protocol says so: an entry that a full kernel table refused is tried again when the flow
//! changes, not before; a claim that is acknowledged may have been refused for the sake of an end that counts more, which an
//! audit has to make good (PROTOCOL.md 8).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use agent::core::Core;
use ccp::node::Node;
use ccp::record::{FlowKey, MemberId, Term};
use ccp::table::{Entry, Life as Known, Origin, Pending};
use ccp::time::Instant;
use conntrack::Flow;

use super::gateway::Gateway;
use super::kernel::tcp_state;
use super::options::Options;
use super::policies::Policies;
use super::workload::{Doubt, Life, Likeness, Traffic};

/// Time in which the cluster has to come to agree.
pub const CONVERGED_WITHIN: Duration = Duration::from_secs(10);
/// Turns of an idle loop in a row that may find something due at once.
const BUSY_TURNS_MAX: u32 = 64;

/// What was not as it has to be.
#[derive(Clone, Debug)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! demand {
    ($condition:expr, $($what:tt)*) => {
        if !$condition {
            return Err(Violation(format!($($what)*)));
        }
    };
}

/// Flows whose creation a full table refused, by gateway.
pub type Refused = BTreeSet<(usize, FlowKey)>;

/// What `handle_timeout` acts on, `poll_timeout` has announced; called earlier, it does nothing. To be called when the core
/// was drained and nothing was handed in since.
pub fn early_timeout_is_a_no_op(core: &mut Core, now: Instant) -> Result<(), Violation> {
    let announced = core.poll_timeout();
    if announced <= now {
        return Ok(());
    }
    core.handle_timeout(now);
    demand!(
        core.poll_apply().is_none(),
        "an early timeout changes the kernel"
    );
    demand!(
        core.poll_transmit(now).is_none(),
        "an early timeout sends a datagram"
    );
    demand!(
        core.poll_event().is_none(),
        "an early timeout tells the operator something"
    );
    demand!(
        core.poll_timeout() == announced,
        "an early timeout moves the deadline"
    );
    Ok(())
}

/// The other half of that: until the deadline there is nothing to send.
pub fn nothing_is_due_unannounced(core: &mut Core, now: Instant) -> Result<(), Violation> {
    let announced = core.poll_timeout();
    let just_before = Instant::from_micros(announced.as_micros().saturating_sub(1));
    if just_before <= now {
        return Ok(());
    }
    demand!(
        core.poll_transmit(just_before).is_none(),
        "a datagram is due before the announced deadline"
    );
    demand!(
        core.poll_timeout() == announced,
        "asking for datagrams before the deadline moves it"
    );
    Ok(())
}

/// A loop that never waits uses up a processor.
pub fn the_loop_comes_to_rest(busy_turns: u32) -> Result<(), Violation> {
    demand!(busy_turns <= BUSY_TURNS_MAX, "the loop never waits");
    Ok(())
}

/// Whatever is fed from outside has a bound, as far as it can be seen from outside.
pub fn bounds_hold(core: &Core, options: &Options) -> Result<(), Violation> {
    let table = core.node().table();
    demand!(
        table.len() <= options.flows_max,
        "{} entries of at most {}",
        table.len(),
        options.flows_max
    );
    Ok(())
}

/// An acknowledgement means that the kernel has it. `receiver` is sending an acknowledgement to `sender`. What it
/// acknowledges of the flows that `sender` carries is in its kernel.
pub fn acknowledged_is_in_the_kernel(
    gateways: &[Gateway],
    flows: &[Traffic],
    [receiver, sender]: [usize; 2],
    refused: &Refused,
) -> Result<(), Violation> {
    let (Some(at), Some(of)) = (node(&gateways[receiver]), node(&gateways[sender])) else {
        return Ok(());
    };
    let incoming = at.incoming(gateways[sender].member);
    let given = of
        .peer_send(gateways[receiver].member)
        .map(|peer| peer.base());
    // Who asks to be told anew takes back what it has acknowledged (PROTOCOL.md 5.3).
    let counts = given == Some(incoming.base()) && !incoming.is_lost();
    if !hears_now(at, &gateways[sender]) || !counts {
        return Ok(());
    }
    let told = incoming.base()..=incoming.frontier();
    for flow in flows
        .iter()
        .filter(|flow| flow.doubt.is_none() && !refused.contains(&(receiver, flow.key)))
    {
        let carries = matches!(flow.life, Life::Open(carrier) if carrier.gateway == sender);
        let Some(theirs) = known(&gateways[sender], &flow.key) else {
            continue;
        };
        // Until the last packet is told, what was told last may have been of an earlier flow of the same ports.
        let is_told = theirs.life == Known::Live
            && theirs.pending == Pending::Nothing
            && !gateways[sender].kernel.has_unread(&flow.key)
            && told.contains(&theirs.seq);
        if carries && is_told && theirs.origin == Origin::Own {
            is_applied(gateways, [receiver, sender], theirs)
                .map_err(|Violation(what)| Violation(format!("{flow}: {what}")))?;
        }
    }
    Ok(())
}

fn is_applied(
    gateways: &[Gateway],
    [receiver, sender]: [usize; 2],
    told: &Entry,
) -> Result<(), Violation> {
    let [receiver, sender] = [&gateways[receiver], &gateways[sender]];
    let key = &told.key;
    let has_grace = known(receiver, key).is_some_and(Entry::is_contested);
    let is_refused = has_grace && remembers_an_end(receiver, key, (told.term, sender.member));
    if receiver.kernel.has_unread(key) || is_refused {
        return Ok(());
    }
    let who = format!("{} acknowledged to {}", receiver.member, sender.member);
    let both = || format!("{}, {}", knowledge(receiver, key), knowledge(sender, key));
    let Some(entry) = receiver.kernel.entry(key) else {
        return Err(Violation(format!(
            "{who} a flow that is not in its kernel: {}",
            both()
        )));
    };
    // Where another gateway saw it further, that stays.
    let is_current = known(receiver, key).is_some_and(|it| it.seq == told.seq);
    let is_so_far = tcp_state(entry).unwrap_or(0) >= told.state.proto_state;
    demand!(
        !is_current || is_so_far,
        "{who} a state that is not in its kernel: {}",
        both()
    );
    Ok(())
}

/// A carrier keeps its flows, and what is gone stays gone.
pub fn flows_are_kept_and_ends_are_final(
    gateways: &[Gateway],
    flows: &mut [Traffic],
) -> Result<(), Violation> {
    for flow in flows.iter_mut() {
        doubt_if_found_by_several(gateways, flow);
        if flow.doubt.is_some() {
            continue;
        }
        let present =
            |gateway: &&Gateway| gateway.is_up && gateway.kernel.entry(&flow.key).is_some();
        match flow.life {
            Life::Unopened => {}
            Life::Open(carrier) => {
                let gateway = &gateways[carrier.gateway];
                demand!(
                    present(&gateway),
                    "the entry of the flow's carrier was removed: {flow}"
                );
            }
            Life::Ended(_) => {
                if flow.is_gone {
                    let at = gateways.iter().find(present).map(|gateway| gateway.member);
                    demand!(at.is_none(), "the flow came back at {at:?}: {flow}");
                }
                flow.is_gone |= is_forgotten(gateways, &flow.key);
            }
        }
    }
    Ok(())
}

/// No kernel has the flow, no daemon knows it, and none can hear of it from before.
fn is_forgotten(gateways: &[Gateway], key: &FlowKey) -> bool {
    gateways.iter().all(|gateway| {
        let Some(node) = node(gateway) else {
            return false;
        };
        let hears = |other: &Gateway| other.member == gateway.member || hears_now(node, other);
        gateway.kernel.entry(key).is_none()
            && !gateway.kernel.has_unread(key)
            && known(gateway, key).is_none()
            && gateways.iter().all(hears)
    })
}

/// Everything healed: does every kernel have what it should?
pub fn agrees(
    gateways: &[Gateway],
    flows: &[Traffic],
    refused: &Refused,
    policies: Option<&Policies>,
) -> Result<(), Violation> {
    for flow in flows {
        if policies.is_some_and(|it| it.keeps_back(flow)) {
            is_kept_back(gateways, flow)?;
            continue;
        }
        let here: Vec<_> = gateways
            .iter()
            .map(|gateway| gateway.kernel.entry(&flow.key))
            .collect();
        for (index, entry) in here.iter().enumerate() {
            let who = gateways[index].member;
            let knows = known(&gateways[index], &flow.key)
                .is_some_and(|it| it.life == Known::Live && it.in_kernel);
            demand!(
                entry.is_none() || knows || flow.doubt == Some(Doubt::Crossed),
                "{who} does not know an entry of its kernel: {flow}"
            );
            let expected = match (flow.life, flow.doubt) {
                _ if refused.contains(&(index, flow.key)) => continue,
                (Life::Unopened, _) | (Life::Ended(_), None) => None,
                (Life::Open(carrier), None) => Some(Likeness::of(&carrier.entry)),
                (_, Some(Doubt::Reopened | Doubt::Crossed)) | (Life::Ended(_), Some(_)) => continue,
                (Life::Open(_), Some(_)) => {
                    let mut others =
                        (0..here.len()).filter(|other| !refused.contains(&(*other, flow.key)));
                    let somewhere = others.any(|other| here[other].is_some());
                    demand!(
                        entry.is_some() == somewhere,
                        "{who} lacks a flow that others have: {flow}"
                    );
                    continue;
                }
            };
            let found = entry.map(Likeness::of);
            let as_expected = match (&found, &expected) {
                (Some(found), Some(expected)) => found.continues(expected),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            demand!(
                as_expected,
                "{who} has {}, not {}: {flow}; {}",
                told(found),
                told(expected),
                knowledge(&gateways[index], &flow.key)
            );
        }
    }
    Ok(())
}

/// A flow that the peers are not to know of is with its carrier alone. An entry without the copy bit that no daemon knows is of
/// packets that passed there; or of a run without that bit, which cannot tell, and then it stays until its time is over
/// (PROTOCOL.md 8).
fn is_kept_back(gateways: &[Gateway], flow: &Traffic) -> Result<(), Violation> {
    let carrier = match flow.life {
        Life::Open(carrier) => Some(carrier.gateway),
        Life::Unopened | Life::Ended(_) => None,
    };
    for (at, gateway) in gateways.iter().enumerate() {
        let entry = gateway.kernel.entry(&flow.key);
        let is_marked = |entry: &Flow| entry.mark.unwrap_or(0) & gateway.kernel.copy_bit != 0;
        let is_known = known(gateway, &flow.key).is_some();
        let is_there = entry.is_some_and(|it| is_known || is_marked(it));
        demand!(
            !is_there || carrier == Some(at) || flow.doubt.is_some(),
            "{} has a flow that it is not to know of: {flow}; {}",
            gateway.member,
            knowledge(gateway, &flow.key)
        );
    }
    Ok(())
}

/// Whether the cluster can know which claim on a flow is the newest, as seen when a packet of it has changed the kernel
/// of the gateway `at`, or when the daemon there is about to be killed.
pub fn doubt(gateways: &[Gateway], at: usize, key: &FlowKey, is_killed: bool) -> Option<Doubt> {
    // Nobody will hear that packets of a copy passed here, unless its state shows it when the table is read.
    let is_copy =
        known(&gateways[at], key).is_some_and(|known| matches!(known.origin, Origin::Copy { .. }));
    if is_copy && gateways[at].kernel.is_congested() {
        return Some(Doubt::Contested);
    }
    let claim = claim(&gateways[at], key, is_killed);
    let others = || {
        gateways
            .iter()
            .filter(|other| other.is_up && other.member != gateways[at].member)
    };
    let is_contested = |other: &Gateway| {
        let known = known(other, key).filter(|known| known.life == Known::Live);
        let outdone = known.is_some_and(|known| match known.origin {
            Origin::Own => claim.is_none_or(|claim| claim <= (known.term, other.member)),
            Origin::Found => claim.is_none(),
            Origin::Copy { .. } => false,
        });
        let is_in_kernel = other.kernel.entry(key).is_some();
        let is_unknown = is_in_kernel && known.is_none() && claim.is_none();
        let will_be_found = is_in_kernel && other.daemon.is_none();
        let may_be_carried = other.daemon.is_some() && other.kernel.has_unread(key);
        outdone
            || is_unknown
            || will_be_found
            || may_be_carried
            || is_further(other, &gateways[at], key)
    };
    let refuses = |other: &Gateway| match claim {
        Some(claim) => remembers_an_end(other, key, claim),
        None => known(other, key).is_some_and(|known| known.life == Known::Dead),
    };
    if others().any(refuses) {
        Some(Doubt::Reopened)
    } else if others().any(is_contested) {
        Some(Doubt::Contested)
    } else {
        None
    }
}

/// True if a gateway remembers an end of the flow that counts more than the claim.
fn remembers_an_end(gateway: &Gateway, key: &FlowKey, claim: (Term, MemberId)) -> bool {
    known(gateway, key).is_some_and(|end| {
        let teller = match end.origin {
            Origin::Own | Origin::Found => gateway.member,
            Origin::Copy { member, .. } => member,
        };
        end.life == Known::Dead && claim <= (end.term, teller)
    })
}

/// States of one connection merge by progress; one that is left of an earlier connection of the same ports cannot be told
/// from it.
fn is_further(gateway: &Gateway, than: &Gateway, key: &FlowKey) -> bool {
    let progress = |gateway: &Gateway| gateway.kernel.entry(key).map(Likeness::of);
    match (progress(gateway), progress(than)) {
        (Some(there), Some(here)) => there.is_further(&here),
        (there, None) => there.is_some(),
        (None, Some(_)) => false,
    }
}

/// The claim that a gateway will make when it has read what its kernel tells; `None` for one that moves nobody.
fn claim(gateway: &Gateway, key: &FlowKey, is_killed: bool) -> Option<(Term, MemberId)> {
    if is_killed || gateway.daemon.is_none() {
        return None;
    }
    // The same ports again: the end of what it had found, and told nobody of, is forgotten before it hears of the new one.
    let is_anew = |known: &Entry| {
        let state = gateway.kernel.entry(key).and_then(tcp_state);
        !known.told && state.is_some_and(|state| state < known.state.proto_state)
    };
    let term = known(gateway, key).map_or(Term::default(), |known| match known.origin {
        Origin::Own => known.term,
        Origin::Found if is_anew(known) => Term::default(),
        Origin::Found | Origin::Copy { .. } => known.term.next(),
    });
    Some((term, gateway.member))
}

/// The run of `other` that goes on is the one that counts here.
fn hears_now(node: &Node, other: &Gateway) -> bool {
    node.membership()
        .peer(other.member)
        .is_some_and(|peer| peer.is_run(other.incarnation))
}

fn node(gateway: &Gateway) -> Option<&Node> {
    gateway.daemon.as_ref().map(|daemon| daemon.core.node())
}

/// What the daemon of a gateway knows of a flow.
pub fn known<'g>(gateway: &'g Gateway, key: &FlowKey) -> Option<&'g Entry> {
    let table = node(gateway)?.table();
    table.find(key).and_then(|slot| table.get(slot))
}

/// The same in words.
pub fn knowledge(gateway: &Gateway, key: &FlowKey) -> String {
    let Some(entry) = known(gateway, key) else {
        return format!("{} knows nothing", gateway.member);
    };
    let Entry {
        origin,
        life,
        term,
        seq,
        pending,
        in_kernel,
        state,
        ..
    } = entry;
    let place = if *in_kernel {
        "in its kernel"
    } else {
        "not in its kernel"
    };
    format!(
        "{} knows {origin:?} {life:?} {term:?} seq {seq} pending {pending:?} state {} {:?} {place}",
        gateway.member, state.proto_state, state.status
    )
}

fn told(likeness: Option<Likeness>) -> String {
    likeness.map_or_else(|| "nothing".to_owned(), |it| it.to_string())
}

/// Several members have found a flow in their kernels and none has seen a packet of it since: the claims are worth the
/// same, each keeps what it has (PROTOCOL.md 6.2), and neither's end ends it for the other (6.4). Or one has found it, and at
/// another a packet of it waits, which counts more, and may come to nothing.
pub fn doubt_if_found_by_several(gateways: &[Gateway], flow: &mut Traffic) {
    let (Life::Open(carrier) | Life::Ended(carrier)) = flow.life else {
        return;
    };
    let is_own = known(&gateways[carrier.gateway], &flow.key)
        .is_some_and(|known| known.origin == Origin::Own);
    let may_take_it = |other: usize| {
        known(&gateways[other], &flow.key).is_some_and(|known| {
            known.life == Known::Live
                && (known.origin == Origin::Found
                    || known.origin == Origin::Own && !known.in_kernel)
        })
    };
    let mut others = (0..gateways.len()).filter(|other| *other != carrier.gateway);
    if flow.doubt.is_none() && !is_own && others.any(may_take_it) {
        flow.doubt = Some(Doubt::Contested);
    }
}

/// The carrier's machine went down.
pub fn doubt_flows_of_rebooted(gateways: &[Gateway], at: usize, flows: &mut [Traffic]) {
    for flow in flows.iter_mut().filter(|flow| !flow.is_gone) {
        if let Life::Open(carrier) | Life::Ended(carrier) = flow.life
            && carrier.gateway == at
            && carrier.boot == gateways[at].boots
        {
            flow.doubt = Some(Doubt::CarrierRebooted);
        }
    }
}

/// The daemon of `at` is about to be killed: flows of which it alone knew what others don't.
pub fn doubt_flows_of_killed(gateways: &[Gateway], at: usize, flows: &mut [Traffic]) {
    for flow in flows
        .iter_mut()
        .filter(|flow| !flow.is_gone && flow.doubt.is_none())
    {
        let (Life::Open(carrier) | Life::Ended(carrier)) = flow.life else {
            continue;
        };
        flow.doubt = if carrier.gateway == at {
            doubt(gateways, at, &flow.key, true)
        } else {
            // It will find what it had as a copy, and say so to a carrier that may know nothing.
            let is_found_twice = gateways[at].kernel.entry(&flow.key).is_some()
                && gateways[carrier.gateway].daemon.is_none();
            is_found_twice.then_some(Doubt::Contested)
        };
    }
}
