//! REST points: pages and tables as servers and people write them.

use super::*;

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
