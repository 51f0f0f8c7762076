//! What wasted power could serve instead (specification IV): homes, hospitals, dispatch centres.

use serde::{Deserialize, Serialize};

use crate::units::{Fixed, Milliwatts};

/// Homes that a megawatt serves: the annual average of a home that uses 10,950 kWh a year.
pub const HOMES_PER_MW: u64 = 800;

/// Draw of one hospital.
pub const HOSPITAL: Milliwatts = Milliwatts(600_000_000);

/// Draw of one emergency dispatch centre.
pub const DISPATCH_CENTRE: Milliwatts = Milliwatts(150_000_000);

/// What the equivalents rest on, printed wherever they are shown.
pub const BASIS: &str =
    "annual-average home of 10,950 kWh a year; hospital 0.6 MW; dispatch centre 0.15 MW";

const MILLIWATTS_PER_MW: u128 = 1_000_000_000;

/// What the same power could serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivalents {
    /// Homes, rounded.
    pub homes: u64,
    /// Hospitals that would be served whole.
    pub hospitals: u64,
    /// Emergency dispatch centres that would be served whole.
    pub emergency_dispatch_centers: u64,
}

impl Equivalents {
    /// What a power at the facility could serve.
    #[must_use]
    pub fn of(power: Milliwatts) -> Self {
        let homes = Fixed::<0>::ratio(
            u128::from(power.0) * u128::from(HOMES_PER_MW),
            MILLIWATTS_PER_MW,
        );
        Self {
            homes: homes.unwrap_or_default().raw().unsigned_abs(),
            hospitals: power.0 / HOSPITAL.0,
            emergency_dispatch_centers: power.0 / DISPATCH_CENTRE.0,
        }
    }

    /// The same from a payload's figure in megawatts.
    #[must_use]
    pub fn of_megawatts(power: Fixed<4>) -> Self {
        // 0.0001 MW is 100,000 mW.
        let milliwatts = power.magnitude().saturating_mul(100_000);
        Self::of(Milliwatts(u64::try_from(milliwatts).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_equivalents() {
        for (tenths, homes) in [(12, 960), (18, 1440), (24, 1920)] {
            let power = Milliwatts(tenths * 100_000_000);
            assert_eq!(Equivalents::of(power).homes, homes);
        }
        let impact = Equivalents::of_megawatts(Fixed::from_raw(18_000));
        assert_eq!(impact.hospitals, 3);
        assert_eq!(impact.emergency_dispatch_centers, 12);
        assert_eq!(
            Equivalents::of_megawatts(Fixed::from_raw(-1)),
            Equivalents::default()
        );
    }
}
