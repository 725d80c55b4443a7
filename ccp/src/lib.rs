//! The cluster control protocol of ctsync.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod counters;
pub mod membership;
pub mod node;
pub mod outbox;
pub mod range;
pub mod receiver;
pub mod record;
pub mod seal;
pub mod sender;
pub mod table;
mod tcp;
pub mod time;
pub mod timer;
pub mod wire;
