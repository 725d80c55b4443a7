use super::*;

const OFFER: [u8; 5 + KEY_BYTES] = {
    let mut bytes = [7; 5 + KEY_BYTES];
    (bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]) = (KEY, 0, 0, 0, 49);
    bytes
};

fn offer() -> LinkMessage {
    LinkMessage::Key(KeyMessage::Offer(KeyOffer {
        incarnation: 0x0707_0707_0707_0707,
        epoch: 7,
        key: DatagramKey::new([7; 32]),
        floor: 0x0707_0707_0707_0707,
    }))
}

fn ack() -> LinkMessage {
    LinkMessage::Key(KeyMessage::Ack {
        incarnation: 0x0102_0304_0506_0708,
        epoch: 9,
    })
}

/// Runs what never has to wait.
fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work)
}

/// The messages among these bytes, printed (keys are not), and why there are no more.
fn messages(mut bytes: &[u8]) -> (Vec<String>, io::ErrorKind) {
    let mut messages = Vec::new();
    loop {
        match now(read(&mut bytes)) {
            Ok(message) => messages.push(format!("{message:?}")),
            Err(error) => return (messages, error.kind()),
        }
    }
}

fn printed(messages: &[LinkMessage]) -> Vec<String> {
    let all = messages.iter().map(|message| format!("{message:?}"));
    all.collect()
}

#[test]
fn what_is_written_is_read() {
    let mut bytes = Vec::new();
    now(write(&mut bytes, &offer())).unwrap();
    assert_eq!(bytes, OFFER);
    now(write(&mut bytes, &ack())).unwrap();
    assert_eq!(
        bytes[OFFER.len()..],
        [KEY_ACK, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
    assert_eq!(
        messages(&bytes),
        (printed(&[offer(), ack()]), io::ErrorKind::UnexpectedEof)
    );
    let LinkMessage::Key(KeyMessage::Offer(offer)) = now(read(&mut &bytes[..])).unwrap() else {
        panic!("it is an offer")
    };
    assert_eq!(offer.key.bytes(), &[7; 32]);
}

#[test]
fn what_is_not_known_is_skipped() {
    let mut bytes = Vec::new();
    now(write_ping(&mut bytes)).unwrap();
    bytes.extend([200, 0, 0, 4, 0]);
    bytes.extend([1; 1024]);
    now(write(&mut bytes, &ack())).unwrap();
    bytes.extend([KEY_ACK, 0, 0, 0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99, 99]);
    bytes.extend(OFFER);
    let unknown = LinkMessage::Protocol(200, Vec::new());
    assert_eq!(
        messages(&bytes).0,
        printed(&[unknown, ack(), ack(), offer()]),
        "also what a later version adds to a frame"
    );
}

#[test]
fn what_is_cut_off_is_no_message() {
    for end in 0..OFFER.len() {
        assert_eq!(
            messages(&OFFER[..end]),
            (vec![], io::ErrorKind::UnexpectedEof),
            "{end}"
        );
    }
}

#[test]
fn frames_too_short_for_their_kind_or_endless_are_refused() {
    for frame in [
        &[KEY, 0, 0, 0, 48][..],
        &[KEY_ACK, 0, 0, 0, 8],
        &[KEY_ACK, 0, 0, 0, 0],
        &[200, 0, 0x10, 0, 1],
        &[KEY, 0xff, 0xff, 0xff, 0xff],
    ] {
        let bytes = [frame, &[0; 64]].concat();
        assert_eq!(
            messages(&bytes),
            (vec![], io::ErrorKind::InvalidData),
            "{frame:?}"
        );
    }
}
