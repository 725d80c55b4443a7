//! What the operator reads of what happens in the cluster: a log line for each event of the core.

use ccp::modes::Changed;
use ccp::node::Event;
use ccp::paths::Switch;
use ccp::record::MemberSet;
use ccp::time::Instant;
use tracing::{info, warn};

use super::Driver;
use crate::counter_warnings::{CounterWarning, CounterWarnings};

impl Driver {
    /// What happened since the last call.
    pub(super) fn report(&mut self) {
        let now = self.now();
        while let Some(event) = self.core.poll_event() {
            if let Event::PeerLive(member) | Event::PeerDead(member) = event
                && !self.flaps.tell(member, now)
            {
                continue;
            }
            let name = |member| self.name(member);
            match event {
                Event::PeerLive(member) => {
                    info!(
                        event = "peer-live",
                        member = member.get(),
                        name = name(member),
                        "peer is live"
                    )
                }
                Event::PeerDead(member) => warn!(
                    event = "peer-dead",
                    member = member.get(),
                    name = name(member),
                    "peer is dead: it is silent, or does not hear us; its flows stay"
                ),
                Event::PeerSlow(member) => warn!(
                    event = "peer-slow",
                    member = member.get(),
                    name = name(member),
                    "peer acknowledges too late: packets are no longer held for it"
                ),
                Event::PeerInTime(member) => info!(
                    event = "peer-in-time",
                    member = member.get(),
                    name = name(member),
                    "peer acknowledges in time: packets are held for it again"
                ),
                Event::Synced(member) => {
                    info!(
                        event = "peer-synced",
                        member = member.get(),
                        name = name(member),
                        "all flows of the peer are in this kernel"
                    );
                }
                Event::Mode(changed) => self.report_mode(changed),
                Event::Switched(switch) => self.report_switch(switch),
                Event::Role(change) => self.roles.handle_change(&change, self.core.last_reason()),
                Event::Interface(at) => match self.core.interface_sentence(at) {
                    Some(Ok(said)) => info!(event = "interface", "{said}"),
                    Some(Err(fault)) => warn!(event = "interface", "{fault}"),
                    None => {}
                },
                Event::Late(late) => warn!(
                    event = "late",
                    late_ms = late.as_millis(),
                    "this daemon did not get to run in time: its peers are excused, and told to excuse it"
                ),
                Event::OnTime => info!(event = "on-time", "this daemon gets to run in time again"),
                Event::SnapshotBegun(member) => info!(
                    event = "full-sync-begun",
                    member = member.get(),
                    name = name(member),
                    "full sync: the peer is asked for everything"
                ),
                Event::SnapshotEnded(member) => info!(
                    event = "full-sync-fetched",
                    member = member.get(),
                    name = name(member),
                    "full sync: what the peer had is here; what changed since follows"
                ),
                Event::SnapshotBroken(member) => warn!(
                    event = "full-sync-broken",
                    member = member.get(),
                    name = name(member),
                    "full sync: the peer stopped sending; continuing from another peer, or by datagrams"
                ),
                Event::Joined(took) => info!(
                    event = "full-sync-over",
                    took_ms = took.as_millis(),
                    "full sync is over: everything that the others had is in this kernel"
                ),
            }
        }
    }

    fn report_mode(&mut self, changed: Changed) {
        let names = self.core.names();
        let name_of = |members: MemberSet| {
            let names: Vec<_> = (members.iter())
                .filter_map(|it| names.get(&it).map(String::as_str))
                .collect();
            names.join(" and ")
        };
        self.modes.handle_changed(changed, name_of);
        if let Changed::Used { network, mode, .. } = changed {
            self.networks.set_mode(network, mode);
        }
    }

    fn report_switch(&self, Switch { member, from, to }: Switch) {
        let works = (self.core.node().paths().hears_us(member)).contains(from);
        let (from_name, to) = (self.networks.name(from), self.networks.name(to));
        let (name, number) = (self.name(member), member.get());
        if works {
            info!(
                event = "network-better",
                member = number,
                name,
                from = from_name,
                to,
                "a better sync network is used to the peer"
            );
        } else {
            warn!(
                event = "network-lost",
                member = number,
                name,
                from = from_name,
                to,
                "a sync network does not reach the peer, another took over"
            );
            self.links.leave(member, from);
        }
    }

    /// Of peers that came and went too often for each time to be told.
    pub(super) fn tell_flaps(&mut self, now: Instant) {
        while let Some((member, times)) = self.flaps.poll(now) {
            let is_live = self.core.node().membership().live().contains(member);
            let is_now = if is_live { "live" } else { "dead" };
            let (member, name) = (member.get(), self.name(member));
            warn!(
                event = "peer-unsteady",
                member,
                name,
                times,
                "the peer comes and goes: so many times were not told, now it is {is_now}"
            );
        }
    }

    /// What a full sync that goes on has come to.
    pub(super) fn tell_progress(&self, now: Instant) {
        let Some(progress) = self.core.node().join().progress(now) else {
            return;
        };
        if let Some(member) = progress.server {
            let [flows, of_about] = progress.rows;
            let lasts_ms = progress.lasts.as_millis();
            let (member, name) = (member.get(), self.name(member));
            info!(
                event = "full-sync-progress",
                member, name, flows, of_about, lasts_ms, "full sync goes on"
            );
        }
    }

    /// What counters say that should not grow.
    pub(super) fn warn_of_counters(&self, warnings: &mut CounterWarnings) {
        let counters = self.core.counters();
        let value = |wanted: &str| {
            counters
                .iter()
                .find(|(name, _)| name == wanted)
                .map_or(0, |(_, value)| *value)
        };
        for CounterWarning {
            counter,
            grown,
            advice,
        } in warnings.look(self.origin.elapsed(), value)
        {
            warn!(event = "counter", counter, grown, "{advice}");
        }
    }
}
