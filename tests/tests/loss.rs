//! A sync network that loses datagrams: the tables are equal all the same.

use std::time::Duration;

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::table::wait_equal;

/// Each gateway loses one in twenty of what reaches it, before anything else sees it.
const LOSE: &str = "
table inet loss {
    chain input {
        type filter hook input priority raw;
        iifname sync0 numgen random mod 100 < 5 counter drop
    }
}
";

#[test]
fn five_percent_loss_both_ways_loses_no_flow() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    lab.gateways.iter().for_each(|it| it.nft(LOSE));

    let mut stay = Crowd::default();
    let mut go = Crowd::default();
    for (family, path) in [
        (Family::Ipv4, Path::Plain),
        (Family::Ipv4, Path::Masqueraded),
        (Family::Ipv6, Path::Plain),
        (Family::Ipv6, Path::Redirected),
    ] {
        stay.tcp(&lab, path, family, 250);
        stay.udp(&lab, path, family, 250);
        Crowd::tcp_opened_and_closed(&lab, path, family, 500);
    }
    go.udp(&lab, Path::Through(0), Family::Ipv4, 1000);
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.151");

    let table = wait_equal(&lab.gateways, Duration::from_secs(20));
    assert_eq!(table.len(), 4 * 1000);
    for gateway in &lab.gateways {
        let loss = gateway.run("nft list table inet loss");
        assert!(
            !loss.contains("packets 0 "),
            "nothing was lost, so nothing is proven: {loss}"
        );
    }
    drop(cluster);
}
