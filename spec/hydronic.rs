//! Heat that a fluid carries away (specification II.D): flow times the difference of temperature.
//!
//! Owns: what the common fluids weigh and hold, and how exact the product can be. Promises: a difference with the wrong
//! sign stays wrong, so that somebody exchanges the sensors. Refuses: a fluid that nobody named; water's
//! figures for glycol are wrong by a seventh.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;

/// 0 degrees Celsius in kelvin.
pub const ZERO_CELSIUS: Decimal = Decimal::from_nano(273_150_000_000);

/// Below this difference, in kelvin, nothing flows away that could be told from the errors of two sensors; heat
/// meters do not count there either.
pub const DELTA_START: Decimal = Decimal::from_nano(200_000_000);

/// The smallest difference, in kelvin, for which the error limits of EN 1434 hold with the usual pairs of sensors.
pub const DELTA_MIN: Decimal = Decimal::whole(3);

/// The flow sensor's part is no larger by EN 1434, in hundredths of a percent; it is assumed where nobody says what
/// flow the sensor was made for.
const FLOW_ERROR_MAX: i64 = 500;

/// Kelvin around the table of a fluid for which its straight lines still hold.
const OUTSIDE: i64 = 20;

/// Kelvin between two rows of a fluid's table.
const ROW: i64 = 20;

/// Joules that one kilogram of dry air takes up per kelvin.
const AIR_SPECIFIC_HEAT: i64 = 1_006;

/// Joules per kilogram and kelvin: the gas constant of dry air.
const AIR_GAS_CONSTANT: Decimal = Decimal::from_nano(287_050_000_000);

/// Pressure of the standard atmosphere in pascals at 0, 500, … 5,000 m.
const AIR_PRESSURE: [i64; 11] = [
    101_325, 95_461, 89_875, 84_556, 79_495, 74_683, 70_109, 65_764, 61_640, 57_728, 54_020,
];

/// Metres between two rows of it.
const AIR_ROW_M: u32 = 500;

/// The highest place that a table of air reaches.
pub const ALTITUDE_M_MAX: u32 = 5_000;

/// A fluid by name. Glycols are mixtures with water; the number is the percentage by volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FluidName {
    /// Water, also with the usual inhibitors.
    Water,
    /// Ethylene glycol.
    #[serde(rename = "ethylene_glycol_20")]
    EthyleneGlycol20,
    /// Ethylene glycol.
    #[serde(rename = "ethylene_glycol_30")]
    EthyleneGlycol30,
    /// Ethylene glycol.
    #[serde(rename = "ethylene_glycol_40")]
    EthyleneGlycol40,
    /// Ethylene glycol.
    #[serde(rename = "ethylene_glycol_50")]
    EthyleneGlycol50,
    /// Propylene glycol.
    #[serde(rename = "propylene_glycol_20")]
    PropyleneGlycol20,
    /// Propylene glycol.
    #[serde(rename = "propylene_glycol_30")]
    PropyleneGlycol30,
    /// Propylene glycol.
    #[serde(rename = "propylene_glycol_40")]
    PropyleneGlycol40,
    /// Propylene glycol.
    #[serde(rename = "propylene_glycol_50")]
    PropyleneGlycol50,
    /// Dry air at sea level.
    Air,
}

/// What carries the heat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fluid {
    /// One that we have a table of.
    Named(FluidName),
    /// Dry air at this altitude in metres.
    AirAt(u32),
    /// What its supplier says: kilograms per cubic metre, kilojoules per kilogram and kelvin.
    Given {
        /// Kilograms per cubic metre.
        density: Decimal,
        /// Kilojoules per kilogram and kelvin.
        specific_heat: Decimal,
    },
}

/// How much flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Litres per hour.
    Volume(Decimal),
    /// Kilograms per hour.
    Mass(Decimal),
}

/// Where the flow is measured: its density is the one of that side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// In what comes from the equipment, which is hot.
    Supply,
    /// In what goes back to it, which is where heat meters are built in.
    #[default]
    Return,
}

