//! The programs that can install rules on this machine, and so the means to push the policy down.
//!
//! Each is asked to judge rules like ours, and to install nothing.

use super::{RulesetError, xtables};
use crate::config::PushDown;
use std::fmt;

/// What there is; else why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// `nft`, and a kernel that it works with.
    pub nft: Result<(), String>,
    /// `iptables` and `ip6tables`, and the same; not looked at where nothing would come of it.
    pub xtables: Result<(), String>,
}

/// What keeps the kernel from making events that nobody needs, or from handing them over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Our own table.
    Nftables,
    /// Chains of our own.
    Xtables,
    /// The filter of the event socket.
    Filter,
    /// Nothing does.
    Nothing,
}

impl Tools {
    /// What this machine has, as far as one who wants `push_down` needs it.
    pub fn look(push_down: PushDown) -> Self {
        let probe = "table inet ctsync-probe { chain events { type filter hook prerouting priority -150; ct event set 0x1; }; }\n";
        let nft = super::nft(&["--check"], probe).map_err(|error| error.reason());
        let xtables = match nft.is_ok() && push_down != PushDown::Xtables {
            true => Err("not looked for".to_owned()),
            false => xtables::probe(),
        };
        Self { nft, xtables }
    }

    /// The best of what there is, for who wants `push_down`.
    pub fn means(&self, push_down: PushDown) -> Result<Means, RulesetError> {
        let needed = |tool: &Result<(), String>, means| match tool {
            Ok(()) => Ok(means),
            Err(reason) => Err(RulesetError::Missing(vec![reason.clone()])),
        };
        match push_down {
            PushDown::Auto if self.nft.is_ok() => Ok(Means::Nftables),
            PushDown::Auto if self.xtables.is_ok() => Ok(Means::Xtables),
            PushDown::Auto | PushDown::Filter => Ok(Means::Filter),
            PushDown::Nftables => needed(&self.nft, Means::Nftables),
            PushDown::Xtables => needed(&self.xtables, Means::Xtables),
            PushDown::Off => Ok(Means::Nothing),
        }
    }

    /// Why nothing better is used; `None` if there is nothing better, or the configuration does not leave the choice to us.
    pub fn why(&self, push_down: PushDown) -> Option<String> {
        let reasons = [&self.nft, &self.xtables];
        let missing = reasons.into_iter().map_while(|it| it.as_ref().err());
        let missing: Vec<_> = missing.map(String::as_str).collect();
        (push_down == PushDown::Auto && !missing.is_empty()).then(|| missing.join("; "))
    }

    /// That there is anything to install rules with.
    pub(super) fn need_any(&self) -> Result<(), RulesetError> {
        match (&self.nft, &self.xtables) {
            (Err(nft), Err(xtables)) => {
                Err(RulesetError::Missing(vec![nft.clone(), xtables.clone()]))
            }
            (Ok(()), _) | (_, Ok(())) => Ok(()),
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "rules of nftables",
            Self::Xtables => "rules of xtables",
            Self::Filter => "a filter on the socket of events",
            Self::Nothing => "nothing",
        })
    }
}
