use std::net::Ipv4Addr;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::thread::UnshareFlags;

use super::*;
use crate::flow::{L4, Tuple};

#[expect(deprecated, reason = "it is unsafe for other flags than NEWNET")]
fn unshare_net() {
    rustix::thread::unshare(UnshareFlags::NEWNET)
        .expect("a network namespace: run the tests as root");
}

fn udp_flow(number: u16) -> Flow {
    let l4 = L4::Ports {
        src: number,
        dst: 53,
    };
    let [src, dst] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|octets| Ipv4Addr::from(octets).into());
    Flow {
        timeout: Some(600),
        ..Flow::new(Tuple {
            src,
            dst,
            proto: 17,
            l4,
            zone: 0,
        })
    }
}

fn commit(injector: &mut Injector) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    injector
        .commit(&mut |_, outcome| outcomes.push(outcome))
        .expect("the kernel takes requests");
    outcomes
}

/// A receive buffer of the smallest size holds three answers: most of those to a chunk of failures are lost.
#[test]
fn outcomes_are_right_though_answers_are_lost() {
    let thread = std::thread::spawn(|| {
        unshare_net();
        let mut injector = Injector::open().expect("an injector");
        set_socket_recv_buffer_size(&injector.socket, 1).expect("it is raised to the smallest");
        let mut expected = Vec::new();
        for number in 0..200 {
            injector.delete(&udp_flow(number + 2000));
            injector.create(&udp_flow(number));
            injector.update(&udp_flow(number));
            injector.update(&udp_flow(number + 1000));
            expected.extend([Err(Errno::NOENT), Ok(()), Ok(()), Err(Errno::NOENT)]);
        }
        let outcomes = commit(&mut injector);
        assert_eq!(outcomes.len(), expected.len());
        assert!(
            outcomes.contains(&Err(Errno::EXIST)),
            "no answer was lost: this proves nothing"
        );
        for (index, (outcome, expected)) in outcomes.iter().zip(&expected).enumerate() {
            // Done twice, a create says that the flow exists: so it does.
            let done_twice = index % 4 == 1 && *outcome == Err(Errno::EXIST);
            assert!(outcome == expected || done_twice, "{index}: {outcome:?}");
        }
    });
    thread.join().expect("it proved it");
}

#[test]
fn nothing_committed_has_no_outcome() {
    let thread = std::thread::spawn(|| {
        unshare_net();
        let mut injector = Injector::open().expect("an injector");
        assert_eq!(commit(&mut injector), []);
    });
    thread.join().expect("it proved it");
}
