//! Everything that can be wrong with a policy beyond its shape, and the words for it.

use super::builtin;
use super::prefix::Prefix;
use crate::config::error::{either, listed};

/// What is wrong, with the facts.
#[derive(Debug)]
pub enum Problem {
    NotAProtocol {
        given: String,
    },
    PortsWithoutProtocol,
    NoPorts {
        protocol: String,
    },
    NotAPort {
        given: String,
    },
    NoTypes {
        protocol: String,
    },
    NotAType {
        given: String,
    },
    RangeBackwards {
        given: String,
    },
    Overlap {
        one: String,
        other: String,
    },
    PortsAndTypes,
    NotAKind {
        given: String,
    },
    DelayOnHelper {
        service: String,
        helper: &'static str,
    },
    DelayWithoutDelayed {
        service: String,
    },
    HoldWithoutSync {
        service: String,
        sync: &'static str,
    },
    ServiceTwice {
        name: String,
        first: String,
    },
    BuiltinName {
        name: String,
    },
    BuiltinUnknown {
        name: String,
    },
    BuiltinForMany {
        name: String,
    },
    BuiltinTwice {
        name: String,
        first: String,
    },
    ServiceUnknown {
        name: String,
        known: Vec<String>,
    },
    ServicesOverlap {
        name: String,
        other: String,
    },
    NotAPrefix {
        given: String,
    },
    HostBits {
        given: String,
        meant: Prefix,
    },
    MixedFamilies {
        source: Prefix,
        destination: Prefix,
    },
    ForMany {
        prefix: Prefix,
        service: String,
    },
    NotAMark {
        given: String,
    },
    MarkOutsideMask {
        given: String,
    },
    InterfaceUnknowable,
    Shadowed {
        what: String,
        by: String,
    },
    ShadowedByBuiltin {
        what: String,
        builtin: String,
    },
    TooMany {
        what: &'static str,
        count: usize,
        max: usize,
    },
}

impl Problem {
    /// The reason and the cure.
    pub fn say(&self) -> (String, String) {
        let said = |reason: String, cure: &str| (reason, cure.to_owned());
        match self {
            Self::NotAProtocol { given } => said(
                format!("`{given}` is not a protocol"),
                "write its number, 0 to 255, or its name, such as tcp, udp, icmp, icmpv6, sctp, gre or esp",
            ),
            Self::PortsWithoutProtocol => said(
                "ports mean nothing without a protocol that has any".into(),
                "write `protocol: tcp` or `protocol: udp`, or both in a list",
            ),
            Self::NoPorts { protocol } => said(
                format!("{protocol} has no ports"),
                "remove `ports`, or take tcp, udp, udplite, sctp or dccp",
            ),
            Self::NotAPort { given } => said(
                format!("`{given}` is not a port"),
                "write a number from 1 to 65535, or a range such as 8000-8099",
            ),
            Self::NoTypes { protocol } => said(
                format!("{protocol} has no ICMP types"),
                "remove `icmp_types`, or write `protocol: icmp` or `protocol: icmpv6`",
            ),
            Self::NotAType { given } => said(
                format!("`{given}` is not a type of ICMP"),
                "write a number from 0 to 255, or a range such as 13-18",
            ),
            Self::RangeBackwards { given } => said(
                format!("the range {given} ends before it begins"),
                "write the lesser number first",
            ),
            Self::Overlap { one, other } => said(
                format!("{one} and {other} overlap"),
                "write each number once",
            ),
            Self::PortsAndTypes => said(
                "no protocol has both ports and ICMP types".into(),
                "make two services of this one",
            ),
            Self::NotAKind { given } => (
                format!("`{given}` is not a type of service"),
                format!("write none, http, or one with a helper: {}", super::service::HELPERS.join(", ")),
            ),
            Self::DelayOnHelper { service, helper } => (
                format!(
                    "`{service}` is of type {helper}, and the connections that its helper expects would come before the peers know what they belong to"
                ),
                "write `sync: always` or `sync: never`; only services of type http and none can be delayed".into(),
            ),
            Self::DelayWithoutDelayed { service } => said(
                format!("`{service}` has a delay, but is not delayed"),
                "remove `delay`, or write `sync: delayed`",
            ),
            Self::HoldWithoutSync { service, sync } => said(
                format!("the first packet of `{service}` would wait for peers that are not told of it (`sync: {sync}`)"),
                "write `sync: always`, or `hold: auto`",
            ),
            Self::ServiceTwice { name, first } => said(
                format!("two services are called `{name}` (see {first})"),
                "give each a name of its own",
            ),
            Self::BuiltinName { name } => said(
                format!("`{name}` is a built-in service"),
                "choose another name, or turn the built-in one on under `builtins`",
            ),
            Self::BuiltinUnknown { name } => {
                let names = builtin::names();
                (format!("`{name}` is not a built-in service"), format!("these are: {}", listed(&names)))
            }
            Self::BuiltinForMany { name } => said(
                format!("{name} is never synchronised: each gateway sees it by itself"),
                "remove this line",
            ),
            Self::BuiltinTwice { name, first } => said(
                format!("`{name}` is turned on or off twice (see {first})"),
                "keep one of the two",
            ),
            Self::ServiceUnknown { name, known } => (
                format!("no service is called `{name}`"),
                match known.is_empty() {
                    true => "define it under `services`".to_owned(),
                    false => format!("write {}, or define it under `services`", either(known)),
                },
            ),
            Self::ServicesOverlap { name, other } => said(
                format!("a flow can be both of `{other}` and of `{name}`, and no rule chooses between them"),
                "add a rule for one of them",
            ),
            Self::NotAPrefix { given } => said(
                format!("`{given}` is not a prefix"),
                "write an address and a length such as 10.0.0.0/8 or 2001:db8::/32, or an address alone",
            ),
            Self::HostBits { given, meant } => (
                format!("{given} has bits set past its length"),
                format!("write {meant}, or the address alone"),
            ),
            Self::MixedFamilies { source, destination } => said(
                format!("no flow goes from {source} to {destination}: they are of different families"),
                "write a rule for each family",
            ),
            Self::ForMany { prefix, service } => said(
                format!("{prefix} is broadcast or multicast, which is never synchronised, and `{service}` is to be"),
                "remove the rule, or choose a service with `sync: never`",
            ),
            Self::NotAMark { given } => said(
                format!("`{given}` is not a mark"),
                "write a number, or value and mask such as 0x10/0xff",
            ),
            Self::MarkOutsideMask { given } => said(
                format!("{given} has bits that its mask takes away, so no flow can have it"),
                "widen the mask, or clear those bits",
            ),
            Self::InterfaceUnknowable => said(
                "the kernel's connection table does not say through which interface a flow came".into(),
                "set a mark or a zone in your own ruleset (`iifname eth1 ct mark set ct mark | 0x10`) and match that here",
            ),
            Self::Shadowed { what, by } => said(
                format!("{what} can never match: {by} takes everything that it could"),
                "move it up, or remove it",
            ),
            Self::ShadowedByBuiltin { what, builtin } => (
                format!("{what} can never match: the built-in service {builtin} takes everything that it could"),
                format!("turn that on with `builtins: {{ {builtin}: on }}`, or remove this"),
            ),
            Self::TooMany { what, count, max } => (
                format!("there are {count} {what}"),
                format!("write at most {max}: put prefixes and ports into lists"),
            ),
        }
    }
}
