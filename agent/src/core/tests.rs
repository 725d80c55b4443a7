use super::keys::Limits;
use super::roles::RolesSetup;
use super::seal::{Cipher, DatagramKey};
use super::{Core, Setup};
use crate::addresses::AddressSet;
use crate::convert::Shared;
use crate::policy::Policy;
use ccp::network::NetworkId;
use ccp::node::{Action, Config, Outcome};
use ccp::record::MemberId;
use ccp::time::Instant;
use ccp::wire::header::{Header, Opcode};
use conntrack::consts::{IPS_ASSURED, IPS_SEEN_REPLY};
use conntrack::{Event, EventKind, Flow, L4, ProtoInfo, TcpInfo, Tuple};
use std::time::Duration;

mod policy;

fn member(id: u8) -> MemberId {
    MemberId::new(id).unwrap()
}

pub(crate) fn core(id: u8, cluster: u16, key: u8) -> Core {
    let node = Config {
        table: u64::from(id),
        hash_seed: [1, 2],
        flows_max: 1000,
        roles: ccp::election::Config {
            settle: Duration::from_secs(1),
            ..ccp::election::Config::default()
        },
        ..Config::new(
            cluster,
            member(id),
            vec![member(3 - id)],
            u64::from(id) * 1000,
        )
    };
    let setup = Setup {
        node,
        key: DatagramKey::new([key; 32]),
        key_limits: Limits {
            max_age: Duration::from_secs(3600),
            max_packets: 1_000_000,
        },
        shared: Shared {
            mark_mask: u32::MAX,
            copy_bit: None,
            label_mask: [0; 16],
        },
        policy: Policy::new(8116).into(),
        audit_interval: Duration::from_secs(60),
        accounting_interval: None,
        addresses: AddressSet::new([], []),
        networks: vec!["sync".into()],
        hold: crate::config::Hold::default(),
        names: [
            (member(1), "gw-a".to_owned()),
            (member(2), "gw-b".to_owned()),
        ]
        .into(),
        roles: RolesSetup::default(),
    };
    Core::new(setup, Instant::default())
}

/// Carries what each has to say about keys to the other, until there is no more.
fn exchange_keys(cores: &mut [Core; 2], now: Instant) {
    let mut said = true;
    while said {
        said = false;
        for (from, peer) in [(0, 2), (1, 1)] {
            while let Some(message) = cores[from].poll_link_message(member(peer)) {
                let own = member(3 - peer);
                cores[1 - from].handle_link_message(own, &message, now);
                said = true;
            }
        }
    }
}

fn tcp(state: u8) -> Flow {
    let orig = Tuple {
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 1, 1].into(),
        proto: 6,
        l4: L4::Ports { src: 1000, dst: 80 },
        zone: 0,
    };
    Flow {
        status: Some(IPS_SEEN_REPLY | IPS_ASSURED),
        timeout: Some(300),
        protoinfo: Some(ProtoInfo::Tcp(TcpInfo {
            state,
            wscale: None,
            flags: None,
        })),
        ..Flow::new(orig)
    }
}

/// The kernel tells of a new flow.
pub(crate) fn new_flow() -> Event {
    event(EventKind::New, tcp(1))
}

/// Two members that know each other, each with an empty kernel table.
pub(crate) fn cluster() -> [Core; 2] {
    let mut cores = [core(1, 7, 9), core(2, 7, 8)];
    for (index, peer) in [(0, 2), (1, 1)] {
        cores[index].handle_link_up(member(peer), Instant::default());
    }
    exchange_keys(&mut cores, Instant::default());
    for core in &mut cores {
        core.begin_pass();
        core.end_pass();
    }
    talk(&mut cores, 0, 300);
    cores
}

/// Lets both talk for `millis` milliseconds; returns what each asked of its kernel.
pub(crate) fn talk(cores: &mut [Core; 2], from: u64, millis: u64) -> [Vec<(Action, Flow)>; 2] {
    let mut asked = [Vec::new(), Vec::new()];
    for now in (from..from + millis).map(|milli| Instant::from_micros(milli * 1000)) {
        for from in 0..2 {
            cores[from].handle_timeout(now);
            let mut datagrams = Vec::new();
            while let Some((_, datagram)) = cores[from].poll_transmit(now) {
                datagrams.push(datagram.to_vec());
            }
            let to = 1 - from;
            for mut datagram in datagrams {
                cores[to].handle_datagram(&mut datagram, NetworkId::FIRST, now);
                while let Some(apply) = cores[to].poll_apply() {
                    asked[to].push((apply.action, apply.flow));
                    cores[to].handle_applied(apply.ticket, Outcome::Done, now);
                }
            }
        }
    }
    asked
}

fn event(kind: EventKind, flow: Flow) -> Event {
    Event {
        kind,
        portid: 0,
        flow,
    }
}

