//! What two readings of RAPL counters mean. Pure: counters in, energy out.

use cms_spec::units::{Microjoules, Millis, Milliwatts};

/// More than any package or its memory draws. A larger power is a reset or a lie, and a counter
/// that could wrap twice at this power says nothing.
const ZONE_POWER_MAX: Milliwatts = Milliwatts(1_000_000);

/// Two dies of one package whose counters stand closer than this at both ends of a span show one
/// counter twice. It is what a package at full power adds between the two reads, with room to
/// spare.
const MIRROR_UJ: u64 = 5_000_000;

/// What a zone measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dram,
    Package,
}

/// One zone as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    /// Its directory, for example `intel-rapl:0`.
    pub(super) name: String,
    /// Its own name, for example `package-0`.
    pub(super) label: String,
    pub(super) kind: Kind,
    pub(super) energy_uj: u64,
    /// The value at which the counter starts again.
    pub(super) range_uj: u64,
}

/// What came of two readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Energy(Microjoules),
    /// They cannot be subtracted; the next two can.
    Gap,
    /// The counters are not to be trusted, and why.
    Untrusted(String),
}

/// Whether a directory of the powercap tree is a zone or a subzone of `intel-rapl`;
/// `intel-rapl-mmio` is a mirror.
pub(super) fn is_zone(name: &str) -> bool {
    let Some(numbers) = name.strip_prefix("intel-rapl:") else {
        return false;
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.split(':').count() <= 2 && numbers.split(':').all(is_number)
}

/// Picks packages, and the memory of each. `core` and `uncore` are inside a package, `psys` is
/// around all.
pub(super) fn counted(labelled: &[(String, String)]) -> Vec<(String, String, Kind)> {
    let is_package =
        |(name, label): &&(String, String)| !is_subzone(name) && label.starts_with("package-");
    let packages: Vec<&(String, String)> = labelled.iter().filter(is_package).collect();
    let is_dram = |(name, label): &&(String, String)| {
        is_subzone(name) && label == "dram" && packages.iter().any(|(p, _)| p == parent(name))
    };
    let with = |kind| move |(name, label): &(String, String)| (name.clone(), label.clone(), kind);
    let dram = labelled.iter().filter(is_dram).map(with(Kind::Dram));
    packages
        .iter()
        .copied()
        .map(with(Kind::Package))
        .chain(dram)
        .collect()
}

/// The energy between two readings of the same zones.
pub(super) fn energy(before: &[Zone], after: &[Zone], over: Millis) -> Outcome {
    let same =
        |(b, a): (&Zone, &Zone)| b.name == a.name && b.label == a.label && b.range_uj == a.range_uj;
    if before.len() != after.len() || !before.iter().zip(after).all(same) || over == Millis::ZERO {
        return Outcome::Gap;
    }
    let mirrors = mirrors(before, after);
    let mut sum = Microjoules::ZERO;
    for (before, after) in before.iter().zip(after) {
        if mirrors.contains(&after.name.as_str()) || mirrors.contains(&parent(&after.name)) {
            continue;
        }
        match grown(before, after, over) {
            Ok(grown) => sum += grown,
            Err(outcome) => return outcome,
        }
    }
    if sum == Microjoules::ZERO {
        // A processor that runs this code draws something.
        return Outcome::Untrusted("its counters do not move".to_owned());
    }
    Outcome::Energy(sum)
}

fn grown(before: &Zone, after: &Zone, over: Millis) -> Result<Microjoules, Outcome> {
    let ceiling = ZONE_POWER_MAX.over(over);
    let range = after.range_uj;
    if range > 0 && ceiling.0 / 9 >= range / 10 {
        return Err(Outcome::Untrusted(format!(
            "{} could wrap twice within {} s: lower compute.interval",
            after.label,
            over.0 / 1000
        )));
    }
    if let Some(grown) = after.energy_uj.checked_sub(before.energy_uj) {
        return if grown <= ceiling.0 {
            Ok(Microjoules(grown))
        } else {
            Err(Outcome::Untrusted(format!(
                "{} shows more power than it can draw",
                after.label
            )))
        };
    }
    // It fell: it wrapped at its range, unless that would take more power than there is.
    let wrapped = range
        .checked_sub(before.energy_uj)
        .and_then(|left| left.checked_add(after.energy_uj));
    match wrapped.filter(|w| *w <= ceiling.0) {
        Some(wrapped) => Ok(Microjoules(wrapped)),
        None => Err(Outcome::Gap),
    }
}

/// Names of packages `package-N-die-M` that repeat an earlier die of the same package.
fn mirrors<'a>(before: &[Zone], after: &'a [Zone]) -> Vec<&'a str> {
    let package = |zone: &'a Zone| {
        (zone.kind == Kind::Package).then(|| zone.label.split_once("-die-").map(|(p, _)| p))?
    };
    let mut mirrors = Vec::new();
    for (at, zone) in after.iter().enumerate() {
        let repeats = |earlier: usize| {
            package(zone).is_some()
                && package(zone) == package(&after[earlier])
                && !mirrors.contains(&after[earlier].name.as_str())
                && before[at].energy_uj.abs_diff(before[earlier].energy_uj) <= MIRROR_UJ
                && zone.energy_uj.abs_diff(after[earlier].energy_uj) <= MIRROR_UJ
        };
        if (0..at).any(repeats) {
            mirrors.push(zone.name.as_str());
        }
    }
    mirrors
}