/// The heat that flows away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Watts; negative where the return is the hotter one.
    pub watts: Decimal,
    /// Supply minus return in kelvin.
    pub delta: Decimal,
    /// The error limit of a class 2 meter in hundredths of a percent; nothing where no limit holds.
    pub accuracy: Option<u32>,
}

/// Why there is no product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HydronicError {
    /// It cannot be so hot or cold in a circuit.
    #[error("the fluid would be at {0} C, where its properties are not known")]
    Temperature(Decimal),
    /// It cannot flow backwards.
    #[error("the flow is negative")]
    Flow,
    /// Nonsense in, nothing out.
    #[error("the product is too large")]
    TooLarge,
}

/// Density in tenths of kg/m3 and specific heat in J/(kg K) at 0, 20, … 100 degrees Celsius.
type Table = [(i64, i64); 6];

// Water at 1 MPa: IAPWS-95. Mixtures: ASHRAE Handbook, Fundamentals, by volume. Both as CoolProp has them.
const WATER: Table = [
    (10_003, 4_215),
    (9_986, 4_181),
    (9_926, 4_177),
    (9_836, 4_183),
    (9_722, 4_195),
    (9_588, 4_214),
];
const ETHYLENE_20: Table = [
    (10_357, 3_769),
    (10_297, 3_815),
    (10_218, 3_861),
    (10_120, 3_907),
    (10_002, 3_953),
    (9_865, 3_999),
];
const ETHYLENE_30: Table = [
    (10_518, 3_589),
    (10_452, 3_645),
    (10_368, 3_702),
    (10_264, 3_759),
    (10_140, 3_815),
    (9_997, 3_872),
];
const ETHYLENE_40: Table = [
    (10_668, 3_401),
    (10_597, 3_468),
    (10_506, 3_535),
    (10_396, 3_602),
    (10_266, 3_669),
    (10_117, 3_736),
];
const ETHYLENE_50: Table = [
    (10_811, 3_203),
    (10_733, 3_281),
    (10_637, 3_358),
    (10_520, 3_435),
    (10_385, 3_512),
    (10_230, 3_590),
];
const PROPYLENE_20: Table = [
    (10_258, 3_929),
    (10_190, 3_973),
    (10_102, 4_016),
    (9_993, 4_060),
    (9_864, 4_104),
    (9_716, 4_147),
];
const PROPYLENE_30: Table = [
    (10_362, 3_793),
    (10_283, 3_848),
    (10_184, 3_903),
    (10_064, 3_958),
    (9_924, 4_013),
    (9_764, 4_068),
];
const PROPYLENE_40: Table = [
    (10_451, 3_636),
    (10_362, 3_702),
    (10_253, 3_768),
    (10_123, 3_834),
    (9_972, 3_900),
    (9_801, 3_966),
];
const PROPYLENE_50: Table = [
    (10_527, 3_455),
    (10_429, 3_532),
    (10_310, 3_609),
    (10_170, 3_686),
    (10_010, 3_763),
    (9_830, 3_841),
];

/// The heat that a flow carries away, between two temperatures in kelvin.
///
/// `nominal` is the flow that the sensor was made for, in the unit of `flow`; it makes the stated accuracy better.
///
/// # Errors
/// When the flow runs backwards, or a temperature is outside of what is known of the fluid.
pub fn carried(
    fluid: Fluid,
    (flow, nominal): (Flow, Option<Decimal>),
    (supply, back): (Decimal, Decimal),
    installed: Side,
) -> Result<Carried, HydronicError> {
    let (Flow::Volume(amount) | Flow::Mass(amount)) = flow;
    if amount.is_negative() {
        return Err(HydronicError::Flow);
    }
    let large = HydronicError::TooLarge;
    let delta = supply.checked_sub(back).ok_or(large)?;
    let middle = supply
        .checked_add(back)
        .and_then(|sum| sum.checked_div(Decimal::whole(2)))
        .ok_or(large)?;
    let at_sensor = match installed {
        Side::Supply => supply,
        Side::Return => back,
    };
    let kilograms_per_hour = match flow {
        Flow::Mass(mass) => mass,
        Flow::Volume(litres) => fluid
            .density(at_sensor)?
            .checked_mul(litres)
            .and_then(|product| product.checked_div(Decimal::whole(1_000)))
            .ok_or(large)?,
    };
    let is_still = delta.magnitude() < DELTA_START || amount == Decimal::ZERO;
    let watts = if is_still {
        Decimal::ZERO
    } else {
        fluid
            .specific_heat(middle)?
            .checked_mul(delta)
            .and_then(|per_kilogram| per_kilogram.checked_mul(kilograms_per_hour))
            .and_then(|per_hour| per_hour.checked_div(Decimal::whole(3_600)))
            .ok_or(large)?
    };
    Ok(Carried {
        watts,
        delta,
        accuracy: accuracy(delta, amount, nominal),
    })
}

