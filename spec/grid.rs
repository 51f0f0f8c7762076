//! Grid Citizen (specification III.D): who sheds ghost load when the grid calls an emergency.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::units::{Fixed, Milliwatts};

/// The share of ghost load that must be shed, in percent.
pub const REDUCTION_PERCENT_MIN: u64 = 50;

/// A stage that an operator declared, or 0 when it cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StageChange {
    /// From when on it holds.
    pub at: Timestamp,
    /// 1 and above is an emergency.
    pub stage: u8,
    /// Drills never count.
    pub drill: bool,
}

/// One continuous time at stage 1 or above: what the rules call an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// When the first stage was declared.
    pub start: Timestamp,
    /// When it cleared; nothing while it lasts.
    pub end: Option<Timestamp>,
    /// The highest stage.
    pub stage_max: u8,
}

/// Ghost load around an event, of the set of instances that were ghosts 60 minutes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// When the event began.
    pub start: Timestamp,
    /// 60 minutes before; nothing when not measured.
    pub before: Option<Milliwatts>,
    /// 15 minutes after.
    pub after_15_min: Option<Milliwatts>,
    /// 30 minutes after.
    pub after_30_min: Option<Milliwatts>,
}

/// How one event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Less than half was shed at 15 or at 30 minutes.
    Failed,
    /// Half or more was shed at both.
    Met,
    /// There were no ghosts to shed.
    NotApplicable,
    /// A measurement is missing, so that nothing is shown.
    Unproven,
}

/// Whether a company is a Grid Citizen, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it is.
    pub grid_citizen: bool,
    /// Events that it had to respond to.
    pub total_events: u64,
    /// Events that it did respond to.
    pub events_responded: u64,
    /// Responded over total; nothing without events.
    pub success_rate: Option<Fixed<4>>,
    /// Events that it did not respond to.
    pub failed: Vec<Response>,
    /// In words.
    pub reason: String,
}

/// Merges stage changes, in any order, into episodes at stage 1 or above. Drills are left out.
#[must_use]
pub fn episodes(changes: &[StageChange]) -> Vec<Episode> {
    let mut changes: Vec<StageChange> = changes.iter().copied().filter(|c| !c.drill).collect();
    changes.sort_unstable();
    let mut episodes: Vec<Episode> = Vec::new();
    for change in changes {
        match (
            episodes.last_mut().filter(|e| e.end.is_none()),
            change.stage,
        ) {
            (Some(open), 0) => open.end = Some(change.at),
            (Some(open), stage) => open.stage_max = open.stage_max.max(stage),
            (None, 0) => {}
            (None, stage) => episodes.push(Episode {
                start: change.at,
                end: None,
                stage_max: stage,
            }),
        }
    }
    episodes
}

impl Response {
    /// The share that was shed at a moment, never below 0; nothing without ghosts before.
    #[must_use]
    pub fn reduction(&self, after: Milliwatts) -> Option<Fixed<4>> {
        let before = self.before?;
        Fixed::ratio(u128::from((before - after).0), u128::from(before.0))
    }

    /// How the event went.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let enough = |before: Milliwatts, after: Milliwatts| {
            u128::from((before - after).0) * 100
                >= u128::from(before.0) * u128::from(REDUCTION_PERCENT_MIN)
        };
        match (self.before, self.after_15_min, self.after_30_min) {
            (Some(Milliwatts::ZERO), ..) => Verdict::NotApplicable,
            (Some(before), Some(at_15), Some(at_30)) => {
                if enough(before, at_15) && enough(before, at_30) {
                    Verdict::Met
                } else {
                    Verdict::Failed
                }
            }
            _ => Verdict::Unproven,
        }
    }
}

/// Judges the events of the past twelve months. Without any, the company keeps what it has.
#[must_use]
pub fn standing(responses: &[Response], current: bool) -> Standing {
    let counted: Vec<&Response> = responses
        .iter()
        .filter(|response| response.verdict() != Verdict::NotApplicable)
        .collect();
    let met = |response: &&&Response| response.verdict() == Verdict::Met;
    let responded = counted.iter().filter(met).count();
    let failed: Vec<Response> = counted
        .iter()
        .filter(|response| !met(response))
        .map(|response| **response)
        .collect();
    let reason = if counted.is_empty() {
        "no grid emergency with ghosts to shed in the past 12 months".to_owned()
    } else if failed.is_empty() {
        "responded to every grid emergency of the past 12 months".to_owned()
    } else {
        format!(
            "{} of {} grid emergencies without a proven reduction of {REDUCTION_PERCENT_MIN} % after 15 and 30 minutes",
            failed.len(),
            counted.len()
        )
    };
    let count = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
    let (total, responded) = (count(counted.len()), count(responded));
    Standing {
        grid_citizen: if total == 0 {
            current
        } else {
            failed.is_empty()
        },
        total_events: total,
        events_responded: responded,
        success_rate: Fixed::ratio(u128::from(responded), u128::from(total)),
        failed,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(minute: i64, stage: u8) -> StageChange {
        StageChange {
            at: Timestamp::from_second(minute * 60).unwrap(),
            stage,
            drill: false,
        }
    }

    fn response(before: u64, at_15: u64, at_30: u64) -> Response {
        Response {
            start: Timestamp::UNIX_EPOCH,
            before: Some(Milliwatts(before)),
            after_15_min: Some(Milliwatts(at_15)),
            after_30_min: Some(Milliwatts(at_30)),
        }
    }

    #[test]
    fn a_run_of_stages_is_one_episode() {
        let mut changes: Vec<StageChange> = [1, 2, 3, 2, 3, 2, 1, 2, 1, 2, 0]
            .into_iter()
            .enumerate()
            .map(|(i, stage)| change(i as i64, stage))
            .collect();
        changes.push(change(20, 1));
        changes.push(StageChange {
            drill: true,
            ..change(-5, 3)
        });
        changes.reverse();
        let found = episodes(&changes);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].start, change(0, 0).at);
        assert_eq!(found[0].stage_max, 3);
        assert_eq!(found[0].end, Some(change(10, 0).at));
        assert_eq!(found[1].end, None);
    }

    #[test]
    fn half_must_be_shed_at_both_moments() {
        assert_eq!(response(100, 50, 50).verdict(), Verdict::Met);
        assert_eq!(response(100, 51, 10).verdict(), Verdict::Failed);
        assert_eq!(response(100, 10, 51).verdict(), Verdict::Failed);
        assert_eq!(response(0, 0, 0).verdict(), Verdict::NotApplicable);
        let silent = Response {
            after_30_min: None,
            ..response(100, 10, 10)
        };
        assert_eq!(silent.verdict(), Verdict::Unproven);
    }

    #[test]
    fn every_event_must_be_met() {
        let met = response(100, 40, 40);
        assert!(standing(&[met, response(0, 0, 0)], false).grid_citizen);
        let judged = standing(&[met, response(100, 90, 90)], true);
        assert!(!judged.grid_citizen);
        assert_eq!(judged.success_rate, Some(Fixed::from_raw(5_000)));
        assert!(standing(&[], true).grid_citizen);
        assert!(!standing(&[], false).grid_citizen);
    }
}
