//! Applications that tell of their requests with the exporters of OpenTelemetry, over gRPC and HTTP.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::{Counterpart, PROGRAM, free_port, printed, program, python, wait_until};

/// How many requests each application makes.
const REQUESTS: &str = "1500";

/// What the scripts put wherever a person's words could be.
const CANARY: &str = "CANARY";

#[test]
fn exporters_are_counted_as_they_count_and_lose_nothing_while_the_agent_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let configuration = configuration(directory.path(), port);
    let export = |protocol: &str| {
        python("push_spans.py")
            .args([protocol, &port.to_string(), REQUESTS])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // One of them begins before the agent is there.
    let early = export("grpc");
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(&configuration).arg("run");
    let agent = Counterpart::start(command, directory.path(), "agent");
    wait_until("the listener", || {
        status(&configuration).contains("listens on")
    });
    let late = export("http");
    let mut sent = Vec::new();
    for sender in [early, late] {
        let output = sender.wait_with_output().unwrap();
        let said: Value = serde_json::from_str(&printed(&output)).unwrap();
        sent.push((
            said["requests"].as_u64().unwrap(),
            said["tokens"].as_u64().unwrap(),
        ));
    }
    let (requests, tokens) = (sent[0].0 + sent[1].0, sent[0].1 + sent[1].1);
    // The exporters have their answers, so that it is on disk already.
    let shown = status(&configuration);
    assert!(
        shown.contains(&format!("{requests} requests, {tokens} tokens")),
        "{shown}"
    );
    assert!(shown.contains(&format!("{requests} by")), "{shown}");
    assert!(!agent.log().contains(CANARY) && !shown.contains(CANARY));
    drop(agent);
    for entry in walk(directory.path()) {
        let content = fs::read(&entry).unwrap();
        let found = content
            .windows(CANARY.len())
            .any(|words| words == CANARY.as_bytes());
        assert!(!found, "{}", entry.display());
    }
}

fn configuration(directory: &Path, port: u16) -> PathBuf {
    let key = directory.join("api.key");
    fs::write(&key, "cms_test_0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "company_id = \"acme-corp\"\n[dashboard]\nendpoint = \"https://127.0.0.1:9/api/v1\"\n\
         api_key = {{ file = \"{key}\" }}\n[store]\npath = \"{here}/store\"\n\
         [status]\nsocket = \"{here}/status.sock\"\n[compute]\nenabled = false\n\
         [[models.source]]\nkind = \"otlp\"\nname = \"shops\"\nlisten = \"127.0.0.1:{port}\"\n",
        key = key.display(),
        here = directory.display(),
    );
    let path = directory.join("agent.toml");
    fs::write(&path, text).unwrap();
    path
}

fn status(configuration: &Path) -> String {
    let output = program(&["--config", configuration.to_str().unwrap(), "status"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every file below a directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(walk(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}
