//! Flows that helpers expect: announced through one gateway, opened through another.
//!
//! What reads the announcements is the kernel's own helper. A real server of FTP and a real client transfer a file; and client
//! and server of a test speak the few lines of FTP (RFC 959) and SIP (RFC 3261) that announce something, so that the flow can
//! move between any two of them. The gateways let in nothing but flows that announce others, and what belongs to them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use tests::cluster::{Cluster, Settings, Transport};
use tests::lab::{Family, Lab, Path};
use tests::leftovers::Directory;
use tests::netns::{DEADLINE, Namespace, Process, holds_within, wait_until};
use tests::table::wait_equal;

const HELPER: &str = "
table inet helper {
    ct helper ftp {
        type \"ftp\" protocol tcp
    }
    ct helper sip {
        type \"sip\" protocol udp
    }
    chain prerouting {
        type filter hook prerouting priority filter
        tcp dport 21 ct helper set \"ftp\"
        udp dport 5060 ct helper set \"sip\"
    }
}
";

/// From inside, too, only what announces others is let in as new.
const STRICT: &str =
    "nft insert rule inet filter forward iifname lan th dport != { 21, 5060 } ct state new drop";

/// Counts packets of flows whose master has a helper.
const RELATED: &str =
    "nft insert rule inet filter forward tcp dport != 21 tcp sport != 21 ct helper ftp counter";

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
    let client = lab
        .client
        .connect(SocketAddr::new(client_address, 0), control, DEADLINE);
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
        Mode::Active => lab.server.connect(
            SocketAddr::new(path.listener(Family::Ipv4), 20),
            to,
            DEADLINE,
        ),
        Mode::Passive => lab
            .client
            .connect(SocketAddr::new(client_address, 0), to, DEADLINE),
    };
    let (mut accepted, _) = data.accept().expect("it is connected");
    (&opened).write_all(b"data").expect("it is connected");
    let mut read = [0; 4];
    accepted.read_exact(&mut read).expect("the data arrive");
    assert_eq!(&read, b"data", "{path:?} {mode:?}");
    wait_until("nothing more is expected", DEADLINE, || {
        !expected(&lab.gateways[1]).contains("proto=6")
    });
    // The data connection goes back, and is related there too.
    lab.gateways[0].run(RELATED);
    lab.activate(0);
    (&opened).write_all(b"more").expect("it is connected");
    accepted.read_exact(&mut read).expect("the data arrive");
    let counted = lab.gateways[0].run("nft list chain inet filter forward");
    assert!(!counted.contains("counter packets 0 "), "{counted}");
    // The control connection goes on through the other gateways too.
    client.say("QUIT");
    assert_eq!(server.hear(), "QUIT");
}

/// What a data connection begins with is lost on its way to the first gateway, so that it is tried again through the other.
const LATE: &str = "
table inet late {
    counter lost {
    }
    chain prerouting {
        type filter hook prerouting priority raw
        iifname lan tcp dport != 21 tcp flags & (syn | ack) == syn counter name lost drop
        iifname wan tcp sport 20 tcp flags & (syn | ack) == syn counter name lost drop
    }
}
";

#[test]
fn a_client_of_ftp_gets_its_file_from_a_server_though_the_gateway_changes_before_the_data_connection()
 {
    let file: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).collect();
    for path in [Path::Plain, Path::Masqueraded] {
        for mode in [Mode::Active, Mode::Passive] {
            let lab = Lab::new(2);
            for gateway in &lab.gateways {
                gateway.nft(HELPER);
                gateway.run(STRICT);
            }
            lab.gateways[0].nft(LATE);
            let _cluster = Cluster::start(&lab, Transport::Unicast);
            let server = FtpServer::start(&lab, path, &file);
            let mut client = download(&lab, path, mode, &server);
            wait_until("the data connection is tried", DEADLINE, || {
                let lost = lab.gateways[0].run("nft list counter inet late lost");
                !lost.contains("packets 0 ")
            });
            wait_until("the other gateway expects it", DEADLINE, || {
                expected(&lab.gateways[1]).contains("proto=6")
            });
            lab.activate(1);
            let status = client.wait(DEADLINE);
            assert!(status.success(), "{path:?} {mode:?}: {status}");
            let got = fs::read(server.directory.path().join("got")).expect("it was written");
            assert!(got == file, "{path:?} {mode:?}: {} bytes", got.len());
        }
    }
}

