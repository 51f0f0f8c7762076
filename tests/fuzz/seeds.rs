//! Seeds of the corpora, written by our own types, so that a fuzzer begins with what is right.

use cms_attest::add_checkpoint::{AddCheckpoint, size_answer};
use cms_attest::answer::AcceptedStatus;
use cms_attest::enrol::{ChallengeAnswer, EnrolAnswer, EnrolRequest};
use cms_attest::keys::api_key_id;
use cms_attest::leaf::Body;
use cms_attest::note::{Algorithm, NoteKey};
use cms_attest::request::{Delivery, LedgerRef};
use cms_attest::rotate::{RotateAnswer, RotateRequest};
use cms_attest::succession::Succession;
use cms_attest::{Accepted, Cosigner, Digest, IdempotencyKey, Jwk, Leaf, LeafKind, Refusal};
use cms_spec::Category;
use cms_spec::reading::Sample;
use cms_spec::windows::Windows;
use serde::Serialize;

use crate::evidence::{Ledger, quarter};
use crate::targets::seeding::*;

/// The word `content`, sealed for `fuzz` with a key of sevens by another implementation of AES-GCM.
const SEALED: &str =
    "cms-sealed/1 90d96a8a639b92ca CQkJCQkJCQkJCQkJROrq4NuetagStMSxXp3pBa7GVmMgp0w\n";

const PROMETHEUS: &str = "# HELP up Whether it answers.\n# TYPE up gauge\nup{job=\"a\",path=\"C:\\\\x\\n\\\"\"} 1 1768564800000\n\
    a:b_total 1.5e3\nh_bucket{le=\"+Inf\"} 7\nnan NaN\nbad{ 1\n";
const OPEN_METRICS: &str = "# TYPE c counter\n# UNIT c seconds\nc_total{a=\"b\"} 7 1768564800.123 # {trace=\"x\"} 0.5 1.0\n\
    # TYPE s summary\ns{quantile=\"0.5\"} -0.1\n# EOF\n";

/// A configuration of Telegraf in its three styles.
const TELEGRAF: &str = include_str!("telegraf.conf");

/// A target, the name of a file in its corpus, and what the file holds.
type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed that our own types write.
pub(crate) fn seeds() -> Vec<Seed> {
    [
        requests(),
        ledger(),
        documents(),
        windows(),
        modbus(),
        fieldbus(),
        logs(),
    ]
    .concat()
}

/// Logs of model servers, of which each reader understands its own.
fn logs() -> Vec<Seed> {
    macro_rules! logs {
        ($($name:literal: $path:literal),* $(,)?) => {
            vec![$(seed(
                "log_lines",
                $name,
                include_str!(concat!("../../collectors/models/", $path, ".log")),
            )),*]
        };
    }
    logs! {
        "llamacpp_2023": "llamacpp/testdata/2023",
        "llamacpp_2024": "llamacpp/testdata/2024",
        "llamacpp_2024_json": "llamacpp/testdata/2024-json",
        "llamacpp_2025": "llamacpp/testdata/2025",
        "llamacpp_2026": "llamacpp/testdata/2026",
        "llamacpp_2026_json": "llamacpp/testdata/2026-jsonl",
        "llamacpp_router": "llamacpp/testdata/router",
        "llamacpp_verbose": "llamacpp/testdata/verbose-2025",
        "ollama_2023": "ollama/testdata/2023",
        "ollama_debug": "ollama/testdata/debug-0.5",
        "ollama_json": "ollama/testdata/debug-json",
        "ollama_timed": "ollama/testdata/together",
        "ollama_untimed": "ollama/testdata/0.12",
        "sglang_exported": "sglang/testdata/exported",
        "sglang_lines": "sglang/testdata/0.4",
        "sglang_records": "sglang/testdata/records",
        "sglang_text": "sglang/testdata/records-text",
        "tgi_debug": "tgi/testdata/debug",
        "tgi_embeddings": "tgi/testdata/embeddings",
        "tgi_json": "tgi/testdata/json",
        "tgi_text": "tgi/testdata/text",
        "vllm_debug": "vllm/testdata/debug",
        "vllm_inside": "vllm/testdata/v0-inside",
        "vllm_json": "vllm/testdata/json",
        "vllm_requests": "vllm/testdata/0.33-requests",
        "vllm_v0": "vllm/testdata/v0",
    }
}

