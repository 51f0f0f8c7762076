//! Rules about Cargo.toml files: what each member may depend on, and that every dependency says why it is here.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::tree::Tree;

/// What each member may use, apart from the crates that its tests use. A new entry here is a design decision.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("spec", &["jiff", "serde", "serde_json", "thiserror"]),
    (
        "attest",
        &[
            "aws-lc-rs",
            "base64",
            "cms-spec",
            "jiff",
            "serde",
            "serde_json",
            "sfv",
            "thiserror",
            "zeroize",
        ],
    ),
    (
        "collectors",
        &[
            "async-snmp",
            "async-trait",
            "aws-lc-rs",
            "bacnet-rs",
            "base64",
            "cms-spec",
            "csv",
            "flate2",
            "hyper",
            "hyper-util",
            "ipmi-rs",
            "jiff",
            "libc",
            "memchr",
            "nvml-wrapper",
            "quick-xml",
            "rumqttc-v4",
            "rumqttc-v5",
            "rustix",
            "serde",
            "serde_json",
            "sysinfo",
            "thiserror",
            "tokio",
            "tokio-modbus",
            "tokio-serial",
            "toml",
            "tracing",
            "zeroize",
            "zstd",
        ],
    ),
    (
        "dashboard",
        &[
            "aws-lc-rs",
            "axum",
            "axum-server",
            "base64",
            "cms-attest",
            "cms-spec",
            "hyper-util",
            "jiff",
            "maud",
            "rusqlite",
            "rustls",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "thiserror",
            "tokio",
            "toml",
            "tower",
            "tracing",
            "uuid",
            "zeroize",
            "zstd",
        ],
    ),
    ("tests/simulation", &[]),
];

/// Which member's tests may use which other member.
const ALLOWED_IN_TESTS: [(&str, &[&str]); 5] = [
    ("spec", &[]),
    ("attest", &["cms-spec"]),
    ("collectors", &["cms-spec"]),
    ("dashboard", &["cms-attest", "cms-spec"]),
    (
        "tests/simulation",
        &[
            "cms-attest",
            "cms-collectors",
            "cms-dashboard",
            "cms-spec",
            "cms-telemetry-agent",
        ],
    ),
];

/// A member depends on nothing but what the table of the design gives it.
pub(crate) fn allowed(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for member in members(tree) {
        let path = format!("{member}/Cargo.toml");
        let Some((_, names)) = ALLOWED.iter().find(|(known, _)| *known == member) else {
            broken.push(format!(
                "{path}:1: no list of allowed dependencies; decide and add one"
            ));
            continue;
        };
        let in_tests = ALLOWED_IN_TESTS.iter().find(|(known, _)| *known == member);
        let in_tests = in_tests.map_or(&[][..], |(_, names)| *names);
        for (section, name, _) in dependencies(tree, &path) {
            let outside = section != "dev-dependencies" && !names.contains(&name.as_str());
            let arrow_back = section == "dev-dependencies"
                && name.starts_with("cms-")
                && !in_tests.contains(&name.as_str());
            if outside || arrow_back {
                let line = line_naming(tree, &path, &name);
                broken.push(format!("{path}:{line}: {member} may not depend on {name}"));
            }
        }
    }
    broken
}

/// Versions stand in the workspace's table only.
pub(crate) fn inherited(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for path in manifests(tree) {
        for (_, name, value) in dependencies(tree, &path) {
            let inherits = value.get("workspace").and_then(Value::as_bool) == Some(true);
            if !inherits {
                let line = line_naming(tree, &path, &name);
                broken.push(format!(
                    "{path}:{line}: {name} is not taken from the workspace"
                ));
            }
        }
    }
    broken
}

/// Every line of the workspace's tables of members and dependencies says why it is there.
pub(crate) fn reasons(tree: &Tree) -> Vec<String> {
    let text = tree.text("Cargo.toml").unwrap_or_default();
    let mut broken = Vec::new();
    let mut section = "";
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('[') {
            section = line;
        }
        let entry = match section {
            // A member's own reason stands in the list of members.
            "[workspace.dependencies]" => line.contains(" = ") && !line.contains("path = "),
            "[workspace]" => line.trim_start().starts_with('"'),
            _ => false,
        };
        let reason = line
            .rsplit_once("# ")
            .map_or("", |(_, reason)| reason.trim());
        if entry && reason.is_empty() {
            broken.push(format!(
                "Cargo.toml:{number}: no reason after #: {}",
                line.trim()
            ));
        }
    }
    broken
}

/// Every dependency of the workspace's table is used by some package.
pub(crate) fn used(tree: &Tree) -> Vec<String> {
    let used: BTreeSet<String> = manifests(tree)
        .iter()
        .flat_map(|path| dependencies(tree, path))
        .map(|(_, name, _)| name)
        .collect();
    let root = parse(tree, "Cargo.toml");
    let table = root
        .get("workspace")
        .and_then(|w| w.get("dependencies"))
        .and_then(Value::as_table);
    table
        .into_iter()
        .flat_map(Table::keys)
        .filter(|name| !used.contains(*name))
        .map(|name| {
            let line = line_naming(tree, "Cargo.toml", name);
            format!("Cargo.toml:{line}: {name} is used by no package")
        })
        .collect()
}

