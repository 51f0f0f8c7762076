//! Factors that turn energy into cost, carbon and water, each with the source that it comes from.
//!
//! A company configures its own; what it leaves out is a default and labelled as one.

use serde::{Deserialize, Serialize};

use crate::provenance::{Confidence, Entry, Origin, Quality};
use crate::units::Fixed;

/// A number that was configured or that we ship, with where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure<const DIGITS: u32> {
    /// The number.
    pub value: Fixed<DIGITS>,
    /// Where it was found, for people.
    pub source: String,
    /// Measured, estimated or default.
    pub quality: Quality,
}

impl<const DIGITS: u32> Figure<DIGITS> {
    /// A number that the company configured.
    #[must_use]
    pub fn configured(value: Fixed<DIGITS>, source: &str) -> Self {
        Self {
            value,
            source: source.to_owned(),
            quality: Quality::Estimated,
        }
    }

    fn shipped(raw: i64, source: &str) -> Self {
        Self {
            value: Fixed::from_raw(raw),
            source: source.to_owned(),
            quality: Quality::Default,
        }
    }

    /// What provenance says about a figure that rests on this factor.
    #[must_use]
    pub fn entry(&self, figure: &str, factor: &str) -> Entry {
        let origin = Origin {
            source: self.source.clone(),
            method: factor.to_owned(),
            quality: self.quality,
            confidence: match self.quality {
                Quality::Measured => Confidence::B,
                Quality::Estimated => Confidence::D,
                Quality::Default | Quality::Unavailable => Confidence::F,
            },
            fallback: None,
            note: None,
        };
        let mut entry = Entry::new(figure, &origin);
        entry.value = Some(self.value.rescale());
        entry
    }
}

/// All factors of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyFactors {
    /// Facility energy over IT energy.
    pub pue: Figure<3>,
    /// Price of a kilowatt-hour in US dollars.
    pub price_usd_per_kwh: Figure<6>,
    /// Kilograms of CO2 equivalent for a kilowatt-hour: the location's average, never the marginal one.
    pub carbon_kg_per_kwh: Figure<6>,
    /// Litres of water that the site uses for a kilowatt-hour of IT energy.
    pub water_site_l_per_kwh: Figure<6>,
    /// Litres of water that the grid uses for a kilowatt-hour of facility energy.
    pub water_grid_l_per_kwh: Figure<6>,
}

impl Default for EnergyFactors {
    fn default() -> Self {
        Self {
            pue: Figure::shipped(1_420, "default: the specification's example"),
            price_usd_per_kwh: Figure::shipped(100_000, "default: the specification's example"),
            carbon_kg_per_kwh: Figure::shipped(
                384_000,
                "default: United States average, EPA eGRID 2023",
            ),
            water_site_l_per_kwh: Figure::shipped(
                1_800_000,
                "default: average data centre, per kWh of IT energy",
            ),
            water_grid_l_per_kwh: Figure::shipped(
                3_130_000,
                "default: United States average of power stations",
            ),
        }
    }
}

/// The numbers alone, without their sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Facility energy over IT energy.
    pub pue: Fixed<3>,
    /// US dollars for a kilowatt-hour.
    pub price: Fixed<6>,
    /// Kilograms of CO2 equivalent for a kilowatt-hour of facility energy.
    pub carbon: Fixed<6>,
    /// Litres for a kilowatt-hour of IT energy.
    pub water_site: Fixed<6>,
    /// Litres for a kilowatt-hour of facility energy.
    pub water_grid: Fixed<6>,
}

impl EnergyFactors {
    /// The numbers alone.
    #[must_use]
    pub fn rates(&self) -> Rates {
        Rates {
            pue: self.pue.value,
            price: self.price_usd_per_kwh.value,
            carbon: self.carbon_kg_per_kwh.value,
            water_site: self.water_site_l_per_kwh.value,
            water_grid: self.water_grid_l_per_kwh.value,
        }
    }
}