/// Two whole replies to questions for two registers, a refusal, registers of a meter, places of values.
fn modbus() -> Vec<Seed> {
    let registers = [0x45, 0xfd, 0xdc, 0x00];
    let tcp = [&[0, 2, 1, 2, 0, 0, 0, 0, 0, 7, 1, 3, 4][..], &registers].concat();
    let rtu = [&[1, 2, 1, 2, 1, 3, 4][..], &registers, &[0x26, 0x0f]].concat();
    let meter = [
        &registers[..],
        &[0x7f, 0xc0, 0, 0, 0x12, 0x34, 0x56, 0x78],
        b"MC403 ",
    ]
    .concat();
    vec![
        seed("modbus_reply", "tcp", tcp),
        seed("modbus_reply", "rtu", rtu),
        seed(
            "modbus_reply",
            "refused",
            [0, 3, 9, 1, 0, 0, 0, 0, 0, 3, 9, 0x84, 2],
        ),
        seed("modbus_registers", "meter", meter),
        seed(
            "modbus_plan",
            "values",
            [125, 2, 60, 11, 0, 1, 2, 1, 4, 3, 9, 1, 30, 0, 31, 0],
        ),
        seed("modbus_telegraf", "styles", TELEGRAF),
    ]
}

fn seed(target: &'static str, name: &'static str, content: impl Into<Vec<u8>>) -> Seed {
    (target, name, content.into())
}

fn json(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("it can be written")
}

/// Datagrams and answers as devices on a bench sent them.
fn fieldbus() -> Vec<Seed> {
    const I_AM: &[u8] = &[
        0x10, 0x00, 0xC4, 0x02, 0x00, 0x03, 0xE9, 0x22, 0x04, 0x00, 0x91, 0x00, 0x22, 0x03, 0xE7,
    ];
    const VALUE: &[u8] = &[
        0x0C, 0x00, 0x00, 0x00, 0x01, 0x19, 0x55, 0x3E, 0x44, 0x41, 0x93, 0x33, 0x33, 0x3F,
    ];
    const VALUES: &[u8] = &[
        0x0C, 0, 0, 0, 3, 0x1E, 0x29, 85, 0x4E, 0x44, 0x41, 0xAC, 0, 0, 0x4F, 0x29, 111, 0x4E,
        0x82, 4, 0x40, 0x4F, 0x29, 103, 0x5E, 0x91, 2, 0x91, 32, 0x5F, 0x29, 187, 0x4E, 0x09, 1,
        0x1E, 0x21, 1, 0x1F, 0x4F, 0x29, 77, 0x4E, 0x75, 4, 0, b'T', b'_', b'1', 0x4F, 0x1F,
    ];
    const CHANGE: &[u8] = &[
        0x09, 7, 0x1C, 2, 0, 0, 9, 0x2C, 0, 0, 0, 3, 0x39, 60, 0x4E, 0x09, 85, 0x2E, 0x44, 0x41,
        0xB0, 0, 0, 0x2F, 0x09, 111, 0x2E, 0x82, 4, 0, 0x2F, 0x4F,
    ];
    let datagram = |function: u8, content: &[u8]| {
        let length = u16::try_from(content.len() + 4).expect("a datagram");
        [&[0x81, function][..], &length.to_be_bytes(), content].concat()
    };
    let npdu = |head: &[u8], apdu: &[u8]| [head, apdu].concat();
    let behind: &[u8] = &[1, 0x08, 0x07, 0xD1, 1, 12];
    let acknowledged = [&[0x30, 1, 0x0C], VALUE].concat();
    let segment = [&[0x3C, 1, 0, 4, 0x0E], VALUES].concat();
    let forwarded = [&[10, 0, 0, 7, 0xBA, 0xC0], npdu(behind, I_AM).as_slice()].concat();
    vec![
        seed("bacnet", "i_am", datagram(0x0A, &npdu(&[1, 0], I_AM))),
        seed("bacnet", "forwarded", datagram(0x04, &forwarded)),
        seed("bacnet", "result", datagram(0x00, &[0, 0x30])),
        seed(
            "bacnet",
            "unreachable",
            datagram(0x0A, &[1, 0x80, 3, 1, 0x07, 0xD1]),
        ),
        seed(
            "bacnet",
            "value",
            datagram(0x0A, &npdu(&[1, 0], &acknowledged)),
        ),
        seed(
            "bacnet",
            "segment",
            datagram(0x0A, &npdu(&[1, 0], &segment)),
        ),
        seed(
            "bacnet",
            "refused",
            datagram(0x0A, &[1, 0, 0x50, 1, 0x0C, 0x91, 1, 0x91, 31]),
        ),
        seed("bacnet_answers", "value", VALUE),
        seed("bacnet_answers", "values", VALUES),
        seed("bacnet_answers", "i_am", &I_AM[2..]),
        seed("bacnet_answers", "change", CHANGE),
        seed(
            "bacnet_answers",
            "nine_bytes",
            [
                &[0x0C, 0, 0, 0, 1, 0x19, 85, 0x3E, 0x25, 9][..],
                &[1; 9],
                &[0x3F],
            ]
            .concat(),
        ),
    ]
}

