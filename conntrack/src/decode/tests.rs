use super::*;
use crate::nfnl::Builder;

/// A message of what `fill` puts.
fn message(fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut builder = Builder::request(&mut buffer, IPCTNL_MSG_CT_NEW, 0, 0, AF_INET);
    fill(&mut builder);
    builder.finish();
    buffer
}

fn put_tuple(builder: &mut Builder<'_>, kind: u16) {
    builder.nest(kind, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            ip.put(CTA_IP_V4_SRC, &[10, 0, 0, 1]);
            ip.put(CTA_IP_V4_DST, &[10, 0, 0, 2]);
        });
        tuple.nest(CTA_TUPLE_PROTO, |proto| proto.put(CTA_PROTO_NUM, &[99]));
    });
}

fn put_tuples(builder: &mut Builder<'_>) {
    put_tuple(builder, CTA_TUPLE_ORIG);
    put_tuple(builder, CTA_TUPLE_REPLY);
}

#[test]
fn each_error_has_its_cause() {
    let cases: [(Vec<u8>, DecodeError); 9] = [
        (Vec::new(), DecodeError::MessageLength),
        (
            message(put_tuples)[..18].to_vec(),
            DecodeError::MessageLength,
        ),
        (
            message(|m| put_tuple(m, CTA_TUPLE_ORIG)),
            DecodeError::TupleMissing,
        ),
        (
            message(|m| m.nest(CTA_TUPLE_ORIG, |_| {})),
            DecodeError::TupleAddresses,
        ),
        (
            message(|m| {
                m.nest(CTA_TUPLE_ORIG, |tuple| {
                    tuple.nest(CTA_TUPLE_IP, |ip| {
                        ip.put(CTA_IP_V4_SRC, &[10, 0, 0, 1]);
                        ip.put(CTA_IP_V6_DST, &[0; 16]);
                    });
                });
            }),
            DecodeError::TupleAddresses,
        ),
        (
            message(|m| m.nest(CTA_TUPLE_ORIG, |tuple| tuple.nest(CTA_TUPLE_PROTO, |_| {}))),
            DecodeError::TupleProtocol,
        ),
        (
            message(|m| {
                put_tuples(m);
                m.put(CTA_STATUS, &[0; 3]);
            }),
            DecodeError::AttributeSize {
                attribute: CTA_STATUS,
            },
        ),
        (
            message(|m| {
                put_tuples(m);
                m.nest(CTA_HELP, |help| {
                    help.put(CTA_HELP_NAME, b"a name much too long\0")
                });
            }),
            DecodeError::HelperName,
        ),
        (
            message(|m| {
                put_tuples(m);
                m.put(CTA_PROTOINFO, &[9, 0, 1]);
            }),
            DecodeError::AttributeLength,
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode_event(&bytes), Err(error));
        assert!(error.index() < DecodeError::COUNT);
        assert!(!error.to_string().is_empty() && !error.name().contains(' '));
    }
}

#[test]
fn a_message_of_another_subsystem_is_not_an_event() {
    let mut bytes = message(put_tuples);
    bytes[4..6].copy_from_slice(&0x200u16.to_ne_bytes());
    assert_eq!(
        decode_event(&bytes),
        Err(DecodeError::MessageKind { kind: 0x200 })
    );
}

#[test]
fn each_error_has_a_counter_of_its_own() {
    let errors = [
        DecodeError::Truncated,
        DecodeError::MessageLength,
        DecodeError::MessageKind { kind: 1 },
        DecodeError::AttributeLength,
        DecodeError::AttributeSize { attribute: 1 },
        DecodeError::TupleMissing,
        DecodeError::TupleAddresses,
        DecodeError::TupleProtocol,
        DecodeError::HelperName,
        DecodeError::PacketHeaderMissing,
    ];
    let indices: Vec<_> = errors.iter().map(DecodeError::index).collect();
    assert_eq!(indices, (0..DecodeError::COUNT).collect::<Vec<_>>());
}

#[test]
fn a_synproxy_of_zeros_is_none() {
    let with = |isn| {
        message(|m| {
            put_tuples(m);
            m.nest(CTA_SYNPROXY, |synproxy| {
                synproxy.put_be32(CTA_SYNPROXY_ISN, isn)
            });
        })
    };
    let synproxy = |bytes: Vec<u8>| decode_event(&bytes).expect("a message").flow.synproxy;
    assert_eq!(synproxy(with(0)), None);
    assert_eq!(
        synproxy(with(1)),
        Some(SynProxy {
            isn: 1,
            its: 0,
            tsoff: 0
        })
    );
}
