//! Rounds: every device reads its points once in each, in a task of its own.
//!
//! Promises: a device that hangs, fails or panics costs its own points and nothing else; one that fails is left alone for
//! longer and longer, up to a bound; what it said last is not said again. Refuses: clocks; a round has the time of the tick that
//! began it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::device::{Device, Observation, PointError};
use super::protocols::Planned;
use crate::{CollectError, Host, chain};

/// Longest round of one device. A gateway with thirty slow units needs a minute; what takes longer hangs.
const ROUND_MAX: Duration = Duration::from_secs(120);

/// Most rounds that a failing device is left alone: five minutes at the usual 30 s, the time in which the
/// specification wants a reading.
const SKIPPED_MAX: u64 = 10;

/// A round of all devices.
#[derive(Clone, Copy, Debug)]
struct Round {
    number: u64,
    at: Timestamp,
}

/// What a device said in its newest round.
#[derive(Clone, Debug)]
struct Answers {
    round: u64,
    points: Vec<Result<Observation, PointError>>,
}

/// One device and its task.
struct Running {
    planned: Planned,
    task: JoinHandle<()>,
    asked: watch::Sender<Round>,
    told: watch::Receiver<Answers>,
    /// Why it could not be opened.
    closed: Option<String>,
}

/// All devices.
pub(super) struct Rounds {
    host: Host,
    running: Vec<Running>,
    number: u64,
}

impl Rounds {
    /// Starts a task for each device. Must be called inside of a runtime.
    pub(super) fn start(plan: Vec<Planned>, host: &Host) -> Self {
        let running = plan
            .into_iter()
            .map(|planned| Running::start(planned, host));
        Self {
            host: host.clone(),
            running: running.collect(),
            number: 0,
        }
    }

    /// Begins a round, and waits until every device has answered, but not longer than `patience`. Answers how many
    /// have not.
    pub(super) async fn round(&mut self, at: Timestamp, patience: Duration) -> usize {
        self.number += 1;
        let round = Round {
            number: self.number,
            at,
        };
        for running in &mut self.running {
            if running.task.is_finished() {
                running.restart(&self.host);
            }
            // The task is gone only after a panic; the next round starts it again.
            let _gone = running.asked.send(round);
        }
        let all = async {
            for running in &mut self.running {
                let _gone = running
                    .told
                    .wait_for(|told| told.round >= round.number)
                    .await;
            }
        };
        if timeout(patience, all).await.is_ok() {
            return 0;
        }
        let is_late = |running: &&Running| running.told.borrow().round < round.number;
        self.running.iter().filter(is_late).count()
    }

    /// What is known of each point that is read.
    pub(super) fn answers(&self, mut take: impl FnMut(usize, &Result<Observation, PointError>)) {
        for running in &self.running {
            let told = running.told.borrow();
            let panicked = running.task.is_finished();
            for (at, point) in running.planned.points.iter().enumerate() {
                let answer = match (&running.closed, told.points.get(at)) {
                    (Some(why), _) => &Err(PointError::Refused(why.clone())),
                    (None, _) if panicked => &Err(PointError::Malformed(format!(
                        "the code of {} has a bug: please report it; it is started again",
                        running.planned.name
                    ))),
                    (None, Some(answer)) => answer,
                    (None, None) => &Err(PointError::NotYet(format!(
                        "{} has not answered yet",
                        running.planned.name
                    ))),
                };
                take(*point, answer);
            }
        }
    }
}

impl Running {
    fn start(planned: Planned, host: &Host) -> Self {
        let (asked, to_task) = watch::channel(Round {
            number: 0,
            at: Timestamp::UNIX_EPOCH,
        });
        let (from_task, told) = watch::channel(Answers {
            round: 0,
            points: Vec::new(),
        });
        let opened = (planned.open)(host);
        let (task, closed) = match opened {
            Ok(device) => {
                let (name, points) = (planned.name.clone(), planned.points.len());
                (
                    tokio::spawn(serve(device, name, points, to_task, from_task)),
                    None,
                )
            }
            Err(error) => (tokio::spawn(async {}), Some(chain(&error))),
        };
        Self {
            planned,
            task,
            asked,
            told,
            closed,
        }
    }

    fn restart(&mut self, host: &Host) {
        let planned = Planned {
            name: self.planned.name.clone(),
            points: self.planned.points.clone(),
            open: std::mem::replace(
                &mut self.planned.open,
                Box::new(|_| {
                    Err(CollectError::Vanished {
                        what: String::new(),
                    })
                }),
            ),
        };
        *self = Self::start(planned, host);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one device in every round, or skips rounds while it fails.
async fn serve(
    mut device: Box<dyn Device>,
    name: String,
    points: usize,
    mut asked: watch::Receiver<Round>,
    told: watch::Sender<Answers>,
) {
    let (mut failures, mut skip_until) = (0_u32, 0_u64);
    let mut reason = String::new();
    while asked.changed().await.is_ok() {
        let round = *asked.borrow_and_update();
        if round.number >= skip_until {
            let failed = match timeout(ROUND_MAX, device.read(round.at)).await {
                Ok(Ok(answers)) if answers.len() == points => {
                    failures = 0;
                    told.send_replace(Answers {
                        round: round.number,
                        points: answers,
                    });
                    continue;
                }
                Ok(Ok(answers)) => format!(
                    "{name} gave {} answers for {points} points; this is a bug, please report it",
                    answers.len()
                ),
                Ok(Err(error)) => chain(&error),
                Err(_) => format!("{name} did not answer within {} s", ROUND_MAX.as_secs()),
            };
            let skipped = 2_u64.saturating_pow(failures).min(SKIPPED_MAX);
            failures = failures.saturating_add(1);
            skip_until = round.number.saturating_add(skipped);
            reason = failed;
        }
        let rounds = skip_until.saturating_sub(round.number);
        let again = match rounds {
            0 | 1 => "it is asked again in the next round".to_owned(),
            rounds => format!("it is asked again in {rounds} rounds"),
        };
        let failed = PointError::Silent(format!("{reason}; {again}"));
        told.send_replace(Answers {
            round: round.number,
            points: vec![Err(failed); points],
        });
    }
}