/// vsftpd, with a file to be had by anybody.
struct FtpServer {
    directory: Directory,
    address: IpAddr,
    _process: Process,
}

impl FtpServer {
    #[track_caller]
    fn start(lab: &Lab, path: Path, file: &[u8]) -> FtpServer {
        let directory = Directory::new("ftp");
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("the directory is ours");
        fs::write(root.join("file"), file).expect("the directory is ours");
        // Whoever comes is the user `ftp` there.
        for path in [directory.path(), &root] {
            let readable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(path, readable).expect("the directory is ours");
        }
        let config = directory.path().join("vsftpd.conf");
        let (address, root) = (path.listener(Family::Ipv4), root.display());
        // The sandbox of the program knows fewer system calls than C libraries have by now.
        let text = format!(
            "listen=YES\nlisten_address={address}\nbackground=NO\nanonymous_enable=YES\nanon_root={root}\n\
             secure_chroot_dir={root}\nconnect_from_port_20=YES\nseccomp_sandbox=NO\n\
             isolate=NO\nisolate_network=NO\n"
        );
        fs::write(&config, text).expect("the directory is ours");
        let mut command = lab.server.command("vsftpd");
        command.arg(&config).stdin(Stdio::null());
        let process = Process::spawn("vsftpd", &mut command);
        wait_until("the server listens", DEADLINE, || {
            let listeners = lab.server.run("ss -Htln");
            listeners.contains(&format!("{address}:21 "))
        });
        FtpServer {
            directory,
            address: path.server(Family::Ipv4),
            _process: process,
        }
    }
}

/// curl, on its way.
#[track_caller]
fn download(lab: &Lab, path: Path, mode: Mode, server: &FtpServer) -> Process {
    let mut command = lab.client.command("curl");
    let client = path.client(Family::Ipv4).to_string();
    command.args(["--silent", "--show-error", "--interface", &client]);
    match mode {
        Mode::Active => command.args(["--disable-eprt", "--ftp-port", "-"]),
        Mode::Passive => command.args(["--disable-epsv"]),
    };
    let got = server.directory.path().join("got");
    command.arg("--output").arg(got);
    command.arg(format!("ftp://{}/file", server.address));
    Process::spawn("curl", &mut command)
}

#[test]
fn every_flow_that_a_call_announces_opens_through_a_gateway_that_saw_no_word_of_it() {
    for path in [Path::Plain, Path::Masqueraded] {
        let lab = Lab::new(2);
        for gateway in &lab.gateways {
            gateway.nft(HELPER);
            gateway.run(STRICT);
        }
        let _cluster = Cluster::start(&lab, Transport::Unicast);
        let [here, there] = [path.client(Family::Ipv4), path.listener(Family::Ipv4)];
        let client = Phone::open(&lab.client, here);
        let server = Phone::open(&lab.server, there);
        client.say(
            "INVITE sip:bob@example.org SIP/2.0",
            SocketAddr::new(there, 5060),
        );
        let (invitation, caller) = server.hear();
        server.say("SIP/2.0 200 OK", caller);
        let (answer, _) = client.hear();
        // Sound and what is said of it (RTP and RTCP), both ways.
        for gateway in &lab.gateways {
            let are_expected = holds_within(DEADLINE, || {
                expected(gateway).matches("proto=17").count() == 4
            });
            assert!(
                are_expected,
                "{path:?}: {} expects {}",
                gateway.label(),
                expected(gateway)
            );
        }
        lab.activate(1);
        for offset in [0, 1] {
            server.speak(media_in(&invitation), offset, &client);
            client.speak(media_in(&answer), offset, &server);
        }
    }
}

/// Who calls or is called: signals from port 5060, listens on ports 4000 and 4001.
struct Phone {
    address: IpAddr,
    signals: UdpSocket,
    media: [UdpSocket; 2],
}

impl Phone {
    #[track_caller]
    fn open(machine: &Namespace, address: IpAddr) -> Phone {
        let open = |port| machine.udp_socket((address, port), DEADLINE);
        Phone {
            address,
            signals: open(5060),
            media: [open(4000), open(4001)],
        }
    }

