//! The daemon and the command line of ctsync.
//!
//! - What is decided, without I/O: `core`, with `convert` (the kernel's types and the protocol's), `policy`, `delay`,
//!   `splits`, `costs`, `accounting`.
//! - What it is fed by and what it does: `driver`, the loop, with `kernel`, `queue`, `networks` over `udp`, `tcp` under
//!   `tls`, `addresses`, `interfaces`, `monitor`, `modes`, `roles` with `track_file` and `hooks`,
//!   `machine_checks`, `facts`, `key_log`.
//! - What is asked of the kernel beside its table: `ruleset`, `filter`, put in place anew by `reload`.
//! - What operators see: `cli`, `control`, `metrics`, `log` with `counter_warnings`, `doctor`, `dry_run`, `import`, `paragraph`.
//! - What all begins with: `daemon`, `config`, `identity`, `notify`; and what several need: `protocols`, `units`, `files`.

mod accounting;
pub mod addresses;
pub mod cli;
pub mod config;
pub mod control;
pub mod convert;
pub mod core;
mod costs;
mod counter_warnings;
mod daemon;
mod delay;
mod doctor;
mod driver;
mod dry_run;
mod facts;
mod files;
mod filter;
mod hooks;
pub mod identity;
mod import;
mod interfaces;
mod kernel;
mod key_log;
mod log;
mod machine_checks;
mod metrics;
mod modes;
mod monitor;
mod networks;
mod notify;
mod paragraph;
pub mod policy;
mod protocols;
mod queue;
mod reload;
mod roles;
pub mod ruleset;
mod splits;
mod tcp;
mod tls;
mod track_file;
mod udp;
mod units;
