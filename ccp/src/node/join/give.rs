//! What is said of snapshots over links, and giving one (PROTOCOL.md 9.3).

use crate::membership::{Peer, PeerState};
use crate::node::{Node, compare};
use crate::record::MemberId;
use crate::snapshot::server::{Complete, Server, View};
use crate::time::Instant;
use crate::wire::DecodeError;
use crate::wire::probe::{FRAME_INTERFACES, decode_rows};
use crate::wire::snapshot::{Carrier, Message, Request, Start};
use alloc::vec::Vec;

impl Node {
    /// The peer said something of a snapshot over its link. An error changes nothing.
    pub fn handle_link_message(
        &mut self,
        from: MemberId,
        kind: u8,
        body: &[u8],
        now: Instant,
    ) -> Result<(), DecodeError> {
        self.now = now;
        if kind == FRAME_INTERFACES {
            self.handle_interfaces(from, decode_rows(body)?);
            return Ok(());
        }
        if compare::FRAMES.contains(&kind) {
            return self.handle_comparison(from, kind, body);
        }
        let message = Message::decode(kind, body)?;
        match message {
            Message::Request(request) => self.handle_request(from, &request),
            Message::More(id, frames) => {
                if let Some(Some(server)) = self.join.servers.get_mut(from.index()) {
                    server.handle_more(id, frames);
                }
            }
            Message::Start(Start { id, .. })
            | Message::Rows(id, _)
            | Message::Part(id, _)
            | Message::End(id)
            | Message::Refused(id) => {
                let is_ours = (self.join.fetch.as_ref())
                    .is_some_and(|fetch| fetch.server == from && fetch.id == id);
                if is_ours {
                    self.handle_fetched(&message)?;
                }
            }
        }
        Ok(())
    }

    /// The next thing to say to a peer over its link: its body is appended to `out`, its kind returned. What is on its way
    /// at a time is bounded by the protocol.
    pub fn poll_link_message(&mut self, to: MemberId, out: &mut Vec<u8>) -> Option<u8> {
        if let Some(kind) = self.poll_interfaces(to, out) {
            return Some(kind);
        }
        let refused = self.join.refused.get_mut(to.index())?.take();
        if let Some(id) = refused {
            return Some(Message::Refused(id).encode(out));
        }
        if self.join.linked.contains(to)
            && let Some(kind) = self.poll_comparison(to, out)
        {
            return Some(kind);
        }
        if self.is_fetching_from(to)
            && let Some(kind) = self.join.fetch.as_mut().and_then(|fetch| fetch.poll(out))
        {
            return Some(kind);
        }
        let asker = self.membership.peer(to)?;
        let view = View {
            me: self.config.member,
            asker: to,
            asker_has: (self.config.peers.len() == 1).then(|| asker.runs_of_table()),
            live: self.membership.live(),
        };
        let server = self.join.servers.get_mut(to.index())?.as_mut()?;
        let (rows, kind) = (server.rows, server.poll(&mut self.table, &view, out));
        self.counters.snapshot_rows_sent += server.rows - rows;
        kind
    }

    fn handle_request(&mut self, from: MemberId, request: &Request) {
        let is_asker = |peer: &Peer| peer.state == PeerState::Live && peer.is_run(request.asker);
        let is_served = request.server == self.config.incarnation
            && self.join.is_joined()
            && self.pass.is_complete
            && self.membership.peer(from).is_some_and(is_asker);
        let complete = self.complete_carriers(from);
        let server = is_served.then(|| {
            self.counters.snapshots_served += 1;
            let flows = self.table.len() as u64;
            Server::new(request, &complete, self.sender.last_seq(), flows)
        });
        if let Some(place) = self.join.refused.get_mut(from.index()) {
            *place = server.is_none().then_some(request.id);
        }
        if let Some(place) = self.join.servers.get_mut(from.index()) {
            *place = server;
        }
    }

    /// Those of whom everything up to some delta is here: ourselves, and the peers that have told us everything.
    fn complete_carriers(&self, asker: MemberId) -> Vec<Complete> {
        let me = Carrier {
            member: self.config.member,
            incarnation: self.config.incarnation,
            from: self.sender.last_seq() + 1,
        };
        let peers = (self.membership.peers())
            .filter(|peer| peer.state == PeerState::Live && peer.member != asker)
            .filter_map(|peer| {
                let incoming = self.incoming(peer.member);
                let carrier = Carrier {
                    member: peer.member,
                    incarnation: peer.incarnation()?,
                    from: incoming.frontier() + 1,
                };
                incoming.is_complete().then_some((carrier, peer.run))
            });
        core::iter::once((me, 0)).chain(peers).collect()
    }

    pub(super) fn end_serving(&mut self, member: MemberId) {
        if let Some(place) = self.join.servers.get_mut(member.index()) {
            *place = None;
        }
        if let Some(place) = self.join.refused.get_mut(member.index()) {
            *place = None;
        }
    }
}
