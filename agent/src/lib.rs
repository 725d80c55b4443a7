//! The daemon and the command line of ctsync.

pub mod addresses;
pub mod cli;
pub mod complaints;
pub mod config;
pub mod control;
pub mod convert;
pub mod core;
pub mod daemon;
pub mod delay;
pub mod doctor;
pub mod driver;
pub mod import;
pub mod kernel;
pub mod key_log;
pub mod keys;
pub mod log;
pub mod metrics;
pub mod names;
pub mod networks;
pub mod notify;
pub mod policy;
pub mod ruleset;
pub mod tcp;
pub mod tls;
pub mod udp;
