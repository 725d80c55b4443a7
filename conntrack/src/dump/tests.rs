use super::*;

fn message(kind: u16, seq: u32, flags: u16, body: &[u8]) -> Message<'_> {
    Message {
        kind,
        flags,
        seq,
        portid: 0,
        body,
    }
}

fn done(seq: u32, flags: u16) -> Message<'static> {
    message(NLMSG_DONE, seq, flags, &[0; 4])
}

#[test]
fn a_consistent_dump_ends_silently() {
    let mut progress = Progress {
        seq: 1,
        restarts: 0,
        interrupted: false,
    };
    assert!(matches!(
        progress.handle_message(&done(1, 0)),
        Step::End(None)
    ));
}

#[test]
fn an_interrupted_dump_begins_anew_until_it_gives_up() {
    let mut progress = Progress {
        seq: 1,
        restarts: 0,
        interrupted: false,
    };
    for seq in 1..=RESTARTS_MAX {
        assert!(matches!(
            progress.handle_message(&message(0x100, seq, NLM_F_DUMP_INTR, &[])),
            Step::Skip
        ));
        assert!(matches!(
            progress.handle_message(&message(0x100, seq, 0, &[])),
            Step::Skip
        ));
        assert!(matches!(
            progress.handle_message(&done(seq, 0)),
            Step::Restart
        ));
        assert_eq!(progress.seq, seq + 1);
    }
    let last = progress.seq;
    assert!(matches!(
        progress.handle_message(&message(0x100, last, NLM_F_DUMP_INTR, &[])),
        Step::Yield(_)
    ));
    let end = progress.handle_message(&done(last, 0));
    assert!(matches!(end, Step::End(Some(Ok(DumpItem::Interrupted)))));
}

#[test]
fn a_dump_that_is_consistent_after_a_restart_is_complete() {
    let mut progress = Progress {
        seq: 1,
        restarts: 0,
        interrupted: false,
    };
    assert!(matches!(
        progress.handle_message(&done(1, NLM_F_DUMP_INTR)),
        Step::Restart
    ));
    assert!(matches!(
        progress.handle_message(&done(2, 0)),
        Step::End(None)
    ));
}

#[test]
fn messages_of_an_earlier_request_are_skipped() {
    let mut progress = Progress {
        seq: 2,
        restarts: 0,
        interrupted: false,
    };
    assert!(matches!(
        progress.handle_message(&done(1, NLM_F_DUMP_INTR)),
        Step::Skip
    ));
    assert!(!progress.interrupted);
}

#[test]
fn an_error_of_the_kernel_ends_the_dump() {
    let mut progress = Progress {
        seq: 1,
        restarts: 0,
        interrupted: false,
    };
    let body = (-12i32).to_ne_bytes();
    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        let Step::End(Some(Err(DumpError::Io(error)))) =
            progress.handle_message(&message(kind, 1, 0, &body))
        else {
            panic!("it ends");
        };
        assert_eq!(error.raw_os_error(), Some(12));
    }
}

#[test]
fn a_malformed_entry_does_not_end_the_dump() {
    let mut progress = Progress {
        seq: 1,
        restarts: 0,
        interrupted: false,
    };
    let step = progress.handle_message(&message(0x100, 1, 0, &[]));
    assert!(matches!(
        step,
        Step::Yield(Err(DumpError::Malformed(DecodeError::MessageLength)))
    ));
}
