use super::*;
use crate::core::links::LinkMessage;
use crate::core::tests::core;
use crate::policy::Policy;
use crate::policy::tests::parse;

fn member(id: u8) -> MemberId {
    MemberId::new(id).unwrap()
}

fn facts(mtu: u64) -> Facts {
    let policy = (POLICY.to_owned(), Policy::new(8116).digest());
    [("interface wan".to_owned(), mtu), policy]
        .into_iter()
        .collect()
}

fn after(seconds: u64) -> Instant {
    Instant::default() + Duration::from_secs(seconds)
}

/// What of facts there is to say to the peer.
fn said(core: &mut Core) -> Vec<LinkMessage> {
    let messages = std::iter::from_fn(|| core.poll_link_message(member(2)));
    messages
        .filter(|it| matches!(it, LinkMessage::Facts(_)))
        .collect()
}

#[test]
fn a_peer_is_told_once_a_link_and_on_change_and_now_and_then_for_the_clock() {
    let mut core = core(1, 7, 9);
    core.set_facts(facts(1500), after(0));
    assert_eq!(said(&mut core).len(), 0, "there is no link");
    core.handle_link_up(member(2), after(0));
    assert_eq!(said(&mut core).len(), 1);
    core.set_facts(facts(1500), after(60));
    assert_eq!(said(&mut core).len(), 0, "it is known");
    core.set_facts(facts(1400), after(120));
    assert_eq!(said(&mut core).len(), 1);
    core.set_facts(facts(1400), after(120 + 600));
    assert_eq!(said(&mut core).len(), 1, "clocks drift");
    core.handle_link_down(member(2), after(730));
    core.handle_link_up(member(2), after(740));
    assert_eq!(said(&mut core).len(), 1, "whoever it is now");
}

#[test]
fn what_a_peer_told_is_known_with_its_clock_against_ours() {
    let [mut one, mut two] = [core(1, 7, 9), core(2, 7, 9)];
    one.set_wall_clock(20_500_000_000);
    two.set_wall_clock(18_000_000_000);
    one.set_facts(facts(1400), after(0));
    one.handle_link_up(member(2), after(0));
    for message in said(&mut one) {
        two.handle_link_message(member(1), &message, after(0));
    }
    let expected = PeerFacts {
        id: 1,
        name: "gw-a".into(),
        clock_ahead_ms: 2500,
        facts: facts(1400),
    };
    assert_eq!(two.peer_facts(member(1)), Some(expected.clone()));
    let nonsense = LinkMessage::Facts(vec![0; 9]);
    two.handle_link_message(member(1), &nonsense, after(1));
    assert_eq!(two.facts().peers, [expected], "nonsense changes nothing");
    assert_eq!(two.links.malformed, 1);
}

#[test]
fn another_policy_is_told_and_shown_as_a_difference() {
    let mut one = core(1, 7, 9);
    let mut two = core(2, 7, 9);
    one.set_facts(facts(1500), after(0));
    one.handle_link_up(member(2), after(0));
    let hand_over = |one: &mut Core, two: &mut Core| {
        for message in said(one) {
            two.handle_link_message(member(1), &message, after(0));
        }
        two.has_other_policy(member(1))
    };
    assert!(!hand_over(&mut one, &mut two));
    let policy = || parse("services: { dns: { protocol: udp, ports: 53, sync: never } }");
    one.set_policy(policy().unwrap().into());
    assert!(hand_over(&mut one, &mut two));
    two.set_policy(policy().unwrap().into());
    assert!(!two.has_other_policy(member(1)));
}
