use super::*;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection};
use std::ops::DerefMut;

fn id(number: u8) -> MemberId {
    MemberId::new(number).unwrap()
}

/// A key that was never used before.
fn key() -> MemberKey {
    let directory = tempfile::tempdir().unwrap();
    MemberKey::create(&directory.path().join("member.key")).unwrap()
}

/// Carries what one has to say to the other; an error is the other's.
fn carry<A, B>(
    from: &mut impl DerefMut<Target = ConnectionCommon<A>>,
    to: &mut impl DerefMut<Target = ConnectionCommon<B>>,
) -> Result<(), Error> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut wire = &wire[..];
    while !wire.is_empty() {
        to.read_tls(&mut wire).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// Who each thinks is at the other end.
type Known = (Option<MemberId>, Option<MemberId>);

/// Member 1 with the key `dialler` dials member 2 with the key `listener`; each expects the key beside its own.
fn shake_hands(
    (dialler, expects): (&MemberKey, PublicKey),
    (listener, accepts): (&MemberKey, &[(MemberId, PublicKey)]),
) -> Result<Known, Error> {
    let config = Identity::new(dialler).dialling(&expects)?;
    let mut client = ClientConnection::new(config, no_name())?;
    let keys = accepts.iter().map(|(_, key)| *key).collect();
    let mut server = ServerConnection::new(Identity::new(listener).listening(keys)?)?;
    for _ in 0..4 {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((
        member(&client, &[(id(2), expects)]),
        member(&server, accepts),
    ))
}

#[test]
fn members_know_each_other_by_their_keys() {
    let (dialler, listener, third) = (key(), key(), key());
    let accepts = [(id(3), third.public()), (id(1), dialler.public())];
    let known = shake_hands((&dialler, listener.public()), (&listener, &accepts)).unwrap();
    assert_eq!(known, (Some(id(2)), Some(id(1))));
}

#[test]
fn a_stranger_who_dials_is_refused() {
    let (stranger, listener, known) = (key(), key(), key());
    let accepts = [(id(1), known.public())];
    let error = shake_hands((&stranger, listener.public()), (&listener, &accepts)).unwrap_err();
    assert_eq!(Refusal::of(&error), Refusal::Stranger, "{error}");
}

#[test]
fn another_member_than_the_one_that_was_dialled_is_refused() {
    let (dialler, listener, meant) = (key(), key(), key());
    let accepts = [(id(1), dialler.public())];
    let error = shake_hands((&dialler, meant.public()), (&listener, &accepts)).unwrap_err();
    assert_eq!(Refusal::of(&error), Refusal::Stranger, "{error}");
}

#[test]
fn who_shows_a_members_key_without_having_it_is_refused() {
    let (thief, listener, robbed) = (key(), key(), key());
    let spki = CertificateDer::from(spki(&robbed.public()));
    let mut identity = Identity::new(&thief);
    identity.key = Arc::new(CertifiedKey::new(vec![spki], thief.signing()));
    let config = identity.dialling(&listener.public()).unwrap();
    let mut client = ClientConnection::new(config, no_name()).unwrap();
    let config = Identity::new(&listener).listening(vec![robbed.public()]);
    let mut server = ServerConnection::new(config.unwrap()).unwrap();
    carry(&mut client, &mut server).unwrap();
    carry(&mut server, &mut client).unwrap();
    let error = carry(&mut client, &mut server).unwrap_err();
    assert_eq!(Refusal::of(&error), Refusal::Stranger, "{error}");
    assert!(server.is_handshaking());
}

#[test]
fn who_shows_nothing_is_refused() {
    let listener = key();
    let identity = Identity::new(&listener);
    let anonymous = ClientConfig::builder_with_provider(Arc::clone(&identity.provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(identity.accepting(vec![listener.public()])))
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(anonymous), no_name()).unwrap();
    let config = identity.listening(vec![listener.public()]);
    let mut server = ServerConnection::new(config.unwrap()).unwrap();
    let error = carry(&mut client, &mut server)
        .and_then(|()| carry(&mut server, &mut client))
        .and_then(|()| carry(&mut client, &mut server))
        .unwrap_err();
    assert_eq!(Refusal::of(&error), Refusal::Stranger, "{error}");
}

#[test]
fn noise_is_a_failure_and_no_stranger() {
    let listener = key();
    let config = Identity::new(&listener).listening(vec![]).unwrap();
    let mut server = ServerConnection::new(config).unwrap();
    server
        .read_tls(&mut &b"GET / HTTP/1.0\r\n\r\n"[..])
        .unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert_eq!(Refusal::of(&error), Refusal::Other, "{error}");
}