fn requests() -> Vec<Seed> {
    let two = format!(
        "{}, other=(\"@method\");tag=\"x\"",
        honest_lines(&NAMES[..1])
    );
    let signatures = format!("{}, other=:AAAA:", honest_lines(&NAMES[1..2]));
    let enrolment = EnrolRequest {
        agent_id: agent(),
        company_id: "acme-corp".parse().expect("a company"),
        request_key: Jwk::from(*key(1).verifying()),
        log_key: Jwk::from(*key(2).verifying()),
        fingerprint: "0123456789abcdef".to_owned(),
        version: "0.1.0".to_owned(),
        site: Some("fra-1".to_owned()),
    };
    let rotation = RotateRequest {
        fingerprint: "0123456789abcdef".to_owned(),
        request_key: Some(Jwk::from(*key(2).verifying())),
        log_key: Some(logs_succession().to_string()),
    };
    let leaf = LedgerRef {
        index: 42,
        leaf: Digest::of(b"leaf"),
    };
    vec![
        seed("headers", "honest", honest_lines(&NAMES)),
        seed(
            "headers",
            "plain",
            format!("{}\n-\n-", honest_lines(&NAMES[..6])),
        ),
        seed("signature_headers", "honest", honest_lines(&NAMES[..2])),
        seed("signature_headers", "two", format!("{two}\n{signatures}")),
        seed(
            "content_digest",
            "header",
            Digest::of(b"x").content_digest(),
        ),
        seed("content_digest", "base64", Digest::of(b"x").to_string()),
        seed(
            "content_digest",
            "sha-512",
            format!("sha-512=:{}==:", "A".repeat(86)),
        ),
        seed("cms_ledger", "header", leaf.header()),
        seed(
            "idempotency_key",
            "header",
            IdempotencyKey::new(agent(), 1, 42).header(),
        ),
        seed("enrolment", "body", json(&enrolment)),
        seed("answers", "enrolment", json(&enrolment)),
        seed("rotation", "both", json(&rotation)),
        seed(
            "rotation",
            "request",
            json(&RotateRequest {
                log_key: None,
                ..rotation.clone()
            }),
        ),
        seed("answers", "rotation", json(&rotation)),
    ]
}

fn logs_succession() -> Succession {
    Succession::of_logs(&agent(), &key(2), &key(3)).expect("two keys")
}

