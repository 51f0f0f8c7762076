//! What was heard from a broker: the newest value of each point, and nothing older.
//!
//! Promises: memory depends on the configuration and not on how much is published; a topic too many is
//! counted. A value that the broker had kept (retained, or in our session while we were away) is of unknown age and
//! is not taken for a reading, unless the point says that its sensor publishes changes only, or its message says
//! when it was measured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cms_spec::decimal::Decimal;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::super::device::{Observation, PointError};
use super::super::document;
use super::payload::{self, Places, Said};
use super::session::{Link, Listener};
use super::topic::Filter;

/// Topics that one point with a wildcard adds up: the feeds of a row of racks.
const TOPICS_MAX: usize = 64;

/// What the broker kept for us comes at once; the first round may begin in the midst of it, the second one not.
const CATCHING_UP_ROUNDS: u8 = 2;

/// What a point listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) filter: Filter,
    pub(super) places: Places,
    /// Whether all topics that fit are added up.
    pub(super) adds_up: bool,
    /// Whether the sensor publishes changes only, so that its value stands until the next one.
    pub(super) on_change: bool,
    /// Where the sensor's last will goes, and what it says.
    pub(super) alive: Option<Alive>,
}

/// A topic that says whether a sensor is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alive {
    pub(super) filter: Filter,
    /// What is published when it is gone.
    pub(super) offline: String,
}

/// Why a message may be of any age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// The broker keeps it for whoever subscribes.
    Retained,
    /// It kept it for us while we were away.
    Queued,
}

/// The newest message of one topic.
#[derive(Clone, Debug)]
struct Newest {
    said: Result<Said, PointError>,
    kept: Option<Kept>,
    /// The round that first saw it.
    seen: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Slot {
    topics: BTreeMap<String, Newest>,
    topics_refused: u64,
    /// Why the broker does not let us listen.
    refusal: Option<String>,
    /// Whether the sensor's last will was executed.
    is_offline: bool,
}

#[derive(Debug, Default)]
struct Heard {
    link: Option<Link>,
    /// Rounds until what comes now can no longer have waited for us at the broker.
    catching_up: u8,
    slots: Vec<Slot>,
}

/// What was heard; the session writes, rounds read.
#[derive(Clone, Debug)]
pub(super) struct Board {
    points: Arc<[Listening]>,
    heard: Arc<Mutex<Heard>>,
    news: Arc<Notify>,
}

impl Board {
    pub(super) fn new(points: Vec<Listening>) -> Self {
        let slots = points.iter().map(|_| Slot::default()).collect();
        Self {
            points: points.into(),
            heard: Arc::new(Mutex::new(Heard {
                slots,
                ..Heard::default()
            })),
            news: Arc::new(Notify::new()),
        }
    }

    /// Everything that has to be subscribed to, each filter once.
    pub(super) fn filters(&self) -> Vec<Filter> {
        let alive = |point: &Listening| point.alive.as_ref().map(|alive| alive.filter.clone());
        let mut filters: Vec<Filter> = self
            .points
            .iter()
            .flat_map(|point| [Some(point.filter.clone()), alive(point)])
            .flatten()
            .collect();
        filters.sort();
        filters.dedup();
        filters
    }

    /// Waits until the broker is there and every point has something to say, or the broker is not there.
    pub(super) async fn settled(&self) {
        loop {
            let next = self.news.notified();
            {
                let heard = self.lock();
                let has_all = || {
                    let has = |slot: &Slot| !slot.topics.is_empty() || slot.refusal.is_some();
                    heard.slots.iter().all(has)
                };
                match &heard.link {
                    Some(Link::Down(_)) => return,
                    Some(Link::Up { .. }) if has_all() => return,
                    _ => {}
                }
            }
            next.await;
        }
    }

