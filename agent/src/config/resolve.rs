//! From what the file says to what it means: fills in defaults, and finds every value that cannot be.
//!
//! Each function takes a part of [`file::File`] and gives the part of [`Config`] that it means, or the first fault.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::error::{Fault, Place, Problem};
use super::file::{self, File, TransportWord};
use super::scalar::{
    parse_bit, parse_duration, parse_mask, parse_size, print_duration, print_size,
};
use crate::ruleset::CopyBit;

use super::{
    Config, Control, DEFAULT_SOCKET, Delta, InterfaceName, Kernel, Keys, Level, Liveness, Log,
    MemberId, Network, Transport,
};

mod members;

const DEFAULT_PORT: NonZeroU16 = NonZeroU16::new(8116).unwrap();
/// Administratively scoped (RFC 2365): no router forwards it out of the site.
const DEFAULT_GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 81, 16);
/// Transient, link-local scope (RFC 4291 2.7).
const DEFAULT_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x8116);

const MAX_AGE: Limits<Duration> = Limits {
    min: Duration::from_secs(1),
    default: Duration::from_secs(3600),
    max: Duration::from_secs(24 * 3600),
};
const MAX_PACKETS: Limits<u64> = Limits {
    min: 1_000,
    default: 1_000_000_000,
    max: 1 << 32,
};
const FLUSH: Limits<Duration> = Limits {
    min: Duration::from_micros(100),
    default: Duration::from_millis(1),
    max: Duration::from_millis(100),
};
const HELLO: Limits<Duration> = Limits {
    min: Duration::from_millis(10),
    default: Duration::from_millis(100),
    max: Duration::from_secs(10),
};
const DEAD_AFTER: Limits<Duration> = Limits {
    min: Duration::from_millis(50),
    default: Duration::from_secs(1),
    max: Duration::from_secs(60),
};
/// The kernel doubles what it is given and keeps it in an int: 512 MiB is the last power of two that fits.
/// The bit of the connmark that marks a copy when nobody says otherwise.
const COPY_BIT: Option<CopyBit> = CopyBit::new(31);
const EVENT_BUFFER: Limits<u32> = Limits {
    min: 1 << 20,
    default: 64 << 20,
    max: 512 << 20,
};
/// `sun_path` of `sockaddr_un` has 108 bytes, one for the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

struct Limits<T> {
    min: T,
    default: T,
    max: T,
}

/// The configuration that `file` means.
pub(super) fn resolve(file: File) -> Result<Config, Fault> {
    let cluster = number(&file.cluster, "cluster", 1, u16::MAX)?;
    let network = the_network(&file)?;
    let network_name = name(&network.name, "network name")?;
    let port = match &network.port {
        Some(port) => nonzero(number(port, "port", 1, u16::MAX)?),
        None => DEFAULT_PORT,
    };
    let members = members::members(&file, &network_name, port)?;
    let family = members[0].address.ip();
    let (this, peers) = members::this_and_peers(&file, members)?;
    Ok(Config {
        cluster: nonzero(cluster),
        this,
        peers,
        network: Network {
            name: network_name,
            interface: interface(&network.interface)?,
            transport: transport(network, family)?,
            port,
        },
        key_file: match &file.key_file {
            Some(key_file) => absolute(key_file, "key_file")?,
            None => crate::keys::DEFAULT_FILE.into(),
        },
        keys: keys(file.keys.unwrap_or_default())?,
        delta: delta(file.delta.unwrap_or_default())?,
        liveness: liveness(file.liveness.unwrap_or_default())?,
        kernel: kernel(file.kernel.unwrap_or_default())?,
        control: control(file.control.unwrap_or_default())?,
        log: Log {
            level: file.log.unwrap_or_default().level.unwrap_or(Level::Info),
        },
    })
}

fn the_network(file: &File) -> Result<&file::Network, Fault> {
    match file.networks.value.as_slice() {
        [network] => Ok(network),
        [] => Err(fault(&file.networks, Problem::NoNetwork)),
        [_, second, ..] => Err(fault(
            &second.name,
            Problem::SeveralNetworks {
                count: file.networks.value.len(),
            },
        )),
    }
}

