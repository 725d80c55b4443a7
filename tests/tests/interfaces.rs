//! Monitored interfaces are cut for real, and each member says what it finds: which direction, whose fault, and what follows.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::cluster::{Cluster, Daemon, Settings};
use tests::lab::Lab;
use tests::netns::{Namespace, run, wait_until};

/// Generous, as a test runs in an emulated machine, too.
const DEADLINE: Duration = Duration::from_secs(60);
const BOTH: &str = "roles: { track_file: PLACE/track, settle: 1s }
interfaces: { monitored: [{ name: lan }, { name: wan }] }";

/// Two gateways that hear each other's probes.
#[track_caller]
fn start(more: &'static str) -> (Lab, Cluster) {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.nft("add rule inet filter input udp dport 8116 accept");
    }
    let settings = Settings {
        more,
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    wait_state(&cluster.members[0], "active");
    wait_state(&cluster.members[1], "standby");
    (lab, cluster)
}

/// With `lan` and `wan` up at both, both ways.
#[track_caller]
fn start_up() -> (Lab, Cluster) {
    let (lab, cluster) = start(BOTH);
    for member in &cluster.members {
        wait_found(member, "lan", ["up", "up"]);
        wait_found(member, "wan", ["up", "up"]);
    }
    (lab, cluster)
}

fn interfaces(member: &Daemon) -> Vec<Value> {
    member
        .answer(&["interfaces"])
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Inbound and outbound of an interface.
fn found(member: &Daemon, name: &str) -> [String; 2] {
    let all = interfaces(member);
    let it = all.iter().find(|it| it["name"] == name);
    let state = |way: &str| it.map_or("", |it| it[way]["state"].as_str().unwrap_or(""));
    [state("inbound"), state("outbound")].map(str::to_owned)
}

#[track_caller]
fn wait_found(member: &Daemon, name: &str, states: [&str; 2]) {
    let what = format!("{name} is {states:?}");
    wait_until(&what, DEADLINE, || found(member, name) == states);
}

/// A host on `lan` that can say whose cable it is.
#[track_caller]
fn meet_a_host(lab: &Lab) {
    for gateway in &lab.gateways {
        run(gateway
            .command("bash")
            .args(["-c", "echo > /dev/udp/10.0.0.100/9"]));
    }
}

fn role(member: &Daemon) -> Value {
    member.status().map_or(Value::Null, |it| it["role"].clone())
}

#[track_caller]
fn wait_state(member: &Daemon, state: &str) {
    wait_until(state, DEADLINE, || role(member)["state"] == state);
}

#[track_caller]
fn assert_why(member: &Daemon, part: &str) {
    let why = role(member)["why"].clone();
    assert!(why.as_str().is_some_and(|it| it.contains(part)), "{why}");
}

#[test]
fn a_cable_that_is_cut_behind_the_switch_costs_its_gateway_the_role_and_not_the_other() {
    let (lab, cluster) = start_up();
    let [one, two] = [&cluster.members[0], &cluster.members[1]];
    let shown = one.ask("interfaces");
    println!("{shown}");
    assert!(shown.lines().all(|line| line.len() <= 100), "{shown}");
    assert!(
        shown.contains("required          2, 2 of them up"),
        "{shown}"
    );

    let status = one.shown(&["status"]);
    for check in [
        "full-sync",
        "interfaces",
        "sync-network",
        "table",
        "state-directory",
    ] {
        assert!(status.contains(&format!("\n{check:<20}  ok")), "{status}");
    }

    // The gateway's own link stays up. A host beyond answers the other gateway, and no longer this one.
    let port = format!("lan-{}", lab.gateways[0].label());
    meet_a_host(&lab);
    // The switch itself answers nobody.
    lab.switch.sysctl("ipv6.conf.all.disable_ipv6", 1);
    lab.switch.ip(&format!("link set {port} nomaster"));
    wait_found(one, "lan", ["down", "down"]);
    wait_state(two, "active");
    wait_state(one, "down");
    assert_eq!(found(two, "lan"), ["assumed", "assumed"]);
    assert_why(one, "interface lan carries nothing, though its link is up");

    lab.switch.ip(&format!("link set {port} master lan"));
    wait_found(one, "lan", ["up", "up"]);
    wait_found(two, "lan", ["up", "up"]);
    wait_state(one, "standby");
    assert_eq!(role(two)["state"], "active");
}

#[test]
fn one_direction_that_is_cut_is_blamed_alone() {
    let (lab, cluster) = start_up();
    meet_a_host(&lab);
    let [one, two] = [&cluster.members[0], &cluster.members[1]];
    lab.gateways[0].nft(
        "table netdev cut {
            chain out { type filter hook egress device lan priority 0; drop; }
        }",
    );
    wait_found(one, "lan", ["up", "down"]);
    wait_state(two, "active");
    assert_why(one, "interface lan lets nothing out");
    lab.gateways[0].nft("delete table netdev cut");
    wait_found(one, "lan", ["up", "up"]);

    lab.gateways[0].nft(
        "table netdev cut {
            chain in { type filter hook ingress device lan priority 0; drop; }
        }",
    );
    wait_found(one, "lan", ["down", "up"]);
    assert_why(one, "interface lan lets nothing in");
    wait_state(one, "down");
    assert_eq!(role(two)["state"], "active");
}

