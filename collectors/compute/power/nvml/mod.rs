//! Energy of NVIDIA GPUs, from the library of their driver, which is loaded at run time.
//!
//! Owns: one thread that asks the library, so that a driver that hangs stops nothing else. Promises: a
//! machine without the driver has no such source, which is no error; the library is opened anew after the
//! driver was. Refuses: splitting a board over its partitions (MIG), of which nothing is measured.

mod board;
mod settings;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use cms_spec::provenance::Origin;
use cms_spec::units::{Microjoules, Milliwatts};
use nvml_wrapper::Nvml as Library;
use nvml_wrapper::error::NvmlError;

use self::board::{Board, Boards, Outcome};
pub(super) use self::settings::Settings;
use super::{Rung, Span, Verdict};
use crate::Host;

/// Where the driver puts it; the name without the number is there for compilers only.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// A look at eight boards takes tens of milliseconds. A tick has a second at least.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// Ticks in a row without an answer before it is not used: opening the library wakes boards, which takes
/// seconds for each.
const LATE_MAX: u32 = 4;

/// Questions and answers under way: one.
const UNDER_WAY: usize = 1;

/// More boards than any machine has.
const BOARDS_MAX: u32 = 64;

/// The rung `nvml`.
pub(super) struct Nvml {
    /// A library that somebody named.
    library: Option<PathBuf>,
    /// There where the driver is, unless it is hidden.
    device: PathBuf,
    /// There where the driver is loaded.
    module: PathBuf,
    asking: Option<Asking>,
    is_asked: bool,
    late: u32,
    boards: Boards,
}

/// The way to the thread and back. It ends when this is dropped.
struct Asking {
    questions: SyncSender<()>,
    answers: Receiver<Answer>,
}

/// How a look went.
enum Answer {
    Absent(String),
    Boards(Vec<Board>),
    Failed(String),
}

impl Nvml {
    pub(super) fn new(settings: &Settings, host: &Host) -> Self {
        Self {
            library: settings.library().map(Path::to_owned),
            device: host.dev.join("nvidiactl"),
            module: host.sys("module/nvidia"),
            asking: None,
            is_asked: false,
            late: 0,
            boards: Boards::default(),
        }
    }

    /// What to say where there is nothing to load.
    fn not_there(&self) -> Option<Verdict> {
        match &self.library {
            Some(library) if !library.exists() => Some(Verdict::Invalid(format!(
                "there is no {}: check compute.power.nvml.library",
                library.display()
            ))),
            Some(_) => None,
            None if self.device.exists() => None,
            None if self.module.exists() => Some(Verdict::Invalid(format!(
                "the NVIDIA driver is loaded and {} is hidden from the agent: allow its service these devices",
                self.device.display()
            ))),
            None => Some(Verdict::Absent(
                "this machine has no NVIDIA driver".to_owned(),
            )),
        }
    }

