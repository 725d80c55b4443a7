use super::*;

/// A datagram of two messages with attributes, one nested.
fn datagram() -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut first = Builder::request(&mut buffer, IPCTNL_MSG_CT_NEW, NLM_F_EXCL, 7, AF_INET);
    first.put(1, &[0xaa]);
    first.nest(2, |nest| {
        nest.put_be16(3, 0x1234);
        nest.put_be32(4, 0x5678_9abc);
    });
    first.finish();
    Builder::request(&mut buffer, IPCTNL_MSG_CT_DELETE, 0, 8, AF_INET6).finish();
    buffer
}

#[test]
fn what_is_built_is_what_is_walked() {
    let datagram = datagram();
    let messages: Vec<_> = Messages::new(&datagram)
        .collect::<Result<_, _>>()
        .expect("they are whole");
    let [first, second] = messages.as_slice() else {
        panic!("two messages")
    };
    assert_eq!(
        (first.kind, first.flags, first.seq, first.portid),
        (0x100, 0x201, 7, 0)
    );
    assert_eq!((second.kind, second.flags, second.seq), (0x102, 0x001, 8));
    assert_eq!((first.body[0], second.body[0]), (AF_INET, AF_INET6));

    let attributes: Vec<_> = first
        .attributes()
        .expect("a body")
        .collect::<Result<_, _>>()
        .expect("they are whole");
    let [byte, nest] = attributes.as_slice() else {
        panic!("two attributes")
    };
    assert_eq!((byte.kind, byte.u8()), (1, Ok(0xaa)));
    assert_eq!(
        byte.be32(),
        Err(DecodeError::AttributeSize { attribute: 1 })
    );
    let nested: Vec<_> = nest
        .nested()
        .collect::<Result<_, _>>()
        .expect("they are whole");
    assert_eq!(
        (nest.kind, nested[0].be16(), nested[1].be32()),
        (2, Ok(0x1234), Ok(0x5678_9abc))
    );
}

#[test]
fn a_walk_ends_at_the_first_length_that_does_not_fit() {
    let whole = datagram();
    for len in 0..whole.len() {
        let messages: Vec<_> = Messages::new(&whole[..len]).collect();
        let errors = messages.iter().filter(|message| message.is_err()).count();
        assert!(errors <= 1 && messages.len() <= 2, "{len}");
        assert_eq!(
            messages.last().is_some_and(Result::is_err),
            errors == 1,
            "{len}"
        );
    }
    let too_short = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(matches!(
        Messages::new(&too_short).next(),
        Some(Err(DecodeError::MessageLength))
    ));
    for attribute in [[0, 0, 1, 0], [3, 0, 1, 0], [5, 0, 1, 0]] {
        let error = Attributes { rest: &attribute }.next();
        assert!(matches!(error, Some(Err(DecodeError::AttributeLength))));
    }
}

#[test]
fn an_outcome_is_0_or_an_error_number_of_the_kernel() {
    let outcome = |body: &[u8]| {
        Message {
            kind: NLMSG_ERROR,
            flags: 0,
            seq: 0,
            portid: 0,
            body,
        }
        .outcome()
    };
    assert_eq!(outcome(&0i32.to_ne_bytes()), Ok(()));
    assert_eq!(outcome(&(-17i32).to_ne_bytes()), Err(Errno::EXIST));
    for number in [i32::MIN, -4096, 1, i32::MAX] {
        assert_eq!(outcome(&number.to_ne_bytes()), Err(Errno::BADMSG));
    }
    assert_eq!(outcome(&[0; 3]), Err(Errno::BADMSG));
}

#[test]
fn a_stamp_sets_the_sequence_number_and_adds_flags() {
    let mut datagram = datagram();
    stamp(&mut datagram, 0x0102_0304, NLM_F_ACK);
    let message = Messages::new(&datagram)
        .next()
        .expect("a message")
        .expect("it is whole");
    assert_eq!(
        (message.seq, message.flags),
        (0x0102_0304, NLM_F_REQUEST | NLM_F_EXCL | NLM_F_ACK)
    );
}
