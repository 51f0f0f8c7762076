//! What people see.

use super::Bench;
use super::figures::submit_all;

#[tokio::test]
async fn a_companys_page_shows_what_is_known_and_escapes_it() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    submit_all(&bench, &agent, 0).await;
    bench.settle().await;
    let page = bench.get("/company/acme-corp").await.accepted();
    for shown in [
        "Acme &lt;Corp&gt; &amp; Söhne",
        "Obsidian Prime",
        "92.00",
        "of stored data is dark",
        "fra-1",
        agent.id.as_str(),
        "10,950 kWh",
    ] {
        assert!(page.text.contains(shown), "{shown} is not in {}", page.text);
    }
    assert!(!page.text.contains("<Corp>"));
    assert!(!page.text.contains("<script") && !page.text.contains(" style="));
}

#[tokio::test]
async fn an_empty_companys_page_says_so() {
    let bench = Bench::new();
    let page = bench.get("/company/acme-corp").await.accepted();
    for shown in [
        "missing: no submission yet",
        "No agent is enrolled yet",
        "Silver",
    ] {
        assert!(page.text.contains(shown), "{shown}");
    }
    let list = bench.get("/").await.accepted();
    assert!(list.text.contains("href=\"/company/acme-corp\""));
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let bench = Bench::new();
    for path in [
        "/",
        "/company/acme-corp",
        "/company/nobody",
        "/nowhere",
        "/healthz",
    ] {
        let answer = bench.get(path).await;
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(header("strict-transport-security").starts_with("max-age="));
    }
    let nobody = bench.get("/company/nobody").await;
    assert_eq!(nobody.status.as_u16(), 404);
    assert!(nobody.text.contains("<h1>"), "a person gets a page");
    assert_eq!(
        nobody.headers.get("content-type").unwrap(),
        "text/html; charset=utf-8"
    );
}

#[tokio::test]
async fn the_policy_names_the_sheet_that_is_sent() {
    use base64::Engine as _;
    let bench = Bench::new();
    let page = bench.get("/").await;
    let sheet = page.text.split("<style>").nth(1).unwrap();
    let sheet = sheet.split("</style>").next().unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sheet.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    let policy = page.headers.get("content-security-policy").unwrap();
    assert!(policy.to_str().unwrap().contains(&hash));
}

#[tokio::test]
async fn healthy() {
    let bench = Bench::new();
    assert_eq!(
        bench.get("/healthz").await.accepted().json()["status"],
        "ok"
    );
}