    /// What each point says in this round; nothing but the reason while there is no broker.
    pub(super) fn read(
        &self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, String> {
        let mut heard = self.lock();
        match &heard.link {
            Some(Link::Up { .. }) => {}
            Some(Link::Down(reason)) => return Err(reason.clone()),
            None => return Err("the connection does not stand yet".to_owned()),
        }
        heard.catching_up = heard.catching_up.saturating_sub(1);
        let slots = heard.slots.iter_mut().zip(self.points.iter());
        Ok(slots.map(|(slot, point)| slot.read(point, at)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Board {
    fn message(&mut self, topic: &str, payload: &[u8], is_retained: bool) {
        let mut heard = self.lock();
        let kept = match (is_retained, heard.catching_up > 0) {
            (true, _) => Some(Kept::Retained),
            (false, true) => Some(Kept::Queued),
            (false, false) => None,
        };
        for (slot, point) in heard.slots.iter_mut().zip(self.points.iter()) {
            if let Some(alive) = &point.alive
                && alive.filter.fits(topic)
            {
                slot.is_offline = payload.trim_ascii() == alive.offline.as_bytes();
            }
            if !point.filter.fits(topic) {
                continue;
            }
            if slot.topics.len() >= TOPICS_MAX && !slot.topics.contains_key(topic) {
                slot.topics_refused += 1;
                continue;
            }
            let newest = Newest {
                said: payload::read(payload, &point.places),
                kept,
                seen: None,
            };
            slot.topics.insert(topic.to_owned(), newest);
        }
        drop(heard);
        self.news.notify_waiters();
    }

    fn answered(&mut self, filter: &Filter, refusal: Option<String>) {
        let mut heard = self.lock();
        for (slot, point) in heard.slots.iter_mut().zip(self.points.iter()) {
            if point.filter == *filter {
                slot.refusal.clone_from(&refusal);
            }
        }
        drop(heard);
        self.news.notify_waiters();
    }

    fn link(&mut self, link: Link) {
        let mut heard = self.lock();
        if matches!(link, Link::Down(_)) {
            // While we were away, anything may have happened: what stood does not stand any more.
            for slot in &mut heard.slots {
                slot.topics.clear();
                slot.is_offline = false;
            }
        }
        heard.catching_up = match link {
            Link::Up { is_kept: true } => CATCHING_UP_ROUNDS,
            _ => 0,
        };
        heard.link = Some(link);
        drop(heard);
        self.news.notify_waiters();
    }
}

impl Slot {
    fn read(&mut self, point: &Listening, at: Timestamp) -> Result<Observation, PointError> {
        if let Some(refusal) = &self.refusal {
            return Err(PointError::Refused(refusal.clone()));
        }
        if self.is_offline {
            let topic = point
                .alive
                .as_ref()
                .map_or("", |alive| alive.filter.as_str());
            return Err(PointError::Silent(format!(
                "the sensor is gone: its last will is on {topic}"
            )));
        }
        if self.topics_refused > 0 {
            return Err(PointError::Refused(format!(
                "more than {TOPICS_MAX} topics fit {}: name fewer of them",
                point.filter
            )));
        }
        if self.topics.len() > 1 && !point.adds_up {
            let topics: Vec<&str> = self.topics.keys().take(3).map(String::as_str).collect();
            return Err(PointError::Refused(format!(
                "{} topics fit {} ({}, …): name one, or set combine = \"sum\"",
                self.topics.len(),
                point.filter,
                topics.join(", ")
            )));
        }
        let mut sum: Option<Observation> = None;
        for newest in self.topics.values_mut() {
            let one = newest.read(point, at)?;
            sum = Some(match sum {
                None => one,
                Some(sum) => Observation {
                    raw: added(sum.raw, one.raw)?,
                    at: sum.at.min(one.at),
                    stands: sum.stands && one.stands,
                    ..sum
                },
            });
        }
        sum.ok_or_else(|| {
            PointError::NotYet(format!(
                "nothing came on {} yet: does anybody publish there, and may we read it?",
                point.filter
            ))
        })
    }
}

fn added(one: Decimal, other: Decimal) -> Result<Decimal, PointError> {
    one.checked_add(other)
        .ok_or_else(|| PointError::Implausible("the sum is too large a number".to_owned()))
}

impl Newest {
    fn read(&mut self, point: &Listening, at: Timestamp) -> Result<Observation, PointError> {
        let seen = *self.seen.get_or_insert(at);
        let (raw, measured) = self.said.clone()?;
        if let (None, Some(kept), false) = (measured, self.kept, point.on_change) {
            let what = match kept {
                Kept::Retained => "a retained value",
                Kept::Queued => "a value that waited for us at the broker",
            };
            return Err(PointError::NotYet(format!(
                "only {what} came, which may be of any age: set on_change = true if the sensor publishes \
                 changes only, or `time` if its messages say when"
            )));
        }
        let told_at = match (measured, &point.places.time) {
            (Some(measured), Some(place)) => Some(document::not_ahead(measured, place, at)?),
            _ => None,
        };
        Ok(Observation {
            raw,
            at: told_at.unwrap_or(seen),
            unit: None,
            stands: point.on_change,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::document::Select;
    use super::*;

    fn board(filter: &str, change: impl FnOnce(&mut Listening)) -> Board {
        let mut point = Listening {
            filter: Filter::new(filter).unwrap(),
            places: Places::default(),
            adds_up: false,
            on_change: false,
            alive: None,
        };
        change(&mut point);
        let mut board = Board::new(vec![point]);
        board.link(Link::Up { is_kept: false });
        board
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn told(board: &Board, second: i64) -> Result<(String, i64, bool), String> {
        match board.read(at(second))?.remove(0) {
            Ok(seen) => Ok((seen.raw.to_string(), seen.at.as_second(), seen.stands)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_newest_value_is_of_the_round_that_saw_it_first() {
        let mut board = board("a", |_| {});
        assert!(
            told(&board, 1)
                .unwrap_err()
                .contains("nothing came on a yet")
        );
        board.message("a", b"1", false);
        board.message("a", b"2", false);
        board.message("b", b"3", false);
        assert_eq!(told(&board, 30), Ok(("2".to_owned(), 30, false)));
        assert_eq!(told(&board, 60), Ok(("2".to_owned(), 30, false)));
        board.message("a", b"broken", false);
        assert!(told(&board, 90).unwrap_err().contains("not a number"));
    }

    #[test]
    fn a_retained_value_is_of_unknown_age() {
        let mut of_any_age = board("a", |_| {});
        of_any_age.message("a", b"7", true);
        assert!(told(&of_any_age, 1).unwrap_err().contains("retained"));
        of_any_age.message("a", b"8", false);
        assert_eq!(told(&of_any_age, 2), Ok(("8".to_owned(), 2, false)));

        let mut on_change = board("a", |point| point.on_change = true);
        on_change.message("a", b"7", true);
        assert_eq!(told(&on_change, 1), Ok(("7".to_owned(), 1, true)));

        let mut dated = board("a", |point| {
            point.places.value = Select::parse("/v").ok();
            point.places.time = Select::parse("/t").ok();
        });
        dated.message("a", br#"{"v": 7, "t": 1000}"#, true);
        assert_eq!(told(&dated, 1_060), Ok(("7".to_owned(), 1_000, false)));
    }

    #[test]
    fn what_waited_for_us_at_the_broker_is_of_unknown_age_too() {
        let mut queued = board("a", |_| {});
        queued.link(Link::Up { is_kept: true });
        queued.message("a", b"7", false);
        assert!(told(&queued, 1).unwrap_err().contains("waited for us"));
        queued.message("a", b"8", false);
        assert!(told(&queued, 30).unwrap_err().contains("waited for us"));
        queued.message("a", b"9", false);
        assert_eq!(told(&queued, 60), Ok(("9".to_owned(), 60, false)));

        let mut on_change = board("a", |point| point.on_change = true);
        on_change.link(Link::Up { is_kept: true });
        on_change.message("a", b"7", false);
        assert_eq!(told(&on_change, 1), Ok(("7".to_owned(), 1, true)));
    }

    #[test]
    fn wildcards_name_one_topic_or_add_up() {
        let mut one = board("row/+/w", |_| {});
        one.message("row/1/w", b"100", false);
        assert_eq!(told(&one, 1), Ok(("100".to_owned(), 1, false)));
        one.message("row/2/w", b"50", false);
        assert!(
            told(&one, 2)
                .unwrap_err()
                .contains("2 topics fit row/+/w (row/1/w, row/2/w")
        );

        let mut sum = board("row/+/w", |point| point.adds_up = true);
        sum.message("row/1/w", b"100", false);
        assert_eq!(told(&sum, 1), Ok(("100".to_owned(), 1, false)));
        sum.message("row/2/w", b"50.5", false);
        assert_eq!(told(&sum, 2), Ok(("150.5".to_owned(), 1, false)));
        sum.message("row/2/w", b"none", false);
        assert!(told(&sum, 3).is_err());
        for topic in 0..100 {
            sum.message(&format!("row/x{topic}/w"), b"1", false);
        }
        assert!(told(&sum, 4).unwrap_err().contains("more than 64 topics"));
        assert_eq!(sum.lock().slots[0].topics.len(), TOPICS_MAX);
    }

    #[test]
    fn a_last_will_and_a_lost_broker_take_the_value_away() {
        let mut board = board("a", |point| {
            point.on_change = true;
            point.alive = Some(Alive {
                filter: Filter::new("a/status").unwrap(),
                offline: "offline".to_owned(),
            });
        });
        assert_eq!(board.filters().len(), 2);
        board.message("a", b"1", true);
        board.message("a/status", b"offline", true);
        assert!(
            told(&board, 1)
                .unwrap_err()
                .contains("last will is on a/status")
        );
        board.message("a/status", b"online", false);
        assert_eq!(told(&board, 2).unwrap().0, "1");
        board.link(Link::Down("reset".to_owned()));
        assert_eq!(told(&board, 3), Err("reset".to_owned()));
        board.link(Link::Up { is_kept: false });
        assert!(told(&board, 4).unwrap_err().contains("nothing came"));
        let filter = Filter::new("a").unwrap();
        board.answered(&filter, Some("not granted".to_owned()));
        assert_eq!(told(&board, 5), Err("not granted".to_owned()));
        board.answered(&filter, None);
        board.message("a", b"2", false);
        assert_eq!(told(&board, 6).unwrap().0, "2");
    }
}