fn is_subzone(name: &str) -> bool {
    name.matches(':').count() == 2
}

fn parent(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((parent, _)) if is_subzone(name) => parent,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RANGE: u64 = 262_143_328_850;
    const TICK: Millis = Millis(15_000);

    fn zone(name: &str, label: &str, energy_uj: u64) -> Zone {
        let kind = if label == "dram" {
            Kind::Dram
        } else {
            Kind::Package
        };
        Zone {
            name: name.to_owned(),
            label: label.to_owned(),
            kind,
            energy_uj,
            range_uj: RANGE,
        }
    }

    fn one(before: u64, after: u64) -> Outcome {
        energy(
            &[zone("intel-rapl:0", "package-0", before)],
            &[zone("intel-rapl:0", "package-0", after)],
            TICK,
        )
    }

    #[test]
    fn only_intel_rapl_zones_are_zones() {
        for right in ["intel-rapl:0", "intel-rapl:12:3"] {
            assert!(is_zone(right), "{right}");
        }
        for wrong in [
            "intel-rapl",
            "intel-rapl:",
            "intel-rapl:0:1:2",
            "intel-rapl-mmio:0",
            "dtpm:0",
            "intel-rapl:a",
        ] {
            assert!(!is_zone(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_contains_or_repeats_a_package_is_left_out() {
        let labelled: Vec<(String, String)> = [
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "uncore"),
            ("intel-rapl:0:2", "dram"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl:1:0", "dram"),
        ]
        .map(|(name, label)| (name.to_owned(), label.to_owned()))
        .into();
        let names: Vec<String> = counted(&labelled)
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(names, ["intel-rapl:0", "intel-rapl:0:2"]);
    }

    #[test]
    fn wraps_resets_and_lies_are_told_apart() {
        assert_eq!(
            one(1_000_000, 751_000_000),
            Outcome::Energy(Microjoules(750_000_000))
        );
        assert_eq!(
            one(RANGE - 300_000, 671_150),
            Outcome::Energy(Microjoules(971_150))
        );
        assert_eq!(one(100_000_000_000, 5_000_000), Outcome::Gap);
        assert!(matches!(one(0, 15_000_000_001), Outcome::Untrusted(_)));
        assert!(matches!(one(5, 5), Outcome::Untrusted(_)));
    }

    #[test]
    fn a_span_in_which_a_counter_could_wrap_twice_says_nothing() {
        let zones = |energy| [zone("intel-rapl:0", "package-0", energy)];
        let outcome = energy(&zones(1), &zones(2), Millis(300_000));
        assert!(
            matches!(outcome, Outcome::Untrusted(why) if why.contains("lower compute.interval"))
        );
    }

    #[test]
    fn another_set_of_zones_is_a_gap() {
        let two = [
            zone("intel-rapl:0", "package-0", 1),
            zone("intel-rapl:1", "package-1", 1),
        ];
        assert_eq!(energy(&two, &two[..1], TICK), Outcome::Gap);
        assert_eq!(energy(&[], &two, TICK), Outcome::Gap);
        assert_eq!(energy(&two, &two, Millis(0)), Outcome::Gap);
    }

    #[test]
    fn dies_that_show_one_counter_count_once() {
        let zones = |first, second| {
            [
                zone("intel-rapl:0", "package-0-die-0", first),
                zone("intel-rapl:1", "package-0-die-1", second),
                zone("intel-rapl:1:0", "dram", second),
            ]
        };
        let mirrored = energy(
            &zones(9_000_000, 9_000_400),
            &zones(1_009_000_000, 1_009_000_700),
            TICK,
        );
        assert_eq!(mirrored, Outcome::Energy(Microjoules(1_000_000_000)));
        let separate = energy(
            &zones(9_000_000, 900_000_000),
            &zones(10_000_000, 901_000_000),
            TICK,
        );
        assert_eq!(separate, Outcome::Energy(Microjoules(3_000_000)));
    }

    proptest! {
        #[test]
        fn a_wrap_changes_nothing(start in 0..RANGE, used in 1..15_000_000_000_u64) {
            let end = (start + used) % RANGE;
            prop_assume!(end != start);
            prop_assert_eq!(one(start, end), Outcome::Energy(Microjoules(used)));
        }

        #[test]
        fn splitting_a_span_changes_nothing(
            zones in prop::collection::vec((0..RANGE, 1..7_000_000_000_u64, 1..7_000_000_000_u64), 1..4),
        ) {
            let at = |step: usize| -> Vec<Zone> {
                let counter = |(index, (start, first, second)): (usize, &(u64, u64, u64))| {
                    let used = [0, *first, first + second][step];
                    let (name, label) = (format!("intel-rapl:{index}"), format!("package-{index}"));
                    zone(&name, &label, (start + used) % RANGE)
                };
                zones.iter().enumerate().map(counter).collect()
            };
            let told = |from: usize, to: usize, over: u64| match energy(&at(from), &at(to), Millis(over)) {
                Outcome::Energy(energy) => Ok(energy.0),
                other => Err(TestCaseError::fail(format!("{other:?}"))),
            };
            let whole = told(0, 2, 30_000)?;
            prop_assert_eq!(told(0, 1, 15_000)? + told(1, 2, 15_000)?, whole);
            let used: u64 = zones.iter().map(|(_, first, second)| first + second).sum();
            prop_assert_eq!(whole, used);
        }
    }
}
