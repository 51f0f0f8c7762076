//! Values that sensors publish to an MQTT broker.
//!
//! Promises: one connection for each broker and login; a value is the newest message, of the round that saw it
//! first; a flood costs time and no memory. Refuses: publishing anything; a retained message of unknown age; a
//! payload that is not what the configuration says.

mod board;
pub mod payload;
pub mod probe;
mod session;
mod settings;
pub mod topic;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;

use self::board::Board;
use self::session::Session;
use super::device::{Device, Observation, PointError, Protocol};
use crate::web::unreachable;
use crate::{CollectError, Host};

/// The first round waits so long for a broker and for what it has kept; later ones take what is there.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// MQTT 3.1.1 and 5.
#[derive(Debug)]
pub(crate) struct Mqtt;

impl Protocol for Mqtt {
    const KEY: &'static str = "mqtt";
    type Named = settings::Named;
    type Written = settings::Written;
    type Point = settings::Point;

    fn name(named: &Self::Named) -> &str {
        &named.name
    }

    fn device(written: &Self::Written) -> Option<&str> {
        written.device.as_deref()
    }

    fn join(written: &Self::Written, named: Option<&Self::Named>) -> Result<Self::Point, String> {
        settings::Point::join(written, named)
    }

    fn connection(point: &Self::Point) -> String {
        point.connection()
    }

    fn label(point: &Self::Point) -> String {
        format!("{} {}", point.connection(), point.listening.filter)
    }

    fn open(points: Vec<Self::Point>, host: &Host) -> Result<Box<dyn Device>, CollectError> {
        let Some(first) = points.first() else {
            return Err(CollectError::Vanished {
                what: "a broker without points".to_owned(),
            });
        };
        let (name, broker) = (first.connection(), first.broker(host));
        let board = Board::new(points.into_iter().map(|point| point.listening).collect());
        let session = session::start(broker, host.web.clone(), board.filters(), board.clone());
        Ok(Box::new(Listened {
            name,
            board,
            _session: session,
            is_first: true,
        }))
    }
}

struct Listened {
    name: String,
    board: Board,
    _session: Session,
    is_first: bool,
}

#[async_trait]
impl Device for Listened {
    async fn read(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError> {
        if std::mem::take(&mut self.is_first) {
            // What is not there by then is told as not there.
            let _settled = timeout(FIRST_WITHIN, self.board.settled()).await;
        }
        self.board
            .read(at)
            .map_err(|reason| unreachable(&self.name, reason))
    }
}
