//! All units of one way as a device of the family: one connection, one task, one question at a time.
//!
//! Promises: a round ends in bounded time; units that failed come after those that did not, and whoever had no turn comes
//! first in the next round; without a way to any unit the device as a whole has failed.

use std::io;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::decimal::{Decimal, DecimalError};
use jiff::Timestamp;
use tokio::time::sleep;

use super::decode::{DecodeError, Decoded};
use super::fault::Fault;
use super::line::Line;
use super::settings::Point;
use super::unit::{Outcome, Unit, Why};
use crate::thermal::device::{Device, Observation, PointError};
use crate::{CollectError, Host};

/// A round takes no longer, so that what was read is told while it is new; a gateway with forty units answers in ten.
const ROUND: Duration = Duration::from_secs(45);

const NO_TIME: &str = "the other units on this connection took all the time of the round; this one comes first in the \
                       next: lower `timeout`, or leave out what does not answer";

/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// A way, its units, and the points that are read of them.
pub(super) struct Units {
    line: Line,
    units: Vec<Member>,
    points: Vec<Point>,
}

/// A unit, and the places of its points.
struct Member {
    unit: Unit,
    points: Vec<usize>,
    /// The round before had no time for it.
    is_due: bool,
}

impl Units {
    /// The units of these points; nothing is opened yet.
    pub(super) fn new(points: Vec<Point>, host: &Host) -> Option<Self> {
        let first = points.first()?;
        let line = Line::new(first.endpoint.clone(), first.tls.clone(), host.web.clone());
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        for (at, point) in points.iter().enumerate() {
            let is_same = |(other, _): &&mut (usize, Vec<usize>)| {
                points.get(*other).is_some_and(|other| {
                    (other.unit, other.manner, other.limits)
                        == (point.unit, point.manner, point.limits)
                })
            };
            match groups.iter_mut().find(is_same) {
                Some((_, group)) => group.push(at),
                None => groups.push((at, vec![at])),
            }
        }
        let members = groups.into_iter().filter_map(|(first, group)| {
            let first = points.get(first)?;
            let spans = group
                .iter()
                .filter_map(|at| points.get(*at))
                .map(|point| point.span);
            Some(Member {
                unit: Unit::new(first.unit, spans.collect(), first.limits, first.manner),
                points: group,
                is_due: false,
            })
        });
        Some(Self {
            line,
            units: members.collect(),
            points,
        })
    }
}

