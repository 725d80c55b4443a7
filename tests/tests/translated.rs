//! Connections whose directions pass different gateways, and that source NAT translates: the packets wait after they are
//! translated, with their flows attached. `debian.rs` runs this in the virtual machine, as a kernel that attaches no flow to
//! a held packet can't do it.

use tests::cluster::{Cluster, Settings};
use tests::connects::connect;
use tests::lab::{Family, Lab, Path, SHARED_IPV4, SHARED_IPV6};

/// The longest deadline there is: the machine that this runs in is slow.
const HOLD: &str = "hold: { mode: always, deadline: 1s }";
const CONNECTS: usize = 20;

#[test]
#[ignore = "needs a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT and nft queue; tests/tests/debian.rs runs it"]
fn masqueraded_connections_open_although_their_answers_pass_another_gateway() {
    let lab = Lab::new(2);
    lab.split(0, 1);
    // The answers go to the shared address; this way they pass the gateway that has it not.
    lab.server.ip(&format!(
        "route add {SHARED_IPV4}/32 via 203.0.113.12
         route add {SHARED_IPV6}/128 via 2001:db8::12"
    ));
    let settings = Settings {
        more: HOLD,
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    for family in [Family::Ipv4, Family::Ipv6] {
        let connects = connect(&lab, Path::Masqueraded, family, 1, CONNECTS);
        println!("{family:?}: {connects}");
        // For who has to find out why it failed.
        for member in &cluster.members {
            let ended = ["held", "held_acked", "held_deadline", "held_out_of_scope"];
            println!("{:?}", ended.map(|it| (it, member.counter(it))));
        }
        assert_eq!(
            (connects.count(), connects.failed),
            (CONNECTS, 0),
            "{connects}"
        );
    }
    let [a, b] = [0, 1].map(|at| cluster.members[at].counter("held_acked"));
    println!("{a} SYNs and {b} SYN/ACKs were held until the other gateway had the connection");
    assert!(
        a >= 2 * CONNECTS as u64 && b >= 2 * CONNECTS as u64,
        "{a} and {b}"
    );
}
