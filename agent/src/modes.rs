//! How datagrams for all members leave on each network: what the configuration says, unless an operator has switched it
//! since (`ctsync mode`), which is remembered in the state directory and wins.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use ccp::build::Capability;
use ccp::modes::{Changed, Generation, Mode};
use ccp::network::NetworkId;
use ccp::record::MemberSet;
use ccp::time::Instant;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::config::{Config, Transport};
use crate::control::answer::members::Done;
use crate::core::Core;
use crate::files;

/// The file in the state directory.
const FILE: &str = "modes.json";
/// Changes that wait to be stored at most; one that does not find room is in the next that does.
const WAITING_MAX: usize = 16;

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeRequest {
    /// Name of the network.
    pub network: String,
    /// How datagrams for all are to leave there.
    pub mode: ModeWord,
}

/// A mode by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ModeWord {
    /// A copy to each member
    Unicast,
    /// One datagram to a group
    Multicast,
    /// One datagram to the network
    Broadcast,
}

/// What is remembered of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    mode: ModeWord,
    generation: u32,
    by: u8,
}

/// The modes of this member's networks, and who waits for one to change.
#[derive(Debug)]
pub struct Modes {
    file: PathBuf,
    networks: Vec<(String, bool)>,
    remembered: BTreeMap<String, Remembered>,
    asked: Option<(NetworkId, oneshot::Sender<Done>)>,
    /// The thread that stores: the disk keeps nobody else waiting. `None` once it is to end.
    store: Option<SyncSender<Content>>,
    thread: Option<JoinHandle<()>>,
}

/// What the file is to hold, and who waits for that.
#[derive(Debug)]
struct Content {
    bytes: Vec<u8>,
    answer: Option<oneshot::Sender<Done>>,
}

impl Modes {
    /// Reads what is remembered; a file that is not there or not understood says nothing.
    pub fn open(config: &Config) -> io::Result<Self> {
        let file = config.state_directory.join(FILE);
        let remembered = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(event = "modes-unreadable", file = %file.display(), %error, "the modes that were switched to are not known: those of the configuration are used");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        let networks = config.networks.iter().enumerate().map(|(at, network)| {
            let family = config.this.addresses.get(at);
            (network.name.clone(), family.is_some_and(|it| it.is_ipv4()))
        });
        let (store, contents) = sync_channel(WAITING_MAX);
        let path = file.clone();
        let thread = std::thread::Builder::new().name("modes".into());
        Ok(Self {
            file,
            networks: networks.collect(),
            remembered,
            asked: None,
            store: Some(store),
            thread: Some(thread.spawn(move || write(&path, &contents))?),
        })
    }

    /// What the networks of `config` begin with.
    pub fn at_start(&self, config: &Config) -> Vec<(Mode, Generation)> {
        let networks = config.networks.iter();
        networks
            .map(|network| {
                let configured = of(network.transport);
                let Some(it) = self.remembered.get(&network.name) else {
                    return (configured, Generation::default());
                };
                let mode = Mode::from(it.mode);
                if mode != configured {
                    info!(
                        event = "mode-remembered",
                        network = network.name,
                        mode = name(mode),
                        configured = name(configured),
                        "the mode that `ctsync mode` has switched to is used, not the configured one"
                    );
                }
                let generation = Generation {
                    number: it.generation,
                    by: it.by,
                };
                (mode, generation)
            })
            .collect()
    }

    /// An operator asks; the answer comes when the new mode is used, or given up.
    pub fn handle_request(
        &mut self,
        core: &mut Core,
        request: &ModeRequest,
        answer: oneshot::Sender<Done>,
        now: Instant,
    ) {
        match self.judge(core, request) {
            Ok(network) => {
                core.ask_mode(network, request.mode.into(), now);
                self.asked = Some((network, answer));
            }
            Err(reason) => reply(answer, Some(reason)),
        }
    }

    fn judge(&self, core: &Core, request: &ModeRequest) -> Result<NetworkId, String> {
        let name = &request.network;
        let at = self.networks.iter().position(|(it, _)| it == name);
        let network = at
            .and_then(|at| NetworkId::new(u8::try_from(at).ok()?))
            .ok_or_else(|| format!("there is no network {name}: see `ctsync syncstat`"))?;
        let is_ipv4 = self.networks.iter().any(|(it, ipv4)| it == name && *ipv4);
        if request.mode == ModeWord::Broadcast && !is_ipv4 {
            return Err("IPv6 has no broadcast: choose multicast or unicast".to_owned());
        }
        if self.asked.as_ref().is_some_and(|(_, it)| !it.is_closed()) {
            return Err("another switch is under way: ask again when it is over".to_owned());
        }
        if core.live_peers().is_empty() {
            return Err(
                "no peer is live, so nobody can say whether it carries: see `ctsync status`"
                    .to_owned(),
            );
        }
        let lacking = core.node().membership().lacking(Capability::Modes);
        if let Some(member) = lacking.iter().next() {
            let name = core.names().get(&member).map_or("", String::as_str);
            return Err(format!(
                "{name} runs a version that cannot switch modes: update it first"
            ));
        }
        Ok(network)
    }

