//! The machine's power as the outlets that feed it measure it: power strips that are asked over SNMP.
//!
//! Owns: which feeds there are and what they say together. Promises: all feeds or none, a machine
//! whose second feed is silent is never told as half; a counter that falls is a new beginning and
//! never an amount.

mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::snmp::Value;
use async_trait::async_trait;
use cms_spec::decimal::Decimal;
use cms_spec::provenance::{Confidence, Origin, Quality};
use cms_spec::units::{Microjoules, Milliwatts};
use tokio::task::JoinSet;

pub(super) use self::settings::Config;
use self::settings::Feed;
use super::Rung;
use super::nameplate::Nameplate;
use super::polled::{Counter, Measured, Meter, Polled};
use crate::snmp::Device;
use crate::snmp::meter::{Objects, Said};
use crate::{CollectError, Host};

/// The rung `snmp`.
pub(super) fn rung(config: &Config, nameplate: Option<Nameplate>, host: &Host) -> Box<dyn Rung> {
    let meter = Outlets::new(config, host);
    Box::new(Polled::new("snmp", config.interval, nameplate, meter))
}

/// The outlets that feed this machine.
struct Outlets {
    feeds: Vec<Asked>,
    within: Duration,
    origin: Origin,
    /// What each feed's counter said last, in joules.
    before: Option<Vec<Decimal>>,
    /// What has passed through all of them since the beginning, and one more.
    total: Microjoules,
}

struct Asked {
    device: Arc<dyn Device>,
    objects: Objects,
}

impl Outlets {
    /// Sets it up; nothing is asked yet. Outlets of one strip share a session.
    fn new(config: &Config, host: &Host) -> Self {
        let mut devices: Vec<(&Feed, Arc<dyn Device>)> = Vec::new();
        for feed in &config.feeds {
            let known = devices
                .iter()
                .find(|(other, _)| other.target == feed.target);
            let device = match known {
                Some((_, device)) => Arc::clone(device),
                None => host.snmp.device(&feed.target, &host.web),
            };
            devices.push((feed, device));
        }
        Self {
            within: config.within(),
            origin: origin(&config.feeds),
            feeds: devices
                .into_iter()
                .map(|(feed, device)| Asked {
                    device,
                    objects: feed.objects.clone(),
                })
                .collect(),
            before: None,
            total: Microjoules(1),
        }
    }

    /// What every feed says, in their order; the first failure otherwise.
    async fn ask(&self) -> Result<Vec<Said>, CollectError> {
        let mut asking = JoinSet::new();
        for (at, feed) in self.feeds.iter().enumerate() {
            let (device, oids) = (Arc::clone(&feed.device), feed.objects.oids());
            asking.spawn(async move { (at, device.get(&oids).await) });
        }
        let mut answers: BTreeMap<usize, Result<Vec<Value>, CollectError>> = BTreeMap::new();
        while let Some(answer) = asking.join_next().await {
            // A task that panicked leaves its feed without an answer.
            answers.extend(answer.ok());
        }
        let said = |(at, feed): (usize, &Asked)| {
            let lost = || Err(self.missing(at, "its task has ended".to_owned()));
            let values = answers.remove(&at).unwrap_or_else(lost)?;
            let decoded = feed.objects.decode(&values);
            decoded.map_err(|why| self.missing(at, why))
        };
        self.feeds.iter().enumerate().map(said).collect()
    }

    fn missing(&self, at: usize, why: String) -> CollectError {
        let address = self.feeds.get(at).map_or("", |feed| feed.device.address());
        CollectError::Malformed {
            what: format!("feed {} of {}, {address},", at + 1, self.feeds.len()),
            found: why,
        }
    }

    /// The counters of all feeds as one that falls when one of them does.
    fn count(&mut self, said: &[Said]) -> Option<Counter> {
        let totals: Option<Vec<Decimal>> = said.iter().map(|said| said.energy).collect();
        let steps: Option<Vec<Decimal>> = said.iter().map(|said| said.step).collect();
        let step = steps?.into_iter().filter_map(microjoules).max()?;
        let totals = totals?;
        let grown = self.before.as_ref().map(|before| grown(before, &totals));
        self.before = Some(totals);
        match grown {
            Some(Some(grown)) => self.total += grown,
            // One counter fell: it was reset, and what passed since is not known.
            Some(None) => self.total = Microjoules::ZERO,
            None => {}
        }
        Some(Counter {
            total: self.total,
            step,
        })
    }
}