#[test]
fn a_flow_of_one_kernel_is_made_changed_and_ended_in_the_other() {
    let mut cores = cluster();
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    let [_, asked] = talk(&mut cores, 320, 20);
    assert_eq!(
        asked.iter().map(|(action, _)| *action).collect::<Vec<_>>(),
        [Action::Create]
    );
    cores[0].handle_event(&event(EventKind::Update, tcp(3)));
    let [_, asked] = talk(&mut cores, 340, 20);
    let [(Action::Update, flow)] = asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(
        flow.protoinfo,
        Some(ProtoInfo::Tcp(TcpInfo {
            state: 3,
            wscale: Some([0; 2]),
            flags: Some([0; 2])
        }))
    );
    cores[0].handle_event(&event(EventKind::Destroy, tcp(3)));
    let [asked_of_first, asked] = talk(&mut cores, 360, 20);
    assert_eq!(
        asked.iter().map(|(action, _)| *action).collect::<Vec<_>>(),
        [Action::Delete]
    );
    assert!(asked_of_first.is_empty());
    assert!(
        cores.iter().all(|core| core.node().table().is_empty()),
        "nothing is remembered of it"
    );
}

#[test]
fn status_and_flows_tell_what_there_is() {
    let mut cores = cluster();
    cores[0].handle_event(&event(EventKind::New, tcp(3)));
    talk(&mut cores, 300, 50);
    let status = cores[1].status(Instant::from_micros(350_000));
    assert_eq!(
        (status.flows.own, status.flows.copies, status.flows.found),
        (0, 1, 0)
    );
    let [peer] = &status.peers[..] else {
        panic!("{status:?}")
    };
    assert!(peer.synced && peer.name == "gw-a", "{peer:?}");
    let page = cores[1].flows(Default::default(), 10);
    assert_eq!(page.next, None);
    let [row] = &page.rows[..] else {
        panic!("{page:?}")
    };
    assert_eq!(
        (row.member, row.proto.as_ref(), row.state.as_deref()),
        (1, "tcp", Some("ESTABLISHED"))
    );
}

#[test]
fn a_datagram_that_is_not_ours_changes_one_counter_and_nothing_else() {
    let mut cores = cluster();
    cores[0].handle_event(&event(EventKind::New, tcp(3)));
    let now = Instant::from_micros(310_000);
    let mut good = Vec::new();
    while let Some((_, datagram)) = cores[0].poll_transmit(now) {
        good.push(datagram.to_vec());
    }
    let delta = good
        .into_iter()
        .find(|datagram| datagram[3] == 2)
        .expect("a delta is among them");
    let with = |at: usize, value: u8| {
        let mut datagram = delta.clone();
        datagram[at] = value;
        datagram
    };
    let mut cases = vec![
        ("datagrams_malformed", with(0, 0)),
        ("datagrams_other_version", with(2, 9)),
        ("datagrams_forged", with(3, 0x77)),
        ("datagrams_other_cluster", with(5, 8)),
        ("datagrams_unknown_member", with(6, 9)),
        ("datagrams_unknown_member", with(6, 0)),
        ("datagrams_misdirected", with(7, 5)),
        ("datagrams_unknown_key", with(19, delta[19] ^ 1)),
        ("datagrams_unknown_key", with(20, 1)),
        ("datagrams_forged", with(41, delta[41] ^ 1)),
        (
            "datagrams_check_point",
            [&[0x1a, 0x90][..], &delta[2..]].concat(),
        ),
    ];
    cases.extend((0..29).map(|len| ("datagrams_malformed", delta[..len].to_vec())));
    cases.extend((29..delta.len()).map(|len| ("datagrams_forged", delta[..len].to_vec())));
    for (counter, datagram) in cases {
        let before = cores[1].status(now);
        cores[1].handle_datagram(&mut datagram.clone(), NetworkId::FIRST, now);
        assert!(cores[1].poll_apply().is_none(), "{counter}");
        let mut after = cores[1].status(now);
        for (name, value) in &mut after.counters.0 {
            *value -= u64::from(name == counter);
        }
        assert_eq!(after, before, "{counter}");
    }
    cores[1].handle_datagram(&mut delta.clone(), NetworkId::FIRST, now);
    assert!(cores[1].poll_apply().is_some(), "the same datagram, whole");
}

/// PROTOCOL.md 7.11
#[test]
fn a_peers_flow_from_or_to_an_address_of_this_machine_stays_out_of_its_kernel() {
    let mut cores = cluster();
    let server = tcp(1).orig.dst;
    cores[1].set_addresses(AddressSet::new([server], []));
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    let [_, asked] = talk(&mut cores, 300, 300);
    assert_eq!(asked, []);
    assert_eq!(counter(&cores[1], "kept_out"), 1);
    assert_eq!(counter(&cores[1], "refused_changes"), 0);
    // It may have been there before the address came: then it is left to run out.
    cores[1].begin_pass();
    cores[1].end_pass();
    cores[0].handle_event(&event(EventKind::Destroy, tcp(1)));
    let [_, asked] = talk(&mut cores, 600, 300);
    assert_eq!(asked, []);
}

