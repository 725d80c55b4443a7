//! Crowds of flows, and the table that shows them.

use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::table::{differences, table};

#[test]
fn every_flow_of_a_crowd_is_an_entry_of_the_gateway() {
    let lab = Lab::new(2);
    let mut crowd = Crowd::default();
    let mut expected = 0;
    for family in [Family::Ipv4, Family::Ipv6] {
        for path in [Path::Plain, Path::Masqueraded, Path::Redirected] {
            crowd.tcp(&lab, path, family, 20);
            crowd.udp(&lab, path, family, 30);
            crowd.icmp(&lab, path, family, 10);
            Crowd::tcp_opened_and_closed(&lab, path, family, 5);
            expected += 65;
        }
    }
    let a = table(&lab.gateways[0]);
    assert_eq!(a.len(), expected, "{a:#?}");
    assert_eq!(a.iter().filter(|it| it.contains("TIME_WAIT")).count(), 30);
    assert!(a.iter().all(|it| !it.contains("UNREPLIED")));
    let b = table(&lab.gateways[1]);
    assert!(b.is_empty(), "{b:#?}");
    assert_eq!(differences(&a, &b).len(), expected);
}