#[async_trait]
impl Meter for Outlets {
    async fn poll(&mut self) -> Result<Measured, CollectError> {
        let said = self.ask().await?;
        let unfit = |found: String| CollectError::Malformed {
            what: "what the feeds say together".to_owned(),
            found,
        };
        let power = said
            .iter()
            .map(|said| said.power)
            .try_fold(Decimal::ZERO, |sum, power| sum.checked_add(power?));
        let power = power
            .map(|watts| {
                let power = watts.to_milli().ok_or("it is too large".to_owned());
                power.map(Milliwatts)
            })
            .transpose()
            .map_err(unfit)?;
        let counter = self.count(&said);
        Ok(Measured {
            origin: stated(&self.origin, &said),
            power,
            counter,
            source_time: None,
        })
    }

    fn within(&self) -> Duration {
        self.within
    }
}

/// The source and the method, as far as the configuration says them.
fn origin(feeds: &[Feed]) -> Origin {
    let mut models: Vec<&str> = feeds.iter().map(|feed| feed.model).collect();
    models.dedup();
    let mut protections: Vec<&str> = feeds.iter().map(|f| f.target.protection()).collect();
    protections.dedup();
    let method = format!(
        "snmp/1 {} outlet_ac",
        protections.join("+").replace(' ', "-")
    );
    let source = format!("snmp/{}", models.join("+"));
    Origin::measured(&source, &method, Confidence::A)
}

/// The same with what the devices say about their own power (RFC 7460).
fn stated(origin: &Origin, said: &[Said]) -> Origin {
    let mut origin = origin.clone();
    let calibers = || said.iter().filter_map(|said| said.caliber);
    if calibers().any(|caliber| !caliber.is_measured) {
        origin.quality = Quality::Estimated;
        origin.confidence = Confidence::C;
    }
    if let Some(worst) = calibers().filter_map(|caliber| caliber.accuracy).max() {
        origin.method += &format!(
            " accuracy {} %",
            Decimal::ratio(worst, 100).unwrap_or_default()
        );
    }
    origin
}

/// How much all counters together have grown; nothing when one of them fell.
fn grown(before: &[Decimal], after: &[Decimal]) -> Option<Microjoules> {
    let mut sum = Decimal::ZERO;
    for (before, after) in before.iter().zip(after) {
        let grown = after.checked_sub(*before)?;
        if grown.is_negative() {
            return None;
        }
        sum = sum.checked_add(grown)?;
    }
    microjoules(sum)
}