fn transport(network: &file::Network, family: IpAddr) -> Result<Transport, Fault> {
    let word = network
        .transport
        .as_ref()
        .map_or(TransportWord::Unicast, |word| word.value);
    match (word, &network.group) {
        (TransportWord::Unicast, None) => Ok(Transport::Unicast),
        (TransportWord::Unicast, Some(group)) => Err(fault(
            group,
            Problem::GroupWithoutMulticast {
                transport: "unicast",
            },
        )),
        (TransportWord::Broadcast, None) if family.is_ipv4() => Ok(Transport::Broadcast),
        (TransportWord::Broadcast, None) => Err(Fault {
            place: network.transport.as_ref().and_then(place),
            problem: Problem::BroadcastOverIpv6,
        }),
        (TransportWord::Broadcast, Some(group)) => Err(fault(
            group,
            Problem::GroupWithoutMulticast {
                transport: "broadcast",
            },
        )),
        (TransportWord::Multicast, None) => Ok(Transport::Multicast {
            group: default_group(family),
        }),
        (TransportWord::Multicast, Some(written)) => {
            let group = address(written)?;
            if !group.is_multicast() {
                return Err(fault(
                    written,
                    Problem::GroupNotMulticast {
                        given: group.to_string(),
                    },
                ));
            }
            if group.is_ipv4() != family.is_ipv4() {
                let example = default_group(family).to_string();
                return Err(fault(
                    written,
                    Problem::GroupOfOtherFamily {
                        given: group.to_string(),
                        example,
                    },
                ));
            }
            Ok(Transport::Multicast { group })
        }
    }
}

fn default_group(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => DEFAULT_GROUP_V4.into(),
        IpAddr::V6(_) => DEFAULT_GROUP_V6.into(),
    }
}

fn keys(written: file::Keys) -> Result<Keys, Fault> {
    Ok(Keys {
        max_age: duration(written.max_age.as_ref(), "max_age", &MAX_AGE)?,
        max_packets: match &written.max_packets {
            Some(packets) => number(packets, "max_packets", MAX_PACKETS.min, MAX_PACKETS.max)?,
            None => MAX_PACKETS.default,
        },
    })
}

fn delta(written: file::Delta) -> Result<Delta, Fault> {
    Ok(Delta {
        flush: duration(written.flush.as_ref(), "flush", &FLUSH)?,
    })
}

fn liveness(written: file::Liveness) -> Result<Liveness, Fault> {
    let hello = duration(written.hello.as_ref(), "hello", &HELLO)?;
    let dead_after = duration(written.dead_after.as_ref(), "dead_after", &DEAD_AFTER)?;
    if hello * 2 >= dead_after {
        let culprit = written.hello.as_ref().or(written.dead_after.as_ref());
        let problem = Problem::HelloTooSlow {
            hello: print_duration(hello),
            dead_after: print_duration(dead_after),
        };
        return Err(Fault {
            place: culprit.and_then(place),
            problem,
        });
    }
    Ok(Liveness { hello, dead_after })
}

fn kernel(written: file::Kernel) -> Result<Kernel, Fault> {
    let copy_bit = match &written.copy_bit {
        Some(bit) => parse_bit(&bit.value).ok_or_else(|| {
            fault(
                bit,
                Problem::NotABit {
                    given: bit.value.clone(),
                },
            )
        })?,
        None => COPY_BIT,
    };
    Ok(Kernel {
        event_buffer_bytes: match &written.event_buffer {
            Some(size) => event_buffer(size)?,
            None => EVENT_BUFFER.default,
        },
        mark_mask: match &written.mark_mask {
            Some(mask) => mark_mask(mask, copy_bit)?,
            None => copy_bit.map_or(u32::MAX, |bit| !bit.mask()),
        },
        copy_bit,
        labels: written.labels.unwrap_or(false),
    })
}

fn mark_mask(written: &Spanned<String>, copy_bit: Option<CopyBit>) -> Result<u32, Fault> {
    let given = || written.value.clone();
    let not_a_mask = || {
        fault(
            written,
            Problem::NotAMask {
                key: "mark_mask",
                given: given(),
            },
        )
    };
    let mask = parse_mask(&written.value).ok_or_else(not_a_mask)?;
    match copy_bit {
        Some(bit) if mask & bit.mask() != 0 => Err(fault(
            written,
            Problem::CopyBitReplicated { bit: bit.number() },
        )),
        Some(_) | None => Ok(mask),
    }
}

