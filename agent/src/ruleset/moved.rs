//! The chain `moved`: makes the kernel tell when the first packet passes through a copy.
//!
//! Every entry that we inject has the copy bit in its connmark. A rule clears it with the first packet that goes out
//! through the entry, which makes one event: the flow has moved here. It costs nothing more per packet than to look at
//! the mark. The chain stands after the operator's, so that a packet they drop moves nothing, and after
//! the chains that hold packets, which have to see the bit.

use super::{CopyBit, Family, Section};

/// The section that clears `copy_bit`.
pub fn section(copy_bit: CopyBit) -> Section {
    let (set, cleared) = (copy_bit.mask(), !copy_bit.mask());
    Section {
        about: "a flow that moves here is known by its first packet",
        family: Family::Inet,
        text: format!(
            "chain moved {{\n\
             \ttype filter hook postrouting priority 300; policy accept;\n\
             \tct mark & {set:#010x} != 0 ct mark set ct mark & {cleared:#010x}\n\
             }}\n"
        ),
    }
}
