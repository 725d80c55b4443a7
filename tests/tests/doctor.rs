//! `ctsync doctor`: what is made wrong is found, and what it advises mends it.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use tests::cluster::{Cluster, Daemon, Settings, program};
use tests::lab::Lab;
use tests::netns::{DEADLINE, Namespace, wait_until};

/// Its exit status, and its findings.
#[track_caller]
fn examine(place: &Namespace, daemon: &Daemon) -> (Option<i32>, Vec<Value>) {
    let mut command = place.command(program());
    let output = command
        .args(["doctor", "--json", "--config"])
        .arg(daemon.config())
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    let findings = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    (output.status.code(), findings)
}

/// The finding of a check that is not well.
fn unwell<'a>(findings: &'a [Value], check: &str) -> Option<&'a Value> {
    let is_it = |it: &&Value| it["check"] == check && it["verdict"] != "ok";
    findings.iter().find(is_it)
}

#[test]
fn a_gateway_as_it_should_be_is_well_but_for_what_may_surprise() {
    let lab = Lab::new(2);
    let cluster = Cluster::configure(&lab, Settings::default());
    let (status, findings) = examine(&lab.gateways[0], &cluster.members[0]);
    assert_eq!(status, Some(0), "{findings:#?}");
    assert!(
        findings.iter().all(|it| it["verdict"] != "bad"),
        "{findings:#?}"
    );
    assert!(
        unwell(&findings, "masquerade").is_some(),
        "the gateways of the lab masquerade"
    );
    for check in ["privilege", "events", "strictness", "address", "path"] {
        assert!(unwell(&findings, check).is_none(), "{findings:#?}");
    }
}

#[test]
fn what_is_wrong_is_found_and_the_cure_mends_it() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::configure(&lab, Settings::default());
    let [here, there] = lab.gateways.as_slice() else {
        panic!("a lab of two")
    };
    here.sysctl("netfilter.nf_conntrack_events", 0);
    here.sysctl("netfilter.nf_conntrack_tcp_loose", 1);
    here.nft("table inet traps { chain c { type filter hook prerouting priority raw\n udp dport 5353 notrack\n ct mark set 7\n ct mark 7 accept\n ct mark & 0x7fffffff == 7 accept\n }\n}\n");
    there.ip("link set sync0 mtu 1400");

    let (status, findings) = examine(here, &cluster.members[0]);
    assert_eq!(status, Some(1));
    for (check, verdict) in [
        ("events", "bad"),
        ("path", "bad"),
        ("strictness", "warning"),
        ("notrack", "warning"),
        ("connmark", "warning"),
        ("mark read", "warning"),
    ] {
        let finding = unwell(&findings, check).unwrap_or_else(|| panic!("{check}: {findings:#?}"));
        assert_eq!(finding["verdict"], verdict, "{check}");
        if let Some(command) = finding["cure"]
            .as_str()
            .filter(|it| it.starts_with("sysctl "))
        {
            here.run(command);
        }
    }

    for (daemon, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        daemon.start(gateway);
    }
    wait_until("the daemon has logged what is bad", DEADLINE, || {
        cluster.members[0]
            .log()
            .contains("full datagrams are lost on the way")
    });

    there.ip("link set sync0 mtu 1500");
    here.run("nft delete table inet traps");
    let mut findings = Vec::new();
    wait_until(
        "nothing is bad any longer, as the peer says",
        DEADLINE,
        || {
            let (status, found) = examine(here, &cluster.members[0]);
            findings = found;
            status == Some(0)
        },
    );
    for check in [
        "events",
        "path",
        "strictness",
        "notrack",
        "connmark",
        "mark read",
    ] {
        assert!(unwell(&findings, check).is_none(), "{findings:#?}");
    }
}

#[test]
fn interfaces_that_are_off_or_missing_and_a_kernel_that_forwards_nothing_are_found() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "roles: { mode: load-sharing }\ninterfaces: { monitored: [ { name: lna } ] }",
        ..Settings::default()
    };
    let cluster = Cluster::configure(&lab, settings);
    let here = &lab.gateways[0];
    here.sysctl("ipv4.ip_forward", 0);
    here.sysctl("ipv6.conf.all.forwarding", 0);
    here.sysctl("ipv4.conf.lan.rp_filter", 1);
    here.ip("link set sync0 down");
    let (status, findings) = examine(here, &cluster.members[0]);
    assert_eq!(status, Some(1), "{findings:#?}");
    let found: Vec<_> = (findings.iter())
        .filter(|it| it["check"] == "interface")
        .filter_map(|it| it["found"].as_str())
        .collect();
    assert_eq!(
        found,
        [
            "sync0 is switched off",
            "lna of `interfaces: monitored` is not there"
        ]
    );
    let forwarding = unwell(&findings, "forwarding").expect("it is 0");
    let reverse_path = unwell(&findings, "reverse path").expect("it is strict");
    let strict = "net.ipv4.conf.*.rp_filter is strict on lan";
    assert_eq!(reverse_path["found"], strict);
    for finding in [forwarding, reverse_path] {
        let cure = finding["cure"].as_str().expect("a text");
        here.run(cure.split(',').next().expect("a command"));
    }
    let (_, findings) = examine(here, &cluster.members[0]);
    for check in ["forwarding", "reverse path"] {
        assert!(unwell(&findings, check).is_none(), "{findings:#?}");
    }
}

