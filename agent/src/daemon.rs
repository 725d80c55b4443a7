//! Start and stop of the daemon, in order: all that can fail comes before it is said to be up, and what was put in place by then
//! goes again.

mod setup;

use crate::accounting::writer::Writer;
use crate::addresses::LocalAddresses;
use crate::config::{Config, HoldMode};
use crate::control::{self, Ask, Server, StartError, Wake};
use crate::core::Core;
use crate::doctor::{self, differences::Differences};
use crate::driver::Driver;
use crate::driver::flaps::Flaps;
use crate::facts;
use crate::filter::Filter;
use crate::identity::MemberKey;
use crate::kernel::Kernel;
use crate::key_log::KeyLog;
use crate::log::Faults;
use crate::machine_checks::MachineChecks;
use crate::metrics::Metrics;
use crate::modes::Modes;
use crate::monitor::Monitor;
use crate::networks::Networks;
use crate::notify::Notify;
use crate::policy::Policy;
use crate::queue::Queue;
use crate::reload::{self, Reloader};
use crate::roles::RoleEffects;
use crate::ruleset::hold::{Backend, Holding, HoldingError, Steering};
use crate::ruleset::tools::Tools;
use crate::ruleset::{CopyBit, Rules, Ruleset, RulesetError};
use crate::tcp::Links;
use ccp::network::NetworkId;
use ccp::time::Instant;
use conntrack::{InjectorOptions, SocketError};
use rustix::event::{EventfdFlags, eventfd};
use setup::setup;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Why the daemon did not start, or ended. `Display` says what to do.
#[derive(Debug)]
pub enum RunError {
    /// The kernel's connection tracking is not to be had.
    Conntrack(SocketError),
    /// The rules that tell when a flow moves, and keep events from being made, could not be installed.
    Ruleset(RulesetError),
    /// The queue for held packets is not to be had.
    Queue(SocketError),
    /// Packets could not be steered to the queue.
    Holding(HoldingError),
    /// The control socket could not be opened.
    Control(StartError),
    /// The interface of the sync network is not there.
    Interface { name: String, source: io::Error },
    /// Something that was to be done failed.
    Io {
        what: &'static str,
        source: io::Error,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conntrack(error) => error.fmt(f),
            Self::Ruleset(error) => error.fmt(f),
            Self::Queue(error) => error.fmt(f),
            Self::Holding(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
            Self::Interface { name, source } => {
                write!(
                    f,
                    "cannot use the interface {name} of the sync network: {source}; see `ip link` for what there is"
                )
            }
            Self::Io { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for RunError {}

fn failed(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Io { what, source }
}

/// Runs the daemon of the member that has `key`, by `policy`, until SIGTERM or SIGINT.
///
/// `path` is where the configuration was read, and is read again.
pub fn run(path: &Path, config: &Config, policy: Policy, key: &MemberKey) -> Result<(), RunError> {
    let stop = stop_signal().map_err(failed("watch for signals"))?;
    // Events are subscribed to before the table is read, so that nothing falls between.
    let kernel = open_kernel(config).map_err(RunError::Conntrack)?;
    let addresses = LocalAddresses::open().map_err(failed("read the machine's addresses"))?;
    let mut networks = Networks::open(config, &addresses)
        .map_err(|(name, source)| RunError::Interface { name, source })?;
    let policy = Arc::new(policy);
    let setup = setup(
        config,
        Arc::clone(&policy),
        addresses.set().clone(),
        networks.datagram_bytes_max(),
    )?;
    let (sender, asks) = control::asks();
    let (wakes, woken) = wakes().map_err(failed("make an eventfd"))?;
    let links = Links::start(config, key, wake(&wakes))
        .map_err(failed("listen for the links of the other members"))?;
    let served = serve(config, &wakes, &sender)?;
    let key_log = (config.log.datagram_keys.as_deref())
        .map(open_key_log)
        .transpose()?;
    let modes = Modes::open(config).map_err(failed("start the modes thread"))?;
    let monitor = Monitor::new(config).map_err(failed("watch the interfaces"))?;
    let accounting =
        Writer::start(&config.accounting.target).map_err(failed("start the accounting thread"))?;
    let tools = Tools::look(config.policy.kernel);
    let (queue, steering) = queue(config, &policy, &tools)?;
    let roles = RoleEffects::start(config).map_err(failed("write the track file"))?;
    let rules = Rules::of(config, &policy, steering.as_ref(), &tools).map_err(RunError::Ruleset)?;
    let directory = config.control.socket.parent().unwrap_or(Path::new("/"));
    let ruleset = Ruleset::install(&rules, directory).map_err(RunError::Ruleset)?;
    reload::log_push_down(config, &tools, rules.means);
    let path =
        std::path::absolute(path).map_err(failed("resolve the path of the configuration"))?;
    let reloader = Reloader::start(
        path,
        config.clone(),
        steering.clone(),
        ruleset,
        wake(&wakes),
    )
    .map_err(failed("watch for SIGHUP"))?;
    let holding = hold(steering, config.hold.mode)?;
    doctor::examine_and_log(config).map_err(failed("start the doctor's thread"))?;
    facts::watch(config, sender, wake(&wakes)).map_err(failed("start the facts thread"))?;
    let origin = std::time::Instant::now();
    let mut core = Core::new(setup, Instant::default());
    let at_start = modes.at_start(config);
    core.set_modes(&at_start);
    for (network, (mode, _)) in NetworkId::all().zip(at_start) {
        networks.set_mode(network, mode);
    }
    let mut notify = Notify::new();
    info!(
        event = "started",
        cluster = config.cluster,
        this_member = config.this.id.get(),
        this_name = config.this.name,
        "ctsync is up"
    );
    notify.ready();
    let driver = Driver {
        accounting,
        monitor,
        core,
        modes,
        kernel,
        networks,
        queue,
        holding,
        learning: None,
        flaps: Flaps::default(),
        links,
        has_reports: false,
        addresses,
        asks,
        rolls: Vec::new(),
        audits: Vec::new(),
        machine_checks: MachineChecks::new(config),
        roles,
        reloader,
        filter: Filter::new(rules.unwanted),
        woken,
        stop,
        origin,
        key_log,
        differences: Differences::default(),
        faults: Faults::default(),
        alive: Box::new(move || notify.alive()),
    };
    let result = driver.run().map_err(failed("wait for events"));
    crate::notify::stopping();
    drop(served);
    let roles = result?;
    let mut notify = Notify::new();
    roles.finish(|| notify.alive());
    info!(event = "ended", "ctsync ends; the flows stay in the kernel");
    Ok(())
}

fn open_kernel(config: &Config) -> Result<Kernel, SocketError> {
    let written = InjectorOptions {
        mark_mask: config.kernel.mark_mask | config.kernel.copy_bit.map_or(0, CopyBit::mask),
        label_mask: conntrack::labels(config.kernel.label_mask),
    };
    Kernel::open(
        config.kernel.event_buffer_bytes as usize,
        written,
        config.accounting.is_on(),
    )
}

/// Listens to operators, monitoring and metrics scrapers, until what is returned is dropped.
fn serve(
    config: &Config,
    wakes: &Arc<OwnedFd>,
    asks: &mpsc::Sender<Ask>,
) -> Result<(Server, Option<Server>, Option<Metrics>), RunError> {
    let control = &config.control;
    let server =
        Server::start(&control.socket, wake(wakes), asks.clone()).map_err(RunError::Control)?;
    let monitoring = (control.monitor_socket.as_ref())
        .map(|path| Server::start_for_monitoring(path, wake(wakes), asks.clone()))
        .transpose()
        .map_err(RunError::Control)?;
    let metrics = (config.metrics.listen.as_ref())
        .map(|listen| Metrics::start(listen, wake(wakes), asks.clone()))
        .transpose()
        .map_err(failed("listen for metrics scrapers"))?;
    Ok((server, monitoring, metrics))
}

fn open_key_log(path: &Path) -> Result<KeyLog, RunError> {
    let log = KeyLog::open(path).map_err(failed("open the file of `log: {datagram_keys}`"))?;
    warn!(
        event = "keys-logged",
        file = %path.display(),
        "keys of datagrams are written to a file: who reads it can read and forge what members say"
    );
    Ok(log)
}

/// Where packets wait that are held, and which ones those are.
fn queue(
    config: &Config,
    policy: &Policy,
    tools: &Tools,
) -> Result<(Option<Queue>, Option<Steering>), RunError> {
    if config.hold.mode == HoldMode::Never {
        return Ok((None, None));
    }
    if let Err(reason) = &tools.nft {
        let error = HoldingError::no_nftables(reason);
        if config.hold.mode == HoldMode::Always {
            return Err(RunError::Holding(error));
        }
        warn_not_held(&error);
        return Ok((None, None));
    }
    match Queue::open(&config.hold) {
        Ok(queue) => {
            let backend = Backend::of_kernel();
            let steering = Steering::of(config, policy, backend, queue.translation_is_known());
            if !queue.translation_is_known() {
                info!(
                    event = "not-held",
                    "this kernel does not say how a held packet is translated (CONFIG_NETFILTER_NETLINK_GLUE_CT): first \
                     packets of translated flows are not held, but counted"
                );
            }
            Ok((Some(queue), steering))
        }
        Err(error) if config.hold.mode == HoldMode::Auto => {
            warn_not_held(&error);
            Ok((None, None))
        }
        Err(error) => Err(RunError::Queue(error)),
    }
}

/// Has packets steered to the queue; `None` if none are to be, or they need not and cannot be.
fn hold(steering: Option<Steering>, mode: HoldMode) -> Result<Option<Arc<Holding>>, RunError> {
    let Some(steering) = steering else {
        return Ok(None);
    };
    match Holding::install(steering) {
        Ok(holding) => Ok(Some(Arc::new(holding))),
        Err(error) if mode == HoldMode::Auto => {
            warn_not_held(&error);
            Ok(None)
        }
        Err(error) => Err(RunError::Holding(error)),
    }
}

/// What wakes the driver: one end for those who do, and one for it to wait on.
fn wakes() -> io::Result<(Arc<OwnedFd>, OwnedFd)> {
    let wakes = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let woken = wakes.try_clone()?;
    Ok((Arc::new(wakes), woken))
}

fn warn_not_held(error: &dyn fmt::Display) {
    warn!(
        event = "not-held",
        %error,
        "packets are not held: connections routed asymmetrically may open a second late"
    );
}

/// Makes the driver look for what there is for it.
fn wake(eventfd: &Arc<OwnedFd>) -> Wake {
    let eventfd = Arc::clone(eventfd);
    Box::new(move || {
        // It fails only when it is full of wakes that the driver has not seen yet.
        let _ = rustix::io::write(&*eventfd, &1u64.to_ne_bytes());
    })
}

/// Readable after SIGTERM or SIGINT.
fn stop_signal() -> io::Result<OwnedFd> {
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read.into())
}
