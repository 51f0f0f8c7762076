//! Units that meters speak, and what they are in ours.
//!
//! Promises: exact factors, applied to exact decimals. Refuses: units that mean different things in different places,
//! such as MBTU.

use std::fmt;

use cms_spec::decimal::Decimal;
use cms_spec::hydronic::ZERO_CELSIUS;
use serde::Deserialize;

/// A unit of measure, as it stands in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub(crate) enum Unit {
    /// A plain number, for points of formulas.
    #[serde(rename = "1")]
    One,
    #[serde(rename = "%")]
    Percent,
    #[serde(alias = "°C", alias = "degC")]
    C,
    #[serde(alias = "°F", alias = "degF")]
    F,
    K,
    W,
    #[serde(rename = "kW")]
    Kilowatt,
    #[serde(rename = "MW")]
    Megawatt,
    #[serde(rename = "BTU/h")]
    BtuPerHour,
    #[serde(rename = "kBTU/h")]
    KilobtuPerHour,
    /// Tons of refrigeration.
    #[serde(rename = "TR")]
    Ton,
    J,
    #[serde(rename = "kJ")]
    Kilojoule,
    #[serde(rename = "MJ")]
    Megajoule,
    #[serde(rename = "GJ")]
    Gigajoule,
    #[serde(rename = "Wh")]
    WattHour,
    #[serde(rename = "kWh")]
    KilowattHour,
    #[serde(rename = "MWh")]
    MegawattHour,
    #[serde(rename = "GWh")]
    GigawattHour,
    #[serde(rename = "BTU")]
    Btu,
    #[serde(rename = "kBTU")]
    Kilobtu,
    #[serde(rename = "MMBTU")]
    MillionBtu,
    #[serde(rename = "Gcal")]
    Gigacalorie,
    #[serde(rename = "m3/h", alias = "m³/h")]
    CubicMetrePerHour,
    #[serde(rename = "m3/s", alias = "m³/s")]
    CubicMetrePerSecond,
    #[serde(rename = "l/h", alias = "L/h")]
    LitrePerHour,
    #[serde(rename = "l/min", alias = "L/min")]
    LitrePerMinute,
    #[serde(rename = "l/s", alias = "L/s")]
    LitrePerSecond,
    /// US gallons.
    #[serde(rename = "gpm")]
    GallonPerMinute,
    #[serde(rename = "cfm")]
    CubicFootPerMinute,
    #[serde(rename = "kg/s")]
    KilogramPerSecond,
    #[serde(rename = "kg/h")]
    KilogramPerHour,
    #[serde(rename = "t/h")]
    TonnePerHour,
    #[serde(rename = "lb/h")]
    PoundPerHour,
}

/// What a unit measures. Our own unit of each is in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dimension {
    /// Nothing that we know of (1).
    Number,
    /// Temperature (K).
    Temperature,
    /// Power (W).
    Power,
    /// Energy, as a register that grows (J).
    Energy,
    /// Volume flow (l/h).
    VolumeFlow,
    /// Mass flow (kg/h).
    MassFlow,
}

