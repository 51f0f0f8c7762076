//! Meters and sensors that speak Modbus: TCP, RTU on a serial line, RTU over TCP.
//!
//! Owns: addresses, types and orders of bytes; which requests read which values; connections and everything that goes
//! wrong on them. Promises: a value is never put together from two replies; a reply is never taken for the reply to
//! another question; one bad address costs one value, one silent unit costs itself. Refuses: writing. Only the four
//! functions that read are named in this folder, and a rule of the tree holds that.

pub mod decode;
mod device;
pub mod endpoint;
pub mod fault;
pub mod line;
mod link;
pub mod plan;
pub mod probe;
pub mod register;
mod settings;
mod silence;
pub mod unit;
mod words;

#[cfg(test)]
pub(in crate::thermal) mod simulated;
#[cfg(test)]
mod tests;

use crate::thermal::device::{Device, Protocol};
use crate::{CollectError, Host};

use device::Units;
use settings::{Named, Point, Written};

/// Modbus.
#[derive(Debug)]
pub(super) struct Modbus;

impl Protocol for Modbus {
    const KEY: &'static str = "modbus";
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
        Point::join(written, named)
    }

    fn connection(point: &Point) -> String {
        point.connection()
    }

    fn label(point: &Point) -> String {
        point.to_string()
    }

    fn open(points: Vec<Point>, host: &Host) -> Result<Box<dyn Device>, CollectError> {
        let units = Units::new(points, host).ok_or_else(|| CollectError::Vanished {
            what: "every point of a device".to_owned(),
        })?;
        Ok(Box::new(units))
    }
}
