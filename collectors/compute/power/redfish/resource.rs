//! What a resource of a management controller says: one JSON object, taken property by property.
//!
//! Promises: a property that is missing, null, of another type, zero or out of range is told in words and
//! is never a value; a link leads nowhere but into the same controller's tree. Pure.

use cms_spec::units::{Fixed, Microjoules, Milliwatts};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::checked::Watts;

/// How much of something else is told.
const BEGINNING_CHARACTERS: usize = 60;

/// Longest link: real ones have less than two hundred bytes.
const LINK_BYTES_MAX: usize = 512;

/// Microjoules in a millionth of a kilowatt-hour.
const MICROJOULES_OF_A_MICRO_KWH: u64 = 3_600_000;

/// A resource as it was read.
#[derive(Debug)]
pub(super) struct Resource {
    path: String,
    body: Value,
}

/// A counter of energy as a controller writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Energy {
    pub(super) total: Microjoules,
    /// The last digit that it shows.
    pub(super) digit: Microjoules,
}

impl Resource {
    /// Reads an answer.
    pub(super) fn read(path: &str, answer: &[u8]) -> Result<Self, String> {
        let body: Result<Value, _> = serde_json::from_slice(answer);
        let found = match body {
            Ok(body) if body.is_object() => {
                return Ok(Self {
                    path: path.to_owned(),
                    body,
                });
            }
            Ok(_) => "no object".to_owned(),
            Err(error) => error.to_string(),
        };
        let text = String::from_utf8_lossy(answer);
        let beginning: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(BEGINNING_CHARACTERS)
            .collect();
        Err(format!(
            "this is no Redfish resource ({found}); it begins with {beginning:?}: check that a Redfish service \
             answers at this address"
        ))
    }

    /// Where it was read.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The last part of its path, which a person knows it by.
    pub(super) fn name(&self) -> &str {
        last_part(&self.path)
    }

    /// Whether it has the property at all, null or not.
    pub(super) fn has(&self, at: &str) -> bool {
        self.body.pointer(&pointer(at)).is_some()
    }