fn counter(core: &Core, wanted: &str) -> u64 {
    let counters = core.counters();
    let counter = counters.iter().find(|(name, _)| name == wanted);
    counter.expect("there is such a counter").1
}

/// What the first has to say now.
fn datagrams(core: &mut Core, now: Instant) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    core.handle_timeout(now);
    while let Some((_, datagram)) = core.poll_transmit(now) {
        said.push(datagram.to_vec());
    }
    said
}

/// PROTOCOL.md 2.2
#[test]
fn an_operation_of_another_version_is_counted_and_its_sender_lives() {
    let mut cores = cluster();
    let now = Instant::from_micros(450_000);
    let heard = |cores: &[Core; 2], now| cores[1].status(now).peers[0].last_heard_ms;
    let said = datagrams(&mut cores[0], now)
        .pop()
        .expect("it says something");
    let (header, _) = Header::decode(&said).unwrap();
    let later = Header {
        opcode: Opcode::Unknown(0x77),
        packet_number: header.packet_number + 1,
        ..header
    };
    let mut datagram = [&later.encode()[..], b"what nobody knows"].concat();
    Cipher::new(&DatagramKey::new([9; 32])).seal(later.packet_number, &mut datagram);
    assert_ne!(heard(&cores, now), Some(0));
    for counter_name in ["datagrams_unknown_opcode", "datagrams_replayed_or_unproven"] {
        cores[1].handle_datagram(&mut datagram.clone(), NetworkId::FIRST, now);
        assert_eq!(counter(&cores[1], counter_name), 1, "{counter_name}");
    }
    assert_eq!(heard(&cores, now), Some(0));
}

#[test]
fn without_a_key_nothing_is_opened_and_the_link_is_worth_a_look() {
    let mut cores = [core(1, 7, 9), core(2, 7, 8)];
    let now = Instant::default();
    let hello = datagrams(&mut cores[0], now);
    assert!(!hello.is_empty());
    for mut datagram in hello {
        cores[1].handle_datagram(&mut datagram, NetworkId::FIRST, now);
    }
    assert!(counter(&cores[1], "datagrams_unknown_key") > 0);
    assert!(cores[1].poll_unheard().contains(member(1)));
    assert!(cores[1].poll_unheard().is_empty(), "once");
    assert!(cores[1].live_peers().is_empty());
}

#[test]
fn what_was_recorded_before_a_restart_is_below_the_floor_after_it() {
    let mut cores = cluster();
    let now = Instant::from_micros(500_000);
    cores[0].handle_event(&event(EventKind::New, tcp(3)));
    let recorded = datagrams(&mut cores[0], now);
    // The second restarts, and is handed the key of the first anew.
    cores[1] = core(2, 7, 5);
    for (index, peer) in [(0, 2), (1, 1)] {
        cores[index].handle_link_down(member(peer), now);
        cores[index].handle_link_up(member(peer), now);
    }
    exchange_keys(&mut cores, now);
    for mut datagram in recorded.clone() {
        cores[1].handle_datagram(&mut datagram, NetworkId::FIRST, now);
    }
    let below = counter(&cores[1], "datagrams_below_floor");
    assert_eq!(below, recorded.len() as u64);
    for datagram in datagrams(&mut cores[0], now + Duration::from_millis(200)) {
        cores[1].handle_datagram(&mut datagram.clone(), NetworkId::FIRST, now);
    }
    assert_eq!(counter(&cores[1], "datagrams_below_floor"), below);
}

#[test]
fn a_key_that_is_replaced_under_load_refuses_nothing_that_is_on_its_way() {
    let mut cores = cluster();
    let start = Instant::from_micros(2_000_000);
    talk(&mut cores, 300, 1700);
    let known =
        |core: &Core| ["datagrams_unknown_key", "datagrams_forged"].map(|name| counter(core, name));
    let before = known(&cores[1]);
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    let on_their_way = datagrams(&mut cores[0], start);
    cores[0].ask_roll();
    assert!(cores[0].wants_key(start) && cores[0].poll_timeout() <= start);
    cores[0].roll_key(DatagramKey::new([77; 32]), start);
    assert!(cores[0].is_rolling(), "the peer has it not yet");
    exchange_keys(&mut cores, start);
    assert!(!cores[0].is_rolling(), "now it has");
    cores[0].handle_event(&event(EventKind::Update, tcp(3)));
    let under_the_new_key = datagrams(&mut cores[0], start + Duration::from_millis(50));
    assert_eq!(under_the_new_key[0][20], 1, "the epoch");
    // They overtake those under the old one.
    for mut datagram in under_the_new_key.into_iter().chain(on_their_way) {
        cores[1].handle_datagram(&mut datagram, NetworkId::FIRST, start);
        while let Some(apply) = cores[1].poll_apply() {
            cores[1].handle_applied(apply.ticket, Outcome::Done, start);
        }
    }
    assert_eq!(known(&cores[1]), before);
    assert_eq!(cores[1].status(start).flows.copies, 1);
    assert_eq!(cores[0].status(start).key.epoch, 1);
}