#[test]
fn a_peer_that_dies_or_does_not_get_to_run_is_not_blamed_on_the_interfaces() {
    let (_lab, mut cluster) = start_up();
    // Longer than any dead interval: afterwards both go on as they were.
    cluster.members[1].process().signal(Signal::STOP);
    wait_found(&cluster.members[0], "wan", ["assumed", "assumed"]);
    cluster.members[1].process().signal(Signal::CONT);
    for member in &cluster.members {
        wait_found(member, "wan", ["up", "up"]);
    }
    for member in &cluster.members {
        let log = member.log();
        assert!(!log.contains("carries nothing"), "{log}");
        assert!(!log.contains("lets nothing"), "{log}");
    }
    assert!(
        cluster.members[1]
            .log()
            .contains("did not get to run in time")
    );

    cluster.members[0].process().kill();
    wait_state(&cluster.members[1], "active");
    wait_found(&cluster.members[1], "lan", ["assumed", "assumed"]);
    assert_why(&cluster.members[1], "no other member can be talked to");
    assert_eq!(role(&cluster.members[1])["state"], "active");
}

#[test]
fn without_a_sync_network_members_talk_by_probes_and_one_alone_stays_active() {
    let (lab, cluster) = start_up();
    let [one, two] = [&cluster.members[0], &cluster.members[1]];
    // Filtered, so that no link goes down.
    for gateway in &lab.gateways {
        gateway.nft("insert rule inet filter input iifname sync0 drop");
    }
    // Who finds out last has the role by then.
    let states = || [one, two].map(|member| role(member)["state"].clone());
    let one_alone = [["active-attention", "down"], ["down", "active-attention"]];
    wait_until("one alone is active, with attention", DEADLINE, || {
        one_alone.iter().any(|states_of| states() == *states_of)
    });
    for member in [one, two] {
        assert_why(member, "no sync network works");
        let changes = member.shown(&["members", "--history", "--json"]);
        assert!(
            !changes.contains("no other member can be talked to"),
            "{changes}"
        );
    }
    let rules = lab.gateways[0].run("nft -a list chain inet filter input");
    let handle = rules.lines().find(|line| line.contains("sync0\" drop"));
    let handle = handle
        .and_then(|line| line.rsplit(' ').next())
        .expect("it is there");
    for gateway in &lab.gateways {
        gateway.nft(&format!("delete rule inet filter input handle {handle}"));
    }
    let healed = [["active", "standby"], ["standby", "active"]];
    wait_until("one is active, the other stands by", DEADLINE, || {
        healed.iter().any(|states_of| states() == *states_of)
    });
}