    /// Asks, and waits a moment; nothing when there is no answer of this tick.
    fn ask(&mut self) -> Result<Option<Answer>, String> {
        let ended = || "its thread has ended, which is a bug: please report it".to_owned();
        let asking = match &self.asking {
            Some(asking) => asking,
            None => self
                .asking
                .insert(start(self.library.clone()).ok_or_else(ended)?),
        };
        if self.is_asked {
            // What comes late is of an unknown moment.
            match asking.answers.try_recv() {
                Ok(_) => self.boards.forget(),
                Err(_) => return Ok(None),
            }
        }
        asking.questions.send(()).map_err(|_| ended())?;
        self.is_asked = true;
        match asking.answers.recv_timeout(ANSWER_WITHIN) {
            Ok(answer) => {
                self.is_asked = false;
                Ok(Some(answer))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

impl Rung for Nvml {
    fn name(&self) -> &str {
        "nvml"
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        if let Some(verdict) = self.not_there() {
            return verdict;
        }
        let answer = match self.ask() {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                self.boards.forget();
                self.late += 1;
                if self.late < LATE_MAX {
                    return Verdict::Baseline;
                }
                return Verdict::Invalid(
                    "the driver does not answer: nvidia-smi will hang too; see dmesg for Xid errors"
                        .to_owned(),
                );
            }
            Err(why) => return Verdict::Invalid(why),
        };
        self.late = 0;
        let boards = match answer {
            Answer::Absent(why) => return Verdict::Absent(why),
            Answer::Boards(boards) => boards,
            Answer::Failed(why) => {
                self.boards.forget();
                return Verdict::Invalid(why);
            }
        };
        let count = boards.len();
        match (self.boards.look(boards, span.map(|span| span.over)), span) {
            (Outcome::Energy(energy), Some(span)) => Verdict::Energy {
                energy,
                over: span.over,
            },
            (Outcome::Untold, _) => Verdict::Absent(format!(
                "none of the {count} GPUs tells energy or power: they are virtual, partitions (MIG), or too old"
            )),
            _ => Verdict::Baseline,
        }
    }

    fn is_part(&self) -> bool {
        true
    }

    fn origin(&self) -> Origin {
        self.boards.origin()
    }
}

fn start(library: Option<PathBuf>) -> Option<Asking> {
    let (questions, asked) = sync_channel(UNDER_WAY);
    let (answering, answers) = sync_channel(UNDER_WAY);
    let looking = move || look_for_ever(library.as_deref(), &asked, &answering);
    let thread = std::thread::Builder::new().name("nvml".to_owned());
    thread.spawn(looking).ok()?;
    Some(Asking { questions, answers })
}

fn look_for_ever(path: Option<&Path>, asked: &Receiver<()>, answering: &SyncSender<Answer>) {
    let mut library = None;
    while asked.recv().is_ok() {
        let answer = look(path, &mut library);
        if answering.send(answer).is_err() {
            return;
        }
    }
}

fn look(path: Option<&Path>, library: &mut Option<Library>) -> Answer {
    let opened = match library.take() {
        Some(opened) => opened,
        None => {
            let name = path.map_or(OsStr::new(LIBRARY), Path::as_os_str);
            match Library::builder().lib_path(name).init() {
                Ok(opened) => opened,
                Err(error) => return not_opened(path, &error),
            }
        }
    };
    match boards(&opened) {
        Ok(boards) if boards.is_empty() => Answer::Absent("the driver knows no GPU".to_owned()),
        Ok(boards) => {
            *library = Some(opened);
            Answer::Boards(boards)
        }
        // Without the handle, the next look opens it anew.
        Err(error) => Answer::Failed(format!("the driver answers: {error}")),
    }
}

fn not_opened(path: Option<&Path>, error: &NvmlError) -> Answer {
    match error {
        NvmlError::LibloadingError(_) if path.is_none() => Answer::Failed(format!(
            "the NVIDIA driver is there and {LIBRARY} is not: install the driver's libraries, or give the \
             path as compute.power.nvml.library"
        )),
        NvmlError::DriverNotLoaded => {
            Answer::Absent("the NVIDIA driver is installed and not loaded".to_owned())
        }
        NvmlError::NoPermission => Answer::Failed(
            "may not use the NVIDIA driver: give the agent's user access to /dev/nvidiactl and /dev/nvidia*"
                .to_owned(),
        ),
        error => Answer::Failed(format!("the NVIDIA driver cannot be used: {error}")),
    }
}

fn boards(library: &Library) -> Result<Vec<Board>, NvmlError> {
    let count = library.device_count()?.min(BOARDS_MAX);
    let mut boards = Vec::new();
    for index in 0..count {
        let device = library.device_by_index(index)?;
        boards.push(Board {
            uuid: device.uuid()?,
            energy: told(device.total_energy_consumption())?
                .map(|millijoules| Microjoules(millijoules.saturating_mul(1000))),
            power: told(device.power_usage())?.map(|milliwatts| Milliwatts(milliwatts.into())),
        });
    }
    Ok(boards)
}

/// What a board does not support it does not tell; everything else is an error.
fn told<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}
