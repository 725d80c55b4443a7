//! What a flow has beside its tuples and its state: zones, labels, proxied handshakes, keys of tunnels. It is replicated, and
//! the flow goes on with it through another gateway.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use conntrack::{Dump, DumpItem, Flow};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use tests::cluster::{Cluster, Settings, Transport};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::table::{table, wait_equal};
use tests::traffic::{Connection, Kind};

/// Two tenants that use the same addresses, told apart by a field of the header.
const TENANTS: [u32; 2] = [0x20, 0x40];

/// All that passes is in the zone of its tenant.
const ZONES: &str = "
table inet zones {
    chain prerouting {
        type filter hook prerouting priority raw;
        ip dscp 8 ct zone set 1
        ip dscp 16 ct zone set 2
    }
}
";

/// Only what tenants send is: answers are told apart by what the tenants are translated to.
const ORIGINAL_ZONES: &str = "
table inet zones {
    chain prerouting {
        type filter hook prerouting priority raw;
        iifname lan ip dscp 8 ct original zone set 1
        iifname lan ip dscp 16 ct original zone set 2
    }
}
";

#[test]
fn flows_of_one_tuple_in_two_zones_are_two_flows_everywhere() {
    for (zones, path, word) in [
        (ZONES, Path::Plain, " zone="),
        (ORIGINAL_ZONES, Path::Masqueraded, " zone-orig="),
    ] {
        let lab = Lab::new(2);
        for gateway in &lab.gateways {
            gateway.nft(zones);
        }
        let _cluster = Cluster::start(&lab, Transport::Unicast);
        let client = (lab.client).udp_socket((path.client(Family::Ipv4), 4000), DEADLINE);
        let server = (lab.server).udp_socket((path.listener(Family::Ipv4), 5000), DEADLINE);
        let tenants = TENANTS.map(|tenant| {
            let tos = SockRef::from(&client).set_tos_v4(tenant);
            tos.expect("it is a socket of IPv4");
            let to = (path.server(Family::Ipv4), 5000);
            client.send_to(b"a", to).expect("there is a route");
            let (_, from) = server.recv_from(&mut [0]).expect("it arrives");
            (tenant, from)
        });
        let answer = || {
            for (tenant, from) in tenants {
                let tos = SockRef::from(&server).set_tos_v4(tenant);
                tos.expect("it is a socket of IPv4");
                server.send_to(b"b", from).expect("there is a route");
                client.recv(&mut [0]).expect("the answer arrives");
            }
        };
        answer();
        let both = wait_equal(&lab.gateways, DEADLINE);
        let in_zone = |zone: u8| {
            let word = format!("{word}{zone}");
            both.iter().filter(|row| row.contains(&word)).count()
        };
        assert_eq!([both.len(), in_zone(1), in_zone(2)], [2, 1, 1], "{both:#?}");
        lab.activate(1);
        answer();
        // One of them ends, the other stays.
        lab.gateways[0].run(&format!(
            "conntrack -D -p udp {}",
            match path {
                Path::Plain => "--zone 1",
                _ => "--orig-zone 1",
            }
        ));
        for gateway in &lab.gateways {
            wait_until("one has ended", DEADLINE, || {
                let table = table(gateway);
                table.len() == 1 && table.iter().all(|row| row.contains(&format!("{word}2")))
            });
        }
    }
}

/// Labels, which a gateway gives to what passes; those with a higher number are its own business.
const LABELS: &str = "
table inet labels {
    chain forward {
        type filter hook forward priority 0;
        ip saddr 10.0.0.100 ct label set 3
        ip saddr 10.0.0.100 ct label set 100
    }
}
";

/// The kernel keeps labels only where a rule uses them.
const OTHER_LABELS: &str = "
table inet labels {
    chain forward {
        type filter hook forward priority 0;
        ip saddr 10.0.0.100 ct label 3 counter
        ip saddr 10.0.0.100 ct label set 101
    }
}
";

