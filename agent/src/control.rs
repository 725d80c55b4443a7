//! The control socket: how `ctsync status` and its like talk to the daemon.

pub mod answer;
