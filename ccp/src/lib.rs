//! The cluster control protocol of ctsync: pure state machines, no I/O, no clock (`PROTOCOL.md` has the rules).
//!
//! [`node::Node`] is one member: what happened goes in by `handle_*`, what is to be done comes out by `poll_*`. It only
//! dispatches to the parts: [`membership`] (who is there, and has proven it), [`paths`] (over which network), [`probe`] (which
//! interfaces work), [`election`] (who is active), [`outbox`] and [`sender`] (what we tell), [`receiver`] (what we are told),
//! [`snapshot`] (everything at once), [`hold`] (packets that wait for the peers), [`audit`] and [`compare`] (whether the kernels
//! agree), [`modes`] (how networks are spoken on), all of them over one [`table`] of flows. [`record`] says what a flow is,
//! [`progress`] how far it has come, [`build`] what other versions can do, [`replay`] what was received before, [`wire`] alone
//! knows bytes.
//!
//! Small parts: [`time`] (microseconds), [`timer`] (why a node wants to be called), [`network`] (numbers of networks), [`range`]
//! (sets of sequences), [`latency`] (how long packets waited), [`counters`] (totals since the start).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod audit;
pub mod build;
pub mod compare;
pub mod counters;
pub mod election;
pub mod hold;
pub mod latency;
pub mod membership;
pub mod modes;
pub mod network;
pub mod node;
pub mod outbox;
pub mod paths;
pub mod probe;
pub mod progress;
pub mod range;
pub mod receiver;
pub mod record;
pub mod replay;
pub mod sender;
pub mod snapshot;
pub mod table;
pub mod time;
pub mod timer;
pub mod wire;
