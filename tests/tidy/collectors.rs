//! Rules about collectors: each is registered, documented, has testcases, and its sample is in the example.

use std::collections::BTreeSet;

use super::tree::{Tree, code};

const ROOT: &str = "collectors/";
const EXAMPLE: &str = "config.example.toml";
/// The folder whose folders are rungs: they are no collectors of their own, the ladder names them.
const LADDER: &str = "compute/power";
/// Families whose folders are protocols or kinds of servers, and the file that lists them.
const LISTS: [(&str, &str); 2] = [
    ("thermal/", "collectors/thermal/protocols.rs"),
    ("models/", "collectors/models/source/kinds.rs"),
];
const SECTIONS: [&str; 5] = [
    "Reads",
    "Configuration",
    "Readings",
    "Permissions",
    "Example",
];

/// Every folder of a collector, and of a power rung, below `collectors/`.
pub(crate) fn folders(tree: &Tree) -> Vec<&str> {
    let folder = |path| -> Option<&str> {
        let folder = str::strip_suffix(path, "/mod.rs")?.strip_prefix(ROOT)?;
        let rung = folder
            .strip_prefix(LADDER)
            .is_some_and(|rest| rest.matches('/').count() == 1);
        let collector = folder.matches('/').count() == 1 && folder != LADDER;
        (rung || collector).then_some(folder)
    };
    tree.paths().filter_map(folder).collect()
}

/// A collector's folder stands in `ALL` by its path; a rung's in the ladder; a protocol's or a kind's in the list of its family.
pub(crate) fn registered(tree: &Tree) -> Vec<String> {
    let all = registrations(tree);
    let ladder = tree
        .text(&format!("{ROOT}{LADDER}/settings.rs"))
        .map(code)
        .unwrap_or_default();
    let lists = LISTS.map(|(family, path)| (family, tree.text(path).map(code).unwrap_or_default()));
    folders(tree)
        .into_iter()
        .filter(|folder| {
            let rung = folder.strip_prefix(&format!("{LADDER}/"));
            let is_named = |list: &str, name: Option<&str>| {
                name.is_some_and(|name| list.contains(&format!("{name}::")))
            };
            let is_listed = lists
                .iter()
                .any(|(family, list)| is_named(list, folder.strip_prefix(family)));
            !is_named(&ladder, rung)
                && !is_listed
                && !all.contains(&folder.replace('/', "::"))
        })
        .map(|folder| {
            format!(
                "{ROOT}{folder}/mod.rs:1: not in ALL, nor in the ladder, nor in the list of its family"
            )
        })
        .collect()
}

/// A collector's README has every section, none left out.
pub(crate) fn documented(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for folder in folders(tree) {
        let path = format!("{ROOT}{folder}/README.md");
        let Some(text) = tree.text(&path) else {
            broken.push(format!(
                "{path}:1: missing; it has the sections {}",
                SECTIONS.join(", ")
            ));
            continue;
        };
        let headings: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(str::trim)
            .collect();
        for section in SECTIONS
            .iter()
            .filter(|section| !headings.contains(*section))
        {
            broken.push(format!("{path}:1: has no section \"## {section}\""));
        }
    }
    broken
}

/// A collector has at least one case, and a case is a folder with files.
pub(crate) fn tested(tree: &Tree) -> Vec<String> {
    let has_case = |folder: &str| {
        let cases = format!("{ROOT}{folder}/testcases/");
        tree.paths().any(|path| {
            path.strip_prefix(&cases)
                .is_some_and(|rest| rest.contains('/'))
        })
    };
    folders(tree)
        .into_iter()
        .filter(|folder| !has_case(folder))
        .map(|folder| format!("{ROOT}{folder}/testcases:1: holds no case"))
        .collect()
}

/// A collector has a sample, and the example configuration holds it word for word.
pub(crate) fn samples(tree: &Tree) -> Vec<String> {
    let example = tree.text(EXAMPLE);
    let mut broken = Vec::new();
    for folder in folders(tree) {
        let path = format!("{ROOT}{folder}/sample.toml");
        match (tree.text(&path), example) {
            (None, _) => broken.push(format!("{path}:1: missing")),
            (Some(sample), Some(example)) if !example.contains(sample.trim()) => {
                broken.push(format!("{EXAMPLE}:1: does not hold {path} word for word"));
            }
            _ => {}
        }
    }
    if example.is_none() {
        broken.push(format!("{EXAMPLE}:1: missing"));
    }
    broken
}

/// The modules that `ALL` names, as `family::name`.
fn registrations(tree: &Tree) -> BTreeSet<String> {
    let text = tree.text("collectors/lib.rs").map(code).unwrap_or_default();
    let list = text.split_once("const ALL:").map_or("", |(_, rest)| rest);
    let list = list.split("];").next().unwrap_or_default();
    list.split(|c: char| c.is_whitespace() || "[],&".contains(c))
        .filter_map(|entry| entry.strip_suffix("::REGISTRATION"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_rule_finds_its_violation() {
    let readme = "# x\n## Reads\n## Configuration\n## Readings\n## Permissions\n## Example\n";
    let lib = "pub const ALL: &[Registration] = &[\n    a::good::REGISTRATION,\n];\n";
    let good = [
        ("collectors/lib.rs", lib),
        ("collectors/a/mod.rs", ""),
        ("collectors/a/good/mod.rs", ""),
        ("collectors/a/good/README.md", readme),
        ("collectors/a/good/sample.toml", "[a.good]\n"),
        ("collectors/a/good/testcases/one/expected.json", ""),
        ("collectors/compute/power/settings.rs", "use rapl::Rapl;"),
        ("collectors/compute/power/rapl/mod.rs", ""),
        ("collectors/compute/power/rapl/README.md", readme),
        ("collectors/compute/power/rapl/sample.toml", ""),
        (
            "collectors/compute/power/rapl/testcases/one/expected.json",
            "",
        ),
        (EXAMPLE, "x = 1\n[a.good]\n"),
    ];
    let rules = [registered, documented, tested, samples];
    for rule in rules {
        assert_eq!(rule(&Tree::of(&good)), [""; 0]);
    }
    let missing = [
        ("collectors/a/bad/mod.rs", ""),
        ("collectors/compute/power/odd/mod.rs", ""),
    ];
    let tree = Tree::of(&[&good[..], &missing[..]].concat());
    for rule in rules {
        assert_eq!(rule(&tree).len(), 2, "{:?}", rule(&tree));
    }
    let other = [
        ("collectors/a/good/README.md", "## Reads"),
        (EXAMPLE, "[a.better]"),
    ];
    let tree = Tree::of(&[&good[..], &other[..]].concat());
    assert_eq!((documented(&tree).len(), samples(&tree).len()), (4, 1));
}
