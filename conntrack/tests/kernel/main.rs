//! The crate against the running kernel: every test has a network namespace of its own. They need root, and fail without.

mod captures;
mod dump;
mod events;
mod inject;
mod oracle;
mod record;
mod support;
mod tool;
