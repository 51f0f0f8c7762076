//! Witnesses countersign the ledger besides the dashboard, so that agent and dashboard cannot rewrite it together.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use cms_attest::{Cosigner, SigningKey};
use rusqlite::Connection;
use serde_json::Value;

use crate::site::{Site, agent, text, wait_until};

/// A site with a second dashboard, which is the agent's witness and keeps nothing else of it.
struct Witnessed {
    site: Site,
    /// Its name in signatures.
    name: String,
    /// Its published key.
    vkey: String,
    /// Holds the port of a witness that takes connections and says nothing.
    _silent: TcpListener,
}

impl Witnessed {
    fn new() -> Self {
        let site = Site::new();
        let store = site.path("witness");
        fs::create_dir(&store).unwrap();
        // It knows the agent's key as the first one does, and has a key of its own.
        let known = site.path("dashboard/dashboard.sqlite");
        fs::copy(known, store.join("dashboard.sqlite")).unwrap();
        let seed = [7; 32];
        fs::write(store.join("cosigner.seed"), seed).unwrap();
        let port = free_port();
        let name = format!("localhost:{port}");
        let toml = fs::read_to_string(site.path("dashboard.toml")).unwrap();
        let toml = toml
            .replace(&site.port().to_string(), &port.to_string())
            .replace("/dashboard\"", "/witness\"");
        fs::write(site.path("witness.toml"), toml).unwrap();
        let own = vkey(&name, 7);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = site.origin();
        let agent = origin.split('/').nth(2).unwrap();
        let mut toml = fs::read_to_string(site.path("agent.toml")).unwrap();
        for (vkey, url) in [
            (
                own.clone(),
                format!("https://localhost:{port}/api/v1/agents/{agent}/checkpoint"),
            ),
            (
                vkey("dead", 8),
                format!("https://localhost:{}/add-checkpoint", free_port()),
            ),
            (
                vkey("silent", 8),
                format!(
                    "https://localhost:{}/add-checkpoint",
                    silent.local_addr().unwrap().port()
                ),
            ),
        ] {
            toml.push_str(&format!(
                "\n[[witness]]\nvkey = \"{vkey}\"\nurl = \"{url}\"\nca_file = \"{}\"\ninterval = \"1s\"\n",
                site.path("ca.pem").display()
            ));
        }
        fs::write(site.path("agent.toml"), toml).unwrap();
        Self {
            site,
            name,
            vkey: own,
            _silent: silent,
        }
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.site.agent(&["status", "--json"]).stdout).unwrap_or_default()
    }

    fn part(&self, witness: &str) -> Value {
        let name = format!("witness/{witness}");
        let parts = self.status()["parts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = parts.into_iter().find(|part| part["name"] == name.as_str());
        found.unwrap_or_default()
    }

    fn receipted(&self) -> usize {
        let outbox = self.site.outbox();
        outbox
            .values()
            .filter(|state| *state == "receipted")
            .count()
    }
}

/// The public key of a seed of 32 such bytes.
fn vkey(name: &str, byte: u8) -> String {
    let key = SigningKey::from_seed(&[byte; 32]).unwrap();
    let cosigner = Cosigner::new(name.parse().unwrap(), key);
    cosigner.published().to_string()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn execute(database: &Path, change: &str) {
    Connection::open(database)
        .unwrap()
        .execute_batch(change)
        .unwrap();
}

#[test]
fn a_witness_signs_besides_the_dashboard_and_a_dead_one_delays_nothing() {
    let witnessed = Witnessed::new();
    let site = &witnessed.site;
    let _dashboard = site.start_dashboard();
    let _witness = site.start_another_dashboard("witness.toml");
    let agent = site.start_agent();
    // It holds the head that the first one held when it was made: the agent learns from where to prove.
    wait_until("the witness to sign what is new", || {
        let rows = witnessed.status()["witnesses"].clone();
        rows[0]["name"] == witnessed.name.as_str() && rows[0]["size"].as_u64() > Some(8)
    });
    wait_until("the dead one to be shown", || {
        witnessed.part("dead")["state"] == "degraded"
    });
    let before = witnessed.receipted();
    wait_until("receipts to go on", || witnessed.receipted() > before + 2);
    assert!(
        ["starting", "degraded"].contains(&witnessed.part("silent")["state"].as_str().unwrap())
    );
    assert_eq!(witnessed.part(&witnessed.name)["state"], "ok");

    // An auditor who trusts neither alone asks for both.
    let recent = witnessed.status()["recent"].clone();
    let newest = recent.as_array().unwrap().iter();
    let until = newest.map(|row| row["slot"]["end"].as_str().unwrap()).max();
    let until = until.unwrap();
    let both = "group both all dash other\nquorum both\n";
    wait_until("evidence that both have signed", || {
        verify(&witnessed, until, both).0 == Some(0)
    });
    let (_, report) = verify(&witnessed, until, both);
    assert!(report.contains("(as the policy names it)"), "{report}");
    let stranger = format!("witness stranger {}\nquorum stranger\n", vkey("x", 9));
    let (status, report) = verify(&witnessed, until, &stranger);
    assert_eq!(status, Some(2), "{report}");
    assert!(report.contains("are below no receipt"), "{report}");
    assert_eq!(verify(&witnessed, until, "quorum nobody").0, Some(64));
    assert_eq!(agent.stop(), 0);
}

/// Exports all up to a time, and verifies it under a policy that knows the dashboard and the witness.
fn verify(witnessed: &Witnessed, until: &str, rules: &str) -> (Option<i32>, String) {
    let site = &witnessed.site;
    let (file, policy) = (site.path("evidence.jsonl"), site.path("policy"));
    let period = ["export", "--from", "2020-01-01", "--to", until, "-o"];
    let output = site.agent(&[&period[..], &[file.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bundle = fs::read_to_string(&file).unwrap();
    let keys: Value = serde_json::from_str(bundle.lines().nth(1).unwrap()).unwrap();
    let dashboard = keys["keys"]["cosigner"].as_str().unwrap();
    let named = format!(
        "witness dash {dashboard}\nwitness other {}\n",
        witnessed.vkey
    );
    fs::write(&policy, named + rules).unwrap();
    let arguments = ["verify", "--policy", policy.to_str().unwrap()];
    let output = agent(&[&arguments[..], &[file.to_str().unwrap()]].concat());
    (output.status.code(), text(&output.stdout))
}

#[test]
fn a_witness_that_holds_another_ledger_calls_a_person_and_stops_nothing() {
    let witnessed = Witnessed::new();
    let site = &witnessed.site;
    execute(
        &site.path("witness/dashboard.sqlite"),
        "UPDATE checkpoint SET root = randomblob(32)",
    );
    let _dashboard = site.start_dashboard();
    let _witness = site.start_another_dashboard("witness.toml");
    let origin = site.origin();
    let agent = site.start_agent();
    agent.wait_for("a witness holds another ledger");
    wait_until("status to say so", || {
        witnessed.part(&witnessed.name)["state"] == "failed"
    });
    let before = witnessed.receipted();
    wait_until("receipts to go on", || witnessed.receipted() > before + 2);
    assert_eq!(site.origin(), origin, "no new epoch on a witness's word");
    assert_eq!(agent.stop(), 0);
}
