//! Rules about who names whom: the layers of the agent, the folders of the collectors, the crates that live in
//! one place only.

use super::collectors;
use super::tree::{Tree, code, code_without_tests, line_of};

/// The modules of the agent, from the top. A module names modules further down, or its neighbours in the row.
const LAYERS: [&[&str]; 9] = [
    &["cli"],
    &["agent"],
    &["world"],
    &["control", "gateway", "schedule", "submit", "witness"],
    &[
        "comparisons",
        "events",
        "identity",
        "metrics",
        "status",
        "store",
        "transport",
    ],
    &["api_keys"],
    &["seal"],
    &["config"],
    &[
        "backoff", "blocking", "chance", "clock", "durable", "limits", "watchdog",
    ],
];

/// Neighbours that must not know each other: the loops meet only in the store, and the store sends nothing.
const STRANGERS: [(&str, &str); 7] = [
    ("gateway", "schedule"),
    ("gateway", "submit"),
    ("gateway", "witness"),
    ("schedule", "submit"),
    ("schedule", "witness"),
    ("store", "transport"),
    ("submit", "witness"),
];

/// A word that may be named in some places only, and the reason.
struct Place {
    word: &'static str,
    /// Where the rule holds.
    within: &'static [&'static str],
    /// Where the word may stand: these files, and all below where it ends with a slash or a dash.
    only: &'static [&'static str],
    why: &'static str,
}

const PACKAGES: &[&str] = &["src/", "spec/", "attest/", "collectors/", "dashboard/"];

const PLACES: [Place; 12] = [
    Place {
        word: "rustls",
        within: PACKAGES,
        only: &["src/transport/tls.rs", "dashboard/tls.rs", "src/cli/demo"],
        why: "TLS is set up in one place of each program",
    },
    Place {
        word: "rusqlite",
        within: PACKAGES,
        only: &["src/store/", "dashboard/store"],
        why: "only the store knows the database",
    },
    Place {
        word: "toml",
        within: PACKAGES,
        only: &["src/config/", "collectors/", "dashboard/config.rs"],
        why: "configuration is read in one place of each program",
    },
    Place {
        word: "cms_dashboard",
        within: PACKAGES,
        only: &["src/cli/dashboard", "src/cli/demo"],
        why: "the agent does not contain the dashboard; two commands start it",
    },
    Place {
        word: "async_snmp",
        within: PACKAGES,
        only: &["collectors/snmp/"],
        why: "devices are asked in one place, where nothing can be set",
    },
    Place {
        word: "set",
        within: &["collectors/snmp/"],
        only: &[],
        why: "devices are read and never changed",
    },
    Place {
        word: "set_many",
        within: &["collectors/snmp/"],
        only: &[],
        why: "devices are read and never changed",
    },
    Place {
        word: "nvml_wrapper",
        within: PACKAGES,
        only: &["collectors/nvml/library.rs"],
        why: "the driver may hang, and is asked on one thread, where nothing can be set",
    },
    Place {
        word: "tokio_modbus",
        within: PACKAGES,
        only: &["collectors/thermal/modbus/link.rs"],
        why: "one place asks devices, with the four functions that read",
    },
    Place {
        word: "WriteProperty",
        within: PACKAGES,
        only: &[],
        why: "nothing is ever written to a BACnet device",
    },
    Place {
        word: "WritePropertyRequest",
        within: PACKAGES,
        only: &[],
        why: "nothing is ever written to a BACnet device",
    },
    Place {
        word: "Instant",
        within: PACKAGES,
        only: &[
            "src/clock.rs",
            "collectors/compute/power/polled",
            "src/schedule",
            "src/submit",
            "dashboard/clock.rs",
        ],
        why: "time is an argument",
    },
];

