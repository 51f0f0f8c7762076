//! REST points: numbers, times, pages and tables as servers and people write them.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-05T10:00:00Z".parse().unwrap()
}

#[test]
fn numbers_are_read_as_such_or_as_texts() {
    let read = |value: Value| value_of(&value).map(|number| number.to_string());
    for (value, shown) in [
        (json!(41.5), "41.5"),
        (json!(-3), "-3"),
        (json!(1.5e3), "1500"),
        (json!("42.25"), "42.25"),
        (json!(" 7 "), "7"),
    ] {
        assert_eq!(read(value.clone()), Ok(shown.to_owned()), "{value}");
    }
    for (value, part) in [
        (json!(null), "null: the device has no value"),
        (json!("NaN"), "NaN: the device has no value"),
        (json!("41,5"), "\"41,5\": this is not a number"),
        (json!("offline"), "\"offline\""),
        (json!(""), "\"\""),
        (json!(true), "is true or false, not a number"),
        (json!([1]), "is a list"),
        (json!(1e300), "too large"),
    ] {
        let error = read(value.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn a_value_is_as_old_as_the_server_says() {
    let at = |value: Value| moment(&value, now()).map(|at| at.to_string());
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
    for (value, part) in [
        (json!("2026-01-05T11:00:00Z"), "3600 s in the future"),
        (json!("yesterday"), "is no time"),
        (json!("2026-01-05T09:58:00"), "with an offset"),
        (json!(null), "is no time"),
        (json!(1e300), "is no time"),
    ] {
        let error = at(value.clone()).unwrap_err();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn a_page_that_is_no_json_is_told_apart() {
    let page = |body: &str, content_type: &str| {
        let page = Page {
            etag: None,
            body: body.into(),
            content_type: content_type.to_owned(),
        };
        page.parsed().unwrap_err()
    };
    assert!(page(" <html>login</html>", "").contains("a web page"));
    assert!(page("welcome", "text/html; charset=utf-8").contains("a web page"));
    assert!(page("{\"a\": NaN}", "application/json").contains("no JSON: expected value"));
    assert!(page("{\"a\": 1", "").contains("EOF"));
}

#[test]
fn wrong_tables_are_refused() {
    #[derive(Debug, Deserialize)]
    struct Table {
        http: Written,
    }
    let refusal = |text: &str| {
        let table = toml::from_str::<Table>(&format!("http = {{ {text} }}"));
        match table {
            Err(error) => error.message().to_owned(),
            Ok(table) => Http::join(&table.http, None).unwrap_err(),
        }
    };
    for (text, part) in [
        ("path = '/a'", "says where it is"),
        ("url = 'http://h', path = 'a'", "begins with '/'"),
        ("url = 'http://h', path = '/a b'", "%20"),
        ("url = 'ftp://h'", "must begin with http"),
        (
            "url = 'http://10.0.0.7', bearer_token = { env = 'T' }",
            "in the clear",
        ),
        (
            "url = 'http://10.0.0.7', header = { name = 'X-Key', value = { env = 'T' } }",
            "in the clear",
        ),
        (
            "url = 'http://h', header = { name = 'X Key', value = { env = 'T' } }",
            "no name of a header",
        ),
        (
            "url = 'http://h', bearer_token = 'hunter2'",
            "a secret does not stand",
        ),
        ("url = 'http://h', time = '/t'", "give `json`"),
        ("url = 'http://h', json = 'value'", "/data/0/value"),
        ("url = 'http://h', json = '$..v'", "selects one value"),
        (
            "url = 'http://h', method = 'POST'",
            "unknown field `method`",
        ),
    ] {
        let error = refusal(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}
