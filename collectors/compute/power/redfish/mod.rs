//! The machine's power as its management controller gives it over Redfish.
//!
//! Owns: who is asked, whether the machine is on, and which of three ways to its power is taken. Promises:
//! verified TLS only; nothing is changed on the controller; a refused login is not repeated until it
//! locks the account; every failure says in words what a person can do. Refuses: a power of a machine
//! that is off, that is another one, or of a chassis that several share.

mod controller;
mod identity;
mod place;
mod resource;
mod routes;
mod settings;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;

use self::controller::{Controller, Unread};
use self::identity::Identity;
use self::place::{Place, Wanted};
use self::routes::Seen;
use super::Rung;
use super::nameplate::Nameplate;
use super::polled::{Measured, Meter, Polled};
use crate::{CollectError, Host};

pub(super) use self::settings::Config;

/// Pause after a refused login. Controllers lock an account after three to five refusals within some
/// minutes, and others use it too.
const REFUSED_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Longest pause after several of them.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);

/// A dozen resources of a slow controller, once; later polls need a quarter of them.
const POLL_WITHIN: Duration = Duration::from_secs(30);

/// The rung `redfish`.
pub(super) fn rung(config: &Config, nameplate: Option<Nameplate>, host: &Host) -> Box<dyn Rung> {
    let meter = Redfish::new(config, host);
    Box::new(Polled::new("redfish", config.interval, nameplate, meter))
}

/// The controller of this machine.
#[derive(Debug)]
struct Redfish {
    controller: Controller,
    wanted: Wanted,
    identity: Identity,
    place: Option<Place>,
    seen: Seen,
    /// Refused logins in a row.
    refused: u32,
}

impl Redfish {
    /// Sets it up; nothing is asked yet.
    fn new(config: &Config, host: &Host) -> Self {
        Self {
            controller: Controller::new(host.web.clone(), config.site.clone()),
            wanted: config.wanted.clone(),
            identity: Identity::of(host),
            place: None,
            seen: Seen::default(),
            refused: 0,
        }
    }

    async fn ask(&mut self) -> Result<Measured, Unread> {
        let place = match &self.place {
            Some(place) => place.clone(),
            None => {
                let found = place::find(&mut self.controller, &self.wanted, &self.identity).await?;
                self.place.insert(found).clone()
            }
        };
        let asked = self.ask_at(&place).await;
        if let Err(Unread::Resource(_)) = &asked {
            // Perhaps the controller has been updated, or the chassis is another one.
            self.place = None;
        }
        asked
    }

    async fn ask_at(&mut self, place: &Place) -> Result<Measured, Unread> {
        let switch = self.controller.take(&place.switch).await?;
        match switch.text("PowerState") {
            Some("On") => {}
            Some(state) => {
                let found = format!(
                    "its system {} is {state}, while this machine runs: is it the controller of this machine?",
                    switch.name()
                );
                return Err(Unread::Resource(found));
            }
            None => {
                let found = format!(
                    "{} does not say with PowerState whether the machine is on",
                    switch.path()
                );
                return Err(Unread::Resource(found));
            }
        }
        let name = format!("its system {}", switch.name());
        switch
            .require_enabled("", &name)
            .map_err(Unread::Resource)?;
        routes::measure(&mut self.controller, place, &mut self.seen).await
    }
}

#[async_trait]
impl Meter for Redfish {
    async fn poll(&mut self) -> Result<Measured, CollectError> {
        let asked = self.ask().await;
        self.refused = match &asked {
            Err(Unread::Refused(_)) => self.refused.saturating_add(1),
            _ => 0,
        };
        asked.map_err(|unread| match unread {
            Unread::Controller(error) | Unread::Refused(error) => error,
            Unread::Resource(found) => CollectError::Malformed {
                what: "what the controller says about power".to_owned(),
                found,
            },
        })
    }

    fn within(&self) -> Duration {
        POLL_WITHIN
    }

    fn pause(&self) -> Duration {
        match self.refused {
            0 => Duration::ZERO,
            refused => {
                let doubled = 2_u32.saturating_pow(refused.saturating_sub(1));
                REFUSED_PAUSE.saturating_mul(doubled).min(REFUSED_PAUSE_MAX)
            }
        }
    }
}

impl Drop for Redfish {
    /// Ends the session, where there is a runtime that it can be ended on.
    fn drop(&mut self) {
        if let (Ok(on), Some(server)) = (Handle::try_current(), self.controller.server()) {
            let server = server.clone();
            drop(on.spawn(async move { server.leave().await }));
        }
    }
}
