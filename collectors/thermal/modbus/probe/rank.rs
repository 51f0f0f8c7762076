//! Which readings of registers are plausible: the same bits mean many numbers, and one of them is what the display says.
//!
//! Promises: the order of the answers depends on nothing but the registers; what is not finite, and what jumps between
//! two looks, is not among them. Refuses: being right: it suggests, a person compares with the display.

use std::collections::BTreeSet;

use super::super::decode::{Decoded, Order, Type};
use super::super::register::Kind;
use super::scan::Scan;

/// Most readings that are suggested for one kind of registers.
const SUGGESTED_MAX: usize = 40;

/// What the display may differ by: it rounds, and the value moves.
const DISPLAY_TOLERANCE: f64 = 0.005;

/// A possible reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The kind of register.
    pub kind: Kind,
    /// The address of the first.
    pub address: u16,
    /// How it is read.
    pub means: Type,
    /// In which order.
    pub order: Order,
    /// What was read at the first look.
    pub value: f64,
    /// What was read at the second look.
    pub again: Option<f64>,
    /// What it is to be multiplied with, where that is more plausible.
    pub scale: Option<Scale>,
    /// What it may be.
    pub guess: Guess,
    /// How plausible it is; more is better.
    pub score: u32,
}

/// A power of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(i32);

/// What a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// What the display says.
    Expected,
    /// Degrees Celsius.
    Temperature,
    /// Something that only grows, such as energy or volume.
    Counter,
    /// A power, a flow, a voltage.
    Measured,
    /// It may be anything.
    Number,
}

impl Guess {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Expected => "as expected",
            Self::Temperature => "a temperature?",
            Self::Counter => "counts up: energy or volume?",
            Self::Measured => "measured: power, flow, voltage?",
            Self::Number => "a setting or state?",
        }
    }
}

impl Scale {
    /// As a factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        10_f64.powi(self.0)
    }
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let zeros = usize::try_from(self.0.unsigned_abs()).unwrap_or(0);
        if self.0 < 0 {
            write!(f, "0.{}1", "0".repeat(zeros.saturating_sub(1)))
        } else {
            write!(f, "1{}", "0".repeat(zeros))
        }
    }
}

/// The plausible readings of a scan, the best first; no register is in two of them.
#[must_use]
pub fn rank(kind: Kind, scan: &Scan, expect: Option<f64>) -> Vec<Reading> {
    if kind.is_bit() {
        return Vec::new();
    }
    let mut all: Vec<Reading> = Vec::new();
    let markers: BTreeSet<u16> = scan
        .registers
        .keys()
        .filter(|address| {
            scan.together(**address, 2)
                .is_some_and(|(first, _)| is_marker(&first))
        })
        .flat_map(|address| [*address, address.saturating_add(1)])
        .collect();
    for address in scan.registers.keys() {
        for means in Type::NUMBERS {
            let Some((first, second)) = scan.together(*address, means.registers()) else {
                continue;
            };
            let is_of_marker = (*address..)
                .take(first.len())
                .any(|at| markers.contains(&at));
            if is_of_marker {
                continue;
            }
            let orders = if means.registers() == 1 {
                &Order::ALL[..1]
            } else {
                &Order::ALL[..]
            };
            for order in orders {
                let read = |registers: &[u16]| number(&means.decode(registers, *order).ok()?);
                let (Some(value), again) = (read(&first), second.as_deref().map(read)) else {
                    continue;
                };
                let mut reading = Reading {
                    kind,
                    address: *address,
                    means,
                    order: *order,
                    value,
                    again: again.flatten(),
                    scale: None,
                    guess: Guess::Number,
                    score: 0,
                };
                if again == Some(None) || !reading.judge(expect) {
                    continue;
                }
                // Small numbers side by side are plausible floats in orders that swap their bytes.
                let are_small = first.iter().all(|register| *register < 0x100);
                if reading.is_float() && are_small && reading.guess != Guess::Expected {
                    reading.score = reading.score.saturating_sub(50);
                }
                all.push(reading);
            }
        }
    }
    prefer_one_order(&mut all);
    choose(all)
}

impl Reading {
    const fn is_float(&self) -> bool {
        matches!(self.means, Type::Float32 | Type::Float64)
    }