    /// A text that says something.
    pub(super) fn text(&self, at: &str) -> Option<&str> {
        let text = self.value(at).as_str()?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// A whole number.
    pub(super) fn whole(&self, at: &str) -> Option<u64> {
        self.value(at).as_u64()
    }

    /// A percentage in hundredths, for people.
    pub(super) fn percent(&self, at: &str) -> Option<Fixed<2>> {
        Fixed::deserialize(self.value(at))
            .ok()
            .filter(|percent| *percent > Fixed::ZERO)
    }

    /// A time with its offset.
    pub(super) fn time(&self, at: &str) -> Option<Timestamp> {
        self.text(at)?.parse().ok()
    }

    /// The path of another resource.
    pub(super) fn link(&self, at: &str) -> Option<String> {
        path_of(self.text(&format!("{at}/@odata.id"))?)
    }

    /// The path of the resource that a value was taken from, where that is a resource of its own.
    pub(super) fn data_source(&self, at: &str) -> Option<String> {
        path_of(self.text(&format!("{at}/DataSourceUri"))?)
    }

    /// The paths of a list of resources, at most `max` of them.
    pub(super) fn links(&self, at: &str, max: usize) -> Result<Vec<String>, String> {
        let Some(list) = self.value(at).as_array() else {
            return Ok(Vec::new());
        };
        if list.len() > max {
            return Err(format!(
                "{at} lists {} resources, more than {max}",
                list.len()
            ));
        }
        let paths = list.iter().filter_map(|one| {
            let id = one.get("@odata.id")?.as_str()?;
            path_of(id)
        });
        Ok(paths.collect())
    }

    /// A power that a running machine can draw.
    pub(super) fn watts(&self, at: &str) -> Result<Milliwatts, String> {
        let watts: Fixed<3> = self.number(at)?;
        match u64::try_from(watts.raw()) {
            Err(_) => Err(format!("{at} is negative: {watts} W")),
            Ok(0) => Err(format!("{at} is 0 W, which a running machine never draws")),
            Ok(milliwatts) if milliwatts > Watts::MAX.saturating_mul(1000) => Err(format!(
                "{at} is {watts} W, which is more than one machine draws"
            )),
            Ok(milliwatts) => Ok(Milliwatts(milliwatts)),
        }
    }

    /// A counter in kilowatt-hours; nothing where it makes no sense.
    pub(super) fn energy(&self, at: &str) -> Option<Energy> {
        let kwh: Fixed<6> = self.number(at).ok()?;
        let micro_kwh = u64::try_from(kwh.raw()).ok().filter(|micro| *micro > 0)?;
        let mut digit = 1_u64;
        while digit < Fixed::<6>::SCALE.unsigned_abs() && micro_kwh % (digit * 10) == 0 {
            digit *= 10;
        }
        Some(Energy {
            total: Microjoules(micro_kwh.checked_mul(MICROJOULES_OF_A_MICRO_KWH)?),
            digit: Microjoules(digit * MICROJOULES_OF_A_MICRO_KWH),
        })
    }

    /// Refuses what is not there or not at work; a resource that does not say passes.
    pub(super) fn require_enabled(&self, at: &str, what: &str) -> Result<(), String> {
        match self.state(at) {
            None | Some("Enabled") => Ok(()),
            Some(state) => Err(format!("{what} is {state}")),
        }
    }

    /// The `Status.State` of a part of it.
    pub(super) fn state(&self, at: &str) -> Option<&str> {
        let separator = if at.is_empty() { "" } else { "/" };
        self.text(&format!("{at}{separator}Status/State"))
    }

    fn number<const DIGITS: u32>(&self, at: &str) -> Result<Fixed<DIGITS>, String> {
        let number = match self.body.pointer(&pointer(at)) {
            None => return Err(format!("there is no {at}")),
            Some(Value::Null) => return Err(format!("{at} is null")),
            // Some firmware writes numbers as text.
            Some(Value::String(text)) => serde_json::from_str(text.trim()).ok(),
            Some(value) => Fixed::deserialize(value).ok(),
        };
        number.ok_or_else(|| format!("{at} is no number that makes sense"))
    }

    fn value(&self, at: &str) -> &Value {
        self.body.pointer(&pointer(at)).unwrap_or(&Value::Null)
    }
}

/// The last part of a path.
pub(super) fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

fn pointer(at: &str) -> String {
    format!("/{at}")
}

/// A link is a path of the controller's own tree; a part of a resource (`…#/PowerControl/0`) is none.
fn path_of(id: &str) -> Option<String> {
    let is_path = id.starts_with("/redfish/")
        && id.len() <= LINK_BYTES_MAX
        && id
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"#?\\\"<>".contains(&byte))
        && !id.split('/').any(|part| part == "..");
    is_path.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resource(body: &str) -> Resource {
        Resource::read("/redfish/v1/Chassis/1/EnvironmentMetrics", body.as_bytes()).unwrap()
    }

