use super::*;

#[test]
fn durations_need_a_whole_number_and_a_unit() {
    let good = [
        ("0us", 0),
        ("100us", 100),
        ("1ms", 1_000),
        ("1500ms", 1_500_000),
        ("60s", 60_000_000),
        ("90min", 5_400_000_000),
        ("24h", 86_400_000_000),
    ];
    for (text, micros) in good {
        assert_eq!(
            parse_duration(text),
            Some(Duration::from_micros(micros)),
            "{text}"
        );
    }
    for text in [
        "", "1", "ms", "1 ms", " 1ms", "1ms ", "1.5ms", "-1ms", "+1ms", "1MS", "1m", "1H", "1d",
        "1ns", "1_000ms", "0x1ms",
    ] {
        assert_eq!(parse_duration(text), None, "{text:?}");
    }
    assert_eq!(
        parse_duration("18446744073709551616us"),
        None,
        "the number overflows"
    );
    assert_eq!(
        parse_duration("18446744073709551615s"),
        None,
        "the product overflows"
    );
}

#[test]
fn sizes_need_a_whole_number_and_a_binary_unit() {
    for (text, bytes) in [
        ("0KiB", 0),
        ("1KiB", 1 << 10),
        ("64MiB", 64 << 20),
        ("2GiB", 2 << 30),
    ] {
        assert_eq!(parse_size(text), Some(bytes), "{text}");
    }
    for text in [
        "", "64", "64M", "64MB", "64mib", "64 MiB", "1.5MiB", "-1KiB", "64B",
    ] {
        assert_eq!(parse_size(text), None, "{text:?}");
    }
}

#[test]
fn masks_are_32_bits_in_either_notation() {
    for (text, mask) in [
        ("0", 0),
        ("0x0", 0),
        ("255", 255),
        ("0xff", 255),
        ("0xFFFFFFFF", u32::MAX),
        ("4294967295", u32::MAX),
    ] {
        assert_eq!(parse_mask(text), Some(mask), "{text}");
    }
    for text in [
        "",
        "0x",
        "0x100000000",
        "4294967296",
        "-1",
        "+1",
        "0x+1",
        "0xfg",
        "ff",
        "0X1",
        " 1",
    ] {
        assert_eq!(parse_mask(text), None, "{text:?}");
    }
}

#[test]
fn printed_values_mean_the_same() {
    for micros in [
        0, 1, 999, 1_000, 1_001, 999_000, 1_000_000, 1_500_000, 60_000_000,
    ] {
        let duration = Duration::from_micros(micros);
        assert_eq!(parse_duration(&print_duration(duration)), Some(duration));
    }
    for size in [0, 1 << 10, 1536 << 10, 1 << 20, 512 << 20, 1 << 30] {
        assert_eq!(parse_size(&print_size(size)), Some(size));
    }
    for mask in [0, 1, 0x8000_0000, u32::MAX] {
        assert_eq!(parse_mask(&print_mask(mask)), Some(mask));
    }
    for mask in [0, 1, u128::MAX] {
        assert_eq!(parse_label_mask(&print_label_mask(mask)), Some(mask));
    }
}

#[test]
fn printed_values_have_the_largest_unit_that_fits() {
    assert_eq!(print_duration(Duration::from_millis(1_000)), "1s");
    assert_eq!(print_duration(Duration::from_millis(1_500)), "1500ms");
    assert_eq!(print_duration(Duration::from_secs(5400)), "90min");
    assert_eq!(print_duration(Duration::from_secs(7200)), "2h");
    assert_eq!(print_size(64 << 20), "64MiB");
    assert_eq!(print_mask(0xff), "0x000000ff");
}
