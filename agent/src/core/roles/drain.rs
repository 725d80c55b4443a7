//! A planned failover: the role is given up when a fit member has everything in its kernel that was told until then.
//!
//! First what waits is flushed, then the successor's acknowledgement of it is waited for, then this member is asked to be down:
//! from there on the election does the rest, and this member keeps the role until the other is ready. What packets bring in
//! the meantime is told as ever, also after the role has gone: its last packets may still come here.

use std::time::Duration;

use super::super::Core;
use crate::control::answer::members;
use ccp::record::MemberId;
use ccp::time::Instant;

/// A drain that is asked for without need is done at once; this bounds one that is asked for foolishly.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Where a planned failover stands.
#[derive(Debug)]
pub(super) struct Drain {
    began: Instant,
    deadline: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What waits is on its way out.
    Flush,
    /// Everything up to this sequence is to be in the kernel of a successor.
    Acknowledge {
        seq: u64,
    },
    /// The role is to be given up.
    HandOver {
        to: MemberId,
    },
    Done {
        to: MemberId,
        took: Duration,
    },
    Failed {
        why: String,
    },
}

impl Drain {
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Flush | Stage::Acknowledge { .. } | Stage::HandOver { .. } => {
                Some(self.deadline)
            }
            Stage::Done { .. } | Stage::Failed { .. } => None,
        }
    }
}

impl Core {
    pub(super) fn begin_drain(&mut self, timeout: Duration, now: Instant) -> Result<(), String> {
        if self.node.successor().is_none() {
            return Err(
                "no other member is fit to take over: see `ctsync members`; `ctsync down` does not wait for one"
                    .into(),
            );
        }
        self.node.flush();
        self.roles.drain = Some(Drain {
            began: now,
            deadline: now + timeout.min(TIMEOUT_MAX),
            stage: Stage::Flush,
        });
        Ok(())
    }

    pub(super) fn go_on_draining(&mut self, now: Instant) {
        let Some(mut drain) = self.roles.drain.take() else {
            return;
        };
        drain.stage = self.next_stage(drain.stage, drain.began, now);
        let is_late = drain.poll_timeout().is_some_and(|deadline| deadline <= now);
        if is_late {
            let asked = matches!(drain.stage, Stage::HandOver { .. });
            let why = if asked {
                "the successor did not take the role in time; this member stays asked to be down"
            } else {
                "no successor acknowledged everything in time; this member stays what it is"
            };
            drain.stage = Stage::Failed { why: why.into() };
        }
        self.roles.drain = Some(drain);
    }

    fn next_stage(&mut self, stage: Stage, began: Instant, now: Instant) -> Stage {
        let is_active = self.node.election().standing(now).state.is_active();
        match stage {
            Stage::Flush if self.node.is_flushing() => stage,
            Stage::Flush => Stage::Acknowledge {
                seq: self.node.last_seq(),
            },
            Stage::Acknowledge { seq } => match self.node.successor() {
                Some(to) if self.node.has_acknowledged(to, seq) => {
                    self.roles.asked_down = true;
                    Stage::HandOver { to }
                }
                Some(_) | None => Stage::Acknowledge { seq },
            },
            Stage::HandOver { to } if !is_active => Stage::Done {
                to,
                took: now.since(began),
            },
            Stage::HandOver { .. } | Stage::Done { .. } | Stage::Failed { .. } => stage,
        }
    }

    pub(super) fn drain_status(&self) -> Option<members::Drain> {
        let drain = self.roles.drain.as_ref()?;
        let (state, text) = match &drain.stage {
            Stage::Flush | Stage::Acknowledge { .. } => (
                "waiting",
                "a fit member is to have every change in its kernel".to_owned(),
            ),
            Stage::HandOver { to } => {
                ("waiting", format!("{} is to take the role", self.name(*to)))
            }
            Stage::Done { to, took } => (
                "done",
                format!(
                    "{} took the role after {} ms",
                    self.name(*to),
                    took.as_millis()
                ),
            ),
            Stage::Failed { why } => ("failed", why.clone()),
        };
        Some(members::Drain {
            state: state.to_owned(),
            text,
        })
    }
}