fn ledger() -> Vec<Seed> {
    let checkpoint = checkpoint_of_seven();
    let submission = Leaf {
        origin: checkpoint.origin.clone(),
        index: 41,
        kind: LeafKind::Submission,
        category: Some(Category::GhostCompute),
        from: quarter(0),
        to: quarter(1),
        boot_id: "f1f2f3f4-0000-4000-8000-000000000001"
            .parse()
            .expect("a word"),
        boottime_ms: 86_400_123,
        api_key_id: api_key_id("key").parse().ok(),
        body: Some(Body::of(b"abc")),
        note: None,
    };
    let event = Leaf {
        kind: LeafKind::Start,
        category: None,
        body: None,
        note: cms_attest::leaf::Note::of("started, version 0.1.0"),
        ..submission.clone()
    };
    let note = checkpoint.sign(&key(2)).expect("a short name");
    let cosignature = cosigner().cosign(&checkpoint, now());
    let offer = AddCheckpoint {
        old: 3,
        proof: vec![Digest::of(b"x"); 3],
        note: note.clone(),
    };
    let log_key = NoteKey::new(
        checkpoint.origin.to_string().parse().expect("a name"),
        Algorithm::Ed25519,
        *key(2).verifying(),
    );
    let auditor = Cosigner::new("auditor.example".parse().expect("a name"), key(8));
    let policy = format!(
        "log {log_key}\nwitness dash {} https://dash.example\nwitness auditor {}\n\
         group both all dash auditor\ngroup one any dash both\nquorum one\n",
        cosigner().published(),
        auditor.published()
    );
    let mut whole = Ledger::new(quarter(0), quarter(9));
    whole
        .event("start")
        .submission(0)
        .gap(1)
        .submission(2)
        .receipt();
    let whole = whole.lines().concat();
    let mut steps = Ledger::new(quarter(0), quarter(9));
    steps
        .event("start")
        .submission(0)
        .receipt()
        .step(-3)
        .event("stepped")
        .impossible(1)
        .receipt();
    steps.epoch(2).event("start").numbered(2, 7).receipt();
    vec![
        seed("leaf", "submission", submission.to_string()),
        seed("leaf", "start", event.to_string()),
        seed("origin", "origin", checkpoint.origin.to_string()),
        seed("origin", "agent", AGENT),
        seed("origin", "key", key(1).verifying().key_id().to_string()),
        seed("note", "checkpoint", note.clone()),
        seed("note", "cosigned", format!("{note}{cosignature}")),
        seed(
            "note",
            "text",
            format!(
                "one\n\ntwo\n{}",
                note.split_at(note.rfind("\n\n").unwrap_or(0) + 1).1
            ),
        ),
        seed("note_key", "log", log_key.to_string()),
        seed("note_key", "cosigner", cosigner().published().to_string()),
        seed("policy", "quorum", policy),
        seed(
            "policy",
            "none",
            format!("# nobody\nlog {log_key}\nquorum none\n"),
        ),
        seed("checkpoint", "signed", note.clone()),
        seed("cosignature", "one", cosignature.clone()),
        seed(
            "cosignature",
            "two",
            format!("{cosignature}\u{2014} w.example/1 AAAAAAAAAAAA\n"),
        ),
        seed("add_checkpoint", "offer", offer.to_string()),
        seed(
            "add_checkpoint",
            "first",
            AddCheckpoint {
                old: 0,
                proof: vec![],
                note,
            }
            .to_string(),
        ),
        seed("add_checkpoint", "size", size_answer(42)),
        seed("succession", "logs", logs_succession().to_string()),
        seed("bundle", "whole", whole.clone()),
        seed("bundle", "wrong", steps.lines().concat()),
        seed("bundle_resealed", "whole", whole),
        seed("bundle_resealed", "wrong", steps.lines().concat()),
    ]
}

fn documents() -> Vec<Seed> {
    let accepted = Accepted {
        status: AcceptedStatus::Accepted,
        category: Category::GhostCompute,
        index: 7,
        delivery: Delivery::Live,
        duplicate: false,
        warnings: vec!["odd".to_owned()],
        received_at: now(),
    };
    let challenge = ChallengeAnswer {
        challenge: CHALLENGE.parse().expect("a challenge"),
        expires_at: now(),
    };
    let enrolled = EnrolAnswer {
        agent_id: agent(),
        api_key_id: api_key_id("key").parse().expect("a word"),
        cosigner: Some(cosigner().published().to_string()),
        successions: Vec::new(),
        server_time: now(),
    };
    let rotated = RotateAnswer {
        request_key: key(2).verifying().key_id(),
        previous_until: Some(now()),
        log_key: key(3).verifying().key_id(),
        server_time: now(),
    };
    vec![
        seed("answers", "accepted", json(&accepted)),
        seed("answers", "challenge", json(&challenge)),
        seed("answers", "enrolled", json(&enrolled)),
        seed("answers", "rotated", json(&rotated)),
        seed(
            "answers",
            "problem",
            json(&Refusal::Unsigned.problem(now())),
        ),
        seed("jwk", "key", json(&Jwk::from(*key(1).verifying()))),
    ]
}

