//! The crate against the running kernel: every test has a network namespace of its own. They need root, and fail
//! without.

mod attached;
mod captures;
mod change;
mod dump;
mod events;
mod inject;
mod nat;
mod oracle;
mod packet;
mod packets;
mod queue;
mod readback;
mod record;
mod support;
mod tool;
