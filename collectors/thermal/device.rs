//! What a protocol gives to the rest of the family: devices that are read, and points on them.

use std::fmt;

use async_trait::async_trait;
use cms_spec::decimal::Decimal;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::unit::Unit;
use crate::{CollectError, Host};

/// A way to read points. Stateless: it turns what the configuration says into devices.
pub(crate) trait Protocol {
    /// The key of a point and of the table of named devices, for example `modbus`.
    const KEY: &'static str;
    /// A named device: `[[thermal.KEY]]`.
    type Named: DeserializeOwned + fmt::Debug;
    /// The table of a point as it is written: `KEY = { … }`.
    type Written: DeserializeOwned + fmt::Debug;
    /// What is read of one device, checked, with all that is needed to reach the device.
    type Point: Clone + fmt::Debug + Send + Sync + 'static;

    /// The name of a named device.
    fn name(named: &Self::Named) -> &str;

    /// Which named device a point is on, if it says one.
    fn device(written: &Self::Written) -> Option<&str>;

    /// Joins a point with the device that it names, or with what itself says about one.
    ///
    /// # Errors
    /// In words, with the next step. That a name is unknown is told before.
    fn join(written: &Self::Written, named: Option<&Self::Named>) -> Result<Self::Point, String>;

    /// Refuses keys of a point that its device's table has already: each with whether it is there.
    ///
    /// # Errors
    /// With the first of them that is there, and where it goes.
    fn of_device(keys: &[(&str, bool)]) -> Result<(), String> {
        match keys.iter().find(|(_, is_there)| *is_there) {
            Some((key, _)) => Err(format!(
                "`{key}` belongs to the [[thermal.{}]] table of the device",
                Self::KEY
            )),
            None => Ok(()),
        }
    }

    /// What the point is reached over. Points of one connection are read by one [`Device`]; two of
    /// them may differ in nothing that the connection is opened with.
    fn connection(point: &Self::Point) -> String;

    /// What the point is, for `status`: the connection and what is read there.
    fn label(point: &Self::Point) -> String;

    /// Whether the device says its unit, so that the configuration need not.
    const TELLS_UNIT: bool = false;

    /// The same of one point, where only some of them say it.
    fn tells_unit(_point: &Self::Point) -> bool {
        Self::TELLS_UNIT
    }

    /// A device that reads these points. Nothing is sent yet.
    ///
    /// # Errors
    /// When something of this machine is missing, for example a certificate file.
    fn open(points: Vec<Self::Point>, host: &Host) -> Result<Box<dyn Device>, CollectError>;
}

/// One connection, and the points that are read over it. It is a task of its own.
///
/// A read that takes too long is dropped in the middle; the next one must find its way from there,
/// by a new connection if need be. Nothing is ever written to the device.
#[async_trait]
pub(crate) trait Device: Send {
    /// Reads every point that it was opened with: one answer for each, in their order.
    ///
    /// `at` is the time of this round. What came by itself since the round before counts as of now.
    ///
    /// # Errors
    /// When the device as a whole cannot be read; it is then left alone for some rounds. What
    /// concerns one point is the answer for that point.
    async fn read(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError>;
}

/// What a device says about one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// The number as it stands in the device, before scale and offset.
    pub(crate) raw: Decimal,
    /// When it was true: the time of the round, or what the device itself says.
    pub(crate) at: Timestamp,
    /// The unit that the device says.
    pub(crate) unit: Option<Unit>,
    /// Whether the device vouches that the value holds until it says another one, as with a
    /// subscription to changes. Then one message serves many rounds, while it is not stale.
    pub(crate) stands: bool,
}

impl Observation {
    /// A number that answers a question of this round.
    pub(crate) const fn polled(raw: Decimal, at: Timestamp) -> Self {
        Self {
            raw,
            at,
            unit: None,
            stands: false,
        }
    }
}

/// Why a point has no value. The text is for a person and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PointError {
    /// The device has no such point, or refuses it.
    #[error("{0}")]
    Refused(String),
    /// The answer makes no sense, or cannot be read as a number.
    #[error("{0}")]
    Malformed(String),
    /// The device itself says that the value is not good.
    #[error("{0}")]
    Bad(String),
    /// This point was not answered in time, though its device was.
    #[error("{0}")]
    Silent(String),
    /// Nothing came from it yet.
    #[error("{0}")]
    NotYet(String),
    /// The value breaks a rule of the configuration, or of physics.
    #[error("{0}")]
    Implausible(String),
    /// The value is older than its `stale_after`.
    #[error("{0}")]
    Stale(String),
    /// What it is computed from is missing.
    #[error("{0}")]
    Missing(String),
}
