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
