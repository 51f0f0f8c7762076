//! Runs every folder below `collectors/**/testcases/` as a case.
//!
//! A case is a configuration (`config.toml`), states of a machine in the order of their ticks
//! (`t0/`, `t1/`, …) and what must come of them: samples (`expected.json`), refusals
//! (`expected.err`) or both. A state holds `proc/`, `sys/` and whatever else the configuration
//! names below `{case}`; files that a later state does not mention stay as they were. `steps.toml`
//! in a state says what a tree of files cannot: what goes, what may not be read, when files were
//! accessed, how long after the tick before. Time is virtual: devices are polled between the ticks, in
//! the state of the later one. Servers answer from `http/` in a state. `CMS_BLESS=1` writes what came as
//! what must come.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cms_collectors::{ALL, Collector, Host, Registration, Settings};
use cms_spec::reading::{Readings, Sample};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

#[path = "network/files.rs"]
mod web;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The first tick of every case.
const START: &str = "2026-01-05T10:00:00Z";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Steps {
    after: Option<SignedDuration>,
    remove: Vec<String>,
    deny: Vec<String>,
    times: BTreeMap<String, Times>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Times {
    accessed: Timestamp,
    modified: Timestamp,
}

#[derive(Default, PartialEq)]
struct Outcome {
    samples: String,
    refusals: String,
}

#[test]
fn every_case_gives_what_it_must() -> Fallible<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bless = std::env::var_os("CMS_BLESS").is_some_and(|v| v == "1");
    let mut folders = Vec::new();
    find_testcases(root, &mut folders)?;
    let mut wrong = String::new();
    for folder in folders {
        let collector = folder
            .parent()
            .unwrap_or(root)
            .strip_prefix(root)?
            .to_path_buf();
        let registration = registration(&collector)?;
        for case in sorted(&folder)? {
            // A thread of its own, because a case may give up capabilities.
            let run = std::thread::spawn({
                let case = case.clone();
                move || run(registration, &case)
            });
            let outcome = run
                .join()
                .map_err(|_| format!("{} panicked", case.display()))?;
            let outcome = outcome.map_err(|e| format!("{}: {e}", case.display()))?;
            judge(&case, &outcome, bless, &mut wrong)?;
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}\nCMS_BLESS=1 writes what came as what must come"
    );
    Ok(())
}

#[test]
fn every_collector_has_cases() {
    for registration in ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(registration.id)
            .join("testcases");
        let cases = folder.read_dir().map(Iterator::count).unwrap_or_default();
        assert!(
            cases > 0,
            "{} has no cases in {}",
            registration.id,
            folder.display()
        );
    }
}

/// Rungs of the power ladder are configured with the host, protocols of points with thermal sources, kinds of model
/// servers with theirs.
fn registration(collector: &Path) -> Fallible<&'static Registration> {
    let id = if collector.starts_with("compute/power") {
        Path::new("compute/host")
    } else if collector.starts_with("thermal") {
        Path::new("thermal/source")
    } else if collector.starts_with("models") {
        Path::new("models/source")
    } else {
        collector
    };
    let found = ALL.iter().find(|r| Path::new(r.id) == id);
    found.ok_or_else(|| format!("no collector is registered as {}", id.display()).into())
}