impl Unit {
    /// Every unit, as it stands in the configuration.
    pub(crate) const ALL: [(Self, &'static str); 34] = [
        (Self::One, "1"),
        (Self::Percent, "%"),
        (Self::C, "C"),
        (Self::F, "F"),
        (Self::K, "K"),
        (Self::W, "W"),
        (Self::Kilowatt, "kW"),
        (Self::Megawatt, "MW"),
        (Self::BtuPerHour, "BTU/h"),
        (Self::KilobtuPerHour, "kBTU/h"),
        (Self::Ton, "TR"),
        (Self::J, "J"),
        (Self::Kilojoule, "kJ"),
        (Self::Megajoule, "MJ"),
        (Self::Gigajoule, "GJ"),
        (Self::WattHour, "Wh"),
        (Self::KilowattHour, "kWh"),
        (Self::MegawattHour, "MWh"),
        (Self::GigawattHour, "GWh"),
        (Self::Btu, "BTU"),
        (Self::Kilobtu, "kBTU"),
        (Self::MillionBtu, "MMBTU"),
        (Self::Gigacalorie, "Gcal"),
        (Self::CubicMetrePerHour, "m3/h"),
        (Self::CubicMetrePerSecond, "m3/s"),
        (Self::LitrePerHour, "l/h"),
        (Self::LitrePerMinute, "l/min"),
        (Self::LitrePerSecond, "l/s"),
        (Self::GallonPerMinute, "gpm"),
        (Self::CubicFootPerMinute, "cfm"),
        (Self::KilogramPerSecond, "kg/s"),
        (Self::KilogramPerHour, "kg/h"),
        (Self::TonnePerHour, "t/h"),
        (Self::PoundPerHour, "lb/h"),
    ];

    pub(crate) const fn dimension(self) -> Dimension {
        self.factor().0
    }

    /// The number in our own unit of the dimension; nothing when it does not fit.
    pub(crate) fn to_own(self, number: Decimal) -> Option<Decimal> {
        match self {
            Self::C => number.checked_add(ZERO_CELSIUS),
            Self::F => number
                .checked_add(Decimal::from_nano(459_670_000_000))?
                .checked_mul(Decimal::whole(5))?
                .checked_div(Decimal::whole(9)),
            _ => {
                let (_, billionths) = self.factor();
                number.checked_mul(Decimal::from_nano(billionths))
            }
        }
    }

    /// What it measures, and billionths of our own unit in one.
    const fn factor(self) -> (Dimension, i128) {
        use Dimension::{Energy, MassFlow, Number, Power, Temperature, VolumeFlow};
        const ONE: i128 = 1_000_000_000;
        match self {
            Self::One => (Number, ONE),
            Self::Percent => (Number, ONE / 100),
            Self::C | Self::F | Self::K => (Temperature, ONE),
            Self::W => (Power, ONE),
            Self::Kilowatt => (Power, 1_000 * ONE),
            Self::Megawatt => (Power, 1_000_000 * ONE),
            // 1,055.05585262 J / 3,600 s.
            Self::BtuPerHour => (Power, 293_071_070),
            Self::KilobtuPerHour => (Power, 293_071_070_172),
            // 12,000 BTU/h.
            Self::Ton => (Power, 3_516_852_842_067),
            Self::J => (Energy, ONE),
            Self::Kilojoule => (Energy, 1_000 * ONE),
            Self::Megajoule => (Energy, 1_000_000 * ONE),
            Self::Gigajoule => (Energy, 1_000_000_000 * ONE),
            Self::WattHour => (Energy, 3_600 * ONE),
            Self::KilowattHour => (Energy, 3_600_000 * ONE),
            Self::MegawattHour => (Energy, 3_600_000_000 * ONE),
            Self::GigawattHour => (Energy, 3_600_000_000_000 * ONE),
            Self::Btu => (Energy, 1_055_055_852_620),
            Self::Kilobtu => (Energy, 1_055_055_852_620_000),
            Self::MillionBtu => (Energy, 1_055_055_852_620_000_000),
            // International calories: 4.1868 J.
            Self::Gigacalorie => (Energy, 4_186_800_000 * ONE),
            Self::CubicMetrePerHour => (VolumeFlow, 1_000 * ONE),
            Self::CubicMetrePerSecond => (VolumeFlow, 3_600_000 * ONE),
            Self::LitrePerHour => (VolumeFlow, ONE),
            Self::LitrePerMinute => (VolumeFlow, 60 * ONE),
            Self::LitrePerSecond => (VolumeFlow, 3_600 * ONE),
            // 3.785411784 l.
            Self::GallonPerMinute => (VolumeFlow, 227_124_707_040),
            // 28.316846592 l.
            Self::CubicFootPerMinute => (VolumeFlow, 1_699_010_795_520),
            Self::KilogramPerSecond => (MassFlow, 3_600 * ONE),
            Self::KilogramPerHour => (MassFlow, ONE),
            Self::TonnePerHour => (MassFlow, 1_000 * ONE),
            Self::PoundPerHour => (MassFlow, 453_592_370),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(unit, _)| unit == self);
        f.write_str(name.map_or("?", |(_, name)| name))
    }
}

impl Dimension {
    /// The name of our own unit.
    #[cfg(test)]
    const fn own(self) -> &'static str {
        match self {
            Self::Number => "1",
            Self::Temperature => "K",
            Self::Power => "W",
            Self::Energy => "J",
            Self::VolumeFlow => "l/h",
            Self::MassFlow => "kg/h",
        }
    }

    /// The units that measure any of these, for a person.
    pub(crate) fn units(of: &[Self]) -> String {
        let names = Unit::ALL
            .iter()
            .filter(|(unit, _)| of.contains(&unit.dimension()))
            .map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "a plain number",
            Self::Temperature => "a temperature",
            Self::Power => "a power",
            Self::Energy => "an energy",
            Self::VolumeFlow => "a volume flow",
            Self::MassFlow => "a mass flow",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(number: &str, unit: Unit) -> String {
        let own = unit.to_own(number.parse().unwrap()).unwrap();
        format!("{own} {}", unit.dimension().own())
    }

    #[test]
    fn every_unit_is_ours_in_the_end() {
        for (number, unit, expected) in [
            ("212", Unit::F, "373.15 K"),
            ("-40", Unit::F, "233.15 K"),
            ("-40", Unit::C, "233.15 K"),
            ("85.3", Unit::Kilowatt, "85300 W"),
            ("12000", Unit::BtuPerHour, "3516.85284 W"),
            ("1", Unit::Ton, "3516.852842067 W"),
            ("1", Unit::MegawattHour, "3600000000 J"),
            ("3.6", Unit::Gigajoule, "3600000000 J"),
            ("1", Unit::MillionBtu, "1055055852.62 J"),
            ("100", Unit::GallonPerMinute, "22712.470704 l/h"),
            ("1.5", Unit::CubicMetrePerHour, "1500 l/h"),
            ("2", Unit::KilogramPerSecond, "7200 kg/h"),
            ("95", Unit::Percent, "0.95 1"),
        ] {
            assert_eq!(own(number, unit), expected);
        }
    }

    #[test]
    fn each_reads_as_it_prints() {
        #[derive(Deserialize)]
        struct Table {
            unit: Unit,
        }
        for (unit, name) in Unit::ALL {
            let table: Table = toml::from_str(&format!("unit = '{name}'")).unwrap();
            assert_eq!((table.unit, unit.to_string()), (unit, name.to_owned()));
        }
        assert!(toml::from_str::<Table>("unit = 'MBTU'").is_err());
    }
}
