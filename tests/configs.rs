//! Runs every configuration below `tests/configs` and compares what the agent says with the golden file.
//!
//! A case is a file `NAME.toml`, or a folder `NAME` with `config.toml` and `conf.d`. In `valid` it has
//! `NAME.resolved`, what holds and why; in `invalid` it has `NAME.stderr`, what is wrong and where.
//! `CMS_BLESS=1` rewrites the golden files and the example.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cms_telemetry_agent::config::{Config, example};
use proptest::prelude::*;

const HOSTNAME: &str = "test-host";

/// The main file of each case below this folder, by the path of the case without its extension.
fn cases(folder: &str) -> io::Result<BTreeMap<PathBuf, PathBuf>> {
    // Relative to the package, where tests run: the paths in golden files are the same on every machine.
    let folder = Path::new("tests/configs").join(folder);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.insert(path.clone(), path.join("config.toml"));
        } else if path.extension().is_some_and(|e| e == "toml") {
            found.insert(path.with_extension(""), path);
        }
    }
    Ok(found)
}

/// Compares a text with its golden file, or rewrites that; tells the difference.
fn golden(path: &Path, text: &str) -> io::Result<Option<String>> {
    if env::var_os("CMS_BLESS").is_some() {
        fs::write(path, text)?;
        return Ok(None);
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == text {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} differs; CMS_BLESS=1 rewrites it\n--- expected\n{expected}\n--- found\n{text}",
        path.display()
    )))
}

fn report(differences: Vec<String>) {
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn valid_configurations_resolve_as_written_down() {
    let mut differences = Vec::new();
    let cases = cases("valid").unwrap();
    assert!(cases.len() >= 12);
    for (case, file) in cases {
        match Config::load(&file, HOSTNAME) {
            Ok(config) => {
                let path = case.with_extension("resolved");
                differences.extend(golden(&path, &config.resolved.to_string()).unwrap());
            }
            Err(errors) => differences.push(format!("{} is refused:\n{errors}", file.display())),
        }
    }
    report(differences);
}

#[test]
fn what_is_resolved_is_a_configuration_with_the_same_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("config.toml");
    for file in cases("valid").unwrap().values() {
        let first = Config::load(file, HOSTNAME).unwrap();
        fs::write(&again, first.resolved.to_string()).unwrap();
        let second = Config::load(&again, HOSTNAME)
            .unwrap_or_else(|errors| panic!("{} does not read back:\n{errors}", file.display()));
        let meaning = |c: &Config| {
            let settings: Vec<_> = c
                .resolved
                .settings
                .iter()
                .map(|s| s.value.clone())
                .collect();
            let sources: Vec<_> = c.sources.iter().map(|s| s.settings.name()).collect();
            let decided = (
                c.store.clone(),
                c.schedule.clone(),
                c.dashboard.clone(),
                c.log,
            );
            (settings, sources, decided, c.categories())
        };
        assert_eq!(meaning(&first), meaning(&second), "{}", file.display());
        assert_eq!(first.energy, second.energy, "{}", file.display());
    }
}

#[test]
fn invalid_configurations_are_refused_with_their_places() {
    let mut differences = Vec::new();
    let cases = cases("invalid").unwrap();
    assert!(cases.len() >= 30);
    for (case, file) in cases {
        match Config::load(&file, HOSTNAME) {
            Ok(_) => differences.push(format!("{} is accepted", file.display())),
            Err(errors) => {
                let text = format!("{errors}\n");
                for place in errors.problems().iter().filter_map(|p| p.place()) {
                    let named = format!("{}:{}:{}", place.file, place.line, place.column);
                    assert!(text.contains(&named), "{named} is not in:\n{text}");
                }
                differences.extend(golden(&case.with_extension("stderr"), &text).unwrap());
            }
        }
    }
    report(differences);
}

#[test]
fn every_golden_file_has_its_case() {
    for (folder, extension) in [("valid", "resolved"), ("invalid", "stderr")] {
        let cases = cases(folder).unwrap();
        for entry in fs::read_dir(Path::new("tests/configs").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == extension) {
                assert!(
                    cases.contains_key(&path.with_extension("")),
                    "{}",
                    path.display()
                );
            }
        }
    }
}