fn microjoules(joules: Decimal) -> Option<Microjoules> {
    joules.to_micro().map(Microjoules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snmp::{Oid, Snmp, Target, VarBind};
    use crate::web::{Offline, Web};
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// Each device says the next of its answers; after the last one it is silent.
    #[derive(Debug, Default)]
    struct Strips(Mutex<BTreeMap<String, Arc<Strip>>>);

    #[derive(Debug)]
    struct Strip {
        name: String,
        says: Mutex<VecDeque<Vec<i32>>>,
    }

    impl Snmp for Strips {
        fn device(&self, target: &Target, _: &Arc<dyn Web>) -> Arc<dyn Device> {
            let strips = self.0.lock().unwrap();
            Arc::clone(&strips[target.address()]) as Arc<dyn Device>
        }
    }

    #[async_trait]
    impl Device for Strip {
        fn address(&self) -> &str {
            &self.name
        }

        async fn get(&self, _: &[Oid]) -> Result<Vec<Value>, CollectError> {
            let next = self.says.lock().unwrap().pop_front();
            let values = next.ok_or(CollectError::Timeout {
                what: self.name.clone(),
                after: Duration::from_secs(6),
            })?;
            Ok(values.into_iter().map(Value::Integer).collect())
        }

        async fn next(&self, _: &Oid, _: u32) -> Result<Vec<VarBind>, CollectError> {
            Ok(Vec::new())
        }
    }

    fn outlets(keys: &str, strips: &[(&str, &[[i32; 2]])]) -> Outlets {
        let mut text = keys.to_owned();
        let known = Strips::default();
        for (name, says) in strips {
            text += &format!(
                "\n[[feed]]\nhost = '{name}'\ncommunity = {{ file = '/c' }}\nmodel = 'servertech-outlet'\noutlet = 1"
            );
            let address = format!("{name}:161");
            let strip = Strip {
                name: address.clone(),
                says: Mutex::new(says.iter().map(|says| says.to_vec()).collect()),
            };
            known.0.lock().unwrap().insert(address, Arc::new(strip));
        }
        let mut host = Host::local("host:a".parse().unwrap(), "s".to_owned(), Arc::new(Offline));
        host.snmp = Arc::new(known);
        Outlets::new(&toml::from_str(&text).unwrap(), &host)
    }

    const WATT_HOUR: u64 = 3_600_000_000;

    #[tokio::test]
    async fn feeds_are_added() {
        let mut outlets = outlets(
            "",
            &[("a", &[[150, 10], [160, 12]]), ("b", &[[50, 7], [40, 8]])],
        );
        let first = outlets.poll().await.unwrap();
        assert_eq!(first.power, Some(Milliwatts(200_000)));
        let second = outlets.poll().await.unwrap();
        let [first, second] = [first, second].map(|measured| measured.counter.unwrap());
        assert_eq!(second.total.0 - first.total.0, 3 * WATT_HOUR);
        assert_eq!(second.step, Microjoules(WATT_HOUR));
    }

    #[tokio::test]
    async fn a_silent_feed_is_never_half_a_machine() {
        let mut outlets = outlets("", &[("a", &[[150, 10]; 3]), ("b", &[[50, 7]])]);
        assert!(outlets.poll().await.is_ok());
        let lost = outlets.poll().await.unwrap_err();
        assert!(lost.to_string().contains("b:161 did not answer"), "{lost}");
    }

    #[tokio::test]
    async fn a_feed_that_does_not_measure_says_which_one() {
        let mut outlets = outlets("", &[("a", &[[150, 10]]), ("b", &[[-1, 7]])]);
        let lost = outlets.poll().await.unwrap_err().to_string();
        assert!(
            lost.contains("feed 2 of 2, b:161,") && lost.contains("not measured"),
            "{lost}"
        );
    }

    #[tokio::test]
    async fn a_counter_that_falls_begins_anew() {
        let says = [[150, 900], [150, 901], [150, 0], [150, 1]];
        // The other feed grows by more than what the first one loses.
        let other = [[50, 0], [50, 2_000], [50, 4_000], [50, 6_000]];
        let mut outlets = outlets("", &[("a", &says), ("b", &other)]);
        let mut totals = Vec::new();
        for _ in 0..4 {
            totals.push(outlets.poll().await.unwrap().counter.unwrap().total.0);
        }
        assert_eq!(totals[1] - totals[0], 2_001 * WATT_HOUR);
        assert!(totals[2] < totals[1], "{totals:?}");
        assert_eq!(totals[3] - totals[2], 2_001 * WATT_HOUR);
    }

    #[tokio::test]
    async fn the_origin_says_how_it_is_known() {
        let mut outlets = outlets("", &[("a", &[[150, 10]])]);
        let origin = outlets.poll().await.unwrap().origin;
        assert_eq!(origin.source, "snmp/servertech-outlet");
        assert_eq!(origin.method, "snmp/1 v2c outlet_ac");
        assert_eq!(origin.confidence, Confidence::A);
        let caliber = |is_measured, accuracy| Said {
            caliber: Some(crate::snmp::meter::Caliber {
                is_measured,
                accuracy,
            }),
            ..Said::default()
        };
        let worse = stated(
            &origin,
            &[caliber(true, Some(150)), caliber(false, Some(50))],
        );
        assert_eq!(worse.quality, Quality::Estimated);
        assert!(worse.method.ends_with("accuracy 1.5 %"), "{}", worse.method);
    }
}
