//! Everything that can be wrong with a configuration, in words.

use std::fmt;
use std::io::{self, ErrorKind};
use std::num::NonZeroU16;
use std::path::PathBuf;

use super::{Place, RolesProblem};
use crate::config::{MemberId, PublicKey};
use crate::units;
use ccp::network::NetworkId;

/// Everything that can be wrong, with the facts; [`Problem::say`] has the words.
#[derive(Debug)]
pub(crate) enum Problem {
    // The file.
    Unreadable {
        error: io::Error,
    },
    TooLarge {
        bytes_max: u64,
    },
    Empty,
    NotUtf8,
    // Its shape.
    Yaml {
        message: String,
    },
    WrongKind {
        wanted: String,
    },
    SecondDocument,
    TooComplex,
    UnknownKey {
        key: String,
        known: Vec<&'static str>,
    },
    MissingKey {
        key: &'static str,
    },
    DuplicateKey {
        key: String,
    },
    UnknownWord {
        word: String,
        known: Vec<&'static str>,
    },
    NoValue,
    NotANumber,
    NotABoolean,
    // One value.
    OutOfRange {
        key: &'static str,
        given: String,
        min: String,
        max: String,
    },
    NotADuration {
        key: &'static str,
        given: String,
    },
    HoldWithoutCopyBit,
    NotASize {
        key: &'static str,
        given: String,
    },
    NotAMask {
        key: &'static str,
        given: String,
    },
    NotALabelMask {
        given: String,
    },
    NotABit {
        given: String,
    },
    CopyBitReplicated {
        bit: u8,
    },
    BadName {
        key: &'static str,
        given: String,
    },
    BadInterface {
        given: String,
    },
    RelativePath {
        key: &'static str,
        given: String,
    },
    SocketPathTooLong {
        bytes: usize,
        bytes_max: usize,
    },
    SameSocket,
    NotLoopback {
        given: String,
    },
    NotAnAddress {
        given: String,
    },
    NoMachineAddress {
        given: String,
    },
    NotAPublicKey {
        given: String,
    },
    PublicKeyLength {
        given: String,
        bytes: usize,
    },
    // Values that do not go together.
    OtherKey {
        member: MemberId,
        key_file: PathBuf,
        public_key: PublicKey,
    },
    TooFewMembers {
        count: usize,
    },
    TooManyMembers {
        count: usize,
    },
    MemberTwice {
        key: &'static str,
        value: String,
        first: Option<Place>,
    },
    MemberUnknown {
        id: MemberId,
        known: Vec<MemberId>,
    },
    NoNetwork,
    TooManyNetworks {
        count: usize,
    },
    NetworkTwice {
        key: &'static str,
        value: String,
    },
    PortsDiffer {
        first: NonZeroU16,
    },
    NetworkUnknown {
        name: String,
        known: Vec<String>,
    },
    AddressMissing {
        member: String,
        network: String,
    },
    MixedFamilies {
        address: String,
        other: String,
    },
    GroupWithoutMulticast {
        transport: &'static str,
    },
    GroupNotMulticast {
        given: String,
    },
    GroupOfOtherFamily {
        given: String,
        example: String,
    },
    BroadcastOverIpv6,
    HelloTooSlow {
        hello: String,
        dead_after: String,
    },
    Policy(Box<crate::policy::Problem>),
    Roles(RolesProblem),
}