#[test]
fn labels_are_replicated_under_their_mask() {
    let lab = Lab::new(2);
    lab.gateways[0].nft(LABELS);
    lab.gateways[1].nft(OTHER_LABELS);
    let settings = Settings {
        more: "kernel: { label_mask: 0xff }",
        ..Settings::default()
    };
    let _cluster = Cluster::start_with(&lab, settings);
    let connection = Connection::open(&lab, Kind::Datagrams, Path::Plain, Family::Ipv4);
    let labels = |at: usize, expected: u128| {
        let flows = || -> Vec<_> {
            let dump = lab.gateways[at].inside(|| {
                let items = Dump::open().expect("root may read the table");
                items.map(Result::ok).collect::<Option<Vec<_>>>()
            });
            let is_it = |flow: &Flow| flow.orig.src == Path::Plain.client(Family::Ipv4);
            let flows = dump.into_iter().flatten().filter_map(|item| match item {
                DumpItem::Flow(flow) => Some(flow),
                _ => None,
            });
            flows.filter(is_it).map(|flow| flow.labels).collect()
        };
        wait_until("it has its labels", DEADLINE, || {
            flows() == [Some(conntrack::labels(expected))]
        });
    };
    labels(0, 1 << 100 | 1 << 3);
    labels(1, 1 << 3);
    lab.activate(1);
    // Its own stays when the other tells more of the flow.
    labels(1, 1 << 101 | 1 << 3);
    labels(0, 1 << 100 | 1 << 3);
    assert_eq!(connection.progress().failure, None);
}

/// The kernel knows keys of GRE by the helper of PPTP only, which reads them from the calls of a control connection. Here they
/// are said by hand.
#[test]
fn keys_of_tunnels_are_replicated_with_their_flows() {
    let lab = Lab::new(2);
    let _cluster = Cluster::start(&lab, Transport::Unicast);
    for (at, key) in [(0, 7), (1, 9)] {
        lab.gateways[at].run(&format!(
            "conntrack -I -p gre -s 10.0.0.100 -d 203.0.113.100 --srckey {key} --dstkey 8 --reply-src 203.0.113.100 --reply-dst 10.0.0.100 --reply-key-src 8 --reply-key-dst {key} -t 600"
        ));
    }
    let table = wait_equal(&lab.gateways, DEADLINE);
    let with = |key: &str| table.iter().filter(|row| row.contains(key)).count();
    assert_eq!(
        (table.len(), with("srckey=0x7 "), with("srckey=0x9 ")),
        (2, 1, 1),
        "{table:#?}"
    );
}

/// The gateway answers SYNs itself, and opens the connection to the server when the client has proven to be there.
const SYNPROXY: &str = "
table inet proxy {
    chain prerouting {
        type filter hook prerouting priority raw;
        iifname lan tcp flags syn tcp dport 5000 notrack
    }
    chain forward {
        type filter hook forward priority -10;
        tcp dport 5000 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
        ct state invalid drop
    }
}
";

#[test]
fn proxied_connections_go_on() {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.nft(SYNPROXY);
        gateway.run(
            "nft insert rule inet filter forward tcp dport 5000 ct state invalid,untracked accept",
        );
    }
    let _cluster = Cluster::start(&lab, Transport::Unicast);
    let listener = lab
        .server
        .inside(|| TcpListener::bind((Path::Plain.listener(Family::Ipv4), 5000)))
        .unwrap();
    let from = SocketAddr::new(Path::Plain.client(Family::Ipv4), 0);
    let client = lab.client.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&listener.local_addr()?.into(), DEADLINE)?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    });
    let mut client = client.expect("the server answers");
    let (mut server, _) = listener.accept().expect("it is connected");
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    }
    let mut exchange = || {
        client.write_all(b"a").expect("it is connected");
        server.read_exact(&mut [0]).expect("the byte arrives");
        server.write_all(b"b").expect("it is connected");
        client.read_exact(&mut [0]).expect("the byte arrives");
    };
    exchange();
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 1);
    // Sequence numbers and timestamps are moved by what the first gateway made up.
    lab.activate(1);
    exchange();
    lab.activate(0);
    exchange();
}
