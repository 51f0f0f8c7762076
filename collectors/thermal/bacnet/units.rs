//! Engineering units of the standard, and which of ours they are.

use bacnet_rs::object::EngineeringUnits as E;

use crate::thermal::unit::Unit;

/// Our unit, where there is one that means the same. "No units" is none: many systems leave it where
/// something is measured.
pub(super) fn unit(number: u32) -> Option<Unit> {
    Some(match E::from(number) {
        E::Percent | E::PercentRelativeHumidity => Unit::Percent,
        E::DegreesCelsius => Unit::C,
        E::DegreesFahrenheit => Unit::F,
        E::Kelvin => Unit::K,
        E::Watts | E::JoulesPerSecond => Unit::W,
        E::Kilowatts | E::KilojoulesPerSecond => Unit::Kilowatt,
        E::Megawatts => Unit::Megawatt,
        E::BtusPerHour => Unit::BtuPerHour,
        E::KiloBtusPerHour => Unit::KilobtuPerHour,
        E::TonsRefrigeration => Unit::Ton,
        E::Joules => Unit::J,
        E::Kilojoules => Unit::Kilojoule,
        E::Megajoules => Unit::Megajoule,
        E::WattHours => Unit::WattHour,
        E::KilowattHours => Unit::KilowattHour,
        E::MegawattHours => Unit::MegawattHour,
        E::Btus => Unit::Btu,
        E::KiloBtus => Unit::Kilobtu,
        E::MegaBtus => Unit::MillionBtu,
        E::CubicMetersPerHour => Unit::CubicMetrePerHour,
        E::CubicMetersPerSecond => Unit::CubicMetrePerSecond,
        E::LitersPerHour => Unit::LitrePerHour,
        E::LitersPerMinute => Unit::LitrePerMinute,
        E::LitersPerSecond => Unit::LitrePerSecond,
        E::UsGallonsPerMinute => Unit::GallonPerMinute,
        E::CubicFeetPerMinute => Unit::CubicFootPerMinute,
        E::KilogramsPerSecond => Unit::KilogramPerSecond,
        E::KilogramsPerHour => Unit::KilogramPerHour,
        E::MetricTonnesPerHour => Unit::TonnePerHour,
        E::PoundsMassPerHour => Unit::PoundPerHour,
        _ => return None,
    })
}

/// What a person calls it.
pub(super) fn name(number: u32) -> String {
    match E::from(number) {
        E::NoUnits => "no units".to_owned(),
        units => units.bacnet_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_the_standard_are_ours() {
        for (number, name, ours) in [
            (62, "degrees-celsius", Some(Unit::C)),
            (64, "degrees-fahrenheit", Some(Unit::F)),
            (48, "kilowatts", Some(Unit::Kilowatt)),
            (19, "kilowatt-hours", Some(Unit::KilowattHour)),
            (87, "liters-per-second", Some(Unit::LitrePerSecond)),
            (135, "cubic-meters-per-hour", Some(Unit::CubicMetrePerHour)),
            (148, "mega-btus", Some(Unit::MillionBtu)),
            (51, "horsepower", None),
            (95, "no units", None),
            (70_000, "Reserved(70000)", None),
        ] {
            assert_eq!((super::name(number).as_str(), unit(number)), (name, ours));
        }
    }
}
