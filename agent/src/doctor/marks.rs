//! What rules do with the connmark, one bit of which marks copies of other members' flows.
//!
//! A rule that sets the mark as a whole takes the bit away, or gives it to who is no copy. One that reads the mark as a whole
//! does not recognise the first packet of a flow that has moved here, which has the bit as well: it is taken away behind the
//! last rule. Who masks the mark with a number has thought of its bits.

use serde_json::Value;

/// What the copy bit is after a rule has set the mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bit {
    /// As it was.
    Kept,
    Set,
    Cleared,
}

/// True if this statement of nftables sets the connmark and does not keep the bit.
pub fn is_overwritten(statement: &Value, bit: u32) -> bool {
    let mangle = &statement["mangle"];
    is_mark(&mangle["key"]) && after(&mangle["value"], bit) != Bit::Kept
}

/// True if this statement of nftables depends on the connmark with the bit and all.
pub fn is_read(statement: &Value, bit: u32) -> bool {
    !is_mark(&statement["mangle"]["key"]) && has_whole_mark(statement, bit)
}

/// True if `iptables` compares or copies the mark by this mask with the bit and all. The bit alone is looked at on purpose.
pub const fn is_whole(mask: u32, bit: u32) -> bool {
    mask & bit != 0 && mask != bit
}

fn is_mark(expression: &Value) -> bool {
    expression["ct"]["key"] == "mark"
}

fn number(expression: &Value) -> Option<u32> {
    expression.as_u64().and_then(|it| u32::try_from(it).ok())
}

/// What the bit of a mark is that is set to the value of this expression.
fn after(value: &Value, bit: u32) -> Bit {
    if is_mark(value) {
        return Bit::Kept;
    }
    if let Some(number) = number(value) {
        return if number & bit == 0 {
            Bit::Cleared
        } else {
            Bit::Set
        };
    }
    let operands = |operator: &str| {
        let operands = value[operator].as_array()?;
        Some(operands.iter().map(|operand| after(operand, bit)))
    };
    // What else there is, the packet's mark or a number from a map, has not the bit.
    let fold = |operator: &str, neutral: Bit, decisive: Bit| {
        let bits = operands(operator)?;
        Some(bits.fold(neutral, |all, it| match (all, it) {
            (a, b) if a == decisive || b == decisive => decisive,
            (a, b) if a == neutral => b,
            (a, _) => a,
        }))
    };
    (fold("&", Bit::Set, Bit::Cleared))
        .or_else(|| fold("|", Bit::Cleared, Bit::Set))
        .or_else(|| fold("^", Bit::Cleared, Bit::Set))
        .unwrap_or(Bit::Cleared)
}

fn has_whole_mark(expression: &Value, bit: u32) -> bool {
    if is_mark(expression) {
        return true;
    }
    let masked = expression["&"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(mask) = masked.iter().find_map(number)
        && !is_whole(mask, bit)
    {
        return false;
    }
    match expression {
        Value::Array(parts) => parts.iter().any(|it| has_whole_mark(it, bit)),
        Value::Object(parts) => parts.values().any(|it| has_whole_mark(it, bit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const BIT: u32 = 1 << 31;

    #[test]
    fn a_rule_that_keeps_the_bit_of_the_mark_it_sets_overwrites_nothing() {
        let set = |value: Value| {
            is_overwritten(
                &json!({"mangle": {"key": {"ct": {"key": "mark"}}, "value": value}}),
                BIT,
            )
        };
        let mark = json!({"ct": {"key": "mark"}});
        assert!(!set(json!({"|": [{"&": [mark, BIT]}, 1]})));
        assert!(!set(json!({"|": [mark, 1]})));
        assert!(!set(json!({"^": [{"&": [mark, 0xffff_ff00_u32]}, 5]})));
        assert!(set(json!(1)));
        assert!(set(json!({"meta": {"key": "mark"}})));
        assert!(set(json!({"&": [mark, 255]})), "it is masked away");
        assert!(set(json!({"|": [mark, BIT]})), "everything becomes a copy");
        assert!(set(json!({"^": [mark, BIT]})));
        assert!(set(json!({"map": {"key": mark, "data": "@marks"}})));
    }

    #[test]
    fn a_rule_that_masks_the_bit_out_of_the_mark_it_reads_is_none_that_reads_it() {
        let mark = json!({"ct": {"key": "mark"}});
        let compared = |left: Value| {
            is_read(
                &json!({"match": {"op": "==", "left": left, "right": 1}}),
                BIT,
            )
        };
        assert!(compared(mark.clone()));
        assert!(compared(json!({"&": [mark, u32::MAX]})));
        assert!(!compared(json!({"&": [mark, BIT - 1]})));
        assert!(!compared(json!({"&": [mark, BIT]})), "it asks for copies");
        assert!(!compared(json!({"meta": {"key": "mark"}})));
        let restored = |value: Value| {
            is_read(
                &json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}}),
                BIT,
            )
        };
        assert!(restored(mark.clone()));
        assert!(!restored(json!({"&": [mark, 255]})));
        assert!(is_read(
            &json!({"vmap": {"key": mark, "data": {"set": []}}}),
            BIT
        ));
        assert!(!is_read(&json!({"mangle": {"key": mark, "value": 1}}), BIT));
    }
}
