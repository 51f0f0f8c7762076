//! `probe inference` at a server of models: what it says is right, what it prints is a configuration, and prompts stay there.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::site::Site;

/// Stands where people's text and secrets stand.
const CANARY: &str = "canary-probe-5d0f1c77";

const TOKEN: &str = "token-of-the-server-91c2";

/// Answers by path; without the token, only what is public. What was asked is kept.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(public: &'static [(&str, &str)], shut: &'static [(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let mut line = head.split(' ');
                let (method, path) = (line.next().unwrap_or(""), line.next().unwrap_or(""));
                kept.lock().unwrap().push(format!("{method} {path}"));
                let may = head.contains(&format!("Bearer {TOKEN}"));
                let find = |pages: &[(&str, &str)]| {
                    let found = pages.iter().find(|(at, _)| *at == path);
                    found.map(|(_, body)| (*body).to_owned())
                };
                let (status, body) = match (find(public), find(shut)) {
                    (Some(body), _) => ("200 OK", body),
                    (None, Some(body)) if may => ("200 OK", body),
                    (None, Some(_)) => ("401 Unauthorized", format!("{{\"error\":\"{CANARY}\"}}")),
                    (None, None) => ("404 Not Found", format!("{{\"detail\":\"{CANARY}\"}}")),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nserver: llama.cpp\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, asked }
    }
}

#[test]
fn a_server_of_models_is_known_and_its_table_is_a_configuration() {
    let site = Site::new();
    let server = Server::start(
        &[("/health", "{\"status\":\"ok\"}")],
        &[
            (
                "/v1/models",
                "{\"data\":[{\"id\":\"house-270m.gguf\",\"owned_by\":\"someone\",\"meta\":{\"n_params\":268098176}}],\
                 \"models\":[{\"template\":\"canary-probe-5d0f1c77\"}]}",
            ),
            (
                "/metrics",
                "llamacpp:prompt_tokens_total 25\nllamacpp:tokens_predicted_total 8\n",
            ),
            ("/slots", "[{\"prompt\":\"canary-probe-5d0f1c77\"}]"),
            ("/props", "{\"chat_template\":\"canary-probe-5d0f1c77\"}"),
        ],
    );
    let url = format!("http://{}", server.address);
    // By the header that it has in every answer, also where it wants a login.
    let shut = site.agent(&["probe", "inference", &url]);
    let said = String::from_utf8(shut.stdout).unwrap();
    assert_eq!(shut.status.code(), Some(0), "{said}");
    for part in [
        "is llama.cpp, known by the header `server`",
        "which models it serves is not known",
        "wants a login: --bearer-token-file",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let token = site.path("model-token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let token = token.display().to_string();
    let probed = site.agent(&["probe", "inference", &url, "--bearer-token-file", &token]);
    let said = String::from_utf8(probed.stdout).unwrap();
    assert_eq!(probed.status.code(), Some(0), "{said}");
    for part in [
        "# model house-270m.gguf: 268098176 parameters, counted by the server",
        "counts input tokens (25 so far), output tokens (8 so far); it does not count requests",
        "kind = \"llamacpp\"",
        "bearer_token = { file = ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(CANARY) && !said.contains(TOKEN), "{said}");
    let asked = server.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|one| one.starts_with("GET ")), "{asked:?}");
    assert!(
        !asked
            .iter()
            .any(|one| one.ends_with("/slots") || one.ends_with("/props"))
    );

    // What it prints is read as it stands.
    let log = site.path("llama.log");
    fs::write(&log, "").unwrap();
    let table = said.replace(
        "journal = \"llama-server.service\"",
        &format!("log = \"{}\"", log.display()),
    );
    assert_ne!(table, said);
    let path = site.path("agent.toml");
    let toml = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{toml}\n{table}")).unwrap();
    let check = site.agent(&["check", "--offline"]);
    let told = String::from_utf8(check.stdout).unwrap();
    assert!(
        told.contains("model house-270m.gguf: 268098176 parameters"),
        "{told}"
    );
}

#[test]
fn an_address_where_nothing_answers_is_told_at_once() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let probed = site.agent(&["probe", "inference", &format!("http://{gone}")]);
    assert_eq!(probed.status.code(), Some(1));
    assert!(probed.stdout.is_empty());
    let said = String::from_utf8(probed.stderr).unwrap();
    assert!(
        said.contains(&format!("cannot reach http://{gone}")),
        "{said}"
    );
}
