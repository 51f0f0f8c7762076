//! What windows promise, on readings that nobody chose: conservation, splitting, restarts, gaps, bounds.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cms_spec::payload::v1::{GhostCompute, Instance, InstanceClass};
    use cms_spec::payload::{Context, Data, Payload};
    use cms_spec::plausible::{Severity, check};
    use cms_spec::provenance::{Confidence, Origin, Quality};
    use cms_spec::reading::{Quantity, Readings, Sample, Value};
    use cms_spec::units::Fixed;
    use cms_spec::windows::{BUCKET, Carry, Windows};
    use cms_spec::{Category, Slot, Subject};
    use jiff::Timestamp;
    use proptest::prelude::*;

    const START_MS: i64 = 1_768_521_600_000; // 2026-01-16T00:00:00Z
    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(START_MS + ms).expect("a time of this century")
    }

    fn subject(name: &str) -> Subject {
        name.parse().expect("a subject")
    }

    fn slot_ending(ms: i64) -> Slot {
        BUCKET.last_closed(at(ms))
    }

    fn sample(ms: i64, boot: &str, quality: Quality, values: &[(&str, Quantity, Value)]) -> Sample {
        let mut readings = Readings::default();
        let mut origin = Origin::measured("procfs", "procfs/1", Confidence::B);
        origin.quality = quality;
        let origin = readings.origin(origin);
        for (name, quantity, value) in values {
            readings.push(&subject(name), *quantity, *value, origin);
        }
        readings.stamp("compute/host", at(ms), boot)
    }

    /// A machine of eight processors: a tenth of a percent of `busy` steps, all counters in step with time.
    fn steady(ms: i64, boot: &str, busy_permille: u64) -> Sample {
        let since = u64::try_from(ms).expect("after the start");
        sample(
            ms,
            boot,
            Quality::Measured,
            &[
                (
                    "a",
                    Quantity::CpuBusyMs,
                    Value::Counter(since * 8 * busy_permille / 1_000),
                ),
                ("a", Quantity::CpuCapacityMs, Value::Counter(since * 8)),
                ("a", Quantity::MemoryUsedMilliPercent, Value::Gauge(5_000)),
                ("a", Quantity::NetworkBytes, Value::Counter(since * 125)),
                ("a", Quantity::DiskOperations, Value::Counter(since / 100)),
            ],
        )
    }

    fn ghost(windows: &Windows, slot: Slot) -> GhostCompute {
        let closed = windows
            .close(Category::GhostCompute, slot)
            .expect("instances report");
        let payload = Payload::build(closed, &Context::default());
        let Data::GhostCompute(ghost) = payload.data().clone() else {
            panic!("another category");
        };
        ghost
    }

    fn only(windows: &Windows, slot: Slot) -> Instance {
        ghost(windows, slot).instance_inventory.remove(0)
    }

    #[test]
    fn a_steady_machine() {
        let mut windows = Windows::new();
        for minute in 0..=26 * 60 {
            windows.observe(&steady(minute * MINUTE, "b", 40));
        }
        let row = only(&windows, slot_ending(26 * HOUR));
        assert_eq!(row.cpu_utilization_30day_avg, Some(Fixed::from_raw(400)));
        assert_eq!(row.memory_utilization_30day_avg, Some(Fixed::from_raw(500)));
        assert_eq!(row.network_io_30day_avg_mbps, Some(Fixed::from_raw(100)));
        assert_eq!(row.disk_io_30day_avg_iops, Some(Fixed::from_raw(1_000)));
        assert_eq!(row.classification, InstanceClass::Ghost);
        assert_eq!(row.power_draw_watts.to_string(), "100.0");
    }

    #[test]
    fn under_a_day_is_not_classified_and_nothing_observed_is_null() {
        let mut windows = Windows::new();
        windows.observe(&steady(0, "b", 40));
        let row = only(&windows, slot_ending(15 * MINUTE));
        assert_eq!(row.cpu_utilization_30day_avg, None);
        assert_eq!(row.memory_utilization_30day_avg, None);
        windows.observe(&steady(23 * HOUR, "b", 40));
        let row = only(&windows, slot_ending(24 * HOUR));
        assert_eq!(row.classification, InstanceClass::InsufficientData);
        assert_eq!(row.cpu_utilization_30day_avg, Some(Fixed::from_raw(400)));
    }

    #[test]
    fn a_counter_bridges_a_pause_and_a_gauge_does_not() {
        let mut windows = Windows::new();
        windows.observe(&steady(0, "b", 500));
        windows.observe(&steady(3 * DAY, "b", 500));
        let slot = slot_ending(3 * DAY + HOUR);
        let closed = windows
            .close(Category::GhostCompute, slot)
            .expect("it reports");
        let payload = Payload::build(closed, &Context::default());
        let coverage = |figure: &str| {
            let entry = payload
                .provenance()
                .iter()
                .find(|e| e.figure.contains(figure));
            entry.and_then(|entry| entry.coverage)
        };
        assert_eq!(coverage("cpu"), Some(Fixed::from_raw(1_000)));
        // Five minutes of 30 days.
        assert_eq!(coverage("memory"), Some(Fixed::from_raw(1)));
    }

    #[test]
    fn another_boot_and_a_reset_are_baselines_only() {
        for (boot, busy) in [("c", 500), ("b", 0)] {
            let mut windows = Windows::new();
            windows.observe(&steady(HOUR, "b", 500));
            windows.observe(&steady(2 * HOUR, boot, busy));
            let row = only(&windows, slot_ending(3 * HOUR));
            assert_eq!(row.cpu_utilization_30day_avg, None, "{boot} {busy}");
            windows.observe(&steady(3 * HOUR, boot, busy));
            let row = only(&windows, slot_ending(4 * HOUR));
            let expected = i64::try_from(busy).expect("small") * 10;
            assert_eq!(
                row.cpu_utilization_30day_avg,
                Some(Fixed::from_raw(expected))
            );
        }
    }

    #[test]
    fn power_is_the_mean_over_the_time_observed_and_says_its_quality() {
        let mut windows = Windows::new();
        let energy = |amount, over_ms| ("a", Quantity::EnergyUj, Value::Amount { amount, over_ms });
        // 60 s at 200 W measured, an hour of silence, 60 s at 100 W estimated.
        let measured = energy(12_000_000_000, 60_000);
        windows.observe(&sample(MINUTE, "b", Quality::Measured, &[measured]));
        let estimated = energy(6_000_000_000, 60_000);
        windows.observe(&sample(HOUR, "b", Quality::Estimated, &[estimated]));
        // The same moment again counts once.
        windows.observe(&sample(HOUR, "b", Quality::Estimated, &[estimated]));
        let slot = slot_ending(2 * HOUR);
        let closed = windows
            .close(Category::GhostCompute, slot)
            .expect("it reports");
        let payload = Payload::build(closed, &Context::default());
        let Data::GhostCompute(ghost) = payload.data() else {
            panic!("another category");
        };
        assert_eq!(
            ghost.instance_inventory[0].power_draw_watts.to_string(),
            "150.0"
        );
        let power = payload
            .provenance()
            .iter()
            .filter(|e| e.figure.ends_with("power_draw_watts"));
        let qualities: Vec<Quality> = power.map(|entry| entry.quality).collect();
        assert_eq!(qualities, [Quality::Measured, Quality::Estimated]);
    }

    #[test]
    fn a_value_after_an_amount_begins_anew_and_adds_no_zero() {
        let milliwatts = |watts: u64| Value::Gauge(watts * 1_000);
        let observed = |readings: &[(i64, Value)]| {
            let mut windows = Windows::new();
            for (ms, value) in readings {
                let heat = [("rack", Quantity::ThermalOutput, *value)];
                windows.observe(&sample(*ms, "x", Quality::Measured, &heat));
                // It is the same after a restart.
                let carry = serde_json::to_string(&windows.carry()).expect("a carry prints");
                windows.restore(serde_json::from_str(&carry).expect("a carry reads back"));
            }
            let closed = windows.close(Category::HeatRecovery, slot_ending(HOUR));
            let payload = Payload::build(closed.expect("heat"), &Context::default());
            let Data::HeatRecovery(heat) = payload.data().clone() else {
                panic!("another category")
            };
            heat.thermal_sources[0]
                .thermal_output_kw
                .map(|kw| kw.to_string())
        };
        // 50 kW over five minutes, then nothing known for five minutes, then 50 kW again.
        let amount = Value::Amount {
            amount: 50_000 * 300_000 * 1_000,
            over_ms: 300_000,
        };
        let minutes = |count: i64| count * 60_000;
        assert_eq!(
            observed(&[
                (minutes(5), amount),
                (minutes(10), milliwatts(50_000)),
                (minutes(15), milliwatts(50_000)),
            ])
            .as_deref(),
            Some("50.0")
        );
        // A counter does not count from the amount.
        let counter = |kilowatt_hours: u64| Value::Counter(kilowatt_hours * 3_600_000_000_000);
        assert_eq!(
            observed(&[
                (minutes(5), amount),
                (minutes(10), counter(1_000)),
                (minutes(40), counter(1_025)),
            ])
            .as_deref(),
            Some("50.0")
        );
    }

    #[test]
    fn a_second_collector_is_counted_and_not_mixed_in() {
        let mut windows = Windows::new();
        windows.observe(&steady(0, "b", 500));
        let mut other = steady(MINUTE, "b", 900);
        other.collector = "compute/prometheus".to_owned();
        windows.observe(&other);
        windows.observe(&steady(HOUR - MINUTE, "b", 500));
        let row = only(&windows, slot_ending(HOUR));
        assert_eq!(row.cpu_utilization_30day_avg, Some(Fixed::from_raw(5_000)));
        assert_eq!(windows.dropped().conflicting, 4);
        // After an hour of silence it may speak.
        other.at = at(3 * HOUR);
        windows.observe(&other);
        assert_eq!(windows.dropped().conflicting, 4);
    }

    #[test]
    fn silent_instances_leave_the_inventory() {
        let mut windows = Windows::new();
        windows.observe(&steady(0, "b", 500));
        assert!(
            windows
                .close(Category::GhostCompute, slot_ending(24 * HOUR))
                .is_ok()
        );
        let late = slot_ending(25 * HOUR + MINUTE);
        assert!(windows.close(Category::GhostCompute, late).is_err());
    }

    #[test]
    fn what_is_too_old_is_dropped_and_what_is_late_is_not() {
        let mut windows = Windows::new();
        let energy = Value::Amount {
            amount: 60_000,
            over_ms: 60_000,
        };
        let late = |ms| {
            sample(
                ms,
                "b",
                Quality::Measured,
                &[("a", Quantity::EnergyUj, energy)],
            )
        };
        windows.observe(&late(31 * DAY));
        let dirty = windows.observe(&late(10 * DAY));
        assert_eq!(
            dirty.blocks,
            BTreeSet::from([BUCKET.last_closed(at(10 * DAY)).number(BUCKET)])
        );
        assert!(windows.observe(&late(0)).blocks.is_empty());
        assert_eq!(windows.dropped().late, 1);
    }

    #[test]
    fn a_clock_that_was_ahead_is_believed_when_it_is_put_right() {
        let mut windows = Windows::new();
        windows.observe(&steady(20_000 * DAY, "b", 500));
        for minute in 1..60 {
            windows.observe(&steady(minute * MINUTE, "b", 400));
        }
        let row = only(&windows, slot_ending(HOUR));
        assert_eq!(row.cpu_utilization_30day_avg, Some(Fixed::from_raw(4_000)));
    }

    #[test]
    fn there_is_nothing_to_say_before_a_source_has_reported() {
        let windows = Windows::new();
        for category in Category::ALL {
            let nothing = windows
                .close(category, slot_ending(HOUR))
                .expect_err("nothing is known");
            assert!(!nothing.reason.is_empty());
        }
    }

    #[test]
    fn instances_beyond_the_bound_are_counted() {
        let mut windows = Windows::new();
        let mut readings = Readings::default();
        let origin = readings.origin(Origin::measured("x", "x/1", Confidence::B));
        for number in 0..cms_spec::windows::INSTANCES_MAX + 5 {
            let name = subject(&format!("i{number}"));
            readings.push(&name, Quantity::NetworkBytes, Value::Counter(1), origin);
        }
        windows.observe(&readings.stamp("compute/prometheus", at(0), "b"));
        assert_eq!(windows.instances(), cms_spec::windows::INSTANCES_MAX);
        assert_eq!(windows.dropped().excess, 5);
    }

    /// What a restart does: everything through its kept form.
    fn reborn(windows: &Windows, blocks: &BTreeSet<i64>) -> Windows {
        let mut fresh = Windows::new();
        let carry = serde_json::to_string(&windows.carry()).expect("a carry prints");
        let carry: Carry = serde_json::from_str(&carry).expect("a carry reads back");
        fresh.restore(carry);
        let statements = serde_json::to_string(&windows.statements()).expect("statements print");
        fresh.restore_statements(serde_json::from_str(&statements).expect("they read back"));
        for bucket in blocks {
            fresh
                .load_block(*bucket, &windows.block(*bucket))
                .expect("a block reads back");
        }
        fresh
    }

    fn assert_same(a: &Windows, b: &Windows, blocks: &BTreeSet<i64>, slot: Slot) {
        assert_eq!(a.carry(), b.carry());
        assert_eq!(a.statements(), b.statements());
        // A long span touches thousands; a few hundred of them show a difference as well.
        for bucket in blocks.iter().step_by(blocks.len() / 200 + 1) {
            assert_eq!(a.block(*bucket), b.block(*bucket));
        }
        for category in Category::ALL {
            assert_eq!(a.close(category, slot), b.close(category, slot));
        }
    }

    fn quantities() -> impl Strategy<Value = Quantity> {
        prop::sample::select(vec![
            Quantity::CpuBusyMs,
            Quantity::CpuCapacityMs,
            Quantity::MemoryUsedMilliPercent,
            Quantity::NetworkBytes,
            Quantity::DiskOperations,
            Quantity::EnergyUj,
            Quantity::ThermalOutput,
            Quantity::HeatDelivered,
            Quantity::ExhaustMilliKelvin,
        ])
    }

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![0..10_u64, 0..10_000_000_u64, any::<u64>(), Just(u64::MAX)]
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            numbers().prop_map(Value::Counter),
            numbers().prop_map(Value::Gauge),
            (numbers(), numbers()).prop_map(|(amount, over_ms)| Value::Amount { amount, over_ms }),
        ]
    }

    fn samples() -> impl Strategy<Value = Sample> {
        let times = prop_oneof![
            0..2 * HOUR,
            0..40 * DAY,
            Just(-62_135_596_800_000 - START_MS),
            Just(253_402_207_000_000 - START_MS),
        ];
        let qualities = prop::sample::select(vec![
            Quality::Measured,
            Quality::Estimated,
            Quality::Default,
            Quality::Unavailable,
        ]);
        let readings = prop::collection::vec(
            (prop::sample::select(vec!["a", "b"]), quantities(), values()),
            0..8,
        );
        let boots = prop::sample::select(vec!["x", "y"]);
        (times, boots, qualities, readings)
            .prop_map(|(ms, boot, quality, readings)| sample(ms, boot, quality, &readings))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_input_panics_and_all_figures_stay_possible(samples in prop::collection::vec(samples(), 1..12)) {
            let mut windows = Windows::new();
            for sample in &samples {
                windows.observe(sample);
            }
            for category in Category::ALL {
                for ms in [0, HOUR, 3 * DAY, 40 * DAY] {
                    let Ok(closed) = windows.close(category, slot_ending(ms)) else {
                        continue;
                    };
                    let payload = Payload::build(closed, &Context::default());
                    let refused: Vec<_> = check(payload.data())
                        .into_iter()
                        .filter(|finding| finding.severity == Severity::Refuse)
                        .collect();
                    prop_assert_eq!(refused, []);
                    let text = serde_json::to_string(payload.data())?;
                    // Exhaust air is the one thing that may be below zero.
                    let text = text.replace("\"exhaust_temp_celsius\":-", "");
                    prop_assert!(!text.contains("NaN") && !text.contains(":-"));
                }
            }
        }

        #[test]
        fn a_restart_changes_nothing(samples in prop::collection::vec(samples(), 1..12), cut in 0_usize..12) {
            let mut whole = Windows::new();
            let mut parted = Windows::new();
            let mut blocks = BTreeSet::new();
            for (index, sample) in samples.iter().enumerate() {
                if index == cut {
                    parted = reborn(&parted, &blocks);
                }
                blocks.extend(whole.observe(sample).blocks);
                parted.observe(sample);
            }
            assert_same(&whole, &parted, &blocks, slot_ending(3 * DAY));
            assert_same(&whole, &reborn(&whole, &blocks), &blocks, slot_ending(HOUR));
        }

        #[test]
        fn more_ticks_at_other_times_change_nothing(ticks in prop::collection::btree_set(1_i64..2 * DAY, 0..60)) {
            // Counters that grow by whole units each millisecond, so that no tick time can round.
            let counters = |ms: i64| {
                let since = u64::try_from(ms).expect("after the start");
                sample(ms, "b", Quality::Measured, &[
                    ("a", Quantity::CpuBusyMs, Value::Counter(since * 3)),
                    ("a", Quantity::CpuCapacityMs, Value::Counter(since * 16)),
                    ("a", Quantity::NetworkBytes, Value::Counter(since * 977)),
                    ("a", Quantity::DiskOperations, Value::Counter(since)),
                ])
            };
            let (mut few, mut many) = (Windows::new(), Windows::new());
            for windows in [&mut few, &mut many] {
                windows.observe(&counters(0));
            }
            for ms in &ticks {
                many.observe(&counters(*ms));
            }
            for windows in [&mut few, &mut many] {
                windows.observe(&counters(2 * DAY));
            }
            let first = slot_ending(1).number(BUCKET);
            for bucket in first..first + 200 {
                prop_assert_eq!(few.block(bucket), many.block(bucket));
            }
            let slot = slot_ending(2 * DAY);
            prop_assert_eq!(only(&few, slot), only(&many, slot));
        }

        #[test]
        fn instances_add_up_to_the_summary(watts in prop::collection::vec((0_u64..5_000_000, 0_u64..1_000), 1..40)) {
            let mut windows = Windows::new();
            let names: Vec<String> = (0..watts.len()).map(|n| format!("i{n:03}")).collect();
            for (ms, factor) in [(0, 0_u64), (25 * HOUR, 1)] {
                let mut values = Vec::new();
                for (name, (milliwatts, busy)) in names.iter().zip(&watts) {
                    let span = 25 * 3_600_000_u64;
                    values.push((name.as_str(), Quantity::CpuBusyMs, Value::Counter(factor * span * busy / 1_000)));
                    values.push((name.as_str(), Quantity::CpuCapacityMs, Value::Counter(factor * span)));
                    values.push((name.as_str(), Quantity::MemoryUsedMilliPercent, Value::Gauge(9_000)));
                    if factor > 0 {
                        let value = Value::Amount { amount: milliwatts * span, over_ms: span };
                        values.push((name.as_str(), Quantity::EnergyUj, value));
                    }
                }
                windows.observe(&sample(ms, "b", Quality::Measured, &values));
            }
            let ghost = ghost(&windows, slot_ending(26 * HOUR));
            let summary = &ghost.energy_summary;
            prop_assert_eq!(
                summary.ghost_energy_kwh_daily + summary.productive_energy_kwh_daily,
                summary.total_energy_kwh_daily
            );
            let total: u64 = watts.iter().map(|(milliwatts, _)| milliwatts).sum();
            let daily = Fixed::ratio(u128::from(total) * 24, 1_000_000);
            prop_assert_eq!(Some(summary.total_energy_kwh_daily), daily);
            let idle: u64 = watts.iter().filter(|(_, busy)| *busy < 100).map(|(milliwatts, _)| milliwatts).sum();
            let ratio = Fixed::ratio(u128::from(idle), u128::from(total));
            prop_assert_eq!(summary.ghost_energy_ratio, ratio);
            let waste: Fixed<2> = ghost.instance_inventory.iter()
                .filter(|row| row.classification == InstanceClass::Ghost)
                .map(|row| row.monthly_cost_usd)
                .sum();
            prop_assert_eq!(waste, ghost.physical_impact.monthly_waste_usd);
        }

        #[test]
        fn bytes_that_are_no_block_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..400, flip in 0_usize..400) {
            let mut windows = Windows::new();
            let _ = windows.load_block(1, &bytes);
            windows.observe(&steady(0, "b", 1));
            windows.observe(&steady(HOUR, "b", 1));
            let bucket = slot_ending(HOUR).number(BUCKET);
            let mut block = windows.block(bucket);
            let mut fresh = Windows::new();
            if cut < block.len() && cut > 0 {
                prop_assert!(fresh.load_block(bucket, &block[..cut]).is_err());
            }
            let index = flip % block.len();
            block[index] ^= 0x81;
            let _ = fresh.load_block(bucket, &block);
        }
    }
}