#[test]
fn an_interface_that_only_one_member_has_is_a_difference_and_a_vlan_without_peers_a_warning() {
    // VLAN 30 is not carried between the switches; 40 is missing on the second gateway.
    let lab = Lab::new(2);
    for (index, gateway) in lab.gateways.iter().enumerate() {
        gateway.nft("add rule inet filter input udp dport 8116 accept");
        for vlan in [30, 40].into_iter().take(2 - index) {
            let port = format!("v{vlan}-{index}");
            lab.switch.cable(&port, gateway, &format!("wan.{vlan}"));
        }
    }
    let settings = Settings {
        more:
            "roles: { track_file: PLACE/track, settle: 1s, preempt: true, priority: { gw-b: 200 } }
interfaces: { monitored: [{ name: wan, vlans: '30,40' }] }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let [one, two] = [&cluster.members[0], &cluster.members[1]];
    let unseen = "no member was ever seen on wan.30";
    for member in [one, two] {
        wait_until("the warning is there", DEADLINE, || {
            member.ask("status").contains(unseen)
        });
        let said = member.shown(&["members"]);
        let difference = "gw-b has no monitored interface wan.40, others have";
        assert!(said.contains(difference), "{said}");
    }
    // One that holds the interface to be down for the other's silence says that instead.
    wait_until("a log says so, too", DEADLINE, || {
        [one, two].iter().any(|it| it.log().contains(unseen))
    });
    let vlans: Vec<_> = interfaces(one)
        .iter()
        .map(|it| it["vlan"].clone())
        .collect();
    assert_eq!(vlans, [30, 40]);
}

/// A trunk for each way to choose, and one whose lowest VLAN is not carried between the switches; a VLAN's device may be called
/// anything.
#[test]
#[ignore = "needs a kernel with VLANs; tests/tests/debian.rs runs it"]
fn of_a_trunk_the_chosen_vlans_are_probed_and_one_that_is_not_carried_is_warned_of() {
    let lab = Lab::new(2);
    let [a, b] = lab.gateways.as_slice() else {
        panic!("a lab of two")
    };
    for trunk in ["usual", "high", "both", "list", "every"] {
        a.cable(trunk, b, trunk);
    }
    lab.switch.ip("link add far type bridge vlan_filtering 1
         link set far up");
    for gateway in &lab.gateways {
        gateway.nft("add rule inet filter input udp dport 8116 accept");
        let port = format!("far-{}", gateway.label());
        lab.switch.cable(&port, gateway, "far");
        lab.switch.ip(&format!("link set {port} master far"));
        lab.switch
            .run(&format!("bridge vlan add dev {port} vid 30-100"));
        for trunk in ["usual", "high", "both", "list", "every", "far"] {
            for vlan in [7, 30, 100] {
                add_vlan(gateway, trunk, vlan);
            }
        }
    }
    let settings = Settings {
        more: "roles: { track_file: PLACE/track, settle: 1s }
liveness: { dead_after: 5s }
interfaces:
  probe: 500ms
  dead_after: 3s
  monitored:
    - { name: usual }
    - { name: high, vlans: highest }
    - { name: both, vlans: both }
    - { name: list, vlans: '30,100' }
    - { name: every, vlans: all }
    - { name: every.30, monitor: false }
    - { name: far }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let chosen = |usual| {
        let of_others = [
            "high.100",
            "both.7",
            "both.100",
            "list.30",
            "list.100",
            "every.7",
            "every.100",
        ];
        [&[usual], &of_others[..]].concat()
    };
    for member in &cluster.members {
        wait_up(member, &chosen("usual.7"));
        let unseen = "no member was ever seen on far.7";
        wait_until("the warning is there", DEADLINE, || {
            member.shown(&["status"]).contains(unseen)
        });
    }
    println!("{}", cluster.members[0].shown(&["interfaces"]));

    // A VLAN that is new is followed, and so is the link of one.
    for gateway in &lab.gateways {
        add_vlan(gateway, "usual", 3);
    }
    for member in &cluster.members {
        wait_up(member, &chosen("usual.3"));
    }
    a.ip("link set high-100 down");
    wait_found(&cluster.members[0], "high.100", ["down", "down"]);
    assert_why(&cluster.members[0], "interface high.100 is down");
}

/// Waits until these are monitored, and members hear each other there; and that one, on which nobody does.
#[track_caller]
fn wait_up(member: &Daemon, expected: &[&str]) {
    let is_up = |it: &&Value| it["inbound"]["state"] == "up" && it["outbound"]["state"] == "up";
    wait_until(&format!("{expected:?} are up"), DEADLINE, || {
        let all = interfaces(member);
        let (up, others): (Vec<_>, Vec<_>) = all.iter().partition(is_up);
        let names = |these: &[&Value]| {
            these
                .iter()
                .map(|it| it["name"].clone())
                .collect::<Vec<_>>()
        };
        names(&up) == expected && names(&others) == ["far.7"]
    });
}

/// Makes the device of a VLAN, up.
#[track_caller]
fn add_vlan(gateway: &Namespace, trunk: &str, vlan: u16) {
    gateway.ip(&format!(
        "link add link {trunk} name {trunk}-{vlan} type vlan id {vlan}
         link set {trunk}-{vlan} up"
    ));
}
