//! A protocol for tests: its devices say what the configuration tells them to.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;

use super::device::{Device, Observation, PointError, Protocol};
use crate::{CollectError, Host};

#[derive(Debug)]
pub(super) struct Fake;

/// How a device behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Does {
    #[default]
    Answer,
    Fail,
    Hang,
    Panic,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
    #[serde(default)]
    does: Does,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    device: Option<String>,
    /// What it says in each round; the last one stays.
    say: Vec<String>,
    #[serde(default)]
    stands: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Point {
    device: Named,
    say: Vec<String>,
    stands: bool,
}

struct Scripted {
    points: Vec<Point>,
    round: usize,
}

impl Protocol for Fake {
    const KEY: &'static str = "fake";
    type Named = Named;
    type Written = Written;
    type Point = Point;

    fn name(named: &Named) -> &str {
        &named.name
    }

    fn device(written: &Written) -> Option<&str> {
        written.device.as_deref()
    }

    fn join(written: &Written, named: Option<&Named>) -> Result<Point, String> {
        if written.say.is_empty() {
            return Err("`say` is empty".to_owned());
        }
        let alone = || Named {
            name: "alone".to_owned(),
            does: Does::Answer,
        };
        Ok(Point {
            device: named.cloned().unwrap_or_else(alone),
            say: written.say.clone(),
            stands: written.stands,
        })
    }

    fn connection(point: &Point) -> String {
        point.device.name.clone()
    }

    fn label(point: &Point) -> String {
        format!("{}: {}", point.device.name, point.say.join(" "))
    }

    fn open(points: Vec<Point>, _: &Host) -> Result<Box<dyn Device>, CollectError> {
        Ok(Box::new(Scripted { points, round: 0 }))
    }
}

#[async_trait]
impl Device for Scripted {
    async fn read(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError> {
        let does = self.points.first().map(|point| point.device.does);
        match does.unwrap_or_default() {
            Does::Answer => {}
            Does::Hang => std::future::pending().await,
            Does::Panic => panic!("as the test wants"),
            Does::Fail => {
                return Err(CollectError::Vanished {
                    what: "the fake".to_owned(),
                });
            }
        }
        let round = self.round;
        self.round += 1;
        let said = self.points.iter().map(|point| {
            let text = point.say.get(round).or(point.say.last());
            let text = text.map_or("", String::as_str);
            match text.parse() {
                Ok(raw) => Ok(Observation {
                    stands: point.stands,
                    ..Observation::polled(raw, at)
                }),
                Err(_) => Err(PointError::Bad(text.to_owned())),
            }
        });
        Ok(said.collect())
    }
}