/// The error limit of a class 2 meter by EN 1434, in hundredths of a percent: flow sensor, calculator and pair of
/// temperature sensors added. Nothing below the smallest difference, and where nothing flows.
#[must_use]
pub fn accuracy(delta: Decimal, flow: Decimal, nominal: Option<Decimal>) -> Option<u32> {
    if delta < DELTA_MIN || flow <= Decimal::ZERO {
        return None;
    }
    let share = DELTA_MIN.checked_div(delta)?;
    let of_flow = match nominal {
        None => Decimal::whole(FLOW_ERROR_MAX),
        Some(nominal) => nominal
            .checked_div(flow)?
            .checked_mul(Decimal::whole(2))?
            .checked_add(Decimal::whole(200))?
            .min(Decimal::whole(FLOW_ERROR_MAX)),
    };
    // Calculator 0.5 + share, sensors 0.5 + 3 share, in percent.
    let of_rest = share
        .checked_mul(Decimal::whole(400))?
        .checked_add(Decimal::whole(100))?;
    let sum = of_flow.checked_add(of_rest)?;
    u32::try_from(sum.to_milli()?.div_ceil(1_000)).ok()
}

impl Fluid {
    /// Kilograms per cubic metre at a temperature in kelvin.
    fn density(self, kelvin: Decimal) -> Result<Decimal, HydronicError> {
        let pascals = match self {
            Self::Given { density, .. } => return Ok(density),
            Self::AirAt(metres) => air_pressure(metres),
            Self::Named(name) => match name.table() {
                Some(table) => {
                    let tenths = between(table.map(|row| row.0), kelvin)?;
                    return tenths
                        .checked_div(Decimal::whole(10))
                        .ok_or(HydronicError::TooLarge);
                }
                None => air_pressure(0),
            },
        };
        celsius_within(kelvin)?;
        AIR_GAS_CONSTANT
            .checked_mul(kelvin)
            .and_then(|product| pascals.checked_div(product))
            .ok_or(HydronicError::TooLarge)
    }

    /// Joules per kilogram and kelvin at a temperature in kelvin.
    fn specific_heat(self, kelvin: Decimal) -> Result<Decimal, HydronicError> {
        match self {
            Self::Given { specific_heat, .. } => specific_heat
                .checked_mul(Decimal::whole(1_000))
                .ok_or(HydronicError::TooLarge),
            Self::AirAt(_) => Ok(Decimal::whole(AIR_SPECIFIC_HEAT)),
            Self::Named(name) => match name.table() {
                Some(table) => between(table.map(|row| row.1), kelvin),
                None => Ok(Decimal::whole(AIR_SPECIFIC_HEAT)),
            },
        }
    }
}

impl FluidName {
    const fn table(self) -> Option<&'static Table> {
        Some(match self {
            Self::Water => &WATER,
            Self::EthyleneGlycol20 => &ETHYLENE_20,
            Self::EthyleneGlycol30 => &ETHYLENE_30,
            Self::EthyleneGlycol40 => &ETHYLENE_40,
            Self::EthyleneGlycol50 => &ETHYLENE_50,
            Self::PropyleneGlycol20 => &PROPYLENE_20,
            Self::PropyleneGlycol30 => &PROPYLENE_30,
            Self::PropyleneGlycol40 => &PROPYLENE_40,
            Self::PropyleneGlycol50 => &PROPYLENE_50,
            Self::Air => return None,
        })
    }
}

