//! What the core is made with, of the configuration and the machine.

use super::{RunError, failed};
use crate::addresses::AddressSet;
use crate::config::Config;
use crate::config::roles::DEFAULT_PRIORITY;
use crate::convert::Shared;
use crate::core::Setup;
use crate::core::keys::Limits;
use crate::core::roles::{RolesSetup, flows_max};
use crate::core::seal::DatagramKey;
use crate::machine_checks::table_max;
use crate::policy::Policy;
use crate::roles::RoleEffects;
use ccp::paths::Spread;
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::sync::Arc;

/// For a core that judges by `policy` and talks over networks that take so long a datagram.
pub(super) fn setup(
    config: &Config,
    policy: Arc<Policy>,
    addresses: AddressSet,
    datagram_bytes_max: usize,
) -> Result<Setup, RunError> {
    Ok(Setup {
        node: node(config, datagram_bytes_max)?,
        key: DatagramKey::random().map_err(no_random_numbers)?,
        key_limits: Limits {
            max_age: config.keys.max_age,
            max_packets: config.keys.max_packets,
        },
        shared: Shared {
            mark_mask: config.kernel.mark_mask,
            copy_bit: config.kernel.copy_bit,
            label_mask: conntrack::labels(config.kernel.label_mask),
        },
        audit_interval: config.audit.interval,
        accounting_interval: (config.accounting.is_on()).then_some(config.accounting.interval),
        policy,
        addresses,
        networks: (config.networks.iter())
            .map(|network| network.name.clone())
            .collect(),
        hold: config.hold,
        names: config
            .members()
            .into_iter()
            .map(|member| (member.id, member.name.clone()))
            .collect(),
        roles: RolesSetup {
            table_percent: config.checks.table_percent,
            asked_down: RoleEffects::was_asked_down(config),
        },
    })
}

/// For the protocol.
fn node(config: &Config, datagram_bytes_max: usize) -> Result<ccp::node::Config, RunError> {
    let [incarnation, seed0, seed1] = random().map_err(no_random_numbers)?;
    Ok(ccp::node::Config {
        cluster: config.cluster.get(),
        member: config.this.id,
        peers: config.peers.iter().map(|peer| peer.id).collect(),
        incarnation,
        table: conntrack::table_id().map_err(failed("read which kernel table this is"))?,
        hash_seed: [seed0, seed1],
        datagram_bytes_max,
        flows_max: flows_max(table_max()),
        flush: config.delta.flush,
        hello: config.liveness.hello,
        dead_after: config.liveness.dead_after,
        networks: config.networks.len(),
        spread: match config.sync.duplicate {
            true => Spread::All,
            false => Spread::One,
        },
        roles: ccp::election::Config {
            mode: config.roles.mode,
            priority: (config.roles.priority)
                .get(&config.this.name)
                .copied()
                .unwrap_or(DEFAULT_PRIORITY),
            preempt: config.roles.preempt,
            settle: config.roles.settle,
        },
        probes: config.interfaces.timers,
        hold: ccp::hold::Config {
            deadline: config.hold.deadline,
            held_max: config.hold.held_max as usize,
        },
    })
}

fn random<const N: usize>() -> Result<[u64; N], Unspecified> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes)?;
        *number = u64::from_ne_bytes(bytes);
    }
    Ok(numbers)
}

fn no_random_numbers(_: Unspecified) -> RunError {
    failed("draw random numbers")(io::Error::other("the kernel gives none"))
}
