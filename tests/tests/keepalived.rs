//! ctsync decides, keepalived moves the addresses, and the connections through them go on; or BIRD withdraws the routes.

use tests::bird;
use tests::cluster::{Cluster, Settings};
use tests::keepalived::Site;
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::shorts::Shorts;
use tests::traffic::{Connection, Kind};

const ROLES: &str = "roles: { track_file: PLACE/track, settle: 1s }
interfaces: { monitored: [{ name: lan }, { name: wan }] }";

/// A site with connections through its shared address, in step.
#[track_caller]
fn site_with_traffic() -> (Site, [Connection; 2]) {
    let site = Site::start(ROLES);
    let kinds = [Kind::Bulk, Kind::Datagrams];
    let connections =
        kinds.map(|kind| Connection::open(&site.lab, kind, Path::Plain, Family::Ipv4));
    site.wait_replicated(2);
    (site, connections)
}

/// Waits until the second gateway carries the connections, and prints what they missed.
#[track_caller]
fn all_go_on(what: &str, site: &Site, connections: &[Connection]) {
    site.wait_state(1, "active");
    site.wait_holder(1);
    let before: Vec<_> = connections.iter().map(|it| it.progress().count).collect();
    wait_until("the connections go on", DEADLINE, || {
        let mut now = connections.iter().zip(&before);
        now.all(|(it, before)| it.progress().count > before + 50)
    });
    for connection in connections {
        let progress = connection.progress();
        assert_eq!(progress.failure, None, "{what}: {}", connection.kind);
        println!(
            "{what}: {} missed {} ms",
            connection.kind,
            progress.longest_gap.as_millis()
        );
    }
}

#[test]
fn a_gateway_that_dies_loses_the_addresses_and_no_connection() {
    let (mut site, connections) = site_with_traffic();
    site.kill(0);
    all_go_on("killed", &site, &connections);
    assert_eq!(site.tracked(1), "100");
}

#[test]
fn a_gateway_whose_outside_link_is_cut_loses_the_addresses_and_no_connection() {
    let (site, connections) = site_with_traffic();
    site.lab.gateways[0].ip("link set wan down");
    all_go_on("outside link cut", &site, &connections);
    site.wait_state(0, "down");
    let why = site.cluster.members[0].status().expect("it runs")["role"]["why"].clone();
    assert_eq!(why, "it is not fit; interface wan is down");
    assert_eq!(site.tracked(0), "-95");
    site.lab.gateways[0].ip("link set wan up");
    site.wait_state(0, "standby");
}

#[test]
fn a_daemon_that_is_stopped_hands_its_role_over_and_loses_no_connection() {
    let (mut site, connections) = site_with_traffic();
    site.cluster.members[0]
        .process()
        .signal(rustix::process::Signal::TERM);
    all_go_on("daemon stopped", &site, &connections);
    assert_eq!(site.tracked(0), "-95");
}

#[test]
fn down_moves_the_addresses_and_up_does_not_move_them_back() {
    let (site, connections) = site_with_traffic();
    let said = site.cluster.members[0].ask("down");
    assert!(said.starts_with("this member is down"), "{said}");
    all_go_on("ctsync down", &site, &connections);
    let said = site.cluster.members[0].ask("up");
    assert!(said.starts_with("this member is standby"), "{said}");
    assert_eq!(
        (site.tracked(0).as_str(), site.tracked(1).as_str()),
        ("0", "100")
    );
    assert!(site.holds(1) && !site.holds(0));
}

#[test]
fn a_planned_failover_loses_none_of_a_thousand_connections_a_second() {
    let (site, connections) = site_with_traffic();
    let shorts = Shorts::begin(&site.lab, 1000);
    let reached = |count| wait_until("short connections", DEADLINE, || shorts.done() > count);
    reached(1000);
    let said = site.cluster.members[0].ask("drain");
    assert!(said.contains("gw-b took the role after"), "{said}");
    print!("drain: {said}");
    all_go_on("drain", &site, &connections);
    reached(shorts.done() + 2000);
    let outcome = shorts.end(&site.lab);
    println!(
        "drain: {} short connections, {} a second, none took longer than {} ms, {} lost",
        outcome.done,
        outcome.rate,
        outcome.slowest.as_millis(),
        outcome.lost.len()
    );
    assert!(outcome.lost.is_empty(), "{:?}", outcome.lost);
}

