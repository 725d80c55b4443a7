//! Ctrl-C and SIGTERM: seen at the next packet, then everything is dropped in order, namespaces and table size included.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// What unwinds the stack after an interrupt.
#[derive(Debug)]
pub struct Interrupted;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on an interrupt is noted instead of ending the process.
pub fn listen() {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(asked))
            .expect("these two signals can be caught");
    }
}

/// Unwinds with [`Interrupted`] when an interrupt was noted.
pub fn check() {
    if ASKED
        .get()
        .is_some_and(|asked| asked.load(Ordering::Relaxed))
    {
        std::panic::resume_unwind(Box::new(Interrupted));
    }
}
