//! Expectations: flows that a helper has read the announcement of (the data connection of FTP), so that their first packet
//! is let in as related.
//!
//! An expectation belongs to its master, the flow that announced it. The kernel makes one when a packet passes, and removes it
//! when the expected flow begins, its time is over, or its master ends.

use crate::consts::*;
use crate::decode::{self, DecodeError};
use crate::encode::{self, put_tuple};
use crate::event::EventKind;
use crate::flow::{HelperName, Tuple};
use crate::nfnl::{Attributes, Builder, Message};

/// `NFNL_SUBSYS_CTNETLINK_EXP` in the upper byte of a message's type.
const SUBSYSTEM: u16 = NFNL_SUBSYS_CTNETLINK_EXP << 8;

/// How the kernel translates an expected flow when its first packet comes (`nf_ct_helper_expectfn`). Those of H.323 are not
/// known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translator {
    /// As the master is translated.
    FollowMaster,
    /// As the helper of SIP remembers it.
    Sip,
}

impl Translator {
    const ALL: [Self; 2] = [Self::FollowMaster, Self::Sip];

    /// Its name, with the NUL after it.
    fn name(self) -> &'static [u8] {
        match self {
            Self::FollowMaster => b"nat-follow-master\0",
            Self::Sip => b"sip\0",
        }
    }
}

/// One expectation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// Original direction of the flow that announced it.
    pub master: Tuple,
    /// Zone of the master.
    pub zone: u16,
    /// The flow that is expected.
    pub tuple: Tuple,
    /// Which bits of the source and of its port count; all of the destination's do.
    pub mask: Tuple,
    /// Seconds left.
    pub timeout: u32,
    /// `NF_CT_EXPECT_*`
    pub flags: u32,
    /// Its class within the helper.
    pub class: u32,
    /// The helper that made it.
    pub helper: Option<HelperName>,
    /// How the flow will be translated: the direction of its first packet (1: the master's replies), and the address and port
    /// that it really goes to, as the source of a tuple.
    pub nat: Option<(u32, Tuple)>,
    /// Who translates the flow; nobody where it is not translated.
    pub translator: Option<Translator>,
}

/// An expectation came or went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpectationEvent {
    /// [`EventKind::New`] or [`EventKind::Destroy`].
    pub kind: EventKind,
    /// Which.
    pub expectation: Expectation,
}

/// True of a message of this kind.
pub(crate) fn is_expectation(message: &Message<'_>) -> bool {
    message.kind & 0xff00 == SUBSYSTEM
}

/// The event that a message tells.
pub(crate) fn event(message: &Message<'_>) -> Result<ExpectationEvent, DecodeError> {
    let kind = match message.kind & 0xff {
        IPCTNL_MSG_EXP_NEW => EventKind::New,
        IPCTNL_MSG_EXP_DELETE => EventKind::Destroy,
        _ => return Err(DecodeError::MessageKind { kind: message.kind }),
    };
    let (mut master, mut tuple, mut mask) = (None, None, None);
    let (mut zone, mut timeout, mut flags, mut class) = (0, 0, 0, 0);
    let (mut helper, mut nat, mut translator) = (None, None, None);
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            CTA_EXPECT_MASTER => master = Some(decode::tuple(attribute.nested())?),
            CTA_EXPECT_TUPLE => tuple = Some(decode::tuple(attribute.nested())?),
            CTA_EXPECT_MASK => mask = Some(decode::tuple(attribute.nested())?),
            CTA_EXPECT_TIMEOUT => timeout = attribute.be32()?,
            CTA_EXPECT_HELP_NAME => {
                helper = attribute
                    .value
                    .split(|&byte| byte == 0)
                    .next()
                    .and_then(|name| HelperName::new(str::from_utf8(name).ok()?));
            }
            CTA_EXPECT_ZONE => zone = attribute.be16()?,
            CTA_EXPECT_FLAGS => flags = attribute.be32()?,
            CTA_EXPECT_CLASS => class = attribute.be32()?,
            CTA_EXPECT_NAT => nat = translation(attribute.nested())?,
            CTA_EXPECT_FN => {
                translator = Translator::ALL
                    .into_iter()
                    .find(|it| it.name() == attribute.value)
            }
            _ => {}
        }
    }
    let (Some(master), Some(tuple), Some(mask)) = (master, tuple, mask) else {
        return Err(DecodeError::TupleMissing);
    };
    Ok(ExpectationEvent {
        kind,
        expectation: Expectation {
            master,
            zone,
            tuple,
            mask,
            timeout,
            flags,
            class,
            helper,
            nat,
            translator,
        },
    })
}

fn translation(attributes: Attributes<'_>) -> Result<Option<(u32, Tuple)>, DecodeError> {
    let (mut direction, mut tuple) = (0, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_EXPECT_NAT_DIR => direction = attribute.be32()?,
            CTA_EXPECT_NAT_TUPLE => tuple = Some(decode::tuple(attribute.nested())?),
            _ => {}
        }
    }
    Ok(tuple.map(|tuple| (direction, tuple)))
}

/// Appends a request that makes `expectation`. Its master has to be there, with a helper.
pub(crate) fn create(buffer: &mut Vec<u8>, expectation: &Expectation) {
    let Expectation {
        master,
        zone,
        tuple,
        mask,
        timeout,
        flags,
        class,
        helper,
        nat,
        translator,
    } = expectation;
    let kind = SUBSYSTEM | IPCTNL_MSG_EXP_NEW;
    let family = encode::family(master);
    let mut request = Builder::message(buffer, kind, NLM_F_CREATE | NLM_F_EXCL, 0, family, 0);
    put_tuple(&mut request, CTA_EXPECT_MASTER, master);
    put_tuple(&mut request, CTA_EXPECT_TUPLE, tuple);
    put_tuple(&mut request, CTA_EXPECT_MASK, mask);
    request.put_be32(CTA_EXPECT_TIMEOUT, *timeout);
    request.put_be32(CTA_EXPECT_FLAGS, *flags);
    request.put_be32(CTA_EXPECT_CLASS, *class);
    if *zone != 0 {
        request.put_be16(CTA_EXPECT_ZONE, *zone);
    }
    if let Some(helper) = helper {
        request.put(CTA_EXPECT_HELP_NAME, helper.with_nul());
    }
    if let Some((direction, tuple)) = nat {
        request.nest(CTA_EXPECT_NAT, |nest| {
            nest.put_be32(CTA_EXPECT_NAT_DIR, *direction);
            put_tuple(nest, CTA_EXPECT_NAT_TUPLE, tuple);
        });
    }
    if let Some(translator) = translator {
        request.put(CTA_EXPECT_FN, translator.name());
    }
    request.finish();
}
