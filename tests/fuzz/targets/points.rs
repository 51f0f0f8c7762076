//! Points of thermal sources: formulas that people write, places in JSON, documents that servers send.

use cms_collectors::snmp::value::{number, text as snmp_text, whole};
use cms_collectors::snmp::{Value as SnmpValue, parse_oid};
use cms_collectors::thermal::document::select::Select;
use cms_collectors::thermal::formula::Formula;
use cms_spec::decimal::Decimal;
use serde_json::Value;

use super::text;

/// What is a formula has the same text when it is read again, and a value or a reason for any points.
pub(crate) fn formula(bytes: &[u8]) {
    let Some(Ok(formula)) = text(bytes).map(Formula::parse) else {
        return;
    };
    assert_eq!(Formula::parse(&formula.to_string()), Ok(formula.clone()));
    for number in [0, 1, -7, i64::MAX] {
        let _value = formula.value(&|_| Some(Decimal::whole(number)));
    }
    let missing = formula.value(&|_| None);
    assert!(missing.is_err(), "a formula without its points has a value");
}

/// The first line is a place, the rest a document; what is found is a part of it.
pub(crate) fn select(bytes: &[u8]) {
    let Some((place, document)) = text(bytes).and_then(|text| text.split_once('\n')) else {
        return;
    };
    let (Ok(select), Ok(document)) = (
        Select::parse(place),
        serde_json::from_str::<Value>(document),
    ) else {
        return;
    };
    if let Ok(found) = select.find(&document) {
        assert!(document.to_string().contains(&found.to_string()));
    }
}

/// A value of an SNMP answer: its first byte is a kind, the rest what it holds. An object's name is read from the same.
pub(crate) fn snmp_value(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(rest) {
        *to = *from;
    }
    let long = u64::from_be_bytes(eight);
    let short = (long >> 32) as u32;
    let value = match kind % 6 {
        0 => SnmpValue::OctetString(rest.to_vec().into()),
        1 => SnmpValue::Opaque(rest.to_vec().into()),
        2 => SnmpValue::Integer(short.cast_signed()),
        3 => SnmpValue::Counter64(long),
        4 => SnmpValue::Gauge32(short),
        _ => SnmpValue::NoSuchInstance,
    };
    match number(&value) {
        Ok(number) => {
            assert_eq!(
                whole(&value).is_ok(),
                number.rounded(0) == number && i64::try_from(number.nano() / 1_000_000_000).is_ok()
            );
        }
        Err(why) => assert!(!why.is_empty() && whole(&value).is_err()),
    }
    if let Some(shown) = snmp_text(&value) {
        assert!(shown.chars().count() <= 200);
    }
    if let Some(Ok(oid)) = text(rest).map(parse_oid) {
        assert_eq!(parse_oid(&oid.to_string()), Ok(oid.clone()));
    }
}

/// A number as a meter says it, in every notation.
pub(crate) fn decimal(bytes: &[u8]) {
    let Some(Ok(number)) = text(bytes).map(str::parse::<Decimal>) else {
        return;
    };
    assert_eq!(number.to_string().parse(), Ok(number));
    let _product = number
        .checked_mul(number)
        .and_then(|square| square.checked_div(number));
    let _rounded = (number.rounded(3), number.to_milli(), number.to_micro());
}
