//! Rules about documents: relative links lead to files that are there, decisions are numbered without holes.

use super::tree::Tree;

const DECISIONS: &str = "docs/decisions/";

/// Every relative link of every document leads to a file or folder, and to a heading where it names one.
pub(crate) fn links(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.with_extension("md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, target) in targets(text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let found = if file.is_empty() {
                Some(path.to_owned())
            } else {
                resolve(folder, file)
            };
            let Some(found) = found.filter(|found| tree.holds(found)) else {
                broken.push(format!("{path}:{number}: the link {target} leads nowhere"));
                continue;
            };
            let document = tree.text(&found).filter(|_| found.ends_with(".md"));
            let headed = document.is_none_or(|text| anchors(text).any(|a| a == heading));
            if !heading.is_empty() && !headed {
                broken.push(format!(
                    "{path}:{number}: {found} has no heading #{heading}"
                ));
            }
        }
    }
    broken
}

/// Decisions are `NNNN-title.md`, counted from 0001.
pub(crate) fn decisions(tree: &Tree) -> Vec<String> {
    let names: Vec<&str> = tree
        .paths()
        .filter_map(|path| path.strip_prefix(DECISIONS))
        .collect();
    let mut broken = Vec::new();
    for (number, name) in (1..).zip(names.iter().filter(|name| **name != "README.md")) {
        if !name.starts_with(&format!("{number:04}-")) || !name.ends_with(".md") {
            broken.push(format!(
                "{DECISIONS}{name}:1: expected {number:04}-<title>.md here"
            ));
        }
    }
    broken
}

/// The relative targets of a document's links, with their lines. Code is no link.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let rest = line.get(at + 2..).unwrap_or_default();
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !outside && !target.is_empty() {
                found.push((number, target));
            }
        }
    }
    found
}

/// The lines outside of fenced code, counted from one.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The names that a reader's browser gives to headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            title
                .chars()
                .filter(kept)
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
}

/// The path of a link, seen from the root; nothing if it leaves the tree.
fn resolve(folder: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[test]
fn each_rule_finds_its_violation() {
    let tree = Tree::of(&[
        (
            "README.md",
            "[a](docs/A.md) [b](docs/B.md#x) [c](https://x) [d](docs) [e](../up.md)\n",
        ),
        (
            "docs/A.md",
            "# Some Title: here\n```\n[x](nowhere)\n```\n[r](../README.md) [h](#some-title-here)\n",
        ),
        ("docs/C.md", "[a](A.md#other)\n"),
        ("docs/decisions/0001-a.md", ""),
        ("docs/decisions/0003-b.md", ""),
    ]);
    assert_eq!(
        links(&tree),
        [
            "README.md:1: the link docs/B.md#x leads nowhere",
            "README.md:1: the link ../up.md leads nowhere",
            "docs/C.md:1: docs/A.md has no heading #other",
        ]
    );
    assert_eq!(
        decisions(&tree),
        ["docs/decisions/0003-b.md:1: expected 0002-<title>.md here"]
    );
}
