//! The disk is full: a real file system of a few MiB where one can be mounted, else a layer that lets files grow so far.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::node::{Node, api_key, start_dashboard};
use crate::process::wait_until;
use crate::shim;
use crate::site::Site;

/// Room that the agent finds and fills: a few seconds of samples and slots.
const ROOM_BYTES: u64 = 128 * 1024;

/// How long the disk stays full. Processor time of that is counted in hundredths of a second.
const FULL: Duration = Duration::from_secs(3);

/// A third of that time: an agent that tries again without a pause uses all of it.
const TICKS_MAX: u64 = 100;

/// What the agent runs out of.
enum Disk {
    /// A tmpfs in a mount namespace of its own; it goes when this process does.
    Mounted { keeper: Child },
    /// The faulty layer counts what files grow.
    Counted,
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    let site = Site::new();
    let _dashboard = start_dashboard(&site);
    let mut node = Node::new(&site, "full", &api_key(&site, "full"));
    let disk = Disk::of(&mut node);
    let mut agent = node.start(&disk.environment(&node));
    assert!(agent.says("submission accepted", 4), "{}", agent.log());

    disk.fill(&node);
    wait_until("status to say so", || {
        let (state, error) = node.status("store");
        state == "failed" && error.contains("full")
    });
    let (before, ticks) = (node.holds(&mut agent), agent.ticks());
    thread::sleep(FULL);
    let ticks = agent.ticks() - ticks;
    assert!(ticks <= TICKS_MAX, "{ticks} ticks while it can do nothing");
    let accepted = agent.log().matches("submission accepted").count();

    disk.free(&node);
    assert!(
        agent.says("submission accepted", accepted + 4),
        "{}",
        agent.log()
    );
    wait_until("status to be well", || node.status("store").0 == "ok");
    assert_eq!(agent.stop().code(), Some(0));
    let count = node.settle(&before, "a full disk");
    println!(
        "a full disk ({disk}): {count} submissions, 0 lost, 0 twice, {ticks} ticks in {FULL:?}"
    );
}

impl Disk {
    /// A file system for what the node writes, if this user may mount one.
    fn of(node: &mut Node) -> Self {
        fs::create_dir(node.disk()).unwrap();
        // Who is not root is root in a namespace of its own, where the kernel lets it.
        for (unshare, enter) in [
            (&[][..], &[][..]),
            (&["--map-root-user"], &["--user", "--preserve-credentials"]),
        ] {
            if let Some(keeper) = mount(unshare, &node.disk()) {
                let id = keeper.id().to_string();
                let words = [&["nsenter", "--target", &id, "--mount"], enter].concat();
                let starter = words.into_iter().map(str::to_owned).collect();
                node.move_within(starter, PathBuf::from(format!("/proc/{id}/root")));
                return Self::Mounted { keeper };
            }
        }
        Self::Counted
    }

    fn environment(&self, node: &Node) -> Vec<(String, String)> {
        match self {
            Self::Mounted { .. } => Vec::new(),
            Self::Counted => shim::room(node, &room(node)),
        }
    }

    fn fill(&self, node: &Node) {
        match self {
            Self::Mounted { .. } => {
                let free = rustix::fs::statvfs(node.store_seen()).unwrap();
                let free = free.f_bavail * free.f_frsize;
                let ballast = vec![1; usize::try_from(free - ROOM_BYTES).unwrap()];
                fs::write(node.store_seen().join("ballast"), ballast).unwrap();
            }
            Self::Counted => fs::write(room(node), ROOM_BYTES.to_string()).unwrap(),
        }
    }

    fn free(&self, node: &Node) {
        match self {
            Self::Mounted { .. } => fs::remove_file(node.store_seen().join("ballast")).unwrap(),
            Self::Counted => fs::remove_file(room(node)).unwrap(),
        }
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mounted { .. } => "tmpfs",
            Self::Counted => "counted, because nothing can be mounted here",
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Mounted { keeper } = self {
            drop(keeper.kill());
            drop(keeper.wait());
        }
    }
}

/// Mounts a tmpfs in a new namespace and keeps it as long as the process that is answered lives.
fn mount(unshare: &[&str], at: &Path) -> Option<Child> {
    let script = "mount -t tmpfs -o size=4m,mode=700 tmpfs \"$1\" && echo mounted && exec cat";
    let mut keeper = Command::new("unshare")
        .arg("--mount")
        .args(unshare)
        .args(["sh", "-c", script, "sh"])
        .arg(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(keeper.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    if line.trim() == "mounted" {
        return Some(keeper);
    }
    drop(keeper.wait());
    None
}

fn room(node: &Node) -> PathBuf {
    node.path("room")
}
