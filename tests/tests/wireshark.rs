//! The Wireshark dissector reads a capture of the sync network: headers always, bodies with the keys of the daemons.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::arrivals::open_flows;
use tests::cluster::{Cluster, Settings};
use tests::lab::{Family, Lab, Path};
use tests::leftovers::Directory;
use tests::netns::wait_until;
use tests::wire::Tap;

/// `LINKTYPE_RAW`: packets begin with their IP header.
const LINKTYPE_RAW: u32 = 101;

#[test]
fn the_dissector_shows_flows_with_the_keys_and_none_without() {
    let directory = Directory::new("wireshark");
    let keys = directory.path().join("datagram.keys");
    let lab = Lab::new(2);
    let tap = Tap::open(&lab, 1);
    let more = format!(
        "log: {{ datagram_keys: {} }}\ninterfaces: {{ monitored: [ {{ name: lan }} ] }}",
        keys.display()
    );
    let settings = Settings {
        more: Box::leak(more.into_boxed_str()),
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let flows = open_flows(&lab, Duration::from_millis(200));
    let _control = announce(&lab);
    for line in ["mode multicast", "resync"] {
        cluster.members[0].ask(line);
    }
    wait_until("all is acknowledged", Duration::from_secs(15), || {
        let status = cluster.members[0].status().unwrap_or_default();
        status["peers"][0]["unacknowledged"] == 0
    });
    for daemon in &cluster.members {
        assert!(
            daemon
                .log()
                .contains("keys of datagrams are written to a file")
        );
    }
    let capture = directory.path().join("sync.pcap");
    fs::write(&capture, pcap(&tap.packets())).expect("it can be written");

    let shown = Tshark {
        capture,
        keys: None,
    };
    assert_eq!(
        shown.lines("ctsync.flow.sport", &["frame.number"]),
        Vec::<String>::new()
    );
    let opcodes = shown.lines("ctsync", &["ctsync.opcode"]);
    for opcode in ["0x01", "0x02", "0x03"] {
        assert!(
            opcodes.iter().any(|it| it == opcode),
            "{opcode}: {opcodes:?}"
        );
    }

    let shown = Tshark {
        keys: Some(keys),
        ..shown
    };
    assert_eq!(
        shown.lines("ctsync.undecoded", &["frame.number"]),
        Vec::<String>::new()
    );
    let ports = shown
        .lines("ctsync.delta.sequence", &["ctsync.flow.sport"])
        .join(",");
    let ports: Vec<_> = ports.split(',').collect();
    for flow in &flows {
        assert!(
            ports.contains(&flow.port().to_string().as_str()),
            "{} in {ports:?}",
            flow.port()
        );
    }
    let heard = shown.lines(
        "ctsync.hello.heard",
        &["ctsync.source", "ctsync.hello.heard"],
    );
    assert!(heard.iter().any(|it| it == "1\t2"), "{heard:?}");

    // Every attribute that members say has a field, and says what it should.
    let version = env!("CARGO_PKG_VERSION");
    for (field, value) in [
        ("ctsync.hello.build", version),
        ("ctsync.hello.path", "2"),
        ("ctsync.hello.joined", "1"),
        ("ctsync.hello.state", "4"),
        ("ctsync.hello.mode", "1"),
        ("ctsync.from", "0"),
        ("ctsync.probe.name", "lan"),
        ("ctsync.flow.expected.dport", "20000"),
    ] {
        let lines = shown.lines(field, &[field]);
        // Flags are words in later versions of tshark.
        let word = if value == "1" { "True" } else { value };
        let is_it = |it: &String| it.split(',').any(|it| it == value || it == word);
        assert!(lines.iter().any(is_it), "{field}: {lines:?}");
    }
}

/// The text of a rule of the protocol.
fn rule<'a>(protocol: &'a str, number: &str) -> &'a str {
    let (_, text) = (protocol.split_once(&format!("\n- {number} "))).expect("there is this rule");
    text.split("\n- ").next().unwrap_or_default()
}

