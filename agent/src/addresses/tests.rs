//! Against a real kernel, in a network namespace of the test's own.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A network namespace with a link `sync0` in it; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "ctsync-addr-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name]);
        let namespace = Self(name);
        namespace.ip("link add sync0 mtu 1400 type veth peer name sync1");
        // No addresses of the kernel's own making: they would come at a time of its choosing.
        namespace.ip("link set sync0 addrgenmode none");
        namespace.ip("link set sync1 addrgenmode none");
        namespace.ip("link set sync1 up");
        namespace.ip("link set sync0 up");
        // The kernel finds out a moment later that there is a carrier.
        let begin = std::time::Instant::now();
        while namespace.links_up() < 2 {
            assert!(begin.elapsed() < DEADLINE, "no carrier");
            thread::yield_now();
        }
        namespace
    }

    fn links_up(&self) -> usize {
        let mut command = Command::new("ip");
        let command = command.args(["-n", &self.0, "-br", "link", "show", "up"]);
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        printed.lines().filter(|line| line.contains(" UP ")).count()
    }

    fn ip(&self, arguments: &str) {
        let mut all = vec!["-n", &self.0];
        all.extend(arguments.split(' '));
        ip(&all);
    }

    /// Runs `work` on a thread that is in this namespace.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap();
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.0]);
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("iproute2 is installed");
    assert!(
        status.success() || thread::panicking(),
        "ip {arguments:?}: {status}; these tests need root"
    );
}

fn parsed(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// Waits for notifications, and reads until the set is as wanted.
fn follow(addresses: &mut LocalAddresses, wanted: impl Fn(&AddressSet) -> bool) {
    while !wanted(addresses.set()) {
        let mut fds = [PollFd::new(&*addresses, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::try_from(DEADLINE).unwrap())).unwrap();
        assert_ne!(
            ready,
            0,
            "no notification came; the set is {:?}",
            addresses.set()
        );
        addresses.read().unwrap();
    }
}

#[test]
fn addresses_that_were_there_before_are_known() {
    let namespace = Namespace::new();
    namespace.ip("address add 192.0.2.1/24 broadcast + dev sync0");
    namespace.ip("address add 198.51.100.1/30 dev sync0");
    namespace.ip("address add 203.0.113.1 peer 203.0.113.2/32 dev sync0");
    namespace.ip("address add 2001:db8::1/64 nodad dev sync0");
    namespace.run(|| {
        let addresses = LocalAddresses::open().unwrap();
        let set = addresses.set();
        for local in [
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "2001:db8::1",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
        ] {
            assert!(set.is_local(parsed(local)), "{local} in {set:?}");
        }
        for remote in [
            "192.0.2.2",
            "192.0.2.255",
            "203.0.113.2",
            "2001:db8::2",
            "0.0.0.0",
            "::",
        ] {
            assert!(!set.is_local(parsed(remote)), "{remote} in {set:?}");
        }
        for broadcast in ["192.0.2.255", "198.51.100.3", "255.255.255.255"] {
            assert!(
                set.is_broadcast(parsed(broadcast)),
                "{broadcast} in {set:?}"
            );
        }
        for unicast in [
            "192.0.2.1",
            "203.0.113.1",
            "203.0.113.2",
            "198.51.100.2",
            "2001:db8::1",
        ] {
            assert!(!set.is_broadcast(parsed(unicast)), "{unicast} in {set:?}");
        }
    });
}

#[test]
fn address_that_comes_and_goes_is_followed() {
    let namespace = Namespace::new();
    for address in ["192.0.2.7", "2001:db8::7"] {
        namespace.run(|| {
            let mut addresses = LocalAddresses::open().unwrap();
            assert!(!addresses.set().is_local(parsed(address)));
            namespace.ip(&format!("address add {address}/28 dev sync0"));
            follow(&mut addresses, |set| set.is_local(parsed(address)));
            namespace.ip(&format!("address del {address}/28 dev sync0"));
            follow(&mut addresses, |set| !set.is_local(parsed(address)));
        });
    }
}

#[test]
fn address_of_a_link_that_is_deleted_goes_with_it() {
    let namespace = Namespace::new();
    namespace.ip("address add 192.0.2.1/24 dev sync0");
    namespace.run(|| {
        let mut addresses = LocalAddresses::open().unwrap();
        assert!(addresses.set().is_broadcast(parsed("192.0.2.255")));
        namespace.ip("link del sync0");
        follow(&mut addresses, |set| {
            !set.is_local(parsed("192.0.2.1")) && !set.is_broadcast(parsed("192.0.2.255"))
        });
    });
}

#[test]
fn addresses_that_are_lent_or_switched_off_are_known_as_such() {
    let namespace = Namespace::new();
    namespace.ip("address add 192.0.2.1/24 dev sync0");
    namespace.ip("address add 192.0.2.2/24 dev sync0 valid_lft 1000 preferred_lft 1000");
    namespace.ip("address add 203.0.113.1 peer 203.0.113.2/32 dev sync0");
    namespace.run(|| {
        let mut addresses = LocalAddresses::open().unwrap();
        let is = |is: fn(&AddressSet, IpAddr) -> bool, set: &AddressSet| {
            ["192.0.2.1", "192.0.2.2", "203.0.113.1"].map(|it| is(set, parsed(it)))
        };
        assert_eq!(
            is(AddressSet::is_lent, addresses.set()),
            [false, true, true]
        );
        assert_eq!(is(AddressSet::is_in_use, addresses.set()), [true; 3]);
        // Without a carrier the kernel goes on as before.
        namespace.ip("link set sync1 down");
        addresses.read().unwrap();
        assert_eq!(is(AddressSet::is_in_use, addresses.set()), [true; 3]);
        namespace.ip("link set sync0 down");
        follow(&mut addresses, |set| !set.is_in_use(parsed("192.0.2.1")));
        assert!(addresses.set().is_local(parsed("192.0.2.1")));
    });
}

#[test]
fn nothing_is_read_anew_without_a_notification() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut addresses = LocalAddresses::open().unwrap();
        assert!(!addresses.read().unwrap());
    });
}