    #[test]
    fn a_power_is_a_number_that_a_machine_can_draw() {
        for (reading, expected) in [
            (r#"{"PowerWatts": {"Reading": 472.0}}"#, Ok(472_000)),
            (r#"{"PowerWatts": {"Reading": 472}}"#, Ok(472_000)),
            (r#"{"PowerWatts": {"Reading": 0.4726e3}}"#, Ok(472_600)),
            (
                r#"{"PowerWatts": {"Reading": null}}"#,
                Err("PowerWatts/Reading is null"),
            ),
            (
                r#"{"PowerWatts": {}}"#,
                Err("there is no PowerWatts/Reading"),
            ),
            (
                r#"{"PowerWatts": null}"#,
                Err("there is no PowerWatts/Reading"),
            ),
            (
                r#"{"PowerWatts": 472}"#,
                Err("there is no PowerWatts/Reading"),
            ),
            (r#"{"PowerWatts": {"Reading": "472"}}"#, Ok(472_000)),
            (r#"{"PowerWatts": {"Reading": "472 W"}}"#, Err("no number")),
            (r#"{"PowerWatts": {"Reading": 1e300}}"#, Err("no number")),
            (r#"{"PowerWatts": {"Reading": 0}}"#, Err("0 W")),
            (r#"{"PowerWatts": {"Reading": -5}}"#, Err("negative")),
            (
                r#"{"PowerWatts": {"Reading": 4294967295}}"#,
                Err("more than one machine"),
            ),
        ] {
            let found = resource(reading).watts("PowerWatts/Reading");
            match expected {
                Ok(milliwatts) => assert_eq!(found, Ok(Milliwatts(milliwatts)), "{reading}"),
                Err(words) => assert!(found.clone().unwrap_err().contains(words), "{found:?}"),
            }
        }
    }

    #[test]
    fn a_counter_has_the_last_digit_that_it_shows() {
        let energy = |reading: &str| {
            let body = format!(r#"{{"EnergykWh": {{"Reading": {reading}}}}}"#);
            let energy = resource(&body).energy("EnergykWh/Reading")?;
            Some((energy.total.0, energy.digit.0))
        };
        assert_eq!(
            energy("1234.5"),
            Some((4_444_200_000_000_000, 360_000_000_000))
        );
        assert_eq!(energy("2"), Some((7_200_000_000_000, 3_600_000_000_000)));
        assert_eq!(energy("0.001"), Some((3_600_000_000, 3_600_000_000)));
        for nothing in ["0", "-1", "null", "\"1 kWh\"", "1e12"] {
            assert_eq!(energy(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_no_resource_is_told_with_its_beginning() {
        for (answer, words) in [
            (
                &b"<html><title>Login</title>"[..],
                "it begins with \"<html><title>Login",
            ),
            (b"{\"@odata.id\": \"/redfish/v1/Cha", "EOF"),
            (b"[]", "no object"),
            (b"", "EOF"),
            (b"{\"a\": 1e999}", "number out of range"),
            (b"{\"a\": \"\xff\"}", "no Redfish resource"),
        ] {
            let found = Resource::read("/redfish/v1", answer).unwrap_err();
            assert!(found.contains(words), "{found}");
        }
    }

    #[test]
    fn links_stay_in_the_tree() {
        let link = |id: &str| {
            let body = serde_json::json!({"Power": {"@odata.id": id}}).to_string();
            resource(&body).link("Power")
        };
        let path = "/redfish/v1/Chassis/System.Embedded.1/Power";
        assert_eq!(link(path), Some(path.to_owned()));
        for elsewhere in [
            "",
            "https://elsewhere.example/redfish/v1/Chassis/1",
            "//elsewhere.example/redfish",
            "/redfish/v1/../../admin",
            "/login",
            "/redfish/v1/Chassis/1/Power#/PowerControl/0",
            "/redfish/v1/a b",
        ] {
            assert_eq!(link(elsewhere), None, "{elsewhere}");
        }
        let long = format!("/redfish/v1/{}", "x".repeat(LINK_BYTES_MAX));
        assert_eq!(link(&long), None);
    }

    #[test]
    fn lists_are_bounded() {
        let members = r#"{"Members": [{"@odata.id": "/redfish/v1/a"}, {"@odata.id": 7}, {"@odata.id": "/redfish/v1/b"}]}"#;
        let collection = resource(members);
        assert_eq!(
            collection.links("Members", 3).unwrap(),
            ["/redfish/v1/a", "/redfish/v1/b"]
        );
        assert!(
            collection
                .links("Members", 2)
                .unwrap_err()
                .contains("more than 2")
        );
        assert!(collection.links("Nothing", 2).unwrap().is_empty());
    }

    #[test]
    fn states() {
        let enabled = |status: &str| {
            resource(&format!(r#"{{"Part": {{"Status": {status}}}}}"#))
                .require_enabled("Part", "the part")
        };
        for good in [
            "null",
            "{}",
            r#"{"State": null}"#,
            r#"{"State": "Enabled", "Health": "Critical"}"#,
        ] {
            assert_eq!(enabled(good), Ok(()), "{good}");
        }
        for state in ["Absent", "Disabled", "StandbyOffline", "Updating"] {
            let status = format!(r#"{{"State": "{state}"}}"#);
            assert_eq!(enabled(&status), Err(format!("the part is {state}")));
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(answer in proptest::collection::vec(any::<u8>(), 0..200), at in "[A-Za-z/~#0-9]{0,20}") {
            if let Ok(resource) = Resource::read("/redfish/v1", &answer) {
                drop((resource.watts(&at), resource.energy(&at), resource.links(&at, 4), resource.time(&at)));
            }
        }

        #[test]
        fn watts_are_exact_to_the_milliwatt(milliwatts in 1_u64..=100_000_000) {
            let body = format!(
                r#"{{"PowerWatts": {{"Reading": {}.{:03}}}}}"#, milliwatts / 1000, milliwatts % 1000
            );
            prop_assert_eq!(resource(&body).watts("PowerWatts/Reading"), Ok(Milliwatts(milliwatts)));
        }
    }
}