/// A number as it is written, in either base.
fn number(word: &str) -> Option<u8> {
    match word.strip_prefix("0x") {
        Some(hexadecimal) => u8::from_str_radix(hexadecimal, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The numbers before the names that begin the rows of a table.
fn numbers_of_rows(text: &str) -> Vec<u8> {
    let rows = text.lines().filter_map(|it| it.trim().strip_prefix("| "));
    rows.flat_map(|row| {
        row.split([' ', ','])
            .filter(|it| !it.is_empty())
            .map_while(number)
    })
    .collect()
}

/// The numbers before the names of a list in a sentence.
fn numbers_of_list(text: &str) -> Vec<u8> {
    let list = text.split_once(": ").and_then(|it| it.1.split_once('.'));
    let (list, _) = list.expect("a sentence");
    (list.split(','))
        .filter_map(|it| number(it.split_whitespace().next()?))
        .collect()
}

#[test]
fn everything_that_the_protocol_numbers_has_a_name_in_the_dissector() {
    let output = Command::new("tshark")
        .args(["-G", "values", "-X", &lua_script()])
        .output();
    let output = output.expect("tshark is installed").stdout;
    let values = String::from_utf8(output).expect("it prints text");
    let named = |field: &str| -> Vec<u8> {
        let lines = (values.lines()).filter_map(|it| it.strip_prefix(&format!("V\t{field}\t")));
        let mut named: Vec<u8> = lines
            .filter_map(|it| number(it.split('\t').next()?))
            .collect();
        named.sort_unstable();
        named
    };
    let protocol = concat!(env!("CARGO_MANIFEST_DIR"), "/../ccp/PROTOCOL.md");
    let protocol = fs::read_to_string(protocol).expect("it is there");
    for (numbered, field) in [
        (numbers_of_list(rule(&protocol, "2.2")), "ctsync.opcode"),
        (
            numbers_of_rows(rule(&protocol, "3.1")),
            "ctsync.hello.attribute",
        ),
        (numbers_of_rows(rule(&protocol, "4.3")), "ctsync.attribute"),
    ] {
        assert!(numbered.len() >= 5, "{field}: {numbered:?}");
        assert_eq!(numbered, named(field), "{field}");
    }
}

/// Has the helper of FTP expect a connection to port 20000 of the client: what is returned keeps the control connection.
#[track_caller]
fn announce(lab: &Lab) -> (TcpStream, TcpStream) {
    for gateway in &lab.gateways {
        gateway.nft(
            "table inet helper {
                ct helper ftp { type \"ftp\" protocol tcp; }
                chain c { type filter hook prerouting priority filter; tcp dport 21 ct helper set \"ftp\"; }
            }",
        );
    }
    let to = (Path::Plain.server(Family::Ipv4), 21);
    let listener = (lab.server).inside(|| TcpListener::bind(to).expect("the port is free"));
    let mut client = (lab.client).inside(|| TcpStream::connect(to).expect("it is let through"));
    let (mut server, _) = listener.accept().expect("it is connected");
    // The helper reads what follows a line that it saw the end of.
    say(&mut server, &mut client, "220 ready\r\n");
    say(&mut client, &mut server, "USER anonymous\r\n");
    say(&mut client, &mut server, "PORT 10,0,0,100,78,32\r\n");
    (client, server)
}

/// Says a line, and waits until the other has heard it.
#[track_caller]
fn say(from: &mut TcpStream, to: &mut TcpStream, line: &str) {
    to.set_read_timeout(Some(Duration::from_secs(30)))
        .expect("it is not zero");
    from.write_all(line.as_bytes()).expect("it is connected");
    let mut heard = vec![0; line.len()];
    to.read_exact(&mut heard).expect("the line arrives");
}

/// What tshark is told to read the dissector.
fn lua_script() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("lua_script:{root}/../packaging/wireshark/ctsync.lua")
}

/// A capture, and the keys to read it with.
struct Tshark {
    capture: PathBuf,
    keys: Option<PathBuf>,
}

impl Tshark {
    /// The fields of each packet that matches the filter.
    #[track_caller]
    fn lines(&self, filter: &str, fields: &[&str]) -> Vec<String> {
        let mut tshark = Command::new("tshark");
        tshark.args(["-X", &lua_script(), "-Y", filter, "-T", "fields"]);
        tshark.arg("-r").arg(&self.capture);
        if let Some(keys) = &self.keys {
            tshark.args(["-o", &format!("ctsync.key_file:{}", keys.display())]);
        }
        for field in fields {
            tshark.args(["-e", field]);
        }
        let output = tshark.output().expect("tshark is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !said.contains("Lua: Error"),
            "{said}"
        );
        let text = String::from_utf8(output.stdout).expect("it prints text");
        text.lines().map(str::to_owned).collect()
    }
}

/// A capture file of the original format of libpcap, in network order.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const SNAP_BYTES: u32 = 65535;
    let mut file = Vec::new();
    let mut put = |word: u32| file.extend_from_slice(&word.to_be_bytes());
    for word in [MAGIC, 0x0002_0004, 0, 0, SNAP_BYTES, LINKTYPE_RAW] {
        put(word);
    }
    for packet in packets {
        let length = u32::try_from(packet.len()).expect("a packet is short");
        for word in [0, 0, length, length] {
            file.extend_from_slice(&word.to_be_bytes());
        }
        file.extend_from_slice(packet);
    }
    file
}
