//! Numbers and times as devices write them.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-05T10:00:00Z".parse().unwrap()
}

#[test]
fn numbers_are_read_as_such_or_as_texts() {
    let place = Select::parse("/v").unwrap();
    let read = |v: Value| value(&json!({ "v": v }), &place).map(|number| number.to_string());
    for (said, shown) in [
        (json!(41.5), "41.5"),
        (json!(-3), "-3"),
        (json!(1.5e3), "1500"),
        (json!("42.25"), "42.25"),
        (json!(" 7 "), "7"),
    ] {
        assert_eq!(read(said.clone()), Ok(shown.to_owned()), "{said}");
    }
    for (said, part) in [
        (json!(null), "null: the device has no value"),
        (json!("NaN"), "NaN: the device has no value"),
        (json!("41,5"), "\"41,5\": this is not a number"),
        (json!("offline"), "\"offline\""),
        (json!(""), "\"\""),
        (json!(true), "is true or false, not a number"),
        (json!([1]), "is a list"),
        (json!(1e300), "too large"),
    ] {
        let error = read(said.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{said}: {error}");
    }
}

#[test]
fn a_value_is_as_old_as_the_server_says() {
    let place = Select::parse("/t").unwrap();
    let at = |t: Value| -> Result<String, String> {
        let told = moment(&json!({ "t": t }), &place).map_err(|error| error.to_string())?;
        let at = not_ahead(told, &place, now()).map_err(|error| error.to_string())?;
        Ok(at.to_string())
    };
    let known = Ok("2026-01-05T09:58:00Z".to_owned());
    for value in [
        json!("2026-01-05T09:58:00Z"),
        json!("2026-01-05T10:58:00+01:00"),
        json!(1_767_607_080),
        json!(1_767_607_080_000_i64),
        json!(1_767_607_080.25),
        json!("1767607080"),
    ] {
        assert_eq!(at(value.clone()), known, "{value}");
    }
    assert_eq!(
        at(json!("2026-01-05T10:02:00Z")),
        Ok("2026-01-05T10:00:00Z".to_owned()),
        "a clock that is a little ahead"
    );
    for (said, part) in [
        (json!("2026-01-05T11:00:00Z"), "3600 s in the future"),
        (json!("yesterday"), "is no time"),
        (json!("2026-01-05T09:58:00"), "with an offset"),
        (json!(null), "is no time"),
        (json!(1e300), "is no time"),
    ] {
        let error = at(said.clone()).unwrap_err();
        assert!(error.contains(part), "{said}: {error}");
    }
}