/// Degrees Celsius, where the tables reach.
fn celsius_within(kelvin: Decimal) -> Result<Decimal, HydronicError> {
    let celsius = kelvin
        .checked_sub(ZERO_CELSIUS)
        .ok_or(HydronicError::TooLarge)?;
    let reach = Decimal::whole(-OUTSIDE)..=Decimal::whole(5 * ROW + OUTSIDE);
    if reach.contains(&celsius) {
        Ok(celsius)
    } else {
        Err(HydronicError::Temperature(celsius.rounded(1)))
    }
}

/// A value on the straight line between two rows, or a little beyond the last ones.
fn between(rows: [i64; 6], kelvin: Decimal) -> Result<Decimal, HydronicError> {
    let celsius = celsius_within(kelvin)?;
    let segment = rows
        .windows(2)
        .zip((0..).step_by(20))
        .take_while(|(_, from)| *from == 0 || Decimal::whole(*from) <= celsius)
        .last();
    let Some(([low, high], from)) = segment else {
        return Err(HydronicError::TooLarge);
    };
    let above = celsius.checked_sub(Decimal::whole(from));
    above
        .and_then(|above| above.checked_mul(Decimal::whole(high - low)))
        .and_then(|rise| rise.checked_div(Decimal::whole(ROW)))
        .and_then(|rise| rise.checked_add(Decimal::whole(*low)))
        .ok_or(HydronicError::TooLarge)
}

