//! The daemon and the command line of ctsync.

pub mod addresses;
pub mod config;
pub mod control;
pub mod log;
pub mod notify;
