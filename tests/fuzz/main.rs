//! The fuzz targets without a fuzzer: every corpus is replayed, and changed a bounded number of times.
//!
//! `CMS_FUZZ` asks for more changed inputs of each target, `CMS_BLESS=1` writes the seeds that our own types make.
//! `README.md` beside this file says how to let libFuzzer look for more.

#[cfg(test)]
#[path = "../../attest/tests/evidence/ledger.rs"]
#[expect(
    dead_code,
    reason = "the evidence of its own tests needs more than a seed does"
)]
mod evidence;
#[cfg(test)]
mod mutate;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod targets;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};

    use super::mutate::{Dice, mutate};
    use super::seeds::{copies, seeds};
    use super::targets::{TARGETS, Target};

    /// Changed inputs of each target in an ordinary run.
    const CHANGED: u64 = 1_000;
    const FOLDER: &str = "tests/fuzz/corpus";
    const MANIFEST: &str = include_str!("Cargo.toml");

    fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(FOLDER).join(name);
        let entries = fs::read_dir(&folder).unwrap_or_else(|_| panic!("no corpus of {name}"));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// Whether it holds; a panic is printed by its own thread with the place.
    fn holds(target: Target, input: &[u8]) -> bool {
        catch_unwind(AssertUnwindSafe(|| target(input))).is_ok()
    }

    fn show(input: &[u8]) -> String {
        String::from_utf8_lossy(input).into_owned()
    }

    #[test]
    fn every_target_has_a_corpus_that_holds_and_a_program() {
        for (name, target) in TARGETS {
            let inputs = corpus(name);
            assert!(!inputs.is_empty(), "the corpus of {name} is empty");
            for (path, input) in inputs {
                assert!(holds(target, &input), "{}", path.display());
            }
            let program = format!("[[bin]]\nname = \"{name}\"\npath = \"run.rs\"");
            assert!(
                MANIFEST.contains(&program),
                "{name} is no program in Cargo.toml"
            );
        }
        let known: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        for entry in fs::read_dir(FOLDER).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(known.contains(name.as_str()), "{name} is no target");
        }
    }

    #[test]
    fn the_seeds_are_what_our_types_write() {
        let bless = std::env::var_os("CMS_BLESS").is_some();
        let kept = |target, name| Path::new(FOLDER).join(target).join(name);
        let write = |path: &Path, bytes: &[u8]| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        if bless {
            for (target, name, bytes) in seeds().into_iter().chain(copies()) {
                write(&kept(target, name), &bytes);
            }
            return;
        }
        for (target, name, bytes) in seeds() {
            let path = kept(target, name);
            let same = fs::read(&path).is_ok_and(|kept| kept == bytes);
            assert!(
                same,
                "{} is written otherwise now; CMS_BLESS=1 keeps that",
                path.display()
            );
        }
    }

    #[test]
    fn changed_inputs_hold() {
        let changed = std::env::var("CMS_FUZZ").map_or(CHANGED, |text| text.parse().unwrap());
        let mut tried = 0;
        for (name, target) in TARGETS {
            let inputs = corpus(name);
            let seed = name
                .bytes()
                .fold(7, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(byte));
            let mut dice = Dice(seed);
            for _ in 0..changed {
                let mut input = inputs[dice.below(inputs.len())].1.clone();
                let other = &inputs[dice.below(inputs.len())].1;
                mutate(&mut input, other, &mut dice);
                assert!(holds(target, &input), "{name}: {:?}", show(&input));
                tried += 1;
            }
        }
        println!(
            "{tried} changed inputs of {} targets, 0 panics",
            TARGETS.len()
        );
    }
}
