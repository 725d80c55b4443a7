//! The lab itself: what the other tests stand on.

use std::net::IpAddr;
use std::process::Command;

use tests::lab::{Family, Lab, Path, SHARED_IPV4, SHARED_IPV6};
use tests::netns::{DEADLINE, Namespace, run, wait_until};

#[test]
fn a_dropped_namespace_is_gone_and_so_is_what_ran_in_it() {
    let namespace = Namespace::new("gone");
    let name = namespace.name().to_owned();
    let mut sleeper = namespace
        .command("sleep")
        .arg("600")
        .spawn()
        .expect("sleep starts");
    // What is started enters its namespace a moment later.
    wait_until("it is in the namespace", DEADLINE, || {
        !run(Command::new("ip").args(["netns", "pids", &name])).is_empty()
    });
    drop(namespace);
    assert!(!run(Command::new("ip").args(["netns", "list"])).contains(&name));
    assert!(!sleeper.wait().expect("it can be waited for").success());
}

#[test]
fn every_path_reaches_the_server_through_every_gateway() {
    let lab = Lab::new(3);
    for gateway in [0, 2, 1, 0] {
        lab.activate(gateway);
        for family in [Family::Ipv4, Family::Ipv6] {
            for path in [Path::Plain, Path::Redirected, Path::Through(1)] {
                assert_eq!(
                    seen_by_server(&lab, path, family),
                    path.client(family),
                    "{path:?}"
                );
            }
            let seen = seen_by_server(&lab, Path::Masqueraded, family);
            let shared = match family {
                Family::Ipv4 => SHARED_IPV4,
                Family::Ipv6 => SHARED_IPV6,
            };
            assert_eq!(seen.to_string(), shared);
        }
    }
}

/// Sends a datagram there and back, and returns whom the server saw.
fn seen_by_server(lab: &Lab, path: Path, family: Family) -> IpAddr {
    let server = (lab.server).udp_socket((path.listener(family), 7000), DEADLINE);
    let client = (lab.client).udp_socket((path.client(family), 0), DEADLINE);
    let mut bytes = [0; 8];
    client
        .send_to(b"there", (path.server(family), 7000))
        .expect("there is a route");
    let (_, seen) = server.recv_from(&mut bytes).expect("the datagram arrives");
    server
        .send_to(b"back", seen)
        .expect("there is a route back");
    let (length, from) = client.recv_from(&mut bytes).expect("the answer arrives");
    assert_eq!(
        (&bytes[..length], from.ip()),
        (&b"back"[..], path.server(family))
    );
    seen.ip()
}
