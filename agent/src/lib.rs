//! The daemon and the command line of ctsync.

pub mod config;
pub mod control;