#[async_trait]
impl Device for Units {
    async fn read(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError> {
        let not_yet = PointError::NotYet("it was not asked yet".to_owned());
        let mut answers = vec![Err(not_yet); self.points.len()];
        self.units
            .sort_by_key(|member| (!member.is_due, member.unit.is_failing()));
        let mut end = pin!(sleep(ROUND));
        let mut of_line: Option<Why> = None;
        let mut has_spoken = false;
        for member in &mut self.units {
            let asked = match &of_line {
                Some(_) => None,
                None => tokio::select! {
                    biased;
                    () = &mut end => None,
                    asked = member.unit.round(&mut self.line, at) => Some(asked),
                },
            };
            member.is_due = asked.is_none();
            let outcomes = match asked {
                Some((outcomes, _, None)) => {
                    has_spoken = true;
                    outcomes
                }
                Some((outcomes, _, Some(fault))) => {
                    if fault.is_of_line() {
                        of_line = Some(Why::of(&fault));
                        if !has_spoken {
                            return Err(failure(fault));
                        }
                    }
                    outcomes
                }
                None => {
                    let why = of_line.get_or_insert_with(|| Why::silent(NO_TIME));
                    member.unit.all(why)
                }
            };
            for (point, outcome) in member.points.iter().zip(outcomes) {
                let found = self
                    .points
                    .get(*point)
                    .map(|point| observed(point, outcome, at));
                if let (Some(answer), Some(found)) = (answers.get_mut(*point), found) {
                    *answer = found;
                }
            }
        }
        Ok(answers)
    }
}

/// What a value says.
fn observed(point: &Point, outcome: Outcome, at: Timestamp) -> Result<Observation, PointError> {
    let registers = outcome.map_err(|why| {
        let reason = why.reason.to_string();
        if why.is_refused {
            PointError::Refused(reason)
        } else {
            PointError::Silent(reason)
        }
    })?;
    let decoded = point
        .means
        .decode(&registers, point.order)
        .map_err(|error| match error {
            DecodeError::NotANumber => PointError::Bad(error.to_string()),
            error => PointError::Malformed(error.to_string()),
        })?;
    let raw = match decoded {
        Decoded::Whole(number) => number
            .checked_mul(NANO)
            .map(Decimal::from_nano)
            .ok_or(DecimalError::TooLarge),
        Decoded::Single(number) => Decimal::from_f32(number),
        Decoded::Double(number) => Decimal::from_f64(number),
        Decoded::Text(_) => Err(DecimalError::NotANumber),
    };
    let raw = raw.map_err(|error| {
        PointError::Malformed(format!(
            "{error}; check `type` and `order` with `probe modbus`"
        ))
    })?;
    Ok(Observation::polled(raw, at))
}

/// A fault of the whole way.
fn failure(fault: Fault) -> CollectError {
    let reason = fault.reason();
    match fault {
        Fault::Unreachable(error) => error,
        _ => CollectError::Unreachable {
            what: "the serial line".to_owned(),
            source: io::Error::other(reason),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use cms_spec::Subject;

    use super::super::settings::Written;
    use super::super::simulated::{Act, Bench};
    use super::*;

    fn host(bench: &Arc<Bench>) -> Host {
        let instance: Subject = "host".parse().unwrap();
        let mut host = Host::local(instance, "site".to_owned(), Arc::clone(bench) as Arc<_>);
        host.dev = PathBuf::from("/nowhere");
        host
    }

    fn point(text: &str) -> Point {
        let written: Written =
            toml::from_str(&format!("host = 'bench'\ntimeout = '60ms'\n{text}")).unwrap();
        Point::join(&written, None).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_reads_all_units_and_a_silent_one_costs_itself() {
        let bench = Bench::new(false, |asked| match asked.unit {
            2 => Act::Nothing,
            3 => Act::Exception(2),
            _ => Act::Answer,
        });
        let points = vec![
            point("unit = 2\nholding = 1\ntype = 'int16'"),
            point("unit = 1\nholding = 7\ntype = 'int16'"),
            point("unit = 3\nholding = 1\ntype = 'int16'"),
            point("unit = 1\ninput = 8\ntype = 'uint32'"),
            point("unit = 1\nholding = 8\ntype = 'bcd16'"),
        ];
        let mut units = Units::new(points, &host(&bench)).unwrap();
        let answers = units.read(at(0)).await.unwrap();
        let raw = |number| Ok(Observation::polled(Decimal::whole(number), at(0)));
        assert!(
            matches!(&answers[0], Err(PointError::Silent(why)) if why.contains("unit 2 did not answer"))
        );
        assert_eq!(answers[1], raw(1007));
        assert!(
            matches!(&answers[2], Err(PointError::Refused(why)) if why.contains("exception 2"))
        );
        assert_eq!(answers[3], raw((1008 << 16) + 1009));
        assert!(
            matches!(&answers[4], Err(PointError::Malformed(why)) if why.contains("no BCD number"))
        );
        // In the next round the silent one is held, and would be the last one otherwise.
        let asked = bench.seen().len();
        let answers = units.read(at(1)).await.unwrap();
        assert_eq!(bench.seen().len(), asked + 3);
        assert!(
            matches!(&answers[0], Err(PointError::Silent(why)) if why.contains("asked again in"))
        );
        assert_eq!(bench.opened(), 2, "a new one after the silence");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_way_the_device_as_a_whole_has_failed() {
        let host = Host::local(
            "h".parse().unwrap(),
            "s".to_owned(),
            Arc::new(crate::web::Offline),
        );
        let mut units = Units::new(vec![point("coil = 1")], &host).unwrap();
        let error = units.read(at(0)).await.unwrap_err();
        assert!(
            matches!(error, CollectError::Unreachable { .. }),
            "{error:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_is_dropped_in_the_middle_leaves_no_reply_behind() {
        let is_slow = Arc::new(AtomicBool::new(true));
        let bench = Bench::new(true, {
            let is_slow = Arc::clone(&is_slow);
            move |_| {
                if is_slow.swap(false, Ordering::Relaxed) {
                    Act::Later
                } else {
                    Act::Answer
                }
            }
        });
        let slow = "url = 'rtu+tcp://bench'\ntimeout = '10s'\nholding = 5\ntype = 'int16'";
        let written: Written = toml::from_str(slow).unwrap();
        let point = Point::join(&written, None).unwrap();
        let mut units = Units::new(vec![point], &host(&bench)).unwrap();
        let dropped = tokio::time::timeout(Duration::from_millis(200), units.read(at(0))).await;
        assert!(dropped.is_err());
        let answers = units.read(at(60)).await.unwrap();
        assert_eq!(
            answers,
            [Ok(Observation::polled(Decimal::whole(1005), at(60)))]
        );
    }
}
