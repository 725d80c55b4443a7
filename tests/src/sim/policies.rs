//! Service policies in the simulation: drawn, changed while flows go on, taken by one daemon after the other, and done by the
//! kernel as far as rules of nftables would have it do them.
//!
//! When all is healed every daemon has the same policy. Then flows that are told are everywhere, and flows that are not are
//! nowhere but with their carrier. Marks and zones choose nothing here: what was decided by a mark that has changed since
//! stays so, and has nothing to be compared with.

use std::sync::Arc;
use std::time::Duration;

use agent::policy::classify::Condition;
use agent::policy::prefix::Prefix;
use agent::policy::push::Plan;
use agent::policy::service::selector;
use agent::policy::{Policy, Sync};
use ccp::record::FlowKey;

use super::options::Options;
use super::random::Random;
use super::workload::{Life, Traffic};
use super::{Failure, Report, What, World, run_with};

/// How long a daemon may take until it has the policy that an operator has written.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// What there is of policies in a run.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The one that is written.
    pub written: Arc<Policy>,
    /// Whether rules keep the kernel from making events.
    pub pushed_down: bool,
    /// Mean pause between two changes.
    pause: Duration,
}

/// As [`run`](super::run), with policies.
pub fn run_policies(seed: u64) -> Result<Report, Box<Failure>> {
    let mut random = Random::new(seed);
    let drawn = Options::draw(&mut random);
    let mut chance = Random::new(!seed);
    let policies = Policies {
        written: draw(&mut chance).into(),
        pushed_down: chance.percent(50),
        pause: chance.pause(Duration::from_millis(500)..Duration::from_secs(10)),
    };
    let options = Options {
        copy_bit: seed % 2 == 1,
        policies: Some(policies),
        ..drawn
    };
    run_with(seed, options, random)
}

/// A policy that looks random, and that is right. What flows of a run are like is in `super::workload`.
fn draw(random: &mut Random) -> Policy {
    loop {
        let mut text = "services:\n".to_owned();
        let count = 2 + random.within(0..3);
        for service in 0..count {
            let flows = random.choose(&[
                "",
                "protocol: tcp, ",
                "protocol: [tcp, udp], ports: 80, ",
                "protocol: [udp, icmp], ",
                "protocol: [icmp, icmpv6], icmp_types: [8, 128], ",
                "protocol: tcp, ports: [22, 81-90], ",
            ]);
            let sync = random.choose(&["always", "never", "never", "delayed, delay: 1s"]);
            text += &format!("  s{service}: {{ {flows}sync: {sync} }}\n");
        }
        text += "rules:\n";
        for _ in 0..1 + random.within(0..4) {
            let source = random.choose(&[
                "",
                "source: 10.1.0.0/25, ",
                "source: [10.1.0.0/27, \"2001:db8:1::/48\"], ",
                "source: \"2001:db8:1::/120\", ",
            ]);
            let destination = random.choose(&["", "", "destination: 10.2.0.32/27, "]);
            let service = random.within(0..count);
            text += &format!("  - {{ {source}{destination}service: s{service} }}\n");
        }
        if let Ok(policy) = Policy::parse(&[("drawn".into(), text)], 8116) {
            return policy;
        }
    }
}

/// Whether rules made of `plan` would keep the kernel from making events of a flow.
pub fn keeps_quiet(plan: &Plan, key: &FlowKey) -> bool {
    let selector = selector(key);
    let within = |ranges: &[(u16, u16)]| {
        let holds = |range: &(u16, u16)| (range.0..=range.1).contains(&selector);
        ranges.is_empty() || ranges.iter().any(holds)
    };
    let is_certain = |it: &(u8, Vec<(u16, u16)>)| it.0 == key.proto && within(&it.1);
    let is_other = |named: &Vec<u8>| !named.contains(&key.proto);
    let one_by_one = || {
        let matching = |condition: &Condition| {
            let flows = &condition.flows;
            (flows.protocols.is_empty() || flows.protocols.contains(&key.proto))
                && within(&flows.selectors)
                && is_in(&condition.source, key, &key.src)
                && is_in(&condition.destination, key, &key.dst)
        };
        let first = plan.steps.iter().find(|it| matching(&it.condition));
        first.is_some_and(|step| step.never)
    };
    plan.certain.iter().any(is_certain)
        || plan.all_but.as_ref().is_some_and(is_other)
        || one_by_one()
}

fn is_in(prefixes: &[Prefix], key: &FlowKey, address: &[u8; 16]) -> bool {
    let address = u128::from_be_bytes(*address);
    let holds = |prefix: &Prefix| {
        prefix.family == key.family && (prefix.first()..=prefix.last()).contains(&address)
    };
    prefixes.is_empty() || prefixes.iter().any(holds)
}

impl Policies {
    /// True if the peers are not to know of a flow.
    pub fn keeps_back(&self, flow: &Traffic) -> bool {
        let mark = match flow.life {
            Life::Open(carrier) | Life::Ended(carrier) => carrier.entry.mark,
            Life::Unopened => None,
        };
        let decision = self.written.decide(&flow.key, mark.unwrap_or_default());
        decision.sync == Sync::Never
    }

    /// What of the policy the kernel does.
    pub fn plan(&self, policy: &Policy) -> Option<Plan> {
        self.pushed_down.then(|| policy.plan())
    }
}

impl World {
    /// Sees to it that another policy will be written, if there are any.
    pub(super) fn schedule_policy(&mut self) {
        if let Some(policies) = &self.options.policies {
            let pause = self.more.pause(Duration::ZERO..policies.pause * 2);
            self.schedule(pause, What::Policy);
        }
    }

    /// Another is written, and taken by one daemon after the other.
    pub(super) fn write_policy(&mut self) {
        if let Some(policies) = &mut self.options.policies {
            policies.written = draw(&mut self.more).into();
        }
        for at in 0..self.gateways.len() {
            let pause = self.more.pause(Duration::ZERO..TAKEN_WITHIN);
            self.schedule(pause, What::Reload(at));
        }
        self.schedule_policy();
    }

    /// A daemon takes what is written.
    pub(super) fn reload(&mut self, at: usize) {
        if let Some(policies) = &self.options.policies {
            self.gateways[at].reload(policies);
            self.call(at, Duration::ZERO);
        }
    }
}
