//! Network namespaces, flows to put into them, and what tests ask of a table.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conntrack::consts::*;
use conntrack::{
    Dump, DumpItem, Errno, EventSocket, EventSocketOptions, Flow, HelperName, Injector, Item, L4,
    ProtoInfo, SeqAdj, TcpInfo, Tuple,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, set_capabilities};

pub const IPPROTO_ESP: u8 = 50;

/// Runs `body` on a thread that is alone in a new network namespace, and in what it starts.
pub fn in_netns<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare_net();
            run("ip link set lo up");
            body()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[expect(deprecated, reason = "it is unsafe for other flags than NEWNET")]
fn unshare_net() {
    rustix::thread::unshare(UnshareFlags::NEWNET)
        .expect("a network namespace: run the tests as root");
}

/// Takes CAP_NET_ADMIN from this thread.
pub fn drop_net_admin() {
    let mut sets = capabilities(None).expect("the capabilities of this thread");
    sets.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, sets).expect("fewer are always allowed");
}

/// Runs a command, which must succeed, and returns what it prints.
pub fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().expect("a command has a first word");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives nftables a ruleset.
pub fn nft(ruleset: &str) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft is installed");
    nft.stdin
        .take()
        .expect("it is piped")
        .write_all(ruleset.as_bytes())
        .expect("nft reads");
    assert!(
        nft.wait().expect("it runs").success(),
        "nft refused {ruleset}"
    );
}

/// Whether the kernel tracks the ports and the state of DCCP, which Linux retired after 6.12.
pub fn tracks_dccp() -> bool {
    std::fs::exists("/proc/sys/net/netfilter/nf_conntrack_dccp_timeout_open").unwrap_or(false)
}

pub fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

pub fn ports(proto: u8, src: (&str, u16), dst: (&str, u16)) -> Tuple {
    let l4 = L4::Ports {
        src: src.1,
        dst: dst.1,
    };
    Tuple {
        src: ip(src.0),
        dst: ip(dst.0),
        proto,
        l4,
        zone: 0,
    }
}

/// An established TCP flow, the `number`th.
pub fn tcp_flow(number: u32) -> Flow {
    let [a, b, c, d] = number.to_be_bytes();
    let client = format!("10.{}.{b}.{c}", a.wrapping_add(1));
    let orig = ports(
        IPPROTO_TCP,
        (&client, 1024 + u16::from(d)),
        ("192.0.2.80", 443),
    );
    let tcp = TcpInfo {
        state: TCP_CONNTRACK_ESTABLISHED,
        wscale: Some([7, 8]),
        flags: Some([3, 3]),
    };
    Flow {
        status: Some(IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED),
        timeout: Some(600),
        protoinfo: Some(ProtoInfo::Tcp(tcp)),
        ..Flow::new(orig)
    }
}

/// A flow of FTP: source NAT, helper, and what the helper's rewriting of packets does to the sequence numbers.
pub fn ftp_flow() -> Flow {
    let adj = |correction_pos| SeqAdj {
        correction_pos,
        offset_before: 2,
        offset_after: 5,
    };
    Flow {
        reply: ports(IPPROTO_TCP, ("192.0.2.80", 21), ("198.51.100.7", 40_000)),
        status: Some(IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED | IPS_SRC_NAT | IPS_SEQ_ADJUST),
        timeout: Some(600),
        protoinfo: tcp_flow(0).protoinfo,
        helper: HelperName::new("ftp"),
        seq_adj: [Some(adj(1000)), Some(adj(2000))],
        ..Flow::new(ports(IPPROTO_TCP, ("10.1.0.1", 40_000), ("192.0.2.80", 21)))
    }
}

/// The data connection of [`ftp_flow`].
pub fn ftp_data_flow(master: &Flow) -> Flow {
    let orig = ports(IPPROTO_TCP, ("10.1.0.1", 40_001), ("192.0.2.80", 20));
    Flow {
        master: Some(master.orig),
        status: Some(IPS_EXPECTED | IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED),
        timeout: Some(500),
        protoinfo: tcp_flow(0).protoinfo,
        ..Flow::new(orig)
    }
}

/// Commits what was appended; the outcomes by index.
pub fn commit(injector: &mut Injector) -> Vec<Result<(), Errno>> {
    let mut outcomes = Vec::new();
    let mut take = |index, outcome| {
        assert_eq!(index, outcomes.len(), "outcomes come in order");
        outcomes.push(outcome);
    };
    injector
        .commit(&mut take)
        .expect("the kernel takes requests");
    outcomes
}

/// Creates a flow, which must succeed.
pub fn create(injector: &mut Injector, flow: &Flow) {
    injector.create(flow);
    assert_eq!(commit(injector), [Ok(())], "{flow:?}");
}

/// The flow as the table has it.
pub fn find(flow: &Flow) -> Option<Flow> {
    conntrack::lookup(&flow.orig, flow.zone).expect("a lookup is answered")
}

/// All flows of the table.
pub fn dump() -> Vec<Flow> {
    let items = Dump::open().expect("a dump begins");
    items
        .map(|item| match item.expect("a dump goes on") {
            DumpItem::Flow(flow) => flow,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// An event socket with a buffer large enough for a test.
pub fn open_events() -> EventSocket {
    let options = EventSocketOptions {
        receive_buffer_bytes: 4 << 20,
        ignore: None,
    };
    EventSocket::open(&options).expect("events are to be had")
}

/// Reads events until `done` says so of what has come, within 10 s.
pub fn read_until(socket: &mut EventSocket, done: impl Fn(&[Item]) -> bool) -> Vec<Item> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut items = Vec::new();
    loop {
        socket
            .drain(usize::MAX, &mut |item| items.push(item))
            .expect("the socket is readable");
        if done(&items) {
            return items;
        }
        assert!(
            Instant::now() < deadline,
            "not what was waited for: {items:#?}"
        );
        wait_readable(socket);
    }
}

/// Waits until there is something to read, 100 ms at most.
pub fn wait_readable(socket: &impl AsFd) {
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&tick)).expect("poll");
}
