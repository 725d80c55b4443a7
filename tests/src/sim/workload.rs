//! Flows through the gateways: opened, answered, marked, moved to another gateway, closed, opened again.
//!
//! Each flow follows a script of packets; where the gateway drops one, the sender tries again. What the last packet that
//! changed something left in the kernel it passed is the truth about the flow, and that gateway carries it.

use std::fmt;
use std::net::IpAddr;

use agent::convert;
use ccp::record::FlowKey;
use conntrack::consts::*;
use conntrack::{Flow, L4, ProtoInfo, TcpInfo, Tuple};

use super::gateway::Gateway;
use super::holds::Packet;
use super::kernel::{MARK_MASK, Passed, Passing, tcp_state};
use super::options::Options;
use super::random::Random;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// Times that a sender tries a packet that is dropped.
const TRIES_MAX: u32 = 8;

/// All flows there ever were.
#[derive(Debug, Default)]
pub struct Workload {
    /// In the order in which they were opened first.
    pub flows: Vec<Traffic>,
}

/// A flow as its ends see it.
#[derive(Debug)]
pub struct Traffic {
    /// Its place in [`Workload::flows`].
    pub number: usize,
    /// Which flow.
    pub key: FlowKey,
    /// As it is opened.
    opening: Flow,
    /// What is still to come, last step first.
    script: Vec<Step>,
    tries: u32,
    /// The gateway that its packets come to.
    gateway: usize,
    /// Where it is now.
    pub life: Life,
    /// Why less can be asked of the cluster than all of it.
    pub doubt: Option<Doubt>,
    /// It ended, and no kernel had it any longer.
    pub is_gone: bool,
}

/// Where a flow is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Life {
    /// No packet of it has passed yet.
    Unopened,
    /// It goes on.
    Open(Carrier),
    /// It ended on its carrier.
    Ended(Carrier),
}

/// Whom the last packet that changed something passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carrier {
    /// Which gateway.
    pub gateway: usize,
    /// Which boot of it.
    pub boot: u32,
    /// What the packet left in its kernel.
    pub entry: Flow,
}

/// Why the cluster may know less of a flow than its carrier's kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The carrier's machine lost its table: what it had told nobody is lost with it, the end of the flow too.
    CarrierRebooted,
    /// A peer's change was applied while an event of the flow was not read yet: the kernel has no way to change an entry
    /// only if it is as it was. The next packet mends it.
    Crossed,
    /// It began anew while a member remembered an end of it that counts more than the new claim: that member hears of it
    /// with its next change (PROTOCOL.md 8).
    Reopened,
    /// Nobody alive can know which claim on the flow is the newest: the only ones who did were restarted, or two
    /// gateways saw packets of it before either heard of the other.
    Contested,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Packet(Passing),
    End,
}

/// What a step of a flow led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// A kernel changed.
    At(usize),
    /// None did.
    Nowhere,
    /// A packet waits at a gateway.
    Held(usize),
}

impl Workload {
    /// One more flow, which will be opened with its first step.
    pub fn add(&mut self, random: &mut Random, options: &Options) -> usize {
        let number = self.flows.len();
        let opening = draw_flow(random, number);
        self.flows.push(Traffic {
            number,
            key: convert::key(&opening),
            script: draw_script(random, &opening),
            opening,
            tries: 0,
            gateway: draw_gateway(random, options),
            life: Life::Unopened,
            doubt: None,
            is_gone: false,
        });
        number
    }

    /// The next packet of a flow, or its end. `None` when nothing comes any longer.
    pub fn step(
        &mut self,
        number: usize,
        gateways: &mut [Gateway],
        options: &Options,
        random: &mut Random,
    ) -> Option<Stepped> {
        let flow = &mut self.flows[number];
        if random.percent(options.moves_percent) || !gateways[flow.gateway].is_up {
            flow.gateway = draw_gateway(random, options);
        }
        let Some(step) = flow.script.last().copied() else {
            return flow.reopen(random, options).then_some(Stepped::Nowhere);
        };
        let at = flow.gateway;
        let passed = match (step, flow.life) {
            (Step::End, Life::Open(carrier)) => {
                return flow
                    .end(carrier, gateways)
                    .then_some(Stepped::At(carrier.gateway));
            }
            (Step::End, Life::Unopened | Life::Ended(_)) => return None,
            _ if !gateways[at].is_up => Passed::Dropped,
            (Step::Packet(_), Life::Unopened | Life::Ended(_)) if options.holds => {
                if flow.hold(at, gateways) {
                    return Some(Stepped::Held(at));
                }
                gateways[at].kernel.open(flow.opening)
            }
            (Step::Packet(_), Life::Unopened | Life::Ended(_)) => {
                gateways[at].kernel.open(flow.opening)
            }
            (Step::Packet(packet), Life::Open(_)) => gateways[at].kernel.pass(&flow.key, packet),
        };
        if passed == Passed::Dropped {
            flow.tries += 1;
            return (flow.tries < TRIES_MAX).then_some(Stepped::Nowhere);
        }
        flow.tries = 0;
        flow.script.pop();
        if passed == Passed::Unchanged {
            return Some(Stepped::Nowhere);
        }
        flow.is_carried_by(at, &gateways[at]);
        Some(Stepped::At(at))
    }
}

