//! When points of meters were compared with their displays, and how far they were off: what commissioning has found.
//!
//! Owns: the name by which a point is known to the ledger, which is a digest. Promises: bounded; `status` shows what
//! the store keeps. The ledger has a leaf for each comparison, so that this may be lost.

use std::collections::BTreeMap;

use cms_attest::Digest;
use cms_collectors::Shown;
use cms_spec::units::Fixed;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::Store;

/// Under which the store keeps them, together with the leaf of the newest.
pub const COMPARISONS: &str = "comparisons";

/// Hex digits by which the ledger names a point.
pub const POINT_DIGITS: usize = 16;

/// Most that are kept, one for each point that an agent may have; the oldest go first.
const KEPT_MAX: usize = 10_000;

/// The newest comparison of each point: when, and how far it was off in hundredths of a percent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Comparisons(BTreeMap<String, (Timestamp, u32)>);

/// The name of a point in the ledger: the beginning of the digest of its name, place and unit.
#[must_use]
pub fn point_digest(shown: &Shown) -> String {
    let digest = Digest::of(format!("{}\n{}\n{}", shown.name, shown.place, shown.unit).as_bytes());
    let digits = digest.as_bytes().iter().take(POINT_DIGITS / 2);
    digits.map(|byte| format!("{byte:02x}")).collect()
}

impl Comparisons {
    /// What the store has kept; nothing where that cannot be read, which `status` tells of elsewhere.
    pub async fn kept(store: &Store) -> Self {
        let kept = store.meta(COMPARISONS).await.ok().flatten();
        kept.and_then(|kept| serde_json::from_str(&kept).ok())
            .unwrap_or_default()
    }

    /// Adds one.
    pub fn add(&mut self, point: &str, at: Timestamp, off_basis_points: u32) {
        self.0
            .insert(point.to_ascii_lowercase(), (at, off_basis_points));
        while self.0.len() > KEPT_MAX {
            let oldest = self.0.iter().min_by_key(|(_, (at, _))| *at);
            let Some(oldest) = oldest.map(|(point, _)| point.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }

    /// Puts its newest comparison behind the line of each point.
    #[must_use]
    pub fn told(&self, mut lines: Vec<String>, points: &[Shown]) -> Vec<String> {
        if self.0.is_empty() {
            return lines;
        }
        for (line, point) in lines.iter_mut().zip(points) {
            let rest = line.strip_prefix(&point.name);
            let is_its = rest.is_some_and(|rest| rest.starts_with(':'));
            let found = self.0.get(&point_digest(point)).filter(|_| is_its);
            if let Some((at, off)) = found {
                let day = at.strftime("%Y-%m-%d");
                let off = Fixed::<2>::from_raw(i64::from(*off));
                line.push_str(&format!("; compared with its display {day}: {off} % off"));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str) -> Shown {
        Shown {
            name: name.to_owned(),
            place: "modbus tcp://10.0.0.7:502 unit 1 holding 4".to_owned(),
            unit: "kW".to_owned(),
            value: Ok("85.3".parse().unwrap()),
        }
    }

    #[test]
    fn a_point_is_told_with_its_own_comparison() {
        let mut comparisons = Comparisons::default();
        let at: Timestamp = "2026-01-16T12:00:00Z".parse().unwrap();
        comparisons.add(&point_digest(&point("rack-07 flow")), at, 12);
        let lines = |names: &[&str]| -> Vec<String> {
            names
                .iter()
                .map(|name| format!("{name}: 85.3 kW"))
                .collect()
        };
        let told = comparisons.told(
            lines(&["rack-07 flow", "rack-08 flow"]),
            &[point("rack-07 flow"), point("rack-08 flow")],
        );
        assert_eq!(
            told,
            [
                "rack-07 flow: 85.3 kW; compared with its display 2026-01-16: 0.12 % off",
                "rack-08 flow: 85.3 kW"
            ]
        );
        let kept = serde_json::to_string(&comparisons).unwrap();
        assert_eq!(
            serde_json::from_str::<Comparisons>(&kept).unwrap(),
            comparisons
        );
    }

    #[test]
    fn the_oldest_go_first() {
        let mut comparisons = Comparisons::default();
        for second in 0..=i64::try_from(KEPT_MAX).unwrap() {
            let at = Timestamp::from_second(second).unwrap();
            comparisons.add(&format!("{second:016x}"), at, 0);
        }
        assert_eq!(comparisons.0.len(), KEPT_MAX);
        assert!(!comparisons.0.contains_key("0000000000000000"));
    }
}
