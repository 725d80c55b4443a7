//! `ctsync doctor`: what is made wrong is found, and what it advises mends it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tests::cluster::{Cluster, Daemon, Settings, program};
use tests::lab::Lab;
use tests::netns::{Namespace, wait_until};

const DEADLINE: Duration = Duration::from_secs(30);

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
    here.nft("table inet traps { chain c { type filter hook prerouting priority raw\n udp dport 5353 notrack\n ct mark set 7\n }\n}\n");
    there.ip("link set sync0 mtu 1400");

    let (status, findings) = examine(here, &cluster.members[0]);
    assert_eq!(status, Some(1));
    for (check, verdict) in [
        ("events", "bad"),
        ("path", "bad"),
        ("strictness", "warning"),
        ("notrack", "warning"),
        ("connmark", "warning"),
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

    cluster.members[0].start(here);
    wait_until("the daemon has logged what is bad", DEADLINE, || {
        cluster.members[0]
            .log()
            .contains("full datagrams are lost on the way")
    });

    there.ip("link set sync0 mtu 1500");
    here.run("nft delete table inet traps");
    let (status, findings) = examine(here, &cluster.members[0]);
    assert_eq!(status, Some(0), "{findings:#?}");
    for check in ["events", "path", "strictness", "notrack", "connmark"] {
        assert!(unwell(&findings, check).is_none(), "{findings:#?}");
    }
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
    // Who starts looks at once; else it is within a minute.
    for (daemon, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        daemon.start(gateway);
    }
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
    let (_, findings) = examine(here, &cluster.members[0]);
    for (check, place) in [
        ("zones", "iptables-nft -t raw PREROUTING"),
        ("notrack", "iptables-legacy -t raw PREROUTING"),
        ("connmark", "iptables-legacy -t mangle FORWARD"),
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