impl Traffic {
    /// Its first packet comes to a gateway. True if it waits there.
    fn hold(&mut self, at: usize, gateways: &mut [Gateway]) -> bool {
        let boots = gateways.iter().map(|it| it.boots).collect();
        let Some(daemon) = &mut gateways[at].daemon else {
            return false;
        };
        if self.opening.protoinfo.is_none() {
            return false;
        }
        daemon.queue.push(Packet {
            number: self.number,
            opening: self.opening,
            boots,
        });
        // The peers are to have it before it is opened.
        self.is_gone = false;
        true
    }

    /// Its first packet has waited, and passes. True if it opens the flow.
    pub fn pass_first(&mut self, at: usize, gateways: &mut [Gateway]) -> bool {
        let is_wanted = matches!(self.life, Life::Unopened | Life::Ended(_)) && gateways[at].is_up;
        if !is_wanted || gateways[at].kernel.open(self.opening) == Passed::Dropped {
            return false;
        }
        self.tries = 0;
        self.script.pop();
        self.is_carried_by(at, &gateways[at]);
        true
    }

    /// A first packet of it was told that had waited for so long that its connection has been opened and closed through
    /// another gateway meanwhile: it begins anew what that one remembers, and its end is the end of that.
    pub fn doubt_if_begun_anew(&mut self) {
        if let Life::Open(carrier) = self.life
            && tcp_state(&carrier.entry) >= Some(TCP_CONNTRACK_LAST_ACK)
        {
            self.doubt = Some(Doubt::Reopened);
        }
    }

    /// A packet of it has just passed the gateway of this number.
    fn is_carried_by(&mut self, at: usize, gateway: &Gateway) {
        let entry = gateway.kernel.entry(&self.key);
        self.life = Life::Open(Carrier {
            gateway: at,
            boot: gateway.boots,
            entry: *entry.expect("a packet of it has just passed"),
        });
        self.is_gone = false;
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {}", self.number)?;
        match self.life {
            Life::Unopened => write!(f, ", unopened")?,
            Life::Open(carrier) => write!(f, ", carried by {}", carrier.gateway + 1)?,
            Life::Ended(carrier) => write!(f, ", ended at {}", carrier.gateway + 1)?,
        }
        match self.doubt {
            Some(doubt) => write!(f, ", {doubt:?}"),
            None => Ok(()),
        }
    }
}

impl Traffic {
    /// The timeout runs out on the carrier. False if it is not there: then the flow stays where it was told to.
    fn end(&mut self, carrier: Carrier, gateways: &mut [Gateway]) -> bool {
        self.script.pop();
        let gateway = &mut gateways[carrier.gateway];
        if !gateway.is_up || gateway.boots != carrier.boot {
            return false;
        }
        gateway.kernel.end(&self.key);
        self.life = Life::Ended(carrier);
        true
    }

    /// The same client connects again from the same port, perhaps through another translation.
    fn reopen(&mut self, random: &mut Random, options: &Options) -> bool {
        let again = matches!(self.life, Life::Ended(_))
            && self.key.proto == IPPROTO_TCP
            && random.percent(options.reopened_percent);
        if again {
            self.script = draw_script(random, &self.opening);
            self.gateway = draw_gateway(random, options);
        }
        again
    }
}

fn draw_gateway(random: &mut Random, options: &Options) -> usize {
    let count = u64::try_from(options.gateways).expect("few gateways");
    usize::try_from(random.within(0..count)).expect("few gateways")
}