/// The one that comes back has the greater priority, and `preempt` gives it the role: but not before it has all flows.
#[test]
fn a_gateway_that_returns_takes_nothing_over_before_it_has_all_flows() {
    let mut site = Site::start(
        "roles: { track_file: PLACE/track, settle: 1s, preempt: true, priority: { gw-a: 200 } }",
    );
    let connection = Connection::open(&site.lab, Kind::Bulk, Path::Plain, Family::Ipv4);
    site.wait_replicated(1);
    site.cluster.members[0].process().kill();
    site.wait_state(1, "active");
    site.lab.gateways[0].run("conntrack -F");
    assert!(connection.progress().failure.is_none());

    let gateway = &site.lab.gateways[0];
    site.cluster.members[0].start(gateway);
    wait_until("the returned member says what it is", DEADLINE, || {
        let state = site.state(0);
        assert!(
            state != "active" || is_synced(&site),
            "active without flows"
        );
        state == "active"
    });
    site.wait_holder(0);
    let log = site.cluster.members[0].log();
    let second = log
        .rsplit("ctsync is up")
        .next()
        .expect("it was started again");
    let told = second.find("all flows of the peer are in this kernel");
    let active = second.find("this member is active:");
    assert!(told.is_some() && told < active, "{second}");
}

fn is_synced(site: &Site) -> bool {
    let status = site.cluster.members[0].status();
    status.is_some_and(|it| it["peers"][0]["synced"] == true)
}

/// What of the shipped example of BIRD differs in the lab is the router id and the place of its sockets.
#[test]
fn bird_announces_the_routes_of_the_active_gateway_and_withdraws_them_from_the_other() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "roles: { track_file: PLACE/track, settle: 1s }
hooks: { directory: PLACE/hooks }",
        ..Settings::default()
    };
    let mut cluster = Cluster::configure(&lab, settings);
    let mut birds = vec![bird::neighbour(&lab.client, &cluster.members[0].place())];
    for (index, gateway) in lab.gateways.iter().enumerate() {
        gateway.nft("add rule inet filter input iifname lan tcp dport 179 accept");
        let member = &mut cluster.members[index];
        birds.push(bird::gateway(gateway, index, &member.place()));
        member.start(gateway);
    }
    cluster.wait_in_step();
    let goes_by = |index| bird::wait_route(&lab.client, index);
    goes_by(0);
    cluster.members[0].ask("down");
    goes_by(1);
    cluster.members[0].ask("up");
    cluster.members[1]
        .process()
        .signal(rustix::process::Signal::TERM);
    goes_by(0);
}

#[test]
fn down_is_for_this_run_unless_it_is_to_persist_and_up_ends_it_for_good() {
    let mut site = Site::start(ROLES);
    let restart = |site: &mut Site| {
        let gateway = &site.lab.gateways[0];
        site.cluster.members[0].start(gateway);
        site.cluster.wait_in_step();
    };
    site.cluster.members[0].ask("down");
    site.wait_state(1, "active");
    restart(&mut site);
    site.wait_state(0, "standby");

    site.cluster.members[0].ask("down --persist");
    restart(&mut site);
    wait_until("it is down, as it was asked", DEADLINE, || {
        let status = site.cluster.members[0].status();
        status.is_some_and(|it| it["role"]["why"] == "it is not fit; it was asked to be down")
    });
    site.cluster.members[0].ask("up");
    site.wait_state(0, "standby");
    restart(&mut site);
    site.wait_state(0, "standby");
}