fn event_buffer(written: &Spanned<String>) -> Result<u32, Fault> {
    let key = "event_buffer";
    let given = || written.value.clone();
    let Some(bytes) = parse_size(&written.value) else {
        return Err(fault(
            written,
            Problem::NotASize {
                key,
                given: given(),
            },
        ));
    };
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (EVENT_BUFFER.min..=EVENT_BUFFER.max).contains(bytes))
        .ok_or_else(|| {
            let (min, max) = (
                print_size(EVENT_BUFFER.min.into()),
                print_size(EVENT_BUFFER.max.into()),
            );
            fault(
                written,
                Problem::OutOfRange {
                    key,
                    given: given(),
                    min,
                    max,
                },
            )
        })
}

fn control(written: file::Control) -> Result<Control, Fault> {
    let Some(socket) = written.socket else {
        return Ok(Control {
            socket: DEFAULT_SOCKET.into(),
        });
    };
    let bytes = socket.value.len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(fault(
            &socket,
            Problem::SocketPathTooLong {
                bytes,
                bytes_max: SOCKET_PATH_BYTES_MAX,
            },
        ));
    }
    Ok(Control {
        socket: absolute(&socket, "socket")?,
    })
}

fn number<T: TryFrom<u64> + Into<u64> + Copy>(
    written: &Spanned<u64>,
    key: &'static str,
    min: T,
    max: T,
) -> Result<T, Fault> {
    let in_range = (min.into()..=max.into()).contains(&written.value);
    in_range
        .then(|| T::try_from(written.value).ok())
        .flatten()
        .ok_or_else(|| {
            let (min, max) = (min.into().to_string(), max.into().to_string());
            fault(
                written,
                Problem::OutOfRange {
                    key,
                    given: written.value.to_string(),
                    min,
                    max,
                },
            )
        })
}

fn nonzero(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("it was judged to be 1 or more")
}

fn member_id(written: &Spanned<u64>, key: &'static str) -> Result<MemberId, Fault> {
    let max = u8::try_from(MemberId::MAX).expect("an id is a byte");
    let id = number(written, key, 1, max)?;
    Ok(MemberId::new(id).expect("it was judged to be in range"))
}

fn duration(
    written: Option<&Spanned<String>>,
    key: &'static str,
    limits: &Limits<Duration>,
) -> Result<Duration, Fault> {
    let Some(written) = written else {
        return Ok(limits.default);
    };
    let given = written.value.clone();
    match parse_duration(&given) {
        Some(duration) if (limits.min..=limits.max).contains(&duration) => Ok(duration),
        Some(_) => {
            let (min, max) = (print_duration(limits.min), print_duration(limits.max));
            Err(fault(
                written,
                Problem::OutOfRange {
                    key,
                    given,
                    min,
                    max,
                },
            ))
        }
        None => Err(fault(written, Problem::NotADuration { key, given })),
    }
}

fn name(written: &Spanned<String>, key: &'static str) -> Result<String, Fault> {
    let name = &written.value;
    let clean = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match (1..=63).contains(&name.len()) && clean {
        true => Ok(name.clone()),
        false => Err(fault(
            written,
            Problem::BadName {
                key,
                given: name.clone(),
            },
        )),
    }
}

fn interface(written: &Spanned<String>) -> Result<InterfaceName, Fault> {
    InterfaceName::new(&written.value).ok_or_else(|| {
        fault(
            written,
            Problem::BadInterface {
                given: written.value.clone(),
            },
        )
    })
}

fn address(written: &Spanned<String>) -> Result<IpAddr, Fault> {
    written.value.parse().map_err(|_| {
        fault(
            written,
            Problem::NotAnAddress {
                given: written.value.clone(),
            },
        )
    })
}

fn absolute(written: &Spanned<String>, key: &'static str) -> Result<PathBuf, Fault> {
    match Path::new(&written.value).is_absolute() {
        true => Ok(written.value.clone().into()),
        false => Err(fault(
            written,
            Problem::RelativePath {
                key,
                given: written.value.clone(),
            },
        )),
    }
}

fn fault<T>(written: &Spanned<T>, problem: Problem) -> Fault {
    Fault {
        place: place(written),
        problem,
    }
}

fn place<T>(written: &Spanned<T>) -> Option<Place> {
    Place::of(&written.referenced)
}
