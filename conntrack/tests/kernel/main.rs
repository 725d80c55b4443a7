//! The crate against the running kernel: every test has a network namespace of its own. They need root, and fail without.

mod inject;
mod support;