    /// Whether it is plausible at all, and how much.
    fn judge(&mut self, expect: Option<f64>) -> bool {
        let magnitude = self.value.abs();
        let change = self.again.map_or(0.0, |again| (again - self.value).abs());
        // A wrong order makes the lowest byte the highest one: the slightest change is a leap.
        let leaps = change > 0.2 * magnitude.max(1.0);
        if self.value == 0.0 || leaps {
            return false;
        }
        let width = u32::from(self.means.registers());
        let is_float = self.is_float();
        let is_temperature = (-40.0..=150.0).contains(&self.value);
        let grows = self
            .again
            .is_some_and(|again| again > self.value && change <= 0.01 * magnitude);
        let digits = u32::try_from(shortest(self.means, self.value)).unwrap_or(u32::MAX);
        self.score = if is_float {
            // Four or eight bytes that are no float make one of a wild magnitude, or with all digits.
            if !(0.001..=1e9).contains(&magnitude) {
                return false;
            }
            self.guess = if is_temperature {
                Guess::Temperature
            } else {
                Guess::Measured
            };
            50 + 5 * width + 20_u32.saturating_sub(2 * digits) + if is_temperature { 10 } else { 0 }
        } else {
            match self.means {
                Type::Int16 => {
                    let is_tenths = (50.0..=999.0).contains(&magnitude);
                    self.guess = if is_tenths {
                        Guess::Temperature
                    } else {
                        Guess::Measured
                    };
                    self.scale = is_tenths.then_some(Scale(-1));
                    if self.value < 0.0 && magnitude > 2_000.0 {
                        5
                    } else {
                        30
                    }
                }
                // The same number without its sign says more only above the signed ones.
                Type::Uint16 if magnitude > 32_767.0 => 12,
                Type::Int32 | Type::Uint32 if (65_536.0..=2e9).contains(&magnitude) => {
                    if self.means == Type::Int32 && self.value > 0.0 {
                        return false;
                    }
                    // Two small numbers side by side make a large one, too; what counts up is no chance.
                    15
                }
                Type::Int64 | Type::Uint64 if (4_294_967_296.0..=1e15).contains(&magnitude) => {
                    if self.means == Type::Int64 && self.value > 0.0 {
                        return false;
                    }
                    10
                }
                _ => return expect.is_some_and(|expect| self.is_expected(expect)),
            }
        };
        if grows && !is_float {
            self.guess = Guess::Counter;
            // One register alone may be the lower half of something.
            self.score += if width > 1 { 40 } else { 10 };
        }
        if change > 0.0 {
            self.score += 5;
        }
        if let Some(expect) = expect {
            self.is_expected(expect);
        }
        true
    }

    /// Whether the display says this number, with the point at any place.
    fn is_expected(&mut self, expect: f64) -> bool {
        let close = |power: &i32| {
            let shown = self.value * 10_f64.powi(*power);
            (shown - expect).abs() <= DISPLAY_TOLERANCE * expect.abs().max(f64::EPSILON)
        };
        let Some(power) = [0, -1, -2, -3, 1, 2, 3].iter().find(|power| close(power)) else {
            return false;
        };
        self.scale = (*power != 0).then_some(Scale(*power));
        self.guess = Guess::Expected;
        let shown = self.value * 10_f64.powi(*power);
        let is_exact = (shown - expect).abs() <= expect.abs() * 0.000_5;
        self.score += 200 - 10 * power.unsigned_abs() + if is_exact { 50 } else { 0 };
        true
    }
}

/// Whether these two registers hold what meters say in place of a number, in any order.
fn is_marker(registers: &[u16]) -> bool {
    let markers = [
        0x7fc0_0000_u32,
        0xffc0_0000,
        0x7f80_0000,
        0xff80_0000,
        0x7fff_ffff,
        0xffff_ffff,
    ];
    Order::ALL
        .iter()
        .any(|order| match Type::Uint32.decode(registers, *order) {
            Ok(Decoded::Whole(bits)) => markers.iter().any(|marker| i128::from(*marker) == bits),
            _ => false,
        })
}

/// A device has one order: what most of its floats are plausible in is better for all.
fn prefer_one_order(all: &mut [Reading]) {
    let weight = |order: Order| -> u32 {
        let own = all
            .iter()
            .filter(|reading| reading.order == order && reading.is_float());
        own.map(|reading| reading.score).sum()
    };
    // Of equal ones the plain order is better, so that it stands last.
    let best = Order::ALL
        .into_iter()
        .rev()
        .max_by_key(|order| weight(*order));
    for reading in all.iter_mut() {
        let is_open = reading.guess != Guess::Expected;
        if Some(reading.order) == best
            && is_open
            && (reading.is_float() || reading.guess == Guess::Counter)
        {
            reading.score += 15;
        }
    }
}

/// The best ones that share no register.
fn choose(mut all: Vec<Reading>) -> Vec<Reading> {
    all.sort_by(|a, b| b.score.cmp(&a.score).then(a.address.cmp(&b.address)));
    let mut chosen: Vec<Reading> = Vec::new();
    for reading in all {
        let range = |reading: &Reading| {
            let first = u32::from(reading.address);
            first..first + u32::from(reading.means.registers())
        };
        let own = range(&reading);
        let is_taken = chosen.iter().any(|other| {
            let other = range(other);
            own.start < other.end && other.start < own.end
        });
        if !is_taken && chosen.len() < SUGGESTED_MAX {
            chosen.push(reading);
        }
    }
    chosen
}

