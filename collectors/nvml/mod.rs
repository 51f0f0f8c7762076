//! NVIDIA GPUs as the library of their driver tells of them, which is loaded at run time.
//!
//! Owns: one thread that asks the library, so that a driver that hangs stops nothing else; what two readings of a
//! counter mean. Promises: a machine without the driver has no GPUs, which is no error; the library is opened anew
//! after the driver was. Refuses: setting anything; splitting a board over its partitions (MIG), of which nothing is
//! measured.

mod counter;
mod library;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use cms_spec::units::{Microjoules, Milliwatts};

pub(crate) use self::counter::{Grown, grown};
use crate::Host;

/// A look at eight boards takes tens of milliseconds. A tick has a second at least.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// Looks in a row without an answer before it is not used: opening the library wakes boards, which takes
/// seconds for each.
const LATE_MAX: u32 = 4;

/// Questions and answers under way: one.
const UNDER_WAY: usize = 1;

/// One GPU as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Board {
    pub(crate) uuid: String,
    /// Used since the driver was loaded; Volta and newer.
    pub(crate) energy: Option<Microjoules>,
    pub(crate) power: Option<Milliwatts>,
}

/// How a look went.
#[derive(Debug)]
pub(crate) enum Looked {
    /// This machine has no GPUs, and why.
    Absent(String),
    /// There are some that cannot be read, and what a person can do.
    Unusable(String),
    /// No answer yet; there may be one at the next look.
    Late,
    /// All boards, by their index. Whether the look before was answered late, at a moment that nobody knows.
    Boards { boards: Vec<Board>, is_anew: bool },
}

/// The driver of this machine.
#[derive(Debug)]
pub(crate) struct Driver {
    /// A library that somebody named.
    path: Option<PathBuf>,
    /// The key of the configuration that names it.
    key: &'static str,
    /// There where the driver is, unless it is hidden.
    device: PathBuf,
    /// There where the driver is loaded.
    module: PathBuf,
    asking: Option<Asking>,
    is_asked: bool,
    late: u32,
}

/// The way to the thread and back. It ends when this is dropped.
#[derive(Debug)]
struct Asking {
    questions: SyncSender<()>,
    answers: Receiver<Answer>,
}

/// What the library said.
#[derive(Debug)]
enum Answer {
    Absent(String),
    Boards(Vec<Board>),
    Failed(String),
}

impl Driver {
    /// The driver, with the library that the configuration names under `key`; nothing is opened yet.
    pub(crate) fn new(path: Option<&Path>, key: &'static str, host: &Host) -> Self {
        Self {
            path: path.map(Path::to_owned),
            key,
            device: host.dev.join("nvidiactl"),
            module: host.sys("module/nvidia"),
            asking: None,
            is_asked: false,
            late: 0,
        }
    }

    /// Looks at the boards, and waits a moment for the answer.
    pub(crate) fn look(&mut self) -> Looked {
        if let Some(why) = self.not_there() {
            return why;
        }
        let (answer, is_anew) = match self.ask() {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                self.late += 1;
                if self.late < LATE_MAX {
                    return Looked::Late;
                }
                return Looked::Unusable(
                    "the driver does not answer: nvidia-smi will hang too; see dmesg for Xid errors"
                        .to_owned(),
                );
            }
            Err(why) => return Looked::Unusable(why),
        };
        self.late = 0;
        match answer {
            Answer::Absent(why) => Looked::Absent(why),
            Answer::Boards(boards) => Looked::Boards { boards, is_anew },
            Answer::Failed(why) => Looked::Unusable(why),
        }
    }

    /// What to say where there is nothing to load.
    fn not_there(&self) -> Option<Looked> {
        match &self.path {
            Some(path) if !path.exists() => Some(Looked::Unusable(format!(
                "there is no {}: check {}",
                path.display(),
                self.key
            ))),
            Some(_) => None,
            None if self.device.exists() => None,
            None if self.module.exists() => Some(Looked::Unusable(format!(
                "the NVIDIA driver is loaded and {} is hidden from the agent: allow its service these devices",
                self.device.display()
            ))),
            None => Some(Looked::Absent(
                "this machine has no NVIDIA driver".to_owned(),
            )),
        }
    }

    /// Asks, and waits a moment; nothing when there is no answer of this look.
    fn ask(&mut self) -> Result<Option<(Answer, bool)>, String> {
        let ended = || "its thread has ended, which is a bug: please report it".to_owned();
        let asking = match &self.asking {
            Some(asking) => asking,
            None => self
                .asking
                .insert(start(self.path.clone(), self.key).ok_or_else(ended)?),
        };
        let is_anew = self.is_asked;
        if self.is_asked && asking.answers.try_recv().is_err() {
            return Ok(None);
        }
        asking.questions.send(()).map_err(|_| ended())?;
        self.is_asked = true;
        match asking.answers.recv_timeout(ANSWER_WITHIN) {
            Ok(answer) => {
                self.is_asked = false;
                Ok(Some((answer, is_anew)))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

fn start(path: Option<PathBuf>, key: &'static str) -> Option<Asking> {
    let (questions, asked) = sync_channel(UNDER_WAY);
    let (answering, answers) = sync_channel(UNDER_WAY);
    let looking = move || look_for_ever(path.as_deref(), key, &asked, &answering);
    let thread = std::thread::Builder::new().name("nvml".to_owned());
    thread.spawn(looking).ok()?;
    Some(Asking { questions, answers })
}

fn look_for_ever(
    path: Option<&Path>,
    key: &str,
    asked: &Receiver<()>,
    answering: &SyncSender<Answer>,
) {
    let mut opened = None;
    while asked.recv().is_ok() {
        let answer = library::look(path, key, &mut opened);
        if answering.send(answer).is_err() {
            return;
        }
    }
}
