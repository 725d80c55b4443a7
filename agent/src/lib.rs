//! The daemon and the command line of ctsync.
//!
//! - What is decided, without I/O: [`core`], with [`convert`] (the kernel's types and the protocol's), [`policy`], [`delay`],
//!   [`splits`], [`costs`], [`accounting`].
//! - What it is fed by and what it does: [`driver`], the loop, with [`kernel`], [`queue`], [`networks`] over [`udp`], [`tcp`] under
//!   [`tls`], [`addresses`], [`interfaces`], [`monitor`], [`modes`], [`roles`] with [`hooks`], [`facts`], [`key_log`].
//! - What is asked of the kernel beside its table: [`ruleset`], [`filter`], put in place anew by [`reload`].
//! - What operators see: [`cli`], [`control`], [`metrics`], [`log`] with [`counter_warnings`], [`doctor`], [`dry_run`], [`import`].
//! - What all begins with: [`daemon`], [`config`], [`identity`], [`notify`]; and what several need: [`protocols`], [`files`].

pub mod accounting;
pub mod addresses;
pub mod cli;
pub mod config;
pub mod control;
pub mod convert;
pub mod core;
pub mod costs;
pub mod counter_warnings;
pub mod daemon;
pub mod delay;
pub mod doctor;
pub mod driver;
pub mod dry_run;
pub mod facts;
pub mod files;
pub mod filter;
pub mod hooks;
pub mod identity;
pub mod import;
pub mod interfaces;
pub mod kernel;
pub mod key_log;
pub mod log;
pub mod metrics;
pub mod modes;
pub mod monitor;
pub mod networks;
pub mod notify;
pub mod policy;
pub mod protocols;
pub mod queue;
pub mod reload;
pub mod roles;
pub mod ruleset;
pub mod splits;
pub mod tcp;
pub mod tls;
pub mod udp;