/// Names of a field protocol's crate that would change something on a device. None of them is in our code, so that no
/// configuration, reply or mistake can make the agent write.
const WRITES: [&str; 14] = [
    "WriteSingleCoil",
    "WriteSingleRegister",
    "WriteMultipleCoils",
    "WriteMultipleRegisters",
    "MaskWriteRegister",
    "ReadWriteMultipleRegisters",
    "write_single_coil",
    "write_single_register",
    "write_multiple_coils",
    "write_multiple_registers",
    "masked_write_register",
    "read_write_multiple_registers",
    "tokio_modbus::prelude",
    "Request::Custom",
];

/// Nothing is written to a device.
pub(crate) fn read_only(tree: &Tree) -> Vec<String> {
    let ours = |path: &str| PACKAGES.iter().any(|package| path.starts_with(package));
    let mut broken = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| ours(path)) {
        let code = code(text);
        for word in WRITES {
            for at in words(&code, word) {
                let line = line_of(&code, at);
                broken.push(format!("{path}:{line}: {word} could write to a device"));
            }
        }
    }
    broken
}

/// Inside `src/` every arrow points down.
pub(crate) fn layers(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.rust() {
        let Some(inside) = path.strip_prefix("src/") else {
            continue;
        };
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if module == "main" || module == "lib" {
            continue;
        }
        let Some(row) = row(module) else {
            broken.push(format!(
                "{path}:1: {module} stands in no row of LAYERS; decide where"
            ));
            continue;
        };
        let code = code_without_tests(text);
        for (at, named) in named_modules(&code, depth(inside)) {
            let known = LAYERS
                .iter()
                .any(|modules| modules.contains(&named.as_str()));
            let up = self::row(&named).is_some_and(|other| other < row);
            let strangers = STRANGERS
                .iter()
                .any(|pair| *pair == (module, named.as_str()) || *pair == (named.as_str(), module));
            if known && (up || strangers) {
                let line = line_of(&code, at);
                broken.push(format!("{path}:{line}: {module} must not name {named}"));
            }
        }
    }
    broken
}

/// A collector names no other collector's folder.
pub(crate) fn collectors(tree: &Tree) -> Vec<String> {
    let folders = collectors::folders(tree);
    let mut broken = Vec::new();
    for (path, text) in tree.rust() {
        let own = |folder: &&str| path.starts_with(&format!("collectors/{folder}/"));
        let Some(folder) = folders.iter().copied().find(own) else {
            continue;
        };
        let code = code_without_tests(text);
        for other in folders.iter().copied().filter(|other| *other != folder) {
            let module = format!("crate::{}", other.replace('/', "::"));
            for (at, _) in code.match_indices(&module) {
                let line = line_of(&code, at);
                broken.push(format!("{path}:{line}: {folder} must not name {other}"));
            }
        }
    }
    broken
}

/// Some crates are named in one place only.
pub(crate) fn places(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.rust() {
        let code = code_without_tests(text);
        for place in &PLACES {
            let applies = place.within.iter().any(|within| path.starts_with(within));
            let free = place.only.iter().any(|only| path.starts_with(only));
            let tests = path.contains("/tests/") || path.contains("/testing/");
            if !applies || free || tests {
                continue;
            }
            for at in words(&code, place.word) {
                let (line, word) = (line_of(&code, at), place.word);
                broken.push(format!(
                    "{path}:{line}: must not name {word}: {}",
                    place.why
                ));
            }
        }
    }
    broken
}