impl Problem {
    /// The reason and the cure.
    pub(super) fn say(&self) -> (String, String) {
        let said = |reason: String, cure: &str| (reason, cure.to_owned());
        match self {
            Self::Unreadable { error } => said(
                format!("cannot be read ({error})"),
                match error.kind() {
                    ErrorKind::PermissionDenied => "run it as root, with sudo",
                    _ => {
                        "create it (the package ships examples), or name another: a configuration with --config, policies under \
                         `policy` in it"
                    }
                },
            ),
            Self::TooLarge { bytes_max } => said(
                format!("is larger than {} KiB", bytes_max / 1024),
                "a configuration is a page: name the right file",
            ),
            Self::Empty => said(
                "nothing is configured yet".into(),
                "ctsync(8) has the steps under GETTING STARTED, and the example that the package ships explains every key",
            ),
            Self::NotUtf8 => said("this is not UTF-8".into(), "save the file as UTF-8 text"),

            Self::Yaml { message } => said(
                message.clone(),
                "compare the line with the example that the package ships",
            ),
            Self::WrongKind { wanted } => (
                "this is of another kind than it has to be".to_owned(),
                format!("write {wanted} here"),
            ),
            Self::SecondDocument => said(
                "a second YAML document begins here".into(),
                "keep one: nothing after `---` would be read",
            ),
            Self::TooComplex => said(
                "the file is nested too deeply, too long, or uses anchors, aliases or merge keys"
                    .into(),
                "write every value out where it belongs",
            ),
            Self::UnknownKey { key, known } => (
                format!("`{key}` is not known here"),
                format!("known are {}", listed(known)),
            ),
            Self::MissingKey { key } => (
                format!("`{key}` is missing"),
                format!("add `{key}:` to this block"),
            ),
            Self::DuplicateKey { key } => {
                said(format!("`{key}` is given twice"), "keep one of the two")
            }
            Self::UnknownWord { word, known } => (
                format!("`{word}` is not known here"),
                format!("write {}", either(known)),
            ),
            Self::NoValue => said(
                "a value is missing".into(),
                "write one after the colon, or remove the key",
            ),
            Self::NotANumber => said(
                "this is not a number".into(),
                "write a whole number, without sign, unit or quotes",
            ),
            Self::NotABoolean => said(
                "this is neither true nor false".into(),
                "write true or false",
            ),

            Self::OutOfRange {
                key,
                given,
                min,
                max,
            } => (
                format!("`{key}` cannot be {given}"),
                format!("choose from {min} to {max}"),
            ),
            Self::NotADuration { key, given } => said(
                format!("`{key}` is `{given}`, which is not a duration"),
                "write a whole number and its unit, us, ms, s, min or h, such as 20ms",
            ),
            Self::HoldWithoutCopyBit => said(
                "packets can be held only where copies are marked, and `copy_bit` is `none`".into(),
                "choose a bit of the connmark for `copy_bit` under `kernel`, or write `mode: never`",
            ),
            Self::NotASize { key, given } => said(
                format!("`{key}` is `{given}`, which is not a size"),
                "write a whole number and its unit, KiB, MiB or GiB, such as 64MiB",
            ),
            Self::NotAMask { key, given } => said(
                format!("`{key}` is `{given}`, which is not a mask of 32 bits"),
                "write it as 0x0000ffff",
            ),
            Self::NotALabelMask { given } => said(
                format!("`label_mask` is `{given}`, which is not a mask of 128 bits"),
                "write it as 0xffff, label 0 the lowest, or none",
            ),
            Self::NotABit { given } => said(
                format!("`copy_bit` is `{given}`, which is not a bit of the connmark"),
                "write its number, 0 to 31, or none",
            ),
            Self::CopyBitReplicated { bit } => said(
                format!("`mark_mask` has bit {bit}, which marks copies and is not replicated"),
                "take it out of the mask, or set `copy_bit` to one that you do not use, or to none",
            ),
            Self::BadName { key, given } => said(
                format!("`{given}` cannot be a {key}"),
                "use 1 to 63 of the letters a-z, A-Z, digits, `.`, `_` and `-`",
            ),
            Self::BadInterface { given } => said(
                format!("`{given}` cannot be an interface"),
                "give the name of one, 1 to 15 bytes long, as `ip link` shows it",
            ),
            Self::RelativePath { key, given } => said(
                format!("`{key}` is `{given}`, which depends on where the daemon starts"),
                "begin it with `/`",
            ),
            Self::SocketPathTooLong { bytes, bytes_max } => (
                format!("the path of the socket has {bytes} bytes"),
                format!("choose one of at most {bytes_max}: sockets can have no longer ones"),
            ),
            Self::NotLoopback { given } => said(
                format!("`{given}` is no loopback address with a port, and no path"),
                "write one such as 127.0.0.1:9116, or the path of a socket: nobody is asked there who he is",
            ),
            Self::SameSocket => said(
                "the socket for monitoring is the control socket".into(),
                "give it a path of its own, such as /run/ctsync-monitor/monitor.sock",
            ),
            Self::NotAnAddress { given } => said(
                format!("`{given}` is not an IP address"),
                "write an IPv4 or IPv6 address without port or prefix length, such as 192.0.2.1",
            ),
            Self::NoMachineAddress { given } => said(
                format!("{given} is not the address of one machine"),
                "give the member's own address on this network",
            ),

            Self::NotAPublicKey { given } => said(
                format!("`{given}` is not a public key"),
                "write what `ctsync keygen` printed on that member, 44 characters of base64",
            ),
            Self::PublicKeyLength { given, bytes } => said(
                format!(
                    "`{given}` has {}, and a public key has 32",
                    units::counted(*bytes, "byte", "bytes")
                ),
                "write what `ctsync keygen` printed on that member, 44 characters of base64",
            ),

            Self::OtherKey {
                member,
                key_file,
                public_key,
            } => (
                format!(
                    "this is not the public half of the key in {}, which member {member} proves its identity with",
                    key_file.display()
                ),
                format!("write {public_key} here and on every member, or bring the other key back"),
            ),
            Self::TooFewMembers { count } => (
                format!(
                    "a cluster has two members or more, here {}",
                    counted(*count, "is", "are")
                ),
                "list every member, this machine too".to_owned(),
            ),
            Self::TooManyMembers { count } => (
                format!("{count} members are listed"),
                format!("list at most {}", MemberId::MAX),
            ),
            Self::MemberTwice { key, value, first } => {
                let first = first.map_or_else(String::new, |place| {
                    format!(" (on line {} too)", place.line)
                });
                (
                    format!("two members have the {key} {value}{first}"),
                    format!("give each its own {key}"),
                )
            }
            Self::MemberUnknown { id, known } => (
                format!("member {id} is not among `members`"),
                format!("write {}, or add it there", either(known)),
            ),
            Self::NoNetwork => said(
                "no network is defined".into(),
                "define the one that members talk over",
            ),
            Self::TooManyNetworks { count } => (
                format!("{count} networks are defined"),
                format!("keep the best {}", NetworkId::MAX),
            ),
            Self::NetworkTwice { key, value } => (
                format!("two networks have the {key} {value}"),
                format!("give each its own {key}"),
            ),
            Self::PortsDiffer { first } => (
                format!("the first network has the port {first}, and all networks have one port"),
                format!("write {first} here too, or leave it out"),
            ),
            Self::NetworkUnknown { name, known } => (
                format!(
                    "there is an address for the network `{name}`, which `networks` does not define"
                ),
                format!("name it {}, or define `{name}`", either(known)),
            ),
            Self::AddressMissing { member, network } => (
                format!("member {member} has no address on the network `{network}`"),
                format!("add `{network}: ADDRESS`"),
            ),
            Self::MixedFamilies { address, other } => said(
                format!("{address} and {other} are of different families on one network"),
                "give all members IPv4 addresses, or all IPv6 ones",
            ),
            Self::GroupWithoutMulticast { transport } => said(
                format!("`group` means nothing with `transport: {transport}`"),
                "remove it, or write `transport: multicast`",
            ),
            Self::GroupNotMulticast { given } => said(
                format!("{given} is not a multicast group"),
                "choose one of 224.0.0.0/4 or ff00::/8, or leave `group` out for the default",
            ),
            Self::GroupOfOtherFamily { given, example } => (
                format!("the group {given} is of another family than the members' addresses"),
                format!("choose one such as {example}, or leave `group` out for the default"),
            ),
            Self::BroadcastOverIpv6 => said(
                "IPv6 has no broadcast".into(),
                "write `transport: multicast` or `transport: unicast`",
            ),
            Self::HelloTooSlow { hello, dead_after } => said(
                format!(
                    "with a hello every {hello}, one lost datagram would kill a member after {dead_after}"
                ),
                "make `hello` less than half of `dead_after`; a tenth is usual",
            ),
            Self::Policy(problem) => problem.say(),
            Self::Roles(problem) => problem.say(),
        }
    }
}

/// `a, b, c`
pub(crate) fn listed<T: fmt::Display>(words: &[T]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `a, b or c`
pub(crate) fn either<T: fmt::Display>(words: &[T]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or `{last}`", listed(rest)),
        words => listed(words),
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        0 => format!("{many} none"),
        1 => format!("{one} one"),
        count => format!("{many} {count}"),
    }
}