fn windows() -> Vec<Seed> {
    const SAMPLES: [(&str, &str); 5] = [
        (
            "coverage",
            include_str!("../../spec/golden/coverage-verification/samples.json"),
        ),
        (
            "dark",
            include_str!("../../spec/golden/dark-data/samples.json"),
        ),
        (
            "ghost",
            include_str!("../../spec/golden/ghost-compute/samples.json"),
        ),
        (
            "heat",
            include_str!("../../spec/golden/heat-recovery/samples.json"),
        ),
        (
            "model",
            include_str!("../../spec/golden/model-efficiency/samples.json"),
        ),
    ];
    let mut seeds = Vec::new();
    for (name, text) in SAMPLES {
        let samples: Vec<Sample> = serde_json::from_str(text).expect("golden samples");
        let mut windows = Windows::new();
        let mut bucket = 0;
        // The first ones are enough, and leave a small seed.
        for sample in samples.iter().take(2) {
            bucket = windows
                .observe(sample)
                .blocks
                .last()
                .copied()
                .unwrap_or(bucket);
        }
        seeds.push(seed("block", name, windows.block(bucket)));
        seeds.push(seed("carry", name, json(&windows.carry())));
        seeds.push(seed("statements", name, json(&windows.statements())));
    }
    seeds
}

/// Files of this repository that are good to begin with. They may change without their copies.
pub(crate) fn copies() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = FILES
        .iter()
        .map(|(path, content)| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let name = if *path == "proc/1/stat" {
                "init_stat"
            } else {
                name
            };
            let name = if *path == "sys/fs/cgroup/cpu.stat" {
                "cpu_stat"
            } else {
                name
            };
            seed("machine", name, format!("{path}\n{content}"))
        })
        .collect();
    let example = include_str!("../../config.example.toml");
    // The example is all comments; what it shows is read when they are taken away.
    let shown: String = example
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        .fold(String::new(), |text, line| text + line + "\n");
    seeds.extend([
        seed("config", "example", example),
        seed("config", "shown", shown),
        seed("config", "everything", include_str!("../configs/valid/everything.toml")),
        seed("config", "sources", include_str!("../configs/valid/sources.toml")),
        seed("config", "accelerated", include_str!("../configs/valid/accelerated.toml")),
        seed("config", "nested", include_str!("../configs/invalid/unknown-keys-nested.toml")),
        seed(
            "envelope",
            "coverage",
            include_bytes!("../../spec/golden/coverage-verification/canonical.json"),
        ),
        seed(
            "envelope",
            "dark",
            include_bytes!("../../spec/golden/dark-data/canonical.json"),
        ),
        seed(
            "envelope",
            "ghost",
            include_bytes!("../../spec/golden/ghost-compute/canonical.json"),
        ),
        seed(
            "envelope",
            "heat",
            include_bytes!("../../spec/golden/heat-recovery/canonical.json"),
        ),
        seed(
            "envelope",
            "model",
            include_bytes!("../../spec/golden/model-efficiency/canonical.json"),
        ),
        seed("sealed", "line", SEALED),
        seed("exposition", "prometheus", PROMETHEUS),
        seed("exposition", "open_metrics", OPEN_METRICS),
        seed("dashboard_config", "example", include_str!("../../dashboard/dashboard.example.toml")),
        seed(
            "baseline_csv",
            "inventory",
            include_str!("../../collectors/coverage/baseline/testcases/csv/t0/inventory.csv"),
        ),
        seed(
            "baseline_csv",
            "spreadsheet",
            include_str!("../../collectors/coverage/baseline/testcases/csv_from_a_spreadsheet/t0/inventory.csv"),
        ),
        seed(
            "baseline_toml",
            "inventory",
            include_str!("../../collectors/coverage/baseline/testcases/toml/t0/inventory.toml"),
        ),
        seed(
            "mounts",
            "noatime",
            include_str!("../../collectors/storage/filesystem/testcases/noatime/t0/proc/self/mountinfo"),
        ),
    ]);
    seeds
}