    /// A mode has changed, or was to and did not: it is remembered, told, and answered.
    pub fn handle_changed(&mut self, changed: Changed, name_of: impl Fn(MemberSet) -> String) {
        match changed {
            Changed::Used {
                network,
                mode,
                generation,
            } => {
                let Some((network_name, _)) = self.networks.get(network.index()).cloned() else {
                    return;
                };
                info!(
                    event = "mode",
                    network = network_name,
                    mode = name(mode),
                    "datagrams for all leave by another mode now"
                );
                let it = Remembered {
                    mode: mode.into(),
                    generation: generation.number,
                    by: generation.by,
                };
                self.remembered.insert(network_name, it);
                let answer = self.asker(network);
                self.store(answer);
            }
            Changed::Undone {
                network,
                mode,
                deaf,
            } => {
                let deaf = match deaf.is_empty() {
                    true => "no peer was there any longer, which".to_owned(),
                    false => name_of(deaf),
                };
                let network_name = self.networks.get(network.index()).map_or("", |it| &it.0);
                warn!(
                    event = "mode-undone",
                    network = network_name,
                    mode = name(mode),
                    deaf,
                    "a mode does not carry: the one before stays"
                );
                let reason = format!(
                    "{network_name} does not carry {}: {deaf} did not hear every other member by it, so it was undone; see the switch, and what filters on its way",
                    name(mode)
                );
                if let Some(answer) = self.asker(network) {
                    reply(answer, Some(reason));
                }
            }
        }
    }

    /// Who asked for the change.
    fn asker(&mut self, network: NetworkId) -> Option<oneshot::Sender<Done>> {
        let asked = self.asked.take_if(|(asked, _)| *asked == network);
        asked.map(|(_, answer)| answer)
    }

    /// Has everything stored; then `answer` is given.
    fn store(&self, answer: Option<oneshot::Sender<Done>>) {
        let (Some(store), Ok(bytes)) = (&self.store, serde_json::to_vec_pretty(&self.remembered))
        else {
            return;
        };
        if let Err(TrySendError::Full(it) | TrySendError::Disconnected(it)) =
            store.try_send(Content { bytes, answer })
        {
            let error = io::Error::other("the disk does not keep up");
            say_not_stored(&self.file, &error);
            it.answer.into_iter().for_each(|answer| reply(answer, None));
        }
    }
}

/// What waits is stored.
impl Drop for Modes {
    fn drop(&mut self) {
        self.store = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(event = "defect", "the thread that stores modes panicked");
        }
    }
}

fn write(file: &Path, contents: &Receiver<Content>) {
    for Content { bytes, answer } in contents {
        if let Err(error) = files::replace(file, &bytes) {
            say_not_stored(file, &error);
        }
        answer.into_iter().for_each(|answer| reply(answer, None));
    }
}

fn say_not_stored(file: &Path, error: &io::Error) {
    warn!(event = "mode-not-stored", file = %file.display(), %error, "the mode will not be known after a restart");
}

fn reply(answer: oneshot::Sender<Done>, refused: Option<String>) {
    // An asker that went away meanwhile needs no answer.
    let _ = answer.send(Done { refused });
}

/// The mode that a transport is.
fn of(transport: Transport) -> Mode {
    match transport {
        Transport::Unicast => Mode::Unicast,
        Transport::Multicast { .. } => Mode::Multicast,
        Transport::Broadcast => Mode::Broadcast,
    }
}

/// The name of a mode, in the configuration and for operators.
pub fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Unicast => "unicast",
        Mode::Multicast => "multicast",
        Mode::Broadcast => "broadcast",
    }
}

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Unicast => Self::Unicast,
            ModeWord::Multicast => Self::Multicast,
            ModeWord::Broadcast => Self::Broadcast,
        }
    }
}

impl From<Mode> for ModeWord {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Unicast => Self::Unicast,
            Mode::Multicast => Self::Multicast,
            Mode::Broadcast => Self::Broadcast,
        }
    }
}
