//! The layer that fails on purpose (`shim.c`): compiled once, told what to do through the environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::io::Errno;

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
    /// The step fails with this error; of a socket: the connection is reset.
    Once(Errno),
    /// This step of a file and each one after it.
    Ever(Errno),
    /// The sync fails, and what it should have made last is lost. Only syncs are counted.
    LostSync,
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
        let (mode, seed, errno) = match self.mode {
            Mode::Kill => ("kill", 0, Errno::IO),
            Mode::Torn => ("torn", 0, Errno::IO),
            Mode::Power { seed } => ("power", seed, Errno::IO),
            Mode::Once(errno) => ("once", 0, errno),
            Mode::Ever(errno) => ("ever", 0, errno),
            Mode::LostSync => ("lost", 0, Errno::IO),
        };
        let more = match self.mode {
            Mode::LostSync => Some(("CMS_FAULT_KIND", "sync".to_owned())),
            Mode::Ever(_) => Some(("CMS_FAULT_TRACE", String::new())),
            _ => None,
        };
        drop(fs::remove_file(log(node)));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", text(library())),
            ("CMS_FAULT_DIR", text(&node.disk())),
            ("CMS_FAULT_LOG", text(&log(node))),
            ("CMS_FAULT", mode.to_owned()),
            ("CMS_FAULT_ERRNO", errno.raw_os_error().to_string()),
            ("CMS_FAULT_AT", self.at.to_string()),
            ("CMS_FAULT_SEED", seed.to_string()),
            ("CMS_FAULT_REFUSED", self.refused.to_string()),
        ]
        .into_iter()
        .chain(more)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// The environment of a process whose files may grow as far as a number in a file says.
pub(crate) fn room(node: &Node, file: &Path) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    [
        ("LD_PRELOAD", text(library())),
        ("CMS_FAULT_DIR", text(&node.disk())),
        ("CMS_FAULT_ROOM", text(file)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// What the layer said about the last process of a node: the fault that it met.
pub(crate) fn said(node: &Node) -> String {
    let lines = fs::read_to_string(log(node)).unwrap_or_default();
    let said = |line: &&str| !line.starts_with(|c: char| c.is_ascii_digit());
    lines.lines().filter(said).collect::<Vec<_>>().join("; ")
}

/// How many steps the node's process has made so far. Only counted while every step fails.
pub(crate) fn steps(node: &Node) -> usize {
    fs::read_to_string(log(node))
        .unwrap_or_default()
        .lines()
        .count()
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
