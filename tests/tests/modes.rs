//! `ctsync mode` on a running cluster: all members follow, no flow is lost, a restart keeps it, and what the network does
//! not carry is undone.

use std::thread;
use std::time::Duration;

use tests::arrivals::{Arrivals, open_flows};
use tests::cluster::{Cluster, Daemon, Transport};
use tests::lab::Lab;
use tests::netns::{DEADLINE, wait_until};
use tests::table::wait_equal;

/// Lets no datagram in that was sent to a group.
const NO_GROUPS: &str = "
table inet switch {
    chain input {
        type filter hook input priority raw;
        iifname sync0 ip daddr 224.0.0.0/4 drop
    }
}
";

#[test]
fn all_members_follow_a_switch_without_losing_a_flow_and_keep_it_over_a_restart() {
    let lab = Lab::new(3);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let arrivals = Arrivals::listen(&lab.gateways[2], "10.0.0.100");
    let flows = thread::scope(|scope| {
        let flows = scope.spawn(|| open_flows(&lab, Duration::from_secs(4)));
        for mode in ["multicast", "broadcast", "multicast"] {
            let output = cluster.members[0].outcome(&["mode", mode]);
            assert!(output.status.success(), "{output:?}");
            wait_until("every member follows", DEADLINE, || {
                cluster.members.iter().all(|it| mode_of(it) == mode)
            });
        }
        flows.join().expect("flows can be opened")
    });
    wait_until("every flow has arrived", DEADLINE, || {
        flows.iter().all(|it| arrivals.of(it.port()).is_some())
    });
    wait_equal(&lab.gateways, DEADLINE);
    assert!(
        cluster
            .members
            .iter()
            .all(|it| !it.log().contains("peer is dead"))
    );

    cluster.members[1].start(&lab.gateways[1]);
    cluster.wait_in_step();
    assert_eq!(mode_of(&cluster.members[1]), "multicast");
    let page = cluster.members[1].ask("syncstat");
    assert!(page.contains("the configuration says unicast"), "{page}");
}

#[test]
fn a_member_that_was_away_learns_the_mode_from_the_others() {
    let lab = Lab::new(3);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    cluster.members[2].process().kill();
    wait_until("it is dead", DEADLINE, || {
        cluster.members[0].log().contains("peer is dead")
    });
    let output = cluster.members[0].outcome(&["mode", "broadcast"]);
    assert!(output.status.success(), "{output:?}");
    cluster.members[2].start(&lab.gateways[2]);
    cluster.wait_in_step();
    wait_until("it follows", DEADLINE, || {
        mode_of(&cluster.members[2]) == "broadcast"
    });
}

#[test]
fn a_mode_that_a_member_does_not_hear_is_undone() {
    let lab = Lab::new(3);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    lab.gateways[2].nft(NO_GROUPS);
    let output = cluster.members[0].outcome(&["mode", "multicast"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("gw-c did not hear every other member"),
        "{said}"
    );
    assert!(cluster.members.iter().all(|it| mode_of(it) == "unicast"));
    assert!(
        cluster
            .members
            .iter()
            .all(|it| !it.log().contains("peer is dead"))
    );
}

/// The mode of the first network.
fn mode_of(member: &Daemon) -> String {
    let stat = member.answer(&["syncstat"]);
    stat["networks"][0]["mode"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
