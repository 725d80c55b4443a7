//! Linux connection tracking over netlink (ctnetlink): events, the table, and changes to it.
//!
//! - [`EventSocket`]: the changes of the kernel's table as a stream, with what was lost as an item of it
//! - [`Dump`], [`lookup`]: the table itself
//! - [`Injector`]: entries created, updated and deleted in pipelined batches, each with its own outcome
//! - [`QueueSocket`]: packets that wait for a verdict; [`Packet`]: what their headers say of their flow
//! - [`table_id`]: which table this is, of which boot
//!
//! All of them belong to the network namespace of the thread that opens them, and need CAP_NET_ADMIN. None blocks, none
//! allocates for an event, a request or a packet. It knows nothing of who wants the flows, or why.

pub mod consts;
pub mod decode;
pub mod dump;
pub mod event;
pub mod events;
pub mod expect;
pub mod flow;
pub mod inject;
pub mod packet;
pub mod queue;
pub mod socket;
pub mod table;

mod encode;
mod nfnl;
mod sys;

pub use rustix::io::Errno;

pub use decode::DecodeError;
pub use dump::{Dump, DumpError, DumpItem, Lookup, lookup};
pub use event::{Event, EventKind};
pub use events::{Drained, EventSocket, EventSocketOptions, Item, Own, Pacer, Unwanted, Wait};
pub use expect::{Expectation, ExpectationEvent};
pub use flow::{
    Counters, DccpInfo, Flow, HelperName, L4, Labels, ProtoInfo, SctpInfo, SeqAdj, SynProxy,
    TcpInfo, Tuple, labels,
};
pub use inject::{Injector, InjectorOptions};
pub use packet::{Packet, PacketError, TcpHeader, TcpKind, Transport};
pub use queue::{
    CtInfo, Held, PacketId, QueueItem, QueueOptions, QueueSocket, TableFamily, Verdict,
    append_queue_rule,
};
pub use socket::SocketError;
pub use table::table_id;
