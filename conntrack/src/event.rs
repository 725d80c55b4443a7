//! What the kernel tells of its table: one change of one flow.

use crate::flow::Flow;

/// A change of the kernel's table, in the order in which the kernel made it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Netlink port of the socket whose request did it; 0: a packet or a timer did.
    pub portid: u32,
    /// The flow, as far as the message tells.
    pub flow: Flow,
}

/// What happened to the flow of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The entry came into the table; what is `None` in the flow is absent or zero.
    New,
    /// Something of it changed. **A patch**: tuples, zone, id, status and timeout are always said (timeout and
    /// `protoinfo` not for an offloaded flow), the rest only if it changed; `mark` also when it is not zero.
    Update,
    /// The entry left the table. The kernel doesn't say why; `timeout` is there when it was not the reason.
    Destroy,
}