fn find_testcases(folder: &Path, found: &mut Vec<PathBuf>) -> Fallible<()> {
    for path in sorted(folder)?.into_iter().filter(|p| p.is_dir()) {
        if path.ends_with("testcases") {
            found.push(path);
        } else {
            find_testcases(&path, found)?;
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> Fallible<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn run(registration: &Registration, case: &Path) -> Fallible<Outcome> {
    let copy = tempfile::tempdir()?;
    let root = copy.path().canonicalize()?;
    let config = fs::read_to_string(case.join("config.toml"))?;
    let config = config.replace("{case}", &root.display().to_string());
    let mut outcome = Outcome::default();
    if let Err(error) = ticks(registration, case, &root, &config, &mut outcome) {
        outcome.refusals = format!("{}\n", chain(&*error));
    }
    let place = root.display().to_string();
    outcome.samples = outcome.samples.replace(&place, "{case}");
    outcome.refusals = outcome.refusals.replace(&place, "{case}");
    Ok(outcome)
}

fn ticks(
    registration: &Registration,
    case: &Path,
    root: &Path,
    config: &str,
    outcome: &mut Outcome,
) -> Fallible<()> {
    let settings = parse(registration, config)?;
    // What polls a device does so in virtual time, between the ticks.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    let _within = runtime.enter();
    let host = Host {
        proc: root.join("proc"),
        sys: root.join("sys"),
        dev: root.join("dev"),
        instance: "host:testcase".parse()?,
        region: "test-1".to_owned(),
        web: std::sync::Arc::new(web::Files::below(root)),
        snmp: std::sync::Arc::new(cms_collectors::snmp::Udp),
        links: cms_collectors::thermal::bacnet::link::Links::default(),
    };
    let mut at: Timestamp = START.parse()?;
    let mut collector: Option<Box<dyn Collector>> = None;
    let mut samples = Vec::new();
    for tick in 0.. {
        let state = case.join(format!("t{tick}"));
        if !state.is_dir() {
            break;
        }
        let steps = enter(&state, root)?;
        if tick > 0 {
            let interval = SignedDuration::try_from(settings.interval())?;
            let after = steps.after.unwrap_or(interval);
            at = at.checked_add(after)?;
            runtime.block_on(tokio::time::sleep(after.unsigned_abs()));
        }
        let collector = match &mut collector {
            Some(opened) => opened,
            none => none.insert(settings.open(&host)?),
        };
        match collect(&runtime, collector.as_mut(), at) {
            Ok(readings) => samples.push(readings.stamp(registration.id, at, "testcase")),
            Err(error) => writeln!(outcome.refusals, "t{tick}: {}", chain(&error))?,
        }
    }
    outcome.samples = json(&samples)?;
    Ok(())
}

/// Finds the collector's table as the agent does, so that spans and messages are the same.
fn parse(registration: &Registration, config: &str) -> Fallible<Box<dyn Settings>> {
    let missing = || format!("config.toml has no table {}", registration.table);
    let document = toml::de::DeTable::parse(config)?;
    let mut value = toml::Spanned::new(
        document.span(),
        toml::de::DeValue::Table(document.into_inner()),
    );
    for key in registration.table.split('.') {
        let toml::de::DeValue::Table(table) = value.get_ref() else {
            return Err(missing().into());
        };
        value = table.get(key).cloned().ok_or_else(missing)?;
    }
    if registration.repeated {
        let toml::de::DeValue::Array(rows) = value.get_ref() else {
            return Err(missing().into());
        };
        value = rows.first().cloned().ok_or_else(missing)?;
    }
    (registration.parse)(toml::de::ValueDeserializer::from(value)).map_err(|mut error| {
        error.set_input(Some(config));
        error.to_string().trim_end().into()
    })
}

/// Lays a state over the ones before it.
fn enter(state: &Path, root: &Path) -> Fallible<Steps> {
    copy(state, root)?;
    let steps = match fs::read_to_string(state.join("steps.toml")) {
        Ok(text) => toml::from_str(&text)?,
        Err(_) => Steps::default(),
    };
    for path in &steps.remove {
        let path = root.join(path);
        if path.is_dir() {
            fs::remove_dir_all(path)?
        } else {
            fs::remove_file(path)?
        }
    }
    for (path, times) in &steps.times {
        let times = Timestamps {
            last_access: timespec(times.accessed),
            last_modification: timespec(times.modified),
        };
        utimensat(CWD, root.join(path), &times, AtFlags::empty())?;
    }
    for path in &steps.deny {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o000))?;
    }
    if !steps.deny.is_empty() {
        // Root may read everything unless it gives that up, which it does for this thread alone.
        let mut sets = capabilities(None)?;
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets)?;
    }
    Ok(steps)
}

fn timespec(at: Timestamp) -> Timespec {
    Timespec {
        tv_sec: at.as_second(),
        tv_nsec: i64::from(at.subsec_nanosecond()),
    }
}

fn copy(from: &Path, to: &Path) -> Fallible<()> {
    for path in sorted(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&path, &target)?;
        } else if !path.ends_with("steps.toml") {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// One tick; one that begins a long job is repeated until the job is done.
fn collect(
    runtime: &Runtime,
    collector: &mut dyn Collector,
    at: Timestamp,
) -> Result<Readings, cms_collectors::CollectError> {
    let mut readings = Readings::default();
    loop {
        runtime.block_on(collector.collect(at, &mut readings))?;
        if collector.progress().is_none() {
            return Ok(readings);
        }
        std::thread::yield_now();
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

fn json(samples: &[Sample]) -> Fallible<String> {
    let has_values = |sample: &Sample| sample.values() > 0;
    if !samples.iter().any(has_values) {
        return Ok(String::new());
    }
    Ok(serde_json::to_string_pretty(samples)? + "\n")
}

fn judge(case: &Path, outcome: &Outcome, bless: bool, wrong: &mut String) -> Fallible<()> {
    for (file, found) in [
        ("expected.json", &outcome.samples),
        ("expected.err", &outcome.refusals),
    ] {
        let path = case.join(file);
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected == *found {
            continue;
        }
        if !bless {
            writeln!(
                wrong,
                "{}: expected\n{expected}\nbut found\n{found}",
                path.display()
            )?;
        } else if found.is_empty() {
            fs::remove_file(&path)?;
        } else {
            fs::write(&path, found)?;
        }
    }
    Ok(())
}
