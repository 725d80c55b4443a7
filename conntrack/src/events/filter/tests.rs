use super::*;

/// Runs a program without extensions on a message as the kernel would: true when it passes.
fn passes(program: &[sock_filter], message: &[u8]) -> bool {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let op = program[at];
        at += 1;
        match u32::from(op.code) {
            code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                let from = op.k as usize;
                accumulator =
                    u32::from_be_bytes(message[from..from + 4].try_into().expect("4 bytes"));
            }
            code if code == libc::BPF_LD | libc::BPF_H | libc::BPF_ABS => {
                let from = op.k as usize;
                accumulator =
                    u16::from_be_bytes(message[from..from + 2].try_into().expect("2 bytes")).into();
            }
            code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                at += usize::from(if accumulator == op.k { op.jt } else { op.jf });
            }
            code if code == libc::BPF_RET | libc::BPF_K => return op.k != 0,
            code => panic!("opcode {code:#x}"),
        }
    }
}

#[test]
fn the_filter_drops_messages_of_its_port_only_and_its_ends_if_they_are_not_wanted() {
    for portid in [1, 0x1234_5678, u32::MAX] {
        let own = |with_ends| program(Some(Own { portid, with_ends }), &Unwanted::default());
        let message = |kind: u16, from: u32| {
            let kind = (NFNL_SUBSYS_CTNETLINK << 8 | kind).to_ne_bytes();
            [&[0; 4][..], &kind, &[0; 6], &from.to_ne_bytes(), &[0; 8]].concat()
        };
        let [new, end] = [IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_DELETE];
        for (program, end_passes) in [(own(false), false), (own(true), true)] {
            assert!(!passes(&program, &message(new, portid)));
            assert_eq!(passes(&program, &message(end, portid)), end_passes);
            for kind in [new, end] {
                assert!(passes(&program, &message(kind, 0)));
                assert!(passes(&program, &message(kind, portid.swap_bytes() ^ 1)));
            }
        }
    }
}

#[test]
fn a_program_is_never_longer_than_the_kernel_takes() {
    let every_other = (0..3000).map(|port| (port * 2, port * 2)).collect();
    let unwanted = Unwanted {
        protocols: vec![(6, every_other), (17, vec![(53, 53)]), (47, vec![])],
        all_but: Some((0..=u8::MAX).collect()),
    };
    let own = Own {
        portid: 1,
        with_ends: true,
    };
    let program = program(Some(own), &unwanted);
    assert!((500..=INSTRUCTIONS_MAX).contains(&program.len()));
}