#[test]
fn a_peer_that_is_not_heard_is_bad_and_so_is_a_configuration_that_cannot_be_read() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::configure(&lab, Settings::default());
    let here = &lab.gateways[0];
    cluster.members[0].start(here);
    let mut examined = (None, Vec::new());
    wait_until("the daemon answers", DEADLINE, || {
        examined = examine(here, &cluster.members[0]);
        unwell(&examined.1, "peers").is_none()
    });
    let (status, findings) = examined;
    let peer = unwell(&findings, "peer").unwrap_or_else(|| panic!("{findings:#?}"));
    assert_eq!(status, Some(1));
    assert_eq!(peer["found"], "there is no link to gw-b");

    fs::write(cluster.members[0].config(), "cluster: 7\n").expect("the directory is ours");
    let (status, findings) = examine(here, &cluster.members[0]);
    assert_eq!(status, Some(1));
    assert!(unwell(&findings, "configuration").is_some());
    assert!(findings.iter().any(|it| it["check"] == "events"));
}

#[test]
fn machines_that_differ_are_found_by_the_daemons_and_the_cure_makes_them_equal() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::configure(&lab, Settings::default());
    let [here, there] = lab.gateways.as_slice() else {
        panic!("a lab of two")
    };
    there.sysctl("netfilter.nf_conntrack_tcp_timeout_established", 600);
    there.sysctl("netfilter.nf_conntrack_acct", 1);
    there.ip("link set wan mtu 1400");
    there.ip("link set sync0 mtu 1400");
    there.ip("link add odd type veth peer name odder");
    for (daemon, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        daemon.start(gateway);
    }
    let differing = [
        "peer timers",
        "peer sysctls",
        "peer mtu",
        "peer network",
        "peer names",
    ];
    let mut findings = Vec::new();
    wait_until("both have told what they are like", DEADLINE, || {
        findings = examine(here, &cluster.members[0]).1;
        unwell(&findings, "peer timers").is_some()
    });
    for check in differing {
        let finding = unwell(&findings, check).unwrap_or_else(|| panic!("{check}: {findings:#?}"));
        let cure = finding["cure"].as_str().expect("a text");
        if let Some((_, command)) = cure.split_once("if gw-b is right: sysctl ") {
            here.run(&format!("sysctl {command}"));
        }
    }
    for daemon in &cluster.members {
        wait_until("the daemon has logged what is bad", DEADLINE, || {
            daemon
                .log()
                .contains("the sync network sync has an MTU of 1")
        });
    }

    there.ip("link set wan mtu 1500");
    there.ip("link set sync0 mtu 1500");
    there.ip("link delete odd");
    wait_until("they are alike", DEADLINE, || {
        findings = examine(here, &cluster.members[0]).1;
        findings
            .iter()
            .any(|it| it["check"] == "peer" && it["verdict"] == "ok")
    });
    for check in differing {
        assert!(unwell(&findings, check).is_none(), "{findings:#?}");
    }
}

#[test]
fn traps_in_rules_of_iptables_are_found_of_both_kinds() {
    let lab = Lab::new(2);
    let cluster = Cluster::configure(&lab, Settings::default());
    let here = &lab.gateways[0];
    here.run("iptables-nft -t raw -A PREROUTING -i eth3 -j CT --zone 5");
    here.run("iptables-legacy -t raw -A PREROUTING -p udp --dport 5353 -j CT --notrack");
    here.run("iptables-legacy -t mangle -A FORWARD -j CONNMARK --save-mark");
    here.run("iptables-nft -t mangle -A PREROUTING -j CONNMARK --restore-mark");
    here.run("iptables-nft -A FORWARD -m connmark --mark 1/0x7fffffff -j ACCEPT");
    let (_, findings) = examine(here, &cluster.members[0]);
    for (check, place) in [
        ("zones", "iptables-nft -t raw PREROUTING"),
        ("notrack", "iptables-legacy -t raw PREROUTING"),
        ("connmark", "iptables-legacy -t mangle FORWARD"),
        ("mark read", "iptables-nft -t mangle PREROUTING"),
    ] {
        let finding = unwell(&findings, check).unwrap_or_else(|| panic!("{check}: {findings:#?}"));
        let found = finding["found"].as_str().expect("a text");
        assert!(found.contains(place), "{found}");
    }
}

#[test]
fn without_the_privilege_it_says_so() {
    let lab = Lab::new(2);
    let cluster = Cluster::configure(&lab, Settings::default());
    let mut command = lab.gateways[0].command("setpriv");
    command
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(program());
    let output = command
        .args(["doctor", "--config"])
        .arg(cluster.members[0].config())
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    let page = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{page}");
    assert!(
        page.contains("bad      privilege     CAP_NET_ADMIN is missing"),
        "{page}"
    );
    assert!(page.lines().all(|it| it.chars().count() <= 100), "{page}");
}
