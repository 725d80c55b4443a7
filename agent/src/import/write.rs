//! What a file said, in our words.

use std::fmt::Write;

use super::{Facts, Filter, LinkKind, Sense};
use crate::policy::service::protocol_word;

/// Between these a receive buffer for events must be.
const EVENT_BUFFER_MIB: std::ops::RangeInclusive<u64> = 1..=512;

/// `ctsync.yaml`.
pub fn config(facts: &Facts) -> String {
    let mut text = String::from(
        "# Made from a conntrackd.conf. To be filled in: `cluster`, the names, the addresses that say so, and the public keys,\n\
         # which `ctsync keygen` prints on each member. It is the same on every member but for `member`.\n\
         cluster: 1\n\
         member: 1\n\
         members:\n",
    );
    let mut put = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("a String takes everything");
    };
    let name = |index: usize| match index {
        0 => "sync".to_owned(),
        _ => format!("sync{}", index + 1),
    };
    for (id, member) in [(1, "this-gateway"), (2, "other-gateway")] {
        put(format_args!("  - id: {id}"));
        put(format_args!("    name: {member}"));
        let addresses: Vec<_> = facts
            .links
            .iter()
            .enumerate()
            .map(|(index, link)| {
                let address = if id == 1 { link.own } else { link.peer };
                let address = address.map_or("FILL-IN".to_owned(), |it| it.to_string());
                format!("{}: \"{address}\"", name(index))
            })
            .collect();
        let addresses = match addresses.is_empty() {
            true => "sync: FILL-IN".to_owned(),
            false => addresses.join(", "),
        };
        put(format_args!("    addresses: {{ {addresses} }}"));
        put(format_args!("    public_key: FILL-IN"));
    }
    put(format_args!("networks:"));
    for (index, link) in facts.links.iter().enumerate() {
        put(format_args!("  - name: {}", name(index)));
        let interface = link.interface.as_deref().unwrap_or("FILL-IN");
        put(format_args!("    interface: {interface}"));
        if link.kind == LinkKind::Multicast {
            put(format_args!("    transport: multicast"));
            if let Some(group) = link.group {
                put(format_args!("    group: \"{group}\""));
            }
        }
    }
    if facts.links.is_empty() {
        put(format_args!("  - name: sync"));
        put(format_args!("    interface: FILL-IN"));
    }
    // Rounded up: it is a limit that is wanted to suffice.
    if let Some(bytes) = facts.event_buffer_bytes {
        let mebibytes = bytes
            .div_ceil(1 << 20)
            .clamp(*EVENT_BUFFER_MIB.start(), *EVENT_BUFFER_MIB.end());
        put(format_args!("kernel:\n  event_buffer: {mebibytes}MiB"));
    }
    text
}

/// `policy.yaml`, if there is anything to filter.
pub fn policy(filter: &Filter) -> Option<String> {
    let mut services = String::new();
    let mut rules = String::new();
    let mut only = false;
    if let Some((Sense::Ignore, addresses)) = &filter.addresses {
        let list = addresses.join("\", \"");
        for end in ["source", "destination"] {
            rules += &format!("  - {end}: [\"{list}\"]\n    service: left-out\n");
        }
    }
    if let Some((sense, protocols)) = &filter.protocols {
        let words: Vec<_> = protocols.iter().map(|it| protocol_word(*it)).collect();
        let list = words.join(", ");
        match sense {
            Sense::Ignore => {
                services += &format!("  ignored:\n    protocol: [{list}]\n    sync: never\n");
                rules += "  - service: ignored\n";
            }
            Sense::Accept => {
                services += &format!("  accepted:\n    protocol: [{list}]\n");
                only = true;
            }
        }
    }
    let accepted = match services.contains("accepted") {
        true => "accepted",
        false => "everything",
    };
    match &filter.addresses {
        Some((Sense::Accept, addresses)) => {
            let list = addresses.join("\", \"");
            for end in ["source", "destination"] {
                rules += &format!("  - {end}: [\"{list}\"]\n    service: {accepted}\n");
            }
            if accepted == "everything" {
                services += "  everything: {}\n";
            }
            only = true;
        }
        Some((Sense::Ignore, _)) | None => {
            if only {
                rules += &format!("  - service: {accepted}\n");
            }
        }
    }
    if only {
        rules += "  - service: left-out\n";
    }
    if rules.contains("left-out") {
        services += "  left-out:\n    sync: never\n";
    }
    (!rules.is_empty()).then(|| format!("services:\n{services}rules:\n{rules}"))
}
