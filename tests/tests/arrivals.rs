//! What tells when a flow has arrived.

use std::time::Duration;

use tests::arrivals::Arrivals;
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::wait_until;

#[test]
fn the_first_flow_after_listen_is_heard() {
    let lab = Lab::new(2);
    let arrivals = Arrivals::listen(&lab.gateways[0], "10.0.0.101");
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Masqueraded, Family::Ipv4, 1);
    wait_until("the flow is heard of", Duration::from_secs(2), || {
        arrivals.count() == 1
    });
}