/// What fuzz targets use is in the manifest that libFuzzer's programs are built by; CI builds them by another one.
pub(crate) fn fuzzed(tree: &Tree) -> Vec<String> {
    const MANIFEST: &str = "tests/fuzz/Cargo.toml";
    const KNOWN: [&str; 5] = ["std", "core", "crate", "self", "super"];
    let there: BTreeSet<String> = dependencies(tree, MANIFEST)
        .into_iter()
        .map(|(_, name, _)| name.replace('-', "_"))
        .collect();
    let mut broken = Vec::new();
    for (path, text) in tree.rust() {
        if !path.starts_with("tests/fuzz/targets/") {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let used = line
                .strip_prefix("use ")
                .and_then(|rest| rest.split_once("::"));
            let Some((name, _)) = used else { continue };
            if !KNOWN.contains(&name) && !there.contains(name) {
                broken.push(format!("{path}:{number}: {MANIFEST} has no {name}"));
            }
        }
    }
    broken
}

/// The toolchain that is installed is the one that the packages ask for.
pub(crate) fn toolchain(tree: &Tree) -> Vec<String> {
    let (pinned, root) = (
        parse(tree, "rust-toolchain.toml"),
        parse(tree, "Cargo.toml"),
    );
    let channel = pinned
        .get("toolchain")
        .and_then(|t| t.get("channel"))
        .and_then(Value::as_str);
    let version = root
        .get("workspace")
        .and_then(|w| w.get("package"))
        .and_then(|p| p.get("rust-version"))
        .and_then(Value::as_str);
    match (channel, version) {
        (Some(channel), Some(version)) if channel.starts_with(version) => Vec::new(),
        _ => vec!["rust-toolchain.toml:1: the channel is not the workspace's rust-version".into()],
    }
}

/// What `.clippy.toml` bans, it bans with a reason.
pub(crate) fn bans(tree: &Tree) -> Vec<String> {
    let path = ".clippy.toml";
    let config = parse(tree, path);
    let lists = ["disallowed-methods", "disallowed-types"];
    let entries = lists
        .iter()
        .filter_map(|list| config.get(*list)?.as_array())
        .flatten();
    entries
        .filter(|entry| {
            entry
                .get("reason")
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
        })
        .map(|entry| format!("{path}:1: no reason: {entry}"))
        .collect()
}

fn members(tree: &Tree) -> Vec<String> {
    let root = parse(tree, "Cargo.toml");
    let list = root
        .get("workspace")
        .and_then(|w| w.get("members"))
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|m| m.as_str().map(str::to_owned))
        .collect()
}

fn manifests(tree: &Tree) -> Vec<String> {
    let root = std::iter::once("Cargo.toml".to_owned());
    root.chain(
        members(tree)
            .iter()
            .map(|member| format!("{member}/Cargo.toml")),
    )
    .collect()
}

/// Every dependency of a manifest: the table it stands in, its name, what is asked for.
fn dependencies(tree: &Tree, path: &str) -> Vec<(String, String, Value)> {
    let manifest = parse(tree, path);
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    let mut found = Vec::new();
    for table in std::iter::once(&manifest).chain(tables) {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in table
                .get(section)
                .and_then(Value::as_table)
                .into_iter()
                .flatten()
            {
                found.push((section.to_owned(), name.clone(), value.clone()));
            }
        }
    }
    found
}

fn parse(tree: &Tree, path: &str) -> Table {
    let text = tree.text(path).unwrap_or_default();
    text.parse()
        .unwrap_or_else(|error| panic!("{path} does not read: {error}"))
}

fn line_naming(tree: &Tree, path: &str, name: &str) -> usize {
    let names = |line: &str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    let text = tree.text(path).unwrap_or_default();
    text.lines().position(names).map_or(1, |at| at + 1)
}

#[test]
fn each_rule_finds_its_violation() {
    let root = "[workspace]\nmembers = [\n    \"spec\", # rules\n    \"odd\",\n]\n\
        [workspace.package]\nrust-version = \"1.95\"\n\
        [workspace.dependencies]\ncms-spec = { path = \"spec\" }\njiff = \"0.2\" # times\nserde = \"1\"\n\
        [dependencies]\ncms-spec.workspace = true\n";
    let spec = "[dependencies]\njiff.workspace = true\ntokio.workspace = true\n\
        [dev-dependencies]\ncms-attest.workspace = true\nproptest = \"1\"\n";
    let tree = Tree::of(&[
        ("Cargo.toml", root),
        ("spec/Cargo.toml", spec),
        ("odd/Cargo.toml", ""),
        (
            "tests/fuzz/Cargo.toml",
            "[dependencies]\ncms-spec = { path = \"../../spec\" }\n",
        ),
        (
            "tests/fuzz/targets/leaf.rs",
            "use std::io;\nuse cms_spec::Slot;\nuse tokio::io;\n",
        ),
        ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.94.0\"\n"),
        (
            ".clippy.toml",
            "disallowed-methods = [{ path = \"a\" }, { path = \"b\", reason = \"c\" }]",
        ),
    ]);
    assert_eq!(
        allowed(&tree),
        [
            "spec/Cargo.toml:3: spec may not depend on tokio",
            "spec/Cargo.toml:5: spec may not depend on cms-attest",
            "odd/Cargo.toml:1: no list of allowed dependencies; decide and add one",
        ]
    );
    assert_eq!(
        inherited(&tree),
        ["spec/Cargo.toml:6: proptest is not taken from the workspace"]
    );
    assert_eq!(reasons(&tree).len(), 2);
    assert_eq!(used(&tree), ["Cargo.toml:11: serde is used by no package"]);
    assert_eq!(
        fuzzed(&tree),
        ["tests/fuzz/targets/leaf.rs:3: tests/fuzz/Cargo.toml has no tokio"]
    );
    assert_eq!((toolchain(&tree).len(), bans(&tree).len()), (1, 1));
}
