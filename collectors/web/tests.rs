//! What a table may say about a server, and what answers mean.

use super::*;

fn site(text: &str) -> Result<Site, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

#[test]
fn addresses() {
    for (text, authority, path) in [
        ("http://localhost:9100", "localhost:9100", ""),
        (
            "https://mimir.example/prometheus/",
            "mimir.example",
            "/prometheus",
        ),
        ("http://[::1]:9090/metrics", "[::1]:9090", "/metrics"),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.authority(), address.path()), (authority, path));
        assert_eq!(
            address.url("/x"),
            format!("{}/x", text.trim_end_matches('/'))
        );
    }
    for text in [
        "",
        "localhost:9100",
        "ftp://a",
        "http://",
        "http:///metrics",
        "http://a b",
        "http://a/?q",
        "http://a/#f",
        "http://:80",
        "http://a/ä",
    ] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
    let refused = "http://user:hunter2@host".parse::<Address>().unwrap_err();
    assert!(
        refused.contains("basic") && !refused.contains("hunter2"),
        "{refused}"
    );
}

#[test]
fn a_login_never_travels_in_the_clear() {
    let login = "bearer_token = { file = '/t' }";
    for url in [
        "https://a",
        "http://127.0.0.1:9090",
        "http://localhost",
        "http://[::1]:1",
    ] {
        assert!(site(&format!("url = '{url}'\n{login}")).is_ok(), "{url}");
    }
    for url in [
        "http://a",
        "http://10.0.0.1",
        "http://127.example",
        "http://[fe80::1]",
    ] {
        let refused = site(&format!("url = '{url}'\n{login}")).unwrap_err();
        assert!(refused.contains("in the clear"), "{url}: {refused}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let cases = [
        (
            "bearer_token = { file = '/t' }\nbasic = { user = 'u', password = { env = 'P' } }",
            "exclude each other",
        ),
        ("bearer_token = 's3cret'", "does not stand in"),
        ("bearer_token = 31337", "does not stand in"),
        ("bearer_token = ['s3cret']", "does not stand in"),
        (
            "bearer_token = { file = '/t', env = 'T' }",
            "does not stand in",
        ),
        ("bearer_token = { env = '' }", "does not stand in"),
        ("bearer_token = { file = 't' }", "not an absolute path"),
        ("tls = { client_cert_file = '/c' }", "go together"),
        ("tls = { min_version = '1.1' }", "unknown variant"),
        ("tls = { insecure_skip_verify = true }", "unknown field"),
        (
            "basic = { user = 'u', password = 's3cret' }",
            "does not stand in",
        ),
    ];
    for (text, message) in cases {
        let refused = site(&format!("url = 'https://a'\n{text}")).unwrap_err();
        assert!(refused.contains(message), "{text}: {refused}");
        assert!(
            !refused.contains("s3cret") && !refused.contains("31337"),
            "{refused}"
        );
    }
    let refused = site("url = 'http://a'\ntls = { ca_file = '/ca' }").unwrap_err();
    assert!(refused.contains("https://"), "{refused}");
}

#[test]
fn a_refusal_has_its_class_and_says_what_to_do() {
    let judged = |status: u16, body: &[u8]| {
        let answer = Answer {
            status,
            headers: vec![("location".to_owned(), "https://b/".to_owned())],
            refusal: body.to_vec(),
        };
        let error = answer.require_good("http://a/metrics").unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        (
            error.class(),
            format!("{error}: {}", source.unwrap_or_default()),
        )
    };
    for (status, body, class, words) in [
        (401, &b"Unauthorized\n"[..], "denied", "check bearer_token"),
        (403, b"", "denied", "HTTP 403"),
        (404, b"not found", "vanished", "check the path"),
        (302, b"", "malformed", "https://b/"),
        (
            503,
            b"<h1>busy\x1b[31m</h1>",
            "unreachable",
            "HTTP 503: <h1>busy[31m</h1>",
        ),
        (418, b"teapot", "malformed", "HTTP 418: teapot"),
    ] {
        let (found, text) = judged(status, body);
        assert_eq!(found, class, "{status}");
        assert!(
            text.contains(words) && text.contains("http://a/metrics"),
            "{text}"
        );
    }
    let (_, text) = judged(500, &[b'x'; 5_000]);
    assert!(text.len() < 500, "{}", text.len());
    assert!(
        Answer {
            status: 204,
            ..Answer::default()
        }
        .require_good("u")
        .is_ok()
    );
}

#[test]
fn what_a_server_was_reached_with_is_in_the_table() {
    let text = "url = \"https://a\"\nbasic = { user = \"u\", password = { file = \"/p\" } }\n\
                tls = { ca_file = \"/ca\", client_cert_file = \"/c\", client_key_file = \"/k\", min_version = \"1.2\" }\n";
    let site: Site = toml::from_str(text).unwrap();
    assert_eq!(format!("url = \"https://a\"\n{}", site.keys()), text);
    let plain: Site = toml::from_str("url = \"http://a\"").unwrap();
    assert_eq!(plain.keys(), "");
}