fn row(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// How many modules deep a file of `src/` is.
fn depth(inside: &str) -> usize {
    let parts = inside.split('/').count();
    if inside.ends_with("/mod.rs") {
        parts - 1
    } else {
        parts
    }
}

/// The top modules that a file names, by `crate::` or by enough `super::`, with the place of each.
fn named_modules(code: &str, depth: usize) -> Vec<(usize, String)> {
    let root = "super::".repeat(depth);
    let mut found = Vec::new();
    for (start, length) in words(code, "crate").map(|at| (at, "crate".len())).chain(
        code.match_indices(&root)
            .filter(|(at, _)| {
                !code
                    .get(..*at)
                    .is_some_and(|before| before.ends_with("super::"))
            })
            .map(|(at, _)| (at, root.len() - 2)),
    ) {
        let rest = code.get(start + length..).unwrap_or_default();
        let Some(path) = rest.strip_prefix("::") else {
            continue;
        };
        found.extend(heads(path).into_iter().map(|head| (start, head)));
    }
    found
}

/// The first names of a path: one, or those of a group in braces.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![identifier(path)];
    };
    let (mut level, mut names, mut fresh) = (0usize, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 0 => break,
            '}' => level -= 1,
            ',' if level == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                names.push(identifier(group.get(at..).unwrap_or_default()));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Where the word stands as a whole name.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = code.get(..*at).and_then(|text| text.chars().next_back());
            let after = code
                .get(at + word.len()..)
                .and_then(|text| text.chars().next());
            !before.is_some_and(part) && !after.is_some_and(part)
        })
}

#[test]
fn arrows_up_and_between_strangers_are_found() {
    let tree = Tree::of(&[
        (
            "src/agent.rs",
            "use crate::{limits::X, store, cli::{self, run}};\n",
        ),
        (
            "src/store/mod.rs",
            "use super::transport::Send;\nuse crate::clock::Clock;\n",
        ),
        (
            "src/store/outbox.rs",
            "use super::super::submit;\nuse super::ledger;\n",
        ),
        (
            "src/transport/mod.rs",
            "// crate::store\nuse crate::identity::Key;\n",
        ),
        (
            "src/clock.rs",
            "fn x() { crate::config::y() }\n#[cfg(test)]\nmod tests {\n crate::cli }",
        ),
        ("src/odd.rs", ""),
        ("src/main.rs", "use crate::cli;"),
    ]);
    assert_eq!(
        layers(&tree),
        [
            "src/agent.rs:1: agent must not name cli",
            "src/clock.rs:1: clock must not name config",
            "src/odd.rs:1: odd stands in no row of LAYERS; decide where",
            "src/store/mod.rs:1: store must not name transport",
            "src/store/outbox.rs:1: store must not name submit",
        ]
    );
}

#[test]
fn neighbours_and_misplaced_crates_are_found() {
    let tree = Tree::of(&[
        (
            "collectors/a/one/mod.rs",
            "use crate::a::two::X;\nuse crate::a::shared;\n",
        ),
        ("collectors/a/two/mod.rs", "use crate::a::two::Y;\n"),
        ("src/transport/tls.rs", "use rustls::X;"),
        (
            "src/transport/mod.rs",
            "//! rustls is elsewhere\nuse rustls::X;\nuse axum_server::tls_rustls;",
        ),
        ("dashboard/store/mod.rs", "use rusqlite::X;"),
        ("dashboard/tests/x.rs", "use rusqlite::X; use rustls::Y;"),
        ("dashboard/testing/x.rs", "use rustls::Y;"),
    ]);
    assert_eq!(
        collectors(&tree),
        ["collectors/a/one/mod.rs:1: a/one must not name a/two"]
    );
    assert_eq!(places(&tree).len(), 1);
    assert!(places(&tree)[0].starts_with("src/transport/mod.rs:2: must not name rustls"));
}

#[test]
fn what_could_write_to_a_device_is_found() {
    let tree = Tree::of(&[
        (
            "collectors/a/mod.rs",
            "// write_single_coil\nlet request = Request::WriteSingleCoil(1, true);\n",
        ),
        ("collectors/b/mod.rs", "use tokio_modbus::prelude::*;\n"),
        ("tests/c.rs", "write_single_coil();\n"),
    ]);
    assert_eq!(
        read_only(&tree),
        [
            "collectors/a/mod.rs:2: WriteSingleCoil could write to a device",
            "collectors/b/mod.rs:1: tokio_modbus::prelude could write to a device",
        ]
    );
}
