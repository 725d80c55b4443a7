//! What members tell each other of what passed: the body of a frame of their link (PROTOCOL.md 15).

use super::{SERVICES_MAX, Totals, Traffic};
use conntrack::Counters;
use std::collections::BTreeMap;

/// Bytes of a body at most: of as many services as there may be, with the longest names.
pub const BODY_BYTES_MAX: usize = 9 + SERVICES_MAX * (1 + NAME_BYTES_MAX + 4 * 8);
/// The longest name of a service.
const NAME_BYTES_MAX: usize = 63;

/// What one member told another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalsMessage {
    /// Who counted it.
    pub whose: Whose,
    /// What passed there.
    pub totals: Totals,
}

/// Who counted what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Who tells, in this run.
    Mine(u64),
    /// Who is told, in earlier runs.
    Yours,
}

impl TotalsMessage {
    /// The body of a frame.
    pub fn encode(&self) -> Vec<u8> {
        let (whose, run) = match self.whose {
            Whose::Mine(run) => (0, run),
            Whose::Yours => (1, 0),
        };
        let mut body = vec![whose];
        body.extend(u64::to_be_bytes(run));
        for (name, traffic) in self.totals.iter() {
            body.push(u8::try_from(name.len()).expect("names are short"));
            body.extend_from_slice(name.as_bytes());
            for Counters { packets, bytes } in traffic {
                body.extend(packets.to_be_bytes());
                body.extend(bytes.to_be_bytes());
            }
        }
        body
    }

    /// What a frame says; `None` if it is not well formed, or has more services than anybody has. Names are printed to
    /// terminals and files, so those that no policy can have are not well formed.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (whose, rest) = body.split_first()?;
        let (run, mut rest) = rest.split_first_chunk()?;
        let whose = match whose {
            0 => Whose::Mine(u64::from_be_bytes(*run)),
            1 => Whose::Yours,
            _ => return None,
        };
        let mut totals = BTreeMap::new();
        while let Some((length, after)) = rest.split_first() {
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            let (numbers, after) = after.split_first_chunk::<32>()?;
            if !is_name(name) || totals.len() == SERVICES_MAX {
                return None;
            }
            let name = std::str::from_utf8(name).ok()?.to_owned();
            totals.insert(name, traffic(numbers));
            rest = after;
        }
        Some(Self {
            whose,
            totals: Totals(totals),
        })
    }
}

fn traffic(bytes: &[u8; 32]) -> Traffic {
    let mut numbers = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|it| u64::from_be_bytes(*it));
    let mut next = || numbers.next().unwrap_or_default();
    [(); 2].map(|()| Counters {
        packets: next(),
        bytes: next(),
    })
}

/// As `policy::resolve` has them, or empty.
fn is_name(name: &[u8]) -> bool {
    let is_clean = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    name.len() <= NAME_BYTES_MAX && name.iter().all(is_clean)
}
