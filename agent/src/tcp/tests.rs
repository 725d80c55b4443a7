//! Links over the loopback interface, both ends ours; what they connect is made up.

use super::*;
use crate::config::{Config, MemberId};
use crate::core::keys::{KeyMessage, KeyOffer};
use crate::core::seal::DatagramKey;
use crate::identity::PublicKey;
use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::time::Instant;

const DEADLINE: Duration = Duration::from_secs(20);

/// One end; reports are waited for.
struct End {
    links: Links,
    woken: std_mpsc::Receiver<()>,
}

fn id(number: u8) -> MemberId {
    MemberId::new(number).unwrap()
}

fn key() -> MemberKey {
    let directory = tempfile::tempdir().unwrap();
    MemberKey::create(&directory.path().join("member.key")).unwrap()
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

impl End {
    /// Member `own` of a cluster of two, whose members have these public keys.
    fn start(own: u8, key: &MemberKey, port: u16, keys: [PublicKey; 2]) -> Self {
        let [one, two] = keys;
        let text = format!(
            "cluster: 7
member: {own}
members:
  - {{ id: 1, name: gw-a, addresses: {{ sync: 127.0.0.1 }}, public_key: {one} }}
  - {{ id: 2, name: gw-b, addresses: {{ sync: 127.0.0.2 }}, public_key: {two} }}
networks:
  - {{ name: sync, interface: lo, port: {port} }}
"
        );
        let config = Config::parse(&text, Path::new("ctsync.yaml")).unwrap();
        let (wake, woken) = std_mpsc::channel();
        let wake = Box::new(move || wake.send(()).unwrap_or_default());
        let links = Links::start(&config, key, wake).unwrap();
        Self { links, woken }
    }

    fn report(&mut self) -> Report {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(report) = self.links.poll_report() {
                return report;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.woken.recv_timeout(left).expect("something happens");
        }
    }

    /// The next report but for those of links that come and go.
    fn said(&mut self) -> (MemberId, LinkMessage) {
        loop {
            match self.report() {
                Report::Said(member, message) => return (member, message),
                Report::Up(_) | Report::Down(_) => {}
                Report::Stranger | Report::Failure => panic!("nobody is refused"),
            }
        }
    }

    fn wait_up(&mut self) {
        while !matches!(self.report(), Report::Up(_)) {}
    }
}

fn offer(epoch: u8) -> LinkMessage {
    LinkMessage::Key(KeyMessage::Offer(KeyOffer {
        incarnation: 77,
        epoch,
        key: DatagramKey::new([epoch; 32]),
        floor: 5,
    }))
}

#[test]
fn two_members_tell_each_other_keys_whoever_starts_first() {
    let (one, two) = (key(), key());
    let keys = [one.public(), two.public()];
    for first in [1, 2] {
        let port = free_port();
        let start = |own| End::start(own, if own == 1 { &one } else { &two }, port, keys);
        let mut ends = [start(first), start(3 - first)];
        ends.iter_mut().for_each(End::wait_up);
        for from in [0, 1] {
            let to = 1 - from;
            let (sender, receiver) = ([first, 3 - first][from], [first, 3 - first][to]);
            assert!(ends[from].links.has_room(id(receiver)));
            ends[from].links.tell(id(receiver), offer(sender));
            let (member, message) = ends[to].said();
            let LinkMessage::Key(KeyMessage::Offer(said)) = message else {
                panic!("{message:?}")
            };
            assert_eq!(member, id(sender));
            assert_eq!((said.incarnation, said.epoch, said.floor), (77, sender, 5));
            assert_eq!(said.key.bytes(), &[sender; 32]);
        }
    }
}

#[test]
fn a_link_comes_back_when_either_end_restarts() {
    let (one, two) = (key(), key());
    let (keys, port) = ([one.public(), two.public()], free_port());
    let start = |own: u8| {
        Some(End::start(
            own,
            if own == 1 { &one } else { &two },
            port,
            keys,
        ))
    };
    let mut ends = [start(1), start(2)];
    ends.iter_mut().flatten().for_each(End::wait_up);
    for restarted in [1, 2, 1] {
        ends[restarted - 1] = None;
        let left = ends.iter_mut().flatten().next().expect("one is left");
        while !matches!(left.report(), Report::Down(_)) {}
        let own = u8::try_from(restarted).unwrap();
        ends[restarted - 1] = start(own);
        ends.iter_mut().flatten().for_each(End::wait_up);
    }
}

#[test]
fn who_dials_with_a_strangers_key_is_refused_and_counted() {
    let (one, two, stranger) = (key(), key(), key());
    let port = free_port();
    let mut listener = End::start(2, &two, port, [one.public(), two.public()]);
    let _dialler = End::start(1, &stranger, port, [stranger.public(), two.public()]);
    assert!(matches!(listener.report(), Report::Stranger));
}

#[test]
fn a_stranger_at_the_dialled_address_is_refused_and_counted() {
    let (one, two, stranger) = (key(), key(), key());
    let port = free_port();
    let _listener = End::start(2, &stranger, port, [one.public(), stranger.public()]);
    let mut dialler = End::start(1, &one, port, [one.public(), two.public()]);
    assert!(matches!(dialler.report(), Report::Stranger));
}

#[test]
fn who_dials_from_no_members_address_is_a_stranger_and_noise_a_failure() {
    use socket2::{Domain, Socket, Type};
    use std::io::Write;
    use std::net::{SocketAddr, TcpStream};
    let (one, two) = (key(), key());
    let port = free_port();
    let mut listener = End::start(2, &two, port, [one.public(), two.public()]);
    let dial = |from: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 2], port));
        socket.connect(&to.into()).unwrap();
        TcpStream::from(socket)
    };
    let _elsewhere = dial([127, 0, 0, 3]);
    assert!(matches!(listener.report(), Report::Stranger));
    let mut noisy = dial([127, 0, 0, 1]);
    noisy.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(matches!(listener.report(), Report::Failure));
}
