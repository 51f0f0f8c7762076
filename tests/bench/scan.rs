//! How fast a directory tree is scanned, beside a bare loop over the same system calls and the usual programs.
//!
//! `cargo bench -p cms-collectors --bench scan` makes a tree of 200,000 files in the temporary directory and prints a
//! row for each scanner: files in a second, best and median of the rounds, warm cache; `-- FILES` makes a tree of another
//! size, `-- DIRECTORY` scans one that is there. `find`, `du` and `fd` take part where they are installed.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints its figures and ends where it cannot measure"
)]

use std::ffi::CStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use cms_collectors::{ALL, Host};
use cms_spec::reading::{Readings, Snapshot};
use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Files of the tree that is made.
const FILES: usize = 200_000;

/// Files in one of its directories.
const FILES_OF_A_DIRECTORY: usize = 200;

/// Rounds of each scanner; the machine has other work.
const ROUNDS: usize = 5;

/// Threads of the scanners that can have several.
const THREADS: usize = 2;

type Scanner = (&'static str, Box<dyn Fn(&Path) -> Option<u64>>);

fn main() {
    let argument = std::env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    let made = tempfile::tempdir().expect("a temporary directory");
    let root = match argument.as_deref().map(str::parse::<usize>) {
        Some(Err(_)) => PathBuf::from(argument.expect("a directory")),
        Some(Ok(files)) => make(made.path(), files),
        None => make(made.path(), FILES),
    };
    let scanners: [Scanner; 6] = [
        (
            "bare getdents64+statx, 2 threads",
            Box::new(|root| Some(bare(root))),
        ),
        (
            "storage/filesystem, 2 threads",
            Box::new(|root| Some(ours(root, THREADS, 10_000))),
        ),
        (
            "storage/filesystem, 1 thread",
            Box::new(|root| Some(ours(root, 1, 10_000))),
        ),
        (
            "find -printf",
            Box::new(|root| {
                program(
                    "find",
                    &["-xdev", "-type", "f", "-printf", "%A@ %T@ %b\\n"],
                    root,
                    true,
                )
            }),
        ),
        (
            "du -s",
            Box::new(|root| program("du", &["-xs"], root, false)),
        ),
        (
            "fdfind --threads 2 (no statx)",
            Box::new(|root| {
                program(
                    "fdfind",
                    &["-uu", "--threads", "2", "--type", "f", "."],
                    root,
                    false,
                )
            }),
        ),
    ];
    let files = bare(&root);
    println!(
        "{}: {files} files, warm; best and median of {ROUNDS} rounds",
        root.display()
    );
    let mut times: Vec<Vec<Duration>> = scanners.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((name, scan), times) in scanners.iter().zip(&mut times) {
            #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
            let begun = Instant::now();
            let Some(counted) = scan(&root) else { continue };
            times.push(begun.elapsed());
            assert!(
                counted == 0 || counted == files,
                "{name}: {counted} of {files}"
            );
        }
    }
    let rate = |time: Duration| files as f64 / time.as_secs_f64() / 1000.0;
    let reference = times[0].iter().min().map_or(0.0, |best| rate(*best));
    for ((name, _), mut times) in scanners.iter().zip(times) {
        times.sort();
        let (Some(&best), Some(&median)) = (times.first(), times.get(times.len() / 2)) else {
            println!("{name:<36} not installed");
            continue;
        };
        let share = rate(best) / reference;
        println!(
            "{name:<36} {:>8.0} {:>8.0} thousand files/s, {share:.2} of bare",
            rate(best),
            rate(median)
        );
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or_default());
}

fn make(root: &Path, files: usize) -> PathBuf {
    for number in 0..files.div_ceil(FILES_OF_A_DIRECTORY) {
        let below = root.join(format!("{}/{number}", number % 25));
        fs::create_dir_all(&below).expect("a directory can be made");
        for file in 0..FILES_OF_A_DIRECTORY.min(files - number * FILES_OF_A_DIRECTORY) {
            fs::File::create(below.join(format!("file-{file:06}.dat")))
                .expect("a file can be made");
        }
    }
    root.to_owned()
}