#[test]
fn what_could_not_be_read_is_read_without_another_notification() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut addresses = LocalAddresses::open().unwrap();
        namespace.ip("addr add 192.0.2.1/24 dev sync0");
        // As when reading fails after the notifications were taken.
        addresses.is_stale = addresses.take_notifications().unwrap();
        assert!(addresses.read().unwrap());
        assert!(addresses.set().is_local(parsed("192.0.2.1")));
        assert!(!addresses.read().unwrap());
    });
}

#[test]
fn change_that_leaves_the_addresses_as_they_were_is_no_change() {
    let namespace = Namespace::new();
    namespace.ip("address add 192.0.2.1/24 dev sync0 valid_lft 500 preferred_lft 500");
    namespace.run(|| {
        let mut addresses = LocalAddresses::open().unwrap();
        namespace.ip("address change 192.0.2.1/24 dev sync0 valid_lft 1000 preferred_lft 1000");
        let mut fds = [PollFd::new(&addresses, PollFlags::IN)];
        assert_eq!(
            poll(&mut fds, Some(&Timespec::try_from(DEADLINE).unwrap())).unwrap(),
            1
        );
        assert!(!addresses.read().unwrap());
    });
}

#[test]
fn notifications_that_were_lost_leave_the_set_right() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut addresses = LocalAddresses::open().unwrap();
        // The least the kernel allows: a few notifications overrun it.
        rustix::net::sockopt::set_socket_recv_buffer_size(&addresses, 1).unwrap();
        for host in 1..=100 {
            namespace.ip(&format!("address add 10.0.0.{host}/24 dev sync0"));
        }
        let mut fds = [PollFd::new(&addresses, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap();
        assert!(fds[0].revents().contains(PollFlags::ERR), "it was overrun");
        namespace.ip("address del 10.0.0.100/24 dev sync0");
        namespace.ip("address add 10.0.0.101/24 dev sync0");
        follow(&mut addresses, |set| set.is_local(parsed("10.0.0.101")));
        assert!(!addresses.set().is_local(parsed("10.0.0.100")));
        assert!((1..=99).all(|host| addresses.set().is_local(parsed(&format!("10.0.0.{host}")))));
    });
}

#[test]
fn more_addresses_than_fit_one_message_are_all_read() {
    let namespace = Namespace::new();
    let batch: String = (0..2000)
        .map(|host| {
            format!(
                "address add 10.1.{}.{}/16 dev sync0\n",
                host / 250,
                host % 250 + 1
            )
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    namespace.ip(&format!("-batch {}", file.path().display()));
    let set = namespace.run(|| LocalAddresses::open().unwrap().set().clone());
    assert!((0..2000).all(|host| set.is_local(parsed(&format!(
        "10.1.{}.{}",
        host / 250,
        host % 250 + 1
    )))));
}

#[test]
fn interface_is_found_by_name_with_what_it_can_carry() {
    let namespace = Namespace::new();
    namespace.ip("address add 192.0.2.1/24 broadcast 192.0.2.254 dev sync0");
    namespace.ip("address add 198.51.100.1/31 dev sync1");
    namespace.run(|| {
        let sync0 = interface("sync0").unwrap();
        assert_eq!(
            (sync0.mtu_bytes, sync0.broadcast),
            (1400, Some(Ipv4Addr::new(192, 0, 2, 254)))
        );
        let sync1 = interface("sync1").unwrap();
        assert_eq!(sync1.broadcast, None, "a /31 has no broadcast address");
        assert_ne!(sync0.index, sync1.index);
        let missing = interface("sync2").unwrap_err();
        assert_eq!(
            (missing.kind(), missing.to_string()),
            (io::ErrorKind::NotFound, "there is no such interface".into())
        );
    });
}
