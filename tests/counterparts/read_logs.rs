//! Logs as systemd writes them and as logrotate turns them, while somebody writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cms_collectors::logs::{Reading, messages_of};

use crate::lab::{installed, printed};

/// Lines of each writer.
const LINES: usize = 200_000;

/// Turns of a log while they are written.
const ROTATIONS: usize = 8;

const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

fn debian(path: &str) -> PathBuf {
    installed("python3");
    assert!(Path::new(path).exists(), "install leaves no {path}");
    path.into()
}

#[test]
fn the_journal_of_systemd_is_read() {
    let remote = debian(REMOTE);
    for compact in ["0", "1"] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(&remote)
            .arg(format!(
                "--output={}",
                folder.path().join("a.journal").display()
            ))
            .args(["--compress=yes", "-"])
            .env("SYSTEMD_JOURNAL_COMPACT", compact)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut wanted = Vec::new();
        for number in 0..3_000_u64 {
            let unit = if number % 3 == 0 { "other" } else { "ollama" };
            let text = match number % 100 {
                7 => format!("slot {number} {}", "long ".repeat(300)),
                8 => format!("\u{1b}[1mslot\u{1b}[0m {number}"),
                _ => format!("slot print_timing: id 0 | task {number}"),
            };
            write!(
                input,
                "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n\
                 _HOSTNAME=h\n_PID={}\n_SYSTEMD_UNIT={unit}.service\nMESSAGE={text}\nPRIORITY=6\n\n",
                1_777_709_730_000_000 + number * 1000,
                number % 7,
            )
            .unwrap();
            if unit == "ollama" {
                wanted.push(text.replace("\u{1b}[1m", "").replace("\u{1b}[0m", ""));
            }
        }
        drop(input);
        printed(&child.wait_with_output().unwrap());
        let mut lines = Vec::new();
        messages_of(folder.path(), "ollama.service", &mut |line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
        })
        .unwrap();
        assert!(lines == wanted, "compact={compact}");
    }
}

/// How many lines are missing although they are in a file, how many are in no file, and how many are there twice.
///
/// It is looked at after so many milliseconds, and turned every 150.
fn turned(style: &str, look_ms: u64) -> (usize, usize, usize) {
    let logrotate = debian("/usr/sbin/logrotate");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("app.log");
    let conf = folder.path().join("conf");
    let text = format!(
        "{} {{\n rotate 20\n size 1\n missingok\n {style}\n}}\n",
        log.display()
    );
    fs::write(&conf, text).unwrap();
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    drop(appended(&log));
    let mut reading = Reading::of_file(&log);
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    let mut take = |reading: &mut Reading| {
        let mut each = |line: &[u8]| {
            let number = String::from_utf8_lossy(line);
            let number = number.rsplit(' ').next().unwrap().parse().unwrap();
            *times.entry(number).or_default() += 1;
        };
        reading.take(&mut each).unwrap()
    };
    take(&mut reading);
    let is_written = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            write(&log);
            is_written.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            for _ in 0..ROTATIONS {
                thread::sleep(Duration::from_millis(150));
                let turned = Command::new(&logrotate)
                    .args(["--force", "--state"])
                    .args([&folder.path().join("state"), &conf])
                    .output();
                printed(&turned.unwrap());
            }
        });
        while !is_written.load(Ordering::Acquire) {
            take(&mut reading);
            thread::sleep(Duration::from_millis(look_ms));
        }
    });
    let mut lines = take(&mut reading);
    loop {
        let now = take(&mut reading);
        if std::mem::replace(&mut lines, now) == now {
            break;
        }
    }
    let repeated: usize = times.values().map(|count| count - 1).sum();
    let mut left = BTreeSet::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().as_encoded_bytes();
        if name.starts_with(b"app.log") {
            let text = if path.extension() == Some("gz".as_ref()) {
                printed(&Command::new("gzip").arg("-dc").arg(path).output().unwrap())
            } else {
                fs::read_to_string(path).unwrap()
            };
            let numbers = text.lines().map(|line| line.rsplit(' ').next().unwrap());
            left.extend(numbers.map(|number| number.parse::<usize>().unwrap()));
        }
    }
    let missing = left.iter().filter(|line| !times.contains_key(line)).count();
    let is_nowhere = |line: &usize| !left.contains(line) && !times.contains_key(line);
    let nowhere = (0..LINES).filter(is_nowhere).count();
    (missing, nowhere, repeated)
}

/// Writes its lines, and opens the log anew when it was put aside.
fn write(log: &Path) {
    let mut file = appended(log);
    for number in 0..LINES {
        // One call for each line: it is in the file whole or not at all.
        let line = format!("{} slot {number}\n", "x".repeat(number % 80));
        file.write_all(line.as_bytes()).unwrap();
        if number % 1000 == 0 {
            thread::sleep(Duration::from_millis(5));
            let now = fs::metadata(log).map(|metadata| metadata.ino());
            if now.is_ok_and(|now| now != file.metadata().unwrap().ino()) {
                file = appended(log);
            }
        }
    }
}

fn appended(log: &Path) -> File {
    let mut options = OpenOptions::new();
    options.append(true).create(true).open(log).unwrap()
}

/// Looks before, after and in the middle of turns, and seldom, so that several turns are between two.
fn copied(style: &str) {
    for look_ms in [20, 500] {
        let (missing, nowhere, repeated) = turned(style, look_ms);
        assert_eq!((missing, repeated), (0, 0), "{style}: {look_ms}");
        // What is written between the copy and the end of its file, of each turn.
        assert!(
            nowhere < LINES / 4,
            "{style}: {nowhere} lines are in no file"
        );
    }
}

#[test]
fn logrotate_loses_nothing_when_it_renames_and_little_when_it_copies() {
    assert_eq!(turned("create", 20), (0, 0, 0));
    copied("copytruncate");
}

#[test]
fn logrotate_loses_nothing_when_it_compresses() {
    // Of two files that are turned between two looks one is never seen uncompressed.
    let styles = ["create\n compress", "create\n compress\n delaycompress"];
    for style in styles {
        assert_eq!(turned(style, 500), (0, 0, 0), "{style}");
    }
    copied("copytruncate\n compress");
    copied("copytruncate\n compress\n delaycompress");
}