/// The collector as the agent runs it, ticked until it tells.
fn ours(root: &Path, threads: usize, cpu_percent: u32) -> u64 {
    let registration = ALL
        .iter()
        .find(|r| r.id == "storage/filesystem")
        .expect("it is shipped");
    let text = format!(
        "path = {:?}\nname = \"bench\"\nthreads = {threads}\ncpu_percent = {}\n",
        root.display().to_string(),
        cpu_percent.min(3200)
    );
    let table = DeTable::parse(&text).expect("a table");
    let span = table.span();
    let value = Spanned::new(span, DeValue::Table(table.into_inner()));
    let settings = (registration.parse)(ValueDeserializer::from(value)).expect("settings");
    let web = std::sync::Arc::new(cms_collectors::web::Offline);
    let host = Host::local(
        "host:bench".parse().expect("a name"),
        "here".to_owned(),
        web,
    );
    let mut collector = settings.open(&host).expect("it opens");
    let mut out = Readings::default();
    let at: Timestamp = "2026-03-01T10:00:00Z".parse().expect("a time");
    while out.is_empty() {
        let mut context = Context::from_waker(Waker::noop());
        let polled = collector.collect(at, &mut out).as_mut().poll(&mut context);
        assert!(polled.is_ready(), "a tick never waits");
        #[expect(
            clippy::disallowed_methods,
            reason = "as the scheduler pauses between two ticks"
        )]
        std::thread::sleep(Duration::from_millis(1));
    }
    let sample = out.stamp("storage/filesystem", at, "b");
    match sample.snapshots.as_slice() {
        [Snapshot::Storage(scan)] => scan.active.objects + scan.dark.objects,
        other => panic!("{other:?}"),
    }
}

/// The least that any scanner must do: list every directory, ask for every file.
fn bare(root: &Path) -> u64 {
    struct Work {
        stack: Vec<PathBuf>,
        busy: usize,
    }
    let work = Mutex::new(Work {
        stack: vec![root.to_owned()],
        busy: 0,
    });
    let more = Condvar::new();
    let files = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut buffer = vec![MaybeUninit::uninit(); 256 * 1024];
                loop {
                    let mut locked = work.lock().expect("no panic");
                    let path = loop {
                        if let Some(path) = locked.stack.pop() {
                            locked.busy += 1;
                            break path;
                        }
                        if locked.busy == 0 {
                            more.notify_all();
                            return;
                        }
                        locked = more.wait(locked).expect("no panic");
                    };
                    drop(locked);
                    let mut found = Vec::new();
                    let counted = list(&path, &mut buffer, &mut found);
                    files.fetch_add(counted, Ordering::Relaxed);
                    let mut locked = work.lock().expect("no panic");
                    locked.stack.append(&mut found);
                    locked.busy -= 1;
                    more.notify_all();
                }
            });
        }
    });
    files.load(Ordering::Relaxed) as u64
}

fn list(path: &Path, buffer: &mut [MaybeUninit<u8>], found: &mut Vec<PathBuf>) -> usize {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat(CWD, path, flags, Mode::empty()) else {
        return 0;
    };
    let wanted = StatxFlags::BLOCKS | StatxFlags::ATIME | StatxFlags::MTIME | StatxFlags::NLINK;
    let mut files = 0;
    let mut entries = RawDir::new(&directory, buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name: &CStr = entry.file_name();
        match entry.file_type() {
            FileType::Directory if !matches!(name.to_bytes(), b"." | b"..") => {
                found.push(path.join(name.to_string_lossy().as_ref()));
            }
            FileType::RegularFile => {
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
                files += usize::from(statx(directory.as_fd(), name, flags, wanted).is_ok());
            }
            _ => {}
        }
    }
    files
}

fn program(name: &str, arguments: &[&str], root: &Path, is_path_first: bool) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench runs what it compares with"
    )]
    let mut command = Command::new(name);
    if is_path_first {
        command.arg(root).args(arguments);
    } else {
        command.args(arguments).arg(root);
    }
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.ok().map(|_| 0)
}
