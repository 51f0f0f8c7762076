//! The layer that fails on purpose (`shim.c`): compiled once, told what to do through the environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::node::Node;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// SIGKILL in place of the step.
    Kill,
    /// Half of a write, then SIGKILL.
    Torn,
    /// What was not synced is lost, then SIGKILL. With a seed, some of it lasts.
    Power { seed: u64 },
}

/// A fault at one step of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) mode: Mode,
    /// The number of the step, from 1.
    pub(crate) at: u64,
    /// The dashboard is away for so many connections.
    pub(crate) refused: u32,
}

impl Fault {
    /// The environment of a process that is to meet this fault.
    pub(crate) fn environment(&self, node: &Node) -> Vec<(String, String)> {
        let (mode, seed) = match self.mode {
            Mode::Kill => ("kill", 0),
            Mode::Torn => ("torn", 0),
            Mode::Power { seed } => ("power", seed),
        };
        drop(fs::remove_file(log(node)));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", text(library())),
            ("CMS_FAULT_DIR", text(&node.store())),
            ("CMS_FAULT_LOG", text(&log(node))),
            ("CMS_FAULT", mode.to_owned()),
            ("CMS_FAULT_AT", self.at.to_string()),
            ("CMS_FAULT_SEED", seed.to_string()),
            ("CMS_FAULT_REFUSED", self.refused.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// What the layer said about the last process of a node: the fault that it met, or how many steps there were.
pub(crate) fn said(node: &Node) -> String {
    fs::read_to_string(log(node)).unwrap_or_default()
}

fn log(node: &Node) -> PathBuf {
    node.path("faults.log")
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        // Built beside and moved, because another test may be using the last one.
        let new = library.with_extension(format!("{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args([
                "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread", "-o",
            ])
            .args([&new, &source])
            .output()
            .unwrap();
        assert!(
            compiled.status.success(),
            "{}",
            crate::site::text(&compiled.stderr)
        );
        fs::rename(new, &library).unwrap();
        library
    })
}
