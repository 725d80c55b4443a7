//! What the program `demo` shows, and the tests of failover check.

pub mod asymmetric;
pub mod failover;
pub mod story;
