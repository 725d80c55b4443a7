//! Packets that the kernel hands us to be held: whose they are, and what becomes of them.
//!
//! Where the kernel attaches the conntrack entry to a packet, that says everything. Elsewhere the flow is made of the
//! packet's headers: right for flows that are not translated, which the rules see to as far as they can.

use super::Core;
use crate::config::{HoldMode, Otherwise};
use crate::control::answer::{HoldStatus, Latency, PeerHold};
use crate::convert;
use crate::policy::{self, Sync};
use crate::splits::Splits;
use crate::units::micros;
use ccp::hold::{Ended, PacketNumber};
use ccp::latency;
use ccp::node::HeldPacket;
use ccp::record::{FlowKey, MemberId};
use ccp::time::Instant;
use conntrack::consts::{IPPROTO_TCP, IPPROTO_UDP, IPS_SEEN_REPLY, TCP_CONNTRACK_SYN_RECV};
use conntrack::{CtInfo, Flow, Held, ProtoInfo, TcpInfo, TcpKind, Transport, Verdict};
use std::num::NonZeroU32;
use std::time::Duration;

/// Packets that the kernel handed us and that were not held, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldCounters {
    /// Its flow is not replicated, or the policy says that it does not wait.
    pub out_of_scope: u64,
    /// Its flow could not be made out: a fragment, say.
    pub not_understood: u64,
    /// Its flow is translated, and the kernel does not say how.
    pub nat_unknown: u64,
    /// The kernel could not queue it, or lost its verdict.
    pub queue_faults: u64,
}

/// Packets that were held of late, and how many of them went on when their time was over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lately {
    began: Option<Instant>,
    at_begin: [u64; 2],
    before: [u64; 2],
}

/// What is of late is younger than one or two of these.
const LATELY: Duration = Duration::from_secs(60);

impl Lately {
    /// What was counted since the start.
    fn note(&mut self, counted: [u64; 2], now: Instant) {
        let is_over = |began| now.since(began) >= LATELY;
        if self.began.is_none_or(is_over) {
            self.before = self.share(counted, now);
            (self.began, self.at_begin) = (Some(now), counted);
        }
    }

    fn share(&self, [held, late]: [u64; 2], now: Instant) -> [u64; 2] {
        let age = self.began.map(|began| now.since(began));
        let since = [held - self.at_begin[0], late - self.at_begin[1]];
        match age {
            Some(age) if age < LATELY => [since[0] + self.before[0], since[1] + self.before[1]],
            Some(age) if age < LATELY * 2 => since,
            Some(_) | None => [0; 2],
        }
    }
}

/// Seconds that an entry lives that nobody has answered yet (`tcp_timeouts`, `udp_timeouts`, `nf_ct_generic_timeout`).
const fn first_timeout(proto: u8) -> u32 {
    match proto {
        IPPROTO_TCP => 120,
        IPPROTO_UDP => 30,
        _ => 600,
    }
}

/// Seconds that a connection has for the end of its handshake.
const SYN_RECV_TIMEOUT: u32 = 60;

impl Core {
    /// The kernel asks what is to become of a packet: [`Self::poll_verdict`] says it, now or later.
    pub fn handle_held(&mut self, held: &Held<'_>, now: Instant) {
        let packet = held.id.number;
        self.held_lately.note(self.held_and_late(), now);
        let Some((kind, flow)) = read(held) else {
            self.hold_counters.not_understood += 1;
            self.passed.push_back(packet);
            return;
        };
        let key = convert::key(&flow);
        let patch = convert::patch(&flow, self.shared);
        let decision = self.policy.decide(&key, flow.mark.unwrap_or_default());
        let wants = match (kind, decision.sync, decision.hold) {
            (_, Sync::Never, _) | (HeldPacket::First, _, policy::Hold::Never) => false,
            // Its other half waits already, or it is known: the delay of a flow that waits for it is over.
            (HeldPacket::Answer, Sync::Always | Sync::Delayed(_), _)
            | (HeldPacket::First, Sync::Always | Sync::Delayed(_), policy::Hold::Always) => true,
            // Of other protocols it is for their service to say; the rules that steer may say it of too many.
            (HeldPacket::First, Sync::Always | Sync::Delayed(_), policy::Hold::Auto) => {
                let interface = held.outdev.map(NonZeroU32::get);
                key.proto == IPPROTO_TCP
                    && (self.hold.mode == HoldMode::Always || self.splits.includes(&key, interface))
            }
        };
        if wants && self.scope.is_forwarded(&key, &patch.nat) {
            self.handle_non_sticky(&key);
            let towards = match kind {
                HeldPacket::First => held.outdev,
                HeldPacket::Answer => held.indev,
            };
            if let Some(interface) = towards {
                self.splits.note_way(&key, interface.get());
            }
            self.node.handle_hold(packet, kind, &key, &patch, now);
        } else {
            self.hold_counters.out_of_scope += 1;
            self.passed.push_back(packet);
        }
    }

    /// The kernel handed us a packet that is not understood, or says that something went wrong.
    pub fn handle_queue_fault(&mut self, packet: Option<PacketNumber>) {
        self.hold_counters.queue_faults += 1;
        self.passed.extend(packet);
    }

    /// So many packets went on as it is not known how their flows are translated.
    pub fn count_untold(&mut self, packets: usize) {
        self.hold_counters.nat_unknown += packets as u64;
    }

    /// Nothing is held any longer: the daemon ends.
    pub fn end_holds(&mut self) {
        self.node.end_holds();
    }