/// Digits of the shortest text that is this number.
fn shortest(means: Type, value: f64) -> usize {
    let text = match means {
        #[expect(clippy::cast_possible_truncation, reason = "it was a float of 32 bits")]
        Type::Float32 => (value as f32).to_string(),
        _ => value.to_string(),
    };
    text.chars().filter(char::is_ascii_digit).count()
}

/// The number for a person.
#[expect(
    clippy::cast_precision_loss,
    reason = "it is looked at, not counted with"
)]
pub(super) fn number(decoded: &Decoded) -> Option<f64> {
    match decoded {
        Decoded::Whole(number) => Some(*number as f64),
        Decoded::Single(number) => Some((*number).into()),
        Decoded::Double(number) => Some(*number),
        Decoded::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::scan::Register;
    use super::*;

    /// Registers that were read together, and a second time with these changes.
    fn scan(words: &[u16], changes: &[(u16, u16)]) -> Scan {
        let changed: BTreeMap<u16, u16> = changes.iter().copied().collect();
        let registers = (0..).zip(words).map(|(address, word)| {
            let second = Some(changed.get(&address).copied().unwrap_or(*word));
            let register = Register {
                first: *word,
                second,
                request: 1,
            };
            (address, register)
        });
        Scan {
            registers: registers.collect(),
            ..Scan::default()
        }
    }

    fn halves(value: f32) -> [u16; 2] {
        let [a, b, c, d] = value.to_be_bytes();
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    }

    fn swapped(words: [u16; 2]) -> [u16; 2] {
        let [high, low] = words;
        [low, high]
    }

    #[test]
    fn a_meter_of_floats_is_found_in_its_order() {
        let values = [0.412_f32, 8123.5, 48.25, 21.4, 230.1];
        for (order, lay) in [
            (Order::Abcd, (|w| w) as fn([u16; 2]) -> [u16; 2]),
            (Order::Cdab, swapped),
            (Order::Badc, |w| w.map(u16::swap_bytes)),
            (Order::Dcba, |w| swapped(w.map(u16::swap_bytes))),
        ] {
            let words: Vec<u16> = values
                .iter()
                .flat_map(|value| lay(halves(*value)))
                .collect();
            let ranked = rank(Kind::Input, &scan(&words, &[]), None);
            let mut floats: Vec<(u16, f64)> = ranked
                .iter()
                .filter(|reading| reading.means == Type::Float32 && reading.order == order)
                .map(|reading| (reading.address, reading.value))
                .collect();
            floats.sort_by_key(|(address, _)| *address);
            let expected: Vec<(u16, f64)> = (0..).step_by(2).zip(values.map(f64::from)).collect();
            assert_eq!(floats, expected, "{order}");
        }
    }

    #[test]
    fn a_temperature_in_tenths_is_scaled_and_nan_is_left_out() {
        let [nan_high, nan_low] = halves(f32::NAN);
        let ranked = rank(
            Kind::Holding,
            &scan(&[245, 0, nan_high, nan_low, 0], &[]),
            None,
        );
        let best = &ranked[0];
        assert_eq!(
            (best.address, best.means, best.value),
            (0, Type::Int16, 245.0)
        );
        assert_eq!(
            best.scale.map(|scale| scale.to_string()).as_deref(),
            Some("0.1")
        );
        assert_eq!(best.guess, Guess::Temperature);
        assert!(ranked.iter().all(|reading| reading.value.is_finite()));
    }

    #[test]
    fn a_counter_counts_up() {
        let ranked = rank(
            Kind::Holding,
            &scan(&[0x1234, 0x5678], &[(1, 0x567c)]),
            None,
        );
        let best = &ranked[0];
        assert_eq!(
            (best.means, best.order, best.guess),
            (Type::Uint32, Order::Abcd, Guess::Counter)
        );
        assert_eq!(
            (best.value, best.again),
            (305_419_896.0, Some(305_419_900.0))
        );
    }

    #[test]
    fn what_the_display_says_comes_first() {
        let words = [[100, 7], halves(48.25), [4_830, 3]].concat();
        let ranked = rank(Kind::Input, &scan(&words, &[]), Some(48.3));
        let found: Vec<(u16, Option<String>)> = ranked
            .iter()
            .filter(|reading| reading.guess == Guess::Expected)
            .map(|reading| {
                (
                    reading.address,
                    reading.scale.map(|scale| scale.to_string()),
                )
            })
            .collect();
        assert_eq!(found, [(2, None), (4, Some("0.01".to_owned()))]);
        assert_eq!(Scale(3).to_string(), "1000");
    }

    #[test]
    fn registers_of_two_requests_make_no_number() {
        let mut scan = scan(&halves(48.25), &[]);
        scan.registers.get_mut(&1).unwrap().request = 2;
        let ranked = rank(Kind::Input, &scan, None);
        assert!(ranked.iter().all(|reading| reading.means.registers() == 1));
    }
}
