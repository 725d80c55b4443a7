use super::*;

#[test]
fn the_hash_is_fnv_1a() {
    assert_eq!(fnv1a([].into_iter()), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
}
