//! The links to the peers: what they report, and what is said over them.

use super::Driver;
use crate::core::LinkMessage;
use crate::core::keys::KeyMessage;
use crate::core::seal::DatagramKey;
use crate::kernel::wall_clock_nanos;
use crate::tcp::Report;
use ccp::record::MemberId;
use ccp::time::Instant;
use tracing::info;

/// Reports taken at a time: each can bring 200 flows, which the kernel takes a millisecond for.
const REPORTS_AT_A_TIME: usize = 4;
/// Frames of a full sync made at a time for a link: 2 ms of work.
const FRAMES_AT_A_TIME: usize = 16;

impl Driver {
    /// Takes what links report. True if there may be more of it.
    pub(super) fn take_reports(&mut self) -> bool {
        for _ in 0..REPORTS_AT_A_TIME {
            let Some(report) = self.links.poll_report() else {
                return false;
            };
            self.take_report(report);
        }
        true
    }

    fn take_report(&mut self, report: Report) {
        let now = self.now();
        match report {
            Report::Up(member) => {
                self.core.handle_link_up(member, now);
                info!(
                    event = "link-up",
                    member = member.get(),
                    name = self.name(member),
                    "there is a link to the peer: keys are exchanged"
                );
            }
            Report::Down(member) => {
                self.core.handle_link_down(member, now);
                info!(
                    event = "link-down",
                    member = member.get(),
                    name = self.name(member),
                    "the link to the peer is gone; the keys that it has stay good"
                );
            }
            Report::Said(member, message) => {
                self.log_key(member, &message);
                self.core.set_wall_clock(wall_clock_nanos());
                self.audited(|it| it.core.handle_link_message(member, &message, now));
                if !self.kernel.has_changes() {
                    self.apply(now);
                }
                if matches!(message, LinkMessage::Facts(_)) {
                    self.differences.look(&self.core.facts());
                    self.filter_events();
                }
            }
            Report::Stranger => self.core.handle_stranger(),
            Report::Failure => self.core.handle_link_failure(),
        }
    }

    /// Draws a key if one is wanted, and hands peers what they are to have.
    pub(super) fn hand_out_keys(&mut self, now: Instant) {
        if self.core.wants_key(now)
            && let Some(key) = self.faults.survive("draw a key", DatagramKey::random())
        {
            self.core.roll_key(key, now);
        }
        for member in self.core.poll_unheard().iter() {
            self.links.nudge(member);
        }
    }

    /// Says what there is to say over the links.
    pub(super) fn speak(&mut self) {
        self.core.set_wall_clock(wall_clock_nanos());
        for member in MemberId::all() {
            for _ in 0..FRAMES_AT_A_TIME {
                if !self.links.has_room(member) {
                    break;
                }
                match self.core.poll_link_message(member) {
                    Some(message) => {
                        self.log_key(self.core.member(), &message);
                        self.links.tell(member, message);
                    }
                    None => break,
                }
            }
        }
    }

    /// Writes the key that `member` hands out to where the operator wants it.
    fn log_key(&mut self, member: MemberId, message: &LinkMessage) {
        if let Some(log) = &mut self.key_log
            && let LinkMessage::Key(KeyMessage::Offer(offer)) = message
        {
            let result = log.write(member, offer);
            self.faults
                .survive("write a key to the file for captures", result);
        }
    }
}
