//! Flows that helpers expect: announced through one gateway, opened through another.
//!
//! Client and server speak the few lines of FTP (RFC 959) that announce a data connection; what reads them is the kernel's
//! own helper. The gateways let in nothing but control connections, and what belongs to them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use tests::cluster::{Cluster, Transport};
use tests::lab::{Family, Lab, Path};
use tests::netns::{Namespace, holds_within, wait_until};

/// How long a line may take, and members to agree.
const DEADLINE: Duration = Duration::from_secs(30);

const HELPER: &str = "
table inet helper {
    ct helper ftp {
        type \"ftp\" protocol tcp
    }
    chain prerouting {
        type filter hook prerouting priority filter
        tcp dport 21 ct helper set \"ftp\"
    }
}
";

/// A data connection from inside is let in only as related.
const STRICT: &str =
    "nft insert rule inet filter forward iifname lan tcp dport != 21 ct state new drop";

#[test]
fn data_connections_of_ftp_open_through_a_gateway_that_saw_no_word_of_them() {
    for path in [Path::Plain, Path::Masqueraded] {
        for mode in [Mode::Active, Mode::Passive] {
            ftp(path, mode);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The server connects to where the client says.
    Active,
    /// The client connects to where the server says.
    Passive,
}

fn ftp(path: Path, mode: Mode) {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.nft(HELPER);
        gateway.run(STRICT);
    }
    let _cluster = Cluster::start(&lab, Transport::Unicast);
    let listener = listen(&lab.server, path.listener(Family::Ipv4), 21);
    let control = SocketAddr::new(path.server(Family::Ipv4), 21);
    let client_address = path.client(Family::Ipv4);
    let client = connect(&lab.client, SocketAddr::new(client_address, 0), control);
    let (server, _) = listener.accept().expect("it is connected");
    server
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout that is not zero");
    let (mut client, mut server) = (Line::of(client), Line::of(server));
    // The helper reads what follows a line that it saw the end of.
    server.say("220 ready");
    client.hear();
    client.say("USER anonymous");
    server.hear();

    // The one announces where it listens, the other hears it as the gateway has translated it.
    let (data, announced) = match mode {
        Mode::Active => {
            let data = listen(&lab.client, client_address, 0);
            client.say(&format!("PORT {}", six(&data)));
            (data, server.hear())
        }
        Mode::Passive => {
            client.say("PASV");
            server.hear();
            let data = listen(&lab.server, path.listener(Family::Ipv4), 0);
            server.say(&format!("227 Entering Passive Mode ({})", six(&data)));
            (data, client.hear())
        }
    };
    let expected = |gateway: &Namespace| gateway.run("conntrack -L expect");
    for gateway in &lab.gateways {
        let is_expected = holds_within(DEADLINE, || expected(gateway).contains("proto=6"));
        let table = gateway.run("conntrack -L");
        assert!(
            is_expected,
            "{} expects nothing, and has {table}",
            gateway.label()
        );
    }

    lab.activate(1);
    let to = address_in(&announced);
    let opened = match mode {
        Mode::Active => connect(
            &lab.server,
            SocketAddr::new(path.listener(Family::Ipv4), 20),
            to,
        ),
        Mode::Passive => connect(&lab.client, SocketAddr::new(client_address, 0), to),
    };
    let (mut accepted, _) = data.accept().expect("it is connected");
    (&opened).write_all(b"data").expect("it is connected");
    let mut read = [0; 4];
    accepted.read_exact(&mut read).expect("the data arrive");
    assert_eq!(&read, b"data", "{path:?} {mode:?}");
    wait_until("nothing more is expected", DEADLINE, || {
        !expected(&lab.gateways[1]).contains("proto=6")
    });
    // The control connection goes on through the other gateway too.
    client.say("QUIT");
    assert_eq!(server.hear(), "QUIT");
}

/// One end of a control connection.
struct Line(BufReader<TcpStream>);

impl Line {
    fn of(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        let written = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes());
        written.expect("it is connected");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the line arrives");
        line.trim_end().to_owned()
    }
}

/// An address and a port as FTP writes them.
fn six(listener: &TcpListener) -> String {
    let address = listener.local_addr().expect("a listener has an address");
    let IpAddr::V4(ip) = address.ip() else {
        panic!("{address} is not of IPv4");
    };
    let [a, b, c, d] = ip.octets();
    let [high, low] = address.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

fn address_in(line: &str) -> SocketAddr {
    let is_part = |it: char| it.is_ascii_digit() || it == ',';
    let word = line
        .split(|it| !is_part(it))
        .find(|word| word.matches(',').count() == 5);
    let word = word.unwrap_or_else(|| panic!("no address in {line:?}"));
    let numbers: Vec<u8> = word
        .split(',')
        .map(|it| it.parse().expect("a byte"))
        .collect();
    let ip = Ipv4Addr::new(numbers[0], numbers[1], numbers[2], numbers[3]);
    SocketAddr::new(ip.into(), u16::from_be_bytes([numbers[4], numbers[5]]))
}

fn listen(machine: &Namespace, address: IpAddr, port: u16) -> TcpListener {
    let listener = machine.inside(|| TcpListener::bind((address, port)));
    listener.expect("the machine has the address")
}

fn connect(machine: &Namespace, from: SocketAddr, to: SocketAddr) -> TcpStream {
    let stream = machine.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), DEADLINE)?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    });
    let stream = stream.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout that is not zero");
    stream
}