/// Pascals of the standard atmosphere at an altitude.
fn air_pressure(metres: u32) -> Decimal {
    let metres = metres.min(ALTITUDE_M_MAX);
    let (row, rest) = (metres / AIR_ROW_M, i64::from(metres % AIR_ROW_M));
    let row = usize::try_from(row).unwrap_or(0);
    let low = AIR_PRESSURE.get(row).copied().unwrap_or_default();
    let high = AIR_PRESSURE.get(row + 1).copied().unwrap_or(low);
    Decimal::whole(low - (low - high) * rest / i64::from(AIR_ROW_M))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn kelvin(celsius: &str) -> Decimal {
        of(celsius).checked_add(ZERO_CELSIUS).unwrap()
    }

    fn kilowatts(fluid: Fluid, litres_per_hour: &str, supply: &str, back: &str) -> Decimal {
        let flow = (Flow::Volume(of(litres_per_hour)), None);
        let between = (kelvin(supply), kelvin(back));
        let carried = carried(fluid, flow, between, Side::Return).unwrap();
        carried
            .watts
            .checked_div(Decimal::whole(1_000))
            .unwrap()
            .rounded(3)
    }

    const WATER: Fluid = Fluid::Named(FluidName::Water);

    #[test]
    fn golden_water() {
        // 10 m3/h of water from 40 to 30 C. By hand: 10 x 995.6 kg/m3 x 4.178 kJ/kgK x 10 K / 3600 = 115.545 kW;
        // the rule of thumb, 1.16 x m3/h x K, says 116.
        assert_eq!(kilowatts(WATER, "10000", "40", "30"), of("115.545"));
        assert_eq!(kilowatts(WATER, "0", "40", "30"), Decimal::ZERO);
    }

    #[test]
    fn golden_mixtures_and_air() {
        // Installers' constants for 30, 40 and 50 % are 470, 450 and 433 where water has 500 BTU/h per gpm and F.
        for (name, percent) in [
            (FluidName::EthyleneGlycol30, 94),
            (FluidName::EthyleneGlycol40, 90),
            (FluidName::EthyleneGlycol50, 87),
        ] {
            let mixture = kilowatts(Fluid::Named(name), "10000", "45", "35");
            let water = kilowatts(WATER, "10000", "45", "35");
            let share = mixture
                .checked_div(water)
                .and_then(|share| share.checked_mul(of("100")));
            let off = share
                .and_then(|share| share.checked_sub(Decimal::whole(percent)))
                .unwrap();
            assert!(off.magnitude() < of("2"), "{name:?} {share:?}");
        }
        // 3,600 m3/h of air is 1 m3/s; 1.2 kg/m3 x 1.006 x 10 K = 12.1 kW at about 20 C.
        let air = Fluid::Named(FluidName::Air);
        assert_eq!(kilowatts(air, "3600000", "30", "20"), of("12.113"));
        let denver = kilowatts(Fluid::AirAt(1_600), "3600000", "30", "20");
        assert_eq!(denver, of("9.988"));
        let given = Fluid::Given {
            density: of("1000"),
            specific_heat: of("3.6"),
        };
        assert_eq!(kilowatts(given, "1000", "40", "30"), of("10"));
    }

    #[test]
    fn the_side_of_the_flow_sensor_matters() {
        let flow = (Flow::Volume(of("10000")), None);
        let between = (kelvin("90"), kelvin("50"));
        let watts = |side| carried(WATER, flow, between, side).unwrap().watts;
        let share = watts(Side::Supply).checked_div(watts(Side::Return));
        assert_eq!(share.unwrap().rounded(3), of("0.977"));
        let mass = (Flow::Mass(of("10000")), None);
        let by_mass = |side| carried(WATER, mass, between, side).unwrap().watts;
        assert_eq!(by_mass(Side::Supply), by_mass(Side::Return));
    }

    #[test]
    fn a_wrong_sign_stays_and_noise_is_nothing() {
        assert_eq!(kilowatts(WATER, "10000", "30", "40"), of("-115.197"));
        assert_eq!(kilowatts(WATER, "10000", "30", "30.19"), Decimal::ZERO);
        let backwards = (Flow::Volume(of("-1")), None);
        let refused = carried(
            WATER,
            backwards,
            (kelvin("40"), kelvin("30")),
            Side::default(),
        );
        assert_eq!(refused, Err(HydronicError::Flow));
        let boiling = (Flow::Volume(of("1")), None);
        let refused = carried(
            WATER,
            boiling,
            (kelvin("40"), kelvin("121")),
            Side::default(),
        );
        assert_eq!(refused, Err(HydronicError::Temperature(of("121"))));
    }

    #[test]
    fn golden_accuracy() {
        // dT 5 K at the nominal flow: 2.02 + (0.5 + 0.6) + (0.5 + 1.8) = 5.42 %.
        assert_eq!(accuracy(of("5"), of("6"), Some(of("6"))), Some(542));
        // Nobody says the nominal flow: 5 + 1.1 + 2.3.
        assert_eq!(accuracy(of("5"), of("6"), None), Some(840));
        assert_eq!(accuracy(of("30"), of("0.01"), Some(of("6"))), Some(640));
        assert_eq!(accuracy(of("2.9"), of("6"), None), None);
        assert_eq!(accuracy(of("5"), of("0"), None), None);
    }

    proptest! {
        #[test]
        fn more_flow_or_difference_is_more_heat(
            litres in 1_i64..1_000_000, more in 1_i64..1_000_000, back in 0_i64..60, delta in 1_i64..30,
        ) {
            let watts = |litres: i64, delta: i64| {
                let back = Decimal::whole(back).checked_add(ZERO_CELSIUS).unwrap();
                let supply = back.checked_add(Decimal::whole(delta)).unwrap();
                let flow = (Flow::Volume(Decimal::whole(litres)), None);
                carried(WATER, flow, (supply, back), Side::Return).unwrap().watts
            };
            prop_assert!(watts(litres, delta) > Decimal::ZERO);
            prop_assert!(watts(litres + more, delta) > watts(litres, delta));
            prop_assert!(watts(litres, delta + 1) > watts(litres, delta));
        }

        #[test]
        fn nothing_panics(flow: i128, supply: i128, back: i128, nominal: i128) {
            let of = Decimal::from_nano;
            for fluid in [WATER, Fluid::AirAt(u32::MAX), Fluid::Given { density: of(nominal), specific_heat: of(flow) }] {
                let _ = carried(fluid, (Flow::Volume(of(flow)), Some(of(nominal))), (of(supply), of(back)), Side::Supply);
                let _ = carried(fluid, (Flow::Mass(of(flow)), None), (of(supply), of(back)), Side::Supply);
            }
        }
    }
}
