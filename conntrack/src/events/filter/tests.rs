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
            code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                at += usize::from(if accumulator == op.k { op.jt } else { op.jf });
            }
            code if code == libc::BPF_RET | libc::BPF_K => return op.k != 0,
            code => panic!("opcode {code:#x}"),
        }
    }
}

#[test]
fn the_filter_drops_messages_of_its_port_only() {
    for portid in [1, 0x1234_5678, u32::MAX] {
        let program = program(Some(portid), &Unwanted::default());
        let message = |from: u32| [[0; 12].as_slice(), &from.to_ne_bytes(), &[0; 8]].concat();
        assert!(!passes(&program, &message(portid)));
        assert!(passes(&program, &message(0)));
        assert!(passes(&program, &message(portid.swap_bytes() ^ 1)));
    }
}

#[test]
fn a_program_is_never_longer_than_the_kernel_takes() {
    let every_other = (0..3000).map(|port| (port * 2, port * 2)).collect();
    let unwanted = Unwanted {
        protocols: vec![(6, every_other), (17, vec![(53, 53)]), (47, vec![])],
        all_but: Some((0..=u8::MAX).collect()),
    };
    let program = program(Some(1), &unwanted);
    assert!((500..=INSTRUCTIONS_MAX).contains(&program.len()));
}