    /// The next flow whose directions were seen to pass two gateways.
    pub fn poll_split(&mut self) -> Option<FlowKey> {
        self.node.poll_split()
    }

    /// The destinations whose flows pass two gateways.
    pub fn splits(&mut self) -> &mut Splits {
        &mut self.splits
    }

    /// The next packet that waits no longer, and what becomes of it.
    pub fn poll_verdict(&mut self) -> Option<(PacketNumber, Verdict)> {
        if let Some(packet) = self.passed.pop_front() {
            return Some((packet, Verdict::Accept));
        }
        let (packet, ended) = self.node.poll_verdict()?;
        let otherwise = match ended {
            Ended::Acked | Ended::Unknown => Otherwise::Release,
            Ended::Deadline => self.hold.on_deadline,
            Ended::Limit => self.hold.on_limit,
            Ended::NoPeer => self.hold.on_no_peer,
            Ended::Shutdown => self.hold.on_shutdown,
        };
        let verdict = match otherwise {
            Otherwise::Release => Verdict::Accept,
            Otherwise::Drop => Verdict::Drop,
        };
        Some((packet, verdict))
    }

    fn held_and_late(&self) -> [u64; 2] {
        let counters = self.node.counters();
        [counters.held, counters.held_deadline]
    }

    /// What is wrong with it, a sentence each.
    pub(super) fn hold_warnings(&self, now: Instant) -> impl Iterator<Item = String> {
        let [held, late] = self.held_lately.share(self.held_and_late(), now);
        let late = (late * 100 > held).then(|| {
            format!(
                "degraded: late-acks: {late} of {held} packets that were held of late went on when their time was over, so \
                 that connections may open a second later"
            )
        });
        let aside = (self.live_peers().iter())
            .filter(|peer| self.node.holds().watch(*peer).is_aside)
            .map(|peer| {
                let name = self.name(peer);
                format!(
                    "degraded: late-acks: {name} acknowledges too late: packets are not held for it"
                )
            });
        late.into_iter().chain(aside)
    }

    /// How long packets wait.
    pub(super) fn hold_status(&self) -> HoldStatus {
        let holds = self.node.holds();
        HoldStatus {
            now: holds.count() as u64,
            deadline_us: micros(holds.deadline()),
            latency: times(&holds.latency),
        }
    }

    /// How long they wait for a peer.
    pub(super) fn peer_hold(&self, peer: MemberId) -> PeerHold {
        let watch = self.node.holds().watch(peer);
        PeerHold {
            aside: watch.is_aside,
            latency: times(&watch.latency),
        }
    }
}

fn times(latency: &latency::Latency) -> Latency {
    Latency {
        count: latency.count(),
        sum_us: micros(latency.sum()),
        p50_us: latency.within(500).map(micros),
        p99_us: latency.within(990).map(micros),
        max_us: latency.max().map(micros),
    }
}

/// Which flow a packet is of, as it will be when the packet has passed.
fn read(held: &Held<'_>) -> Option<(HeldPacket, Flow)> {
    match (held.flow, held.ct_info) {
        (Some(flow), Some(CtInfo::Reply)) => Some((HeldPacket::Answer, flow)),
        (Some(flow), Some(CtInfo::New | CtInfo::Related)) => {
            let timeout = flow.timeout.filter(|timeout| *timeout > 0);
            let timeout = timeout.unwrap_or(first_timeout(flow.orig.proto));
            Some((
                HeldPacket::First,
                Flow {
                    timeout: Some(timeout),
                    // Of an entry that is not in the table yet they say nothing.
                    status: None,
                    ..flow
                },
            ))
        }
        (Some(_), Some(CtInfo::Established | CtInfo::RelatedReply) | None) => None,
        (None, _) => {
            let packet = held.packet().ok()?;
            match packet.transport {
                Transport::Tcp(header) if header.kind == TcpKind::SynAck => {
                    let flow = Flow::new(packet.tuple.mirror());
                    Some((
                        HeldPacket::Answer,
                        Flow {
                            timeout: Some(SYN_RECV_TIMEOUT),
                            status: Some(IPS_SEEN_REPLY),
                            protoinfo: Some(ProtoInfo::Tcp(TcpInfo {
                                state: TCP_CONNTRACK_SYN_RECV,
                                wscale: Some([0, header.window_scale.unwrap_or(0)]),
                                flags: Some([0, header.conntrack_flags()]),
                            })),
                            ..flow
                        },
                    ))
                }
                Transport::Tcp(_) | Transport::SctpInit { .. } | Transport::Other => {
                    let flow = packet.opened_flow();
                    let timeout = Some(first_timeout(flow.orig.proto));
                    Some((HeldPacket::First, Flow { timeout, ..flow }))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LATELY, Lately};
    use ccp::time::Instant;

    #[test]
    fn what_was_held_of_late_is_what_came_in_one_or_two_minutes() {
        let mut lately = Lately::default();
        let at = |minutes: u32| Instant::from_micros(7) + LATELY * minutes;
        assert_eq!(lately.share([0, 0], at(0)), [0, 0]);
        lately.note([0, 0], at(0));
        lately.note([50, 1], at(0) + LATELY / 2);
        assert_eq!(lately.share([100, 3], at(0) + LATELY / 2), [100, 3]);
        lately.note([100, 3], at(1));
        assert_eq!(lately.share([110, 3], at(1)), [110, 3]);
        lately.note([110, 3], at(2));
        assert_eq!(lately.share([110, 4], at(2)), [10, 1]);
        assert_eq!(lately.share([110, 4], at(4)), [0, 0]);
    }
}
