//! The rules of the source tree that no compiler checks: who may import whom, what every collector brings,
//! what every file begins with. Each rule names file and line; a rule is a function from the tree to violations,
//! and is shown here on a small tree that breaks it.

#[cfg(test)]
#[path = "tidy/collectors.rs"]
mod collectors;
#[cfg(test)]
#[path = "tidy/documents.rs"]
mod documents;
#[cfg(test)]
#[path = "tidy/imports.rs"]
mod imports;
#[cfg(test)]
#[path = "tidy/manifests.rs"]
mod manifests;
#[cfg(test)]
#[path = "tidy/sources.rs"]
mod sources;
#[cfg(test)]
#[path = "tidy/tree.rs"]
mod tree;

#[cfg(test)]
mod tests {
    use super::tree::Tree;
    use super::{collectors, documents, imports, manifests, sources};

    type Rule = fn(&Tree) -> Vec<String>;

    fn hold(rules: &[(&str, Rule)]) {
        let tree = Tree::of_this_repository();
        let mut broken = String::new();
        for (name, rule) in rules {
            for violation in rule(&tree) {
                broken.push_str(&format!("\n  {violation}   [{name}]"));
            }
        }
        assert!(broken.is_empty(), "{broken}");
    }

    #[test]
    fn manifests() {
        hold(&[
            ("members use what the design allows", manifests::allowed),
            ("members inherit every dependency", manifests::inherited),
            ("every dependency has its reason", manifests::reasons),
            ("every dependency is used", manifests::used),
            (
                "fuzz targets build by their own manifest",
                manifests::fuzzed,
            ),
            ("one toolchain", manifests::toolchain),
            ("every clippy ban has its reason", manifests::bans),
        ]);
    }

    #[test]
    fn imports() {
        hold(&[
            ("arrows in src/ point down", imports::layers),
            ("collectors do not know each other", imports::collectors),
            ("one place for each sharp tool", imports::places),
            ("nothing is written to a device", imports::read_only),
        ]);
    }

    #[test]
    fn collectors() {
        hold(&[
            ("every collector is registered", collectors::registered),
            ("every collector is documented", collectors::documented),
            ("every collector has testcases", collectors::tested),
            ("the example holds every sample", collectors::samples),
        ]);
    }

    #[test]
    fn sources() {
        hold(&[
            ("files stay short", sources::short),
            ("files say what they are", sources::introduced),
            ("nothing is left for later", sources::finished),
            ("a silenced lint says why", sources::silenced),
        ]);
    }

    #[test]
    fn documents() {
        hold(&[
            ("links lead somewhere", documents::links),
            ("decisions are numbered without holes", documents::decisions),
        ]);
    }
}
