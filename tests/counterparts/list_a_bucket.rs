//! A bucket of an object store that checks signatures and policies: moto's server, over TLS with its own authority.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::lab::{Counterpart, free_port, printed, program, python};

const STANDARD_USD: &str = "0.02";

/// A store at work, with the sums that another client finds in it.
struct Store {
    directory: tempfile::TempDir,
    port: u16,
    sums: Value,
    _running: Counterpart,
}

impl Store {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = python("bucket.py");
        command.arg(port.to_string()).arg(directory.path());
        let mut running = Counterpart::start(command, directory.path(), "bucket");
        running.until_it_says("ready\n");
        let log = running.log();
        let sums = log.lines().find(|line| line.starts_with('{')).unwrap();
        Self {
            sums: serde_json::from_str(sums).unwrap(),
            directory,
            port,
            _running: running,
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A preview of what the store holds, with these lines in place of the usual ones.
    fn preview(&self, bucket: &str, id: &str, secret: &str, more: &str) -> std::process::Output {
        let config = format!(
            "company_id = 'acme-corp'\n[dashboard]\napi_key = {{ file = '{}' }}\n[store]\npath = '{}'\n\
             [[storage.s3]]\nurl = 'https://127.0.0.1:{}'\nbucket = '{bucket}'\nname = 'backups of acme'\n\
             usd_per_gb_month = {STANDARD_USD}\nprice = {{ GLACIER = 0.004 }}\n\
             access_key_id = {{ file = '{}' }}\nsecret_access_key = {{ file = '{}' }}\n{more}\n",
            self.path("lister.id"),
            self.path("store"),
            self.port,
            self.path(id),
            self.path(secret),
        );
        let file = self.path("agent.toml");
        fs::write(Path::new(&file), config).unwrap();
        program(&["--config", &file, "preview", "dark-data", "--json"])
    }

    fn trusted(&self) -> String {
        format!("tls = {{ ca_file = '{}' }}", self.path("ca.pem"))
    }
}

/// Objects and bytes of the rows of one class.
fn sum(rows: &[Value], classification: &str) -> (u64, u64) {
    let of = rows
        .iter()
        .filter(|row| row["classification"] == classification);
    of.fold((0, 0), |(objects, bytes), row| {
        let size = row["total_size_gb"].as_f64().unwrap() * 1e9;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "gigabytes are exact to the byte, and these are few"
        )]
        let size = size.round() as u64;
        (
            objects + row["object_count"].as_u64().unwrap(),
            bytes + size,
        )
    })
}

#[test]
fn a_bucket_is_listed_as_another_client_lists_it_and_refusals_say_what_helps() {
    let store = Store::start();
    let trusted = store.trusted();

    let told = printed(&store.preview("backups", "lister.id", "lister.secret", &trusted));
    let envelope: Value = serde_json::from_str(&told).unwrap();
    let rows = envelope["data"]["dark_data"]["storage_inventory"]
        .as_array()
        .unwrap_or_else(|| panic!("{told}"));
    for class in ["active", "dark"] {
        let expected = (
            store.sums[class][0].as_u64().unwrap(),
            store.sums[class][1].as_u64().unwrap(),
        );
        assert_eq!(sum(rows, class), expected, "{told}");
        assert!(expected.0 > 1_000);
    }
    let names: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["bucket_name"].as_str())
        .collect();
    assert_eq!(names, ["backups of acme", "backups of acme:dark"]);
    assert_eq!(rows[0]["storage_class"], "STANDARD, GLACIER");
    assert!(told.contains("access_basis: last_modified"), "{told}");
    assert!(
        !told.contains("secret-") && !told.contains("team"),
        "no key is told: {told}"
    );

    let split = printed(&store.preview(
        "backups",
        "lister.id",
        "lister.secret",
        &format!("{trusted}\nunits = 'first_level'\nexclude = ['odd']"),
    ));
    let units = (0..7).map(|team| format!("\"backups of acme/team{team}\""));
    for unit in units {
        assert!(split.contains(&unit), "{unit} {split}");
    }
    assert!(!split.contains("odd"), "{split}");

    let empty = store.preview("empty", "lister.id", "lister.secret", &trusted);
    assert!(printed(&empty).contains("\"storage_inventory\":[]"));

    for (bucket, id, secret, more, help) in [
        (
            "backups",
            "lister.id",
            "nobody.secret",
            &trusted,
            "secret_access_key is not the one",
        ),
        (
            "backups",
            "nobody.id",
            "nobody.secret",
            &trusted,
            "s3:ListBucket",
        ),
        (
            "backups",
            "nobody.secret",
            "nobody.secret",
            &trusted,
            "check access_key_id",
        ),
        (
            "missing",
            "lister.id",
            "lister.secret",
            &trusted,
            "NoSuchBucket",
        ),
        (
            "backups",
            "lister.id",
            "lister.secret",
            &String::new(),
            "tls.ca_file",
        ),
    ] {
        let refused = store.preview(bucket, id, secret, more);
        let words = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && words.contains(help),
            "{help}: {words}"
        );
        assert!(refused.stdout.is_empty(), "{help}");
    }
}
