use super::{State, Vlans, found};
use crate::addresses::Link;
use crate::config::InterfaceName;
use crate::config::roles::Monitored;

fn link(index: u32, name: &str, vlan: Option<(u32, u16)>) -> Link {
    Link {
        index,
        name: name.into(),
        mtu_bytes: 1500,
        is_up: true,
        is_on: true,
        parent: vlan.map(|(parent, _)| parent),
        vlan: vlan.map(|(_, number)| number),
    }
}

fn monitored(name: &str, vlans: Vlans) -> Monitored {
    Monitored {
        name: InterfaceName::new(name).unwrap(),
        monitor: true,
        vlans,
    }
}

fn links() -> Vec<Link> {
    vec![
        link(1, "lo", None),
        link(2, "eth0", None),
        link(3, "eth1", None),
        link(4, "eth1.30", Some((3, 30))),
        link(5, "partner", Some((3, 7))),
        link(6, "eth1.100", Some((3, 100))),
    ]
}

fn names(monitored: &[Monitored]) -> Vec<String> {
    let all = found(monitored, &links());
    all.into_iter().map(|it| it.name).collect()
}

#[test]
fn of_a_trunk_the_vlans_that_were_chosen_are_monitored_by_their_numbers() {
    for (vlans, expected) in [
        (Vlans::Lowest, vec!["eth1.7"]),
        (Vlans::Highest, vec!["eth1.100"]),
        (Vlans::Both, vec!["eth1.7", "eth1.100"]),
        (Vlans::All, vec!["eth1.7", "eth1.30", "eth1.100"]),
        (Vlans::List(vec![30, 40]), vec!["eth1.30", "eth1.40"]),
    ] {
        assert_eq!(
            names(&[monitored("eth1", vlans.clone())]),
            expected,
            "{vlans:?}"
        );
    }
    assert_eq!(names(&[monitored("eth0", Vlans::Both)]), ["eth0"]);
}

#[test]
fn what_is_left_out_is_not_chosen_and_the_next_one_is() {
    let out = Monitored {
        monitor: false,
        ..monitored("eth1.7", Vlans::Lowest)
    };
    let trunk = monitored("eth1", Vlans::Lowest);
    assert_eq!(names(&[out.clone(), trunk]), ["eth1.30"]);
    assert!(names(&[out]).is_empty());
}

#[test]
fn what_is_required_and_is_not_there_is_missing_whatever_was_seen() {
    let mut links = links();
    links[1].is_up = false;
    links[4].is_up = false;
    let wanted = [
        monitored("eth0", Vlans::Lowest),
        monitored("eth1", Vlans::List(vec![7, 30, 40])),
        monitored("eth9", Vlans::Lowest),
    ];
    let states: Vec<_> = found(&wanted, &links).iter().map(|it| it.link).collect();
    use State::{Down, Missing, Up};
    assert_eq!(states, [Down, Down, Up, Missing, Missing]);
}