/// A secret in any place where people put them, in files that are broken in any way.
#[test]
fn a_secret_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let secrets = ["cms_live_4bD9", "S3cr3t-opaque"];
    let lines = [
        "dashboard.api_key = \"SECRET\"",
        "dashboard.api_key = \"SECRET",
        "dashboard.api_key = \"\"\"\nSECRET\"\"\"",
        "dashboard.api_key = \"\"\"\nSECRET",
        "dashboard.api_key = [\"SECRET\"]",
        "dashboard.api_key = { key = \"SECRET\" }",
        "dashboard.api_key = { file = \"SECRET\" }",
        "dashboard.api_key = { file = \"SECRET\"",
        "dashboard.api_key = { file = [\"SECRET\"] }",
        "dashboard.api_key = { credential = \"x\", value = \"SECRET\" }",
        "dashboard = { api_key = \"SECRET\" }",
        "dashboard = { api_key = \"SECRET\"",
        "[dashboard]\napikey = \"SECRET\"",
        "[dashboard]\napi-key = 'SECRET'",
        "[dashboard.api_key]\nvalue = \"SECRET\"",
        "api_key = \"SECRET\"",
        "[dashbord]\napi_key = \"SECRET\"\nendpoint = 5",
        "[[dashboard]]\napi_key = \"SECRET\"",
        "store.key = \"SECRET\"",
        "store.key = \"SECRET",
        "store = { path = \"/x\", key = \"SECRET\"",
        "store.key = { file = \"SECRET\" }",
        "store.old_key = { key = \"SECRET\" }",
        "[store]\nkye = 1\nold_key = \"SECRET\"",
        "password = \"SECRET\"",
        "[energy]\ntoken = { a = [ { b = \"SECRET\" } ] }",
    ];
    let anywhere = [
        "dashboard = \"SECRET\"",
        "site = [\"SECRET\"]",
        "log.format = \"SECRET\"",
        "log.SECRET = 1",
        "energy.pue = \"SECRET\"",
        "company_id = \"SECRET\"",
        "store.path = \"SECRET\"",
        "dashboard.api_key = { env = \"SECRET\" }",
        "dashboard.endpoint = \"https://x:SECRET@host\"",
        "SECRET",
        "[SECRET\n",
    ];
    let mut tried = 0;
    for (secret, with) in [
        (secrets[0], &anywhere[..]),
        (secrets[0], &lines),
        (secrets[1], &lines),
    ] {
        for line in with {
            fs::write(&file, line.replace("SECRET", secret)).unwrap();
            let Err(errors) = Config::load(&file, HOSTNAME) else {
                panic!("{line} is accepted");
            };
            let shown = format!("{errors}\n{}\n{errors:?}", errors.render(true));
            assert!(!shown.contains(secret), "{line} shows it:\n{shown}");
            tried += 1;
        }
    }
    assert_eq!(tried, 2 * lines.len() + anywhere.len());
}

#[test]
fn the_example_is_in_sync_and_can_be_used_as_it_is() {
    let path = Path::new("config.example.toml");
    report(golden(path, &example()).unwrap().into_iter().collect());
    let config = Config::load(path, HOSTNAME)
        .unwrap_or_else(|errors| panic!("the example is refused:\n{errors}"));
    assert_eq!(config.company_id.as_str(), "acme-corp");
}

/// The commented options of the example are the defaults: switching them on changes nothing.
#[test]
fn the_example_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let base = example();
    let base = base.split("\n# Sources.").next().unwrap();
    let is_option = |line: &&str| {
        let key = line
            .trim_start_matches("# ")
            .split(" = ")
            .next()
            .unwrap_or_default();
        line.starts_with("# ") && line.contains(" = ") && !key.contains(' ')
    };
    let shown: String = base
        .lines()
        .map(|line| match is_option(&line) {
            true => format!("{}\n", line.trim_start_matches("# ")),
            false => format!("{line}\n"),
        })
        .collect();
    fs::write(&file, base).unwrap();
    let defaults = Config::load(&file, "fra-1").unwrap();
    fs::write(&file, shown).unwrap();
    let written = Config::load(&file, "fra-1").unwrap_or_else(|errors| panic!("{errors}"));

    let without_place = |c: &Config| -> BTreeMap<String, String> {
        let set = c
            .resolved
            .settings
            .iter()
            .filter_map(|s| Some((s.key.clone(), s.value.clone()?)));
        set.collect()
    };
    let defaults = without_place(&defaults);
    let written = without_place(&written);
    for (key, value) in &defaults {
        assert_eq!(written.get(key), Some(value), "{key}");
    }
    let only_written: Vec<_> = written
        .keys()
        .filter(|k| !defaults.contains_key(*k))
        .collect();
    assert_eq!(
        only_written,
        [
            "dashboard.api_key_next.file",
            "dashboard.ca_file",
            "dashboard.client_cert_file",
            "dashboard.client_key_file",
            "energy.carbon.source",
            "metrics.listen",
            "store.key.file",
            "store.old_key.file",
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever an editor leaves behind, the answer is a configuration or a report, and never a panic.
    #[test]
    fn damage_is_reported(cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[\\[\\]{}=\"'#.a-z0-9\n-]{0,6}"), 1..6)) {
        let mut text = example();
        for (at, length, put) in cuts {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end.max(start), &put);
        }
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("config.toml");
        for text in [text.clone(), text.replace("\n# ", "\n")] {
            fs::write(&file, &text)?;
            if let Err(errors) = Config::load(&file, HOSTNAME) {
                prop_assert!(!errors.problems().is_empty());
                for problem in errors.problems() {
                    let place = problem.place();
                    prop_assert!(place.is_some_and(|p| p.line <= text.lines().count() + 1), "{problem:?}");
                }
                prop_assert!(errors.to_string().contains("the configuration has"));
            }
        }
    }
}
