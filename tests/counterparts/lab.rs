//! Starting counterparts and the program under test.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; waiting ends as soon as the condition holds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_cms-telemetry-agent");

/// Where the scripts of this folder are.
pub(crate) fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/counterparts")
}

/// A program of the directory that `install` made, which happens once for all tests.
pub(crate) fn installed(program: &str) -> PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    let place = PLACE.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("counterparts");
        let made = Command::new(here().join("install"))
            .arg(&place)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "tests/counterparts/install failed: it needs the network once: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        place
    });
    place.join("venv/bin").join(program)
}

/// Python of that directory, about to run a script of this folder.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(installed("python3"));
    command
        .arg(here().join(script))
        .env("PYTHONUNBUFFERED", "1");
    command
}

/// A loopback port that nobody used a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits for a condition, and fails when it does not come.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(LOOK);
    }
}

/// A running counterpart; killed when dropped.
#[derive(Debug)]
pub(crate) struct Counterpart {
    child: Child,
    log: PathBuf,
}

impl Counterpart {
    /// Starts it; what it prints goes into `NAME.log` of the directory.
    pub(crate) fn start(mut command: Command, directory: &Path, name: &str) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until it has printed this.
    pub(crate) fn until_it_says(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "it ended with {status} before it said {text:?}: {}",
                    self.log()
                );
            }
            assert!(
                Instant::now() < end,
                "it never said {text:?}: {}",
                self.log()
            );
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Counterpart {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs the program under test to its end.
pub(crate) fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a finished program printed, if it ended well.
pub(crate) fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "it ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