/// The flow's number is in its addresses, so no two share a tuple.
fn draw_flow(random: &mut Random, number: usize) -> Flow {
    let number = u16::try_from(number).expect("few flows");
    let [high, low] = number.to_be_bytes();
    let is_v6 = random.percent(20);
    let address = |net: u8, host: u8| -> IpAddr {
        if is_v6 {
            [
                0x2001,
                0xdb8,
                u16::from(net),
                0,
                0,
                0,
                u16::from(high),
                u16::from(low) << 8 | u16::from(host),
            ]
            .into()
        } else {
            [10, net, high, low].into()
        }
    };
    let proto = random.choose(&[
        IPPROTO_TCP,
        IPPROTO_TCP,
        IPPROTO_TCP,
        IPPROTO_UDP,
        IPPROTO_UDP,
        IPPROTO_ICMP,
    ]);
    let l4 = match (proto, is_v6) {
        (IPPROTO_ICMP, false) => L4::Icmp {
            kind: 8,
            code: 0,
            id: number,
        },
        (IPPROTO_ICMP, true) => L4::Icmp {
            kind: 128,
            code: 0,
            id: number,
        },
        _ => L4::Ports {
            src: 40_000,
            dst: 80,
        },
    };
    let proto = if proto == IPPROTO_ICMP && is_v6 {
        IPPROTO_ICMPV6
    } else {
        proto
    };
    let mut flow = Flow::new(Tuple {
        src: address(1, 1),
        dst: address(2, 2),
        proto,
        l4,
        zone: 0,
    });
    translate(random, &mut flow, address(3, 3), address(4, 4), number);
    flow.status = Some(0);
    flow.timeout = Some(120);
    flow.mark = Some(random.choose(&[0, 0, 1, 0x8000_0001]));
    if proto == IPPROTO_TCP {
        let info = TcpInfo {
            state: TCP_CONNTRACK_SYN_SENT,
            wscale: Some([7, 0]),
            flags: Some([IP_CT_TCP_FLAG_WINDOW_SCALE, 0]),
        };
        flow.protoinfo = Some(ProtoInfo::Tcp(info));
    }
    flow
}

/// Source or destination translation, to a port of the flow's own.
fn translate(random: &mut Random, flow: &mut Flow, shared: IpAddr, inside: IpAddr, number: u16) {
    if random.percent(30) {
        flow.reply.dst = shared;
        if let L4::Ports { dst, .. } = &mut flow.reply.l4 {
            *dst = 1024 + number;
        }
    }
    if random.percent(20) {
        flow.reply.src = inside;
        if let L4::Ports { src, .. } = &mut flow.reply.l4 {
            *src = 8080;
        }
    }
}

fn draw_script(random: &mut Random, flow: &Flow) -> Vec<Step> {
    let packet = |tcp_state, status| {
        Step::Packet(Passing {
            tcp_state,
            status,
            mark: None,
        })
    };
    let opening = Step::Packet(Passing::default());
    let mark = random.percent(20).then(|| Passing {
        mark: Some(random.choose(&[0, 2, 3])),
        ..Passing::default()
    });
    let mut script = vec![opening];
    if flow.protoinfo.is_some() {
        script.push(packet(Some(TCP_CONNTRACK_SYN_RECV), IPS_SEEN_REPLY));
        script.push(packet(Some(TCP_CONNTRACK_ESTABLISHED), IPS_ASSURED));
        script.extend(mark.map(Step::Packet));
        if random.percent(20) {
            script.push(packet(Some(TCP_CONNTRACK_CLOSE), 0));
        } else {
            let closing = [
                TCP_CONNTRACK_FIN_WAIT,
                TCP_CONNTRACK_CLOSE_WAIT,
                TCP_CONNTRACK_LAST_ACK,
                TCP_CONNTRACK_TIME_WAIT,
            ];
            script.extend(closing.map(|state| packet(Some(state), 0)));
        }
    } else {
        script.push(packet(None, IPS_SEEN_REPLY));
        script.extend(mark.map(Step::Packet));
        script.push(packet(None, IPS_ASSURED));
    }
    script.push(Step::End);
    // Some flows stay as they are at some point, for hours.
    if random.percent(35) {
        let len = u64::try_from(script.len()).expect("a script is short");
        script.truncate(usize::try_from(random.within(1..len)).expect("an index of the script"));
    }
    script.reverse();
    script
}

/// What is compared of two entries: what is replicated, but for timeouts, which run down by themselves, and flags of TCP
/// that injecting adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Likeness {
    reply: Tuple,
    tcp_state: Option<u8>,
    status: u32,
    mark: u32,
}

impl fmt::Display for Likeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reply,
            tcp_state,
            status,
            mark,
        } = self;
        let state = tcp_state.unwrap_or(0);
        write!(
            f,
            "state {state} status {status} mark {mark} (reply {} to {})",
            reply.src, reply.dst
        )
    }
}

impl Likeness {
    /// That of an entry.
    pub fn of(flow: &Flow) -> Self {
        Self {
            reply: flow.reply,
            tcp_state: tcp_state(flow),
            status: flow.status.unwrap_or(0) & (IPS_SEEN_REPLY | IPS_ASSURED),
            mark: flow.mark.unwrap_or(0) & MARK_MASK,
        }
    }

    /// True if packets brought it to where `other` has not come.
    pub fn is_further(&self, other: &Self) -> bool {
        self.tcp_state > other.tcp_state || self.status & !other.status != 0
    }

    /// True if it is `other`, perhaps with status bits that another gateway had seen before.
    pub fn continues(&self, other: &Self) -> bool {
        Self {
            status: other.status,
            ..*self
        } == *other
            && self.status & other.status == other.status
    }
}
