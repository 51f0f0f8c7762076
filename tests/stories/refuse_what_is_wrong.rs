//! What is wrong is refused with words that lead on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::site::{Running, Site, text, wait_until};

fn status_of(site: &Site, part: &str) -> Value {
    let output = site.agent(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let parts = status["parts"].as_array().cloned().unwrap_or_default();
    parts
        .into_iter()
        .find(|found| found["name"] == part)
        .unwrap_or_default()
}

fn check(site: &Site, arguments: &[&str]) -> (i32, String) {
    let mut all = vec!["check"];
    all.extend(arguments);
    let output = site.agent(&all);
    (
        output.status.code().unwrap(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[test]
fn tls_1_2_is_refused_and_tls_1_3_is_spoken() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let connect = |version: &str| {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{}", site.port()),
                version,
                "-CAfile",
            ])
            .arg(site.path("ca.pem"))
            .args(["-verify_return_error", "-servername", "localhost"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (accepted, said) = connect("-tls1_3");
    assert!(accepted && said.contains("TLSv1.3"), "{said}");
    let (accepted, said) = connect("-tls1_2");
    assert!(!accepted && said.contains("protocol version"), "{said}");
}

#[test]
fn a_wrong_key_blocks_until_it_is_put_right_and_costs_nothing() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let right = fs::read_to_string(site.path("api.key")).unwrap();
    fs::write(site.path("api.key"), format!("cms_live_{}", "A".repeat(43))).unwrap();
    let agent = site.start_agent();
    wait_until("the refusal to show", || {
        status_of(&site, "dashboard")["state"] == "failed"
    });
    let said = status_of(&site, "dashboard")["last_error"].to_string();
    assert!(said.contains("key"), "{said}");
    assert!(!said.contains("AAAA"), "the key itself was shown: {said}");
    let (code, said) = check(&site, &[]);
    assert_eq!(code, 1, "{said}");
    fs::write(site.path("api.key"), right).unwrap();
    site.wait_until_all_accepted(3);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_broken_configuration_ends_with_its_place_and_code_78() {
    let site = Site::new();
    let path = site.path("agent.toml");
    let text_before = fs::read_to_string(&path).unwrap();
    fs::write(&path, text_before.replace("company_id", "compani_id")).unwrap();
    for command in ["run", "check", "status"] {
        let output = site.agent(&[command]);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("agent.toml:2:1") && said.contains("company_id"),
            "{said}"
        );
    }
}

#[test]
fn a_store_that_cannot_be_used_is_named() {
    let site = Site::new();
    let path = site.path("agent.toml");
    let text_before = fs::read_to_string(&path).unwrap();
    let in_the_way = site.path("in-the-way");
    fs::write(&in_the_way, "a file").unwrap();
    let store = site.path("agent");
    let changed = text_before.replace(
        &format!("path = \"{}\"", store.display()),
        &format!("path = \"{}\"", in_the_way.display()),
    );
    fs::write(&path, changed).unwrap();
    let running = site.launch_agent(&[]);
    let said = running.wait_for("the store cannot be used yet");
    assert!(
        said.contains("in-the-way") && said.contains("`check`"),
        "{said}"
    );
    assert_eq!(running.stop(), 0);
    let (code, said) = check(&site, &["--offline"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("in-the-way"), "{said}");
}

#[test]
fn a_dashboard_that_is_not_there_does_not_keep_the_agent_from_starting() {
    let site = Site::new();
    let agent = site.start_agent();
    wait_until("the outage to show", || {
        status_of(&site, "dashboard")["state"] == "degraded"
    });
    let said = status_of(&site, "dashboard")["last_error"].to_string();
    assert!(said.contains("cannot connect"), "{said}");
    let (code, said) = check(&site, &[]);
    assert_eq!(code, 1);
    assert!(said.contains("cannot connect"), "{said}");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_reload_takes_a_good_configuration_and_keeps_the_old_one_on_a_bad_one() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let agent: Running = site.start_agent();
    let path = site.path("agent.toml");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("[schedule]", "[schedul]")).unwrap();
    agent.signal("-HUP");
    agent.wait_for("the new configuration is refused");
    let before = site.accepted().len();
    wait_until("the old configuration to go on", || {
        site.accepted().len() > before
    });
    fs::write(&path, good.replace("site = \"demo\"", "site = \"moved\"")).unwrap();
    agent.signal("-HUP");
    agent.wait_for("configuration reloaded");
    let before = site.accepted().len();
    wait_until("the new configuration to submit", || {
        site.accepted().len() > before
    });
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let site = Site::new();
    fs::set_permissions(site.path("api.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = check(&site, &["--offline"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("chmod 600"), "{said}");
}
