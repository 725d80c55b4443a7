//! The links between daemons, over which they hand each other keys: what is said arrives whole, in order and once, but
//! not while a direction between the two is cut on every network, or one of them is stopped.

use std::time::Duration;

use ccp::record::MemberId;

use super::gateway::{Daemon, Gateway};
use super::net::Net;

/// The daemon of `at` has started: it is linked to all others that run.
pub fn connect(gateways: &mut [Gateway], at: usize) {
    for_each_pair(gateways, at, |[it, other], [daemon, peer]| {
        daemon.core.handle_link_up(other);
        peer.core.handle_link_up(it);
    });
}

/// The daemon of `at` is about to die.
pub fn disconnect(gateways: &mut [Gateway], at: usize) {
    for_each_pair(gateways, at, |[it, _], [_, peer]| {
        peer.core.handle_link_down(it);
    });
}

/// Whatever the daemon of `at` and another have to tell each other arrives.
pub fn carry(gateways: &mut [Gateway], nets: &[Net], at: usize, now: Duration) {
    let stopped: Vec<bool> = gateways.iter().map(|it| it.is_stopped).collect();
    for_each_pair(gateways, at, |members, [daemon, peer]| {
        let [it, other] = members.map(|member| member.index());
        let cut = |net: &Net| net.is_cut(it, other) || net.is_cut(other, it);
        if stopped[it] || stopped[other] || nets.iter().all(cut) {
            return;
        }
        let mut said = true;
        while said {
            said = tell(members, [daemon, peer], now);
            let [it, other] = members;
            said |= tell([other, it], [peer, daemon], now);
        }
    });
}

fn tell([from, to]: [MemberId; 2], [teller, hearer]: [&mut Daemon; 2], now: Duration) -> bool {
    let at = hearer.clock(now);
    let mut said = false;
    while let Some(message) = teller.core.poll_key_message(to) {
        hearer.core.handle_key_message(from, &message, at);
        said = true;
    }
    said
}

/// Calls with the daemon of `at` and each other one.
fn for_each_pair(
    gateways: &mut [Gateway],
    at: usize,
    mut call: impl FnMut([MemberId; 2], [&mut Daemon; 2]),
) {
    for other in (0..gateways.len()).filter(|other| *other != at) {
        let Ok([it, other]) = gateways.get_disjoint_mut([at, other]) else {
            continue;
        };
        let members = [it.member, other.member];
        if let (Some(daemon), Some(peer)) = (&mut it.daemon, &mut other.daemon) {
            call(members, [daemon, peer]);
        }
    }
}
