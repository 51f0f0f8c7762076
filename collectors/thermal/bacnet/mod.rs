//! BACnet/IP: objects of building controllers, meters and gateways.
//!
//! Owns: finding devices, asking them for values, listening to their changes, and what they say about the
//! worth of a value. Promises: a value whose object has a fault, is overridden or out of service is
//! missing, with the reason; hostile datagrams cost nothing but themselves; one socket for each network,
//! whatever the number of devices. Refuses: writing. Only questions can be put into words here (`wire`).

mod device;
mod judge;
pub mod link;
pub mod probe;
mod session;
mod settings;
mod subscription;
#[cfg(test)]
mod tests;
mod units;
pub mod wire;

use super::device::{Device, Protocol};
use crate::{CollectError, Host};

use device::Reader;
use settings::{Checked, Named, Written};

/// The protocol.
#[derive(Debug)]
pub(crate) struct Bacnet;

impl Protocol for Bacnet {
    const KEY: &'static str = "bacnet";
    const TELLS_UNIT: bool = true;
    type Named = Named;
    type Written = Written;
    type Point = Checked;

    fn name(named: &Named) -> &str {
        &named.name
    }

    fn device(written: &Written) -> Option<&str> {
        written.device.as_deref()
    }

    fn join(written: &Written, named: Option<&Named>) -> Result<Checked, String> {
        written.join(named)
    }

    fn connection(point: &Checked) -> String {
        point.access.label.clone()
    }

    fn label(point: &Checked) -> String {
        point.label()
    }

    fn open(points: Vec<Checked>, host: &Host) -> Result<Box<dyn Device>, CollectError> {
        let Some(first) = points.first() else {
            return Err(CollectError::Vanished {
                what: "a point to read".to_owned(),
            });
        };
        let access = first.access.clone();
        let asked = points.into_iter().map(|point| point.asked).collect();
        let reader = Reader::new(access, asked, host.links.clone(), host.proc("net/route"));
        Ok(Box::new(reader))
    }
}
