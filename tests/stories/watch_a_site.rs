//! One agent reports machines that a monitoring server watches, whatever other servers do meanwhile.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::site::{Site, wait_until};

/// What the server answers, by what stands in the encoded question. The first that fits holds.
fn value_of(question: &str) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let month_ago = now.as_secs() - 30 * 86_400;
    let known = [
        ("min_over_time%28%280", month_ago.to_string()),
        (
            "max_over_time%28%280%20%2A%20node_boot",
            now.as_secs().to_string(),
        ),
        ("count_over_time%28node_boot", "2880".to_owned()),
        ("iowait", "5000000".to_owned()),
        ("increase%28node_cpu", "5184000".to_owned()),
        ("last_over_time%28node_cpu", "2".to_owned()),
        ("node_memory_MemAvailable", "7.25".to_owned()),
    ];
    let found = known.into_iter().find(|(part, _)| question.contains(part));
    found.map(|(_, value)| value)
}

fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut question = String::new();
    let mut piece = [0; 4096];
    while !question.contains("timeout=") {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        question.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    let row = |value| json!({ "metric": { "instance": "node-1:9100" }, "value": [0, value] });
    let rows: Vec<_> = value_of(&question).map(row).into_iter().collect();
    let body = json!({ "status": "success", "data": { "resultType": "vector", "result": rows } });
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A server on loopback; the port that it listens on.
fn server(talk: fn(&mut TcpStream) -> std::io::Result<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || drop(talk(&mut stream)));
        }
    });
    port
}

#[test]
fn a_watched_machine_is_reported_while_other_servers_are_gone_or_hang() {
    let watching = server(answer);
    // Reads whatever comes, until the client leaves.
    let hanging = server(|stream| std::io::copy(stream, &mut std::io::sink()).map(drop));
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let site = Site::new();
    let config = site.path("agent.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for port in [watching, hanging, gone] {
        text += &format!(
            "\n[[compute.prometheus]]\nurl = \"http://127.0.0.1:{port}\"\nquery_timeout = \"1s\"\n"
        );
    }
    std::fs::write(&config, text).unwrap();

    let _dashboard = site.start_dashboard();
    let agent = site.start_agent();
    let said = agent.wait_for(&format!("http://127.0.0.1:{gone}/api/v1/query"));
    assert!(said.contains("is it running there"), "{said}");
    let said = agent.wait_for(&format!("http://127.0.0.1:{hanging}/api/v1/query"));
    assert!(said.contains("no answer within"), "{said}");

    site.wait_until_all_accepted(1);
    wait_until("the figures of all machines", || {
        site.outbox().len() > 1 && site.accepted().values().any(|c| c == "ghost-compute")
    });
    let body = site.first_body("ghost-compute");
    let rows = body["data"]["ghost_compute"]["instance_inventory"]
        .as_array()
        .unwrap();
    let row = rows.iter().find(|row| row["instance_id"] == "node-1");
    let row = row.unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!(row["cpu_utilization_30day_avg"], 3.55);
    assert_eq!(row["memory_utilization_30day_avg"], 7.25);
    assert_eq!(row["classification"], "ghost");
    assert!(rows.len() > 1, "the agent's own machine too: {rows:?}");
    assert_eq!(agent.stop(), 0, "a server that hangs keeps nobody");
}
