//! Chains of xtables, where there is no nft.

use rustix::process::Signal;
use tests::cluster::{Cluster, Settings, program};
use tests::lab::{Family, Lab, Path};
use tests::leftovers::Directory;
use tests::netns::{DEADLINE, Namespace, run, wait_until};
use tests::traffic::{Connection, Kind};

use crate::events;
use crate::flows::{known, open};

#[test]
fn without_nft_chains_of_xtables_do_it_and_go_with_the_daemon_and_without_them_the_filter() {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.run("iptables -t raw -A PREROUTING -p udp --dport 9 -j CT --zone 9");
        gateway.run("ip6tables -t mangle -A POSTROUTING -p udp --dport 9 -j MARK --set-mark 9");
    }
    let before: Vec<_> = lab.gateways.iter().map(rules_of_xtables).collect();
    let quiet = "services: { quiet: { protocol: udp, ports: 2000-2005, sync: never } }\n";
    let settings = Settings {
        policy: quiet,
        ..Settings::default()
    };
    let mut cluster = Cluster::configure(&lab, settings);
    let xtables = programs(&[
        "ip",
        "iptables",
        "ip6tables",
        "iptables-restore",
        "ip6tables-restore",
    ]);
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start_with_programs_of(gateway, xtables.path());
    }
    cluster.wait_in_step();
    let log = cluster.members[0].log();
    assert!(log.contains("are suppressed by rules of xtables"), "{log}");
    assert!(log.contains("cannot run nft: No such file"), "{log}");
    assert!(log.contains("nftables are not to be had"), "{log}");
    assert_eq!(
        lab.gateways[0]
            .run("nft list tables inet")
            .matches("ctsync")
            .count(),
        0
    );

    // Of what is never told there is no event; what is told moves with its first packet.
    lab.activate(0);
    let events_before = events(&cluster.members[0]);
    open(&lab, 17, "10.0.0.100", 2000);
    open(&lab, 17, "fd00::100", 2005);
    lab.gateways[0].run("conntrack -D -p udp --dport 2000");
    open(&lab, 17, "10.0.0.100", 2006);
    wait_until("the peer has the one that is told", DEADLINE, || {
        known(&cluster.members[1]).len() == 1
    });
    assert_eq!(events(&cluster.members[0]), events_before + 1);
    let connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv6);
    wait_until("the peer has it", DEADLINE, || {
        let listed = lab.gateways[1].run("conntrack -L -f ipv6 -p tcp");
        listed.contains("ASSURED")
    });
    lab.activate(1);
    wait_until("it is known to have moved", DEADLINE, || {
        let shown = cluster.members[0].ask("flows");
        let moved = |line: &str| line.contains("tcp") && line.contains("copy");
        shown.lines().any(moved)
    });
    assert_eq!(connection.progress().failure, None);

    // A reload puts them in their place again.
    let gateway = &lab.gateways[0];
    gateway.run("iptables -t raw -F PREROUTING");
    gateway.run("iptables -t raw -A PREROUTING -p udp --dport 9 -j CT --zone 9");
    cluster.members[0].ask("reload");
    assert!(rules_of_xtables(gateway).contains("-A PREROUTING -j ctsync-events"));

    // So does the daemon by itself when they are gone.
    gateway.run("iptables -t raw -F");
    gateway.run("iptables -t raw -X");
    gateway.run("iptables -t raw -A PREROUTING -p udp --dport 9 -j CT --zone 9");
    wait_until("they are there again", DEADLINE, || {
        let rules = rules_of_xtables(gateway);
        rules.matches("-A PREROUTING -j ctsync-events").count() == 2
    });
    let log = cluster.members[0].log();
    assert!(log.contains("they were put back"), "{log}");

    // They go with the daemon; after a crash, with the next one's start.
    cluster.members[1].process().signal(Signal::TERM);
    cluster.members[1].process().wait(DEADLINE);
    assert_eq!(rules_of_xtables(&lab.gateways[1]), before[1]);
    cluster.members[0].process().kill();
    assert!(rules_of_xtables(&lab.gateways[0]).contains("ctsync-events"));
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start(gateway);
    }
    cluster.wait_in_step();
    for (gateway, before) in lab.gateways.iter().zip(&before) {
        assert_eq!(rules_of_xtables(gateway), *before);
        assert!(
            gateway
                .run("nft list table inet ctsync")
                .contains("chain never")
        );
    }

    // Neither is there.
    cluster.members[0].process().signal(Signal::TERM);
    cluster.members[0].process().wait(DEADLINE);
    let config = cluster.members[0].config().to_owned();
    let text = std::fs::read_to_string(&config).expect("it was written");
    std::fs::write(&config, text + "kernel: { copy_bit: none }\n").expect("it is ours");
    let nothing = programs(&["ip"]);
    cluster.members[0].start_with_programs_of(&lab.gateways[0], nothing.path());
    cluster.wait_in_step();
    let said = "suppressed by a filter on the socket of events";
    let log = cluster.members[0].log();
    assert!(log.contains(said), "{log}");
    let mut command = lab.gateways[0].command(program());
    let command = command.args(["rules", "--config"]).arg(&config);
    let rules = run(command.env("PATH", nothing.path()));
    assert!(
        rules.contains(said) && rules.contains("cannot run iptables-restore: No such file"),
        "{rules}"
    );
    assert!(
        rules.contains("# the filter leaves out udp 520-521"),
        "{rules}"
    );
}

/// A directory with nothing but these programs.
fn programs(names: &[&str]) -> Directory {
    let directory = Directory::new("programs");
    for name in names {
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(|it| format!("{it}/{name}"));
        let found = found.iter().find(|it| std::fs::exists(it).unwrap_or(false));
        let found = found.unwrap_or_else(|| panic!("{name} is installed"));
        std::os::unix::fs::symlink(found, directory.path().join(name)).expect("there is room");
    }
    directory
}

/// The rules of xtables, and whatever is ours there.
pub fn rules_of_xtables(gateway: &Namespace) -> String {
    let text = gateway.run("iptables-save") + &gateway.run("ip6tables-save");
    let is_rule = |line: &&str| line.starts_with("-A") || line.contains("ctsync");
    text.lines().filter(is_rule).collect::<Vec<_>>().join("\n")
}