    /// Signals what it has to say, and where it listens.
    #[track_caller]
    fn say(&self, first_line: &str, to: SocketAddr) {
        let here = self.address;
        let session = format!(
            "v=0\r\no=- 1 1 IN IP4 {here}\r\ns=-\r\nc=IN IP4 {here}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
        );
        let message = format!(
            "{first_line}\r\nVia: SIP/2.0/UDP {here}:5060;branch=z9hG4bK1\r\nFrom: <sip:alice@example.org>;tag=1\r\n\
             To: <sip:bob@example.org>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContact: <sip:phone@{here}:5060>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{session}",
            session.len()
        );
        let sent = self.signals.send_to(message.as_bytes(), to);
        sent.expect("there is a route");
    }

    #[track_caller]
    fn hear(&self) -> (String, SocketAddr) {
        let mut bytes = [0; 2048];
        let (length, from) = self.signals.recv_from(&mut bytes).expect("it arrives");
        let text = String::from_utf8_lossy(&bytes[..length]);
        (text.into_owned(), from)
    }

    /// A packet to where the other listens.
    #[track_caller]
    fn speak(&self, to: SocketAddr, offset: u16, listener: &Phone) {
        let at = usize::from(offset);
        let to = SocketAddr::new(to.ip(), to.port() + offset);
        let sent = self.media[at].send_to(b"sound", to);
        sent.expect("there is a route");
        let heard = listener.media[at].recv(&mut [0; 8]);
        heard.unwrap_or_else(|error| panic!("to {to}: {error}"));
    }
}

/// Where a message says that its sender listens, as it arrived.
#[track_caller]
fn media_in(message: &str) -> SocketAddr {
    let after = |before: &str| {
        let (_, rest) = message.split_once(before).expect("it is there");
        rest.split_ascii_whitespace().next().expect("a word")
    };
    let port = after("m=audio ").parse().expect("a port");
    SocketAddr::new(after("c=IN IP4 ").parse().expect("an address"), port)
}

/// The module is gone from the one kernel that there is when the second daemon is to put the flow in.
#[test]
#[ignore = "removes a module of the machine's kernel; tests/tests/debian.rs runs it"]
fn a_flow_whose_helper_is_missing_at_the_peer_is_there_all_the_same_and_it_is_said() {
    let lab = Lab::new(2);
    lab.gateways[0].nft(
        "table inet helper {
             ct helper ftp { type \"ftp\" protocol tcp; }
             chain prerouting { type filter hook prerouting priority filter; tcp dport 21 ct helper set \"ftp\"; }
         }",
    );
    let mut cluster = Cluster::configure(&lab, Settings::default());
    cluster.members[0].start(&lab.gateways[0]);
    cluster.wait_in_step();
    let (path, family) = (Path::Plain, Family::Ipv4);
    let listener = listen(&lab.server, path.listener(family), 21);
    let client = SocketAddr::new(path.client(family), 0);
    let server = SocketAddr::new(path.server(family), 21);
    let control = lab.client.connect(client, server, DEADLINE);
    let own = || {
        cluster.members[0]
            .status()
            .is_some_and(|it| it["flows"]["own"] == 1)
    };
    wait_until("the flow is known", DEADLINE, own);
    assert!(lab.gateways[0].run("conntrack -L").contains("helper=ftp"));

    lab.gateways[0].run("nft delete table inet helper");
    fs::write("/proc/sys/kernel/modprobe", "/bin/false").expect("root may");
    lab.gateways[0].run("rmmod nf_conntrack_ftp");
    cluster.members[1].start(&lab.gateways[1]);
    cluster.wait_in_step();
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 1);
    let peer = &cluster.members[1];
    assert_eq!(peer.counter("helpers_missing"), 1);
    wait_until("it is said", DEADLINE, || {
        peer.log().contains("took flows without their helper")
    });
    // Nothing else differs for it, and it is not tried again and again.
    for member in &cluster.members {
        for _ in 0..2 {
            let report = member.ask("audit --repair");
            assert!(report.contains("equal   0 s ago, "), "{report}");
        }
    }
    assert_eq!(peer.counter("helpers_missing"), 1);
    drop((listener, control));
}

/// What the kernel of a gateway expects.
fn expected(gateway: &Namespace) -> String {
    gateway.run("conntrack -L expect")
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
