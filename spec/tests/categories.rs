//! Rules of storage, heat, models and coverage at their edges.

#[cfg(test)]
mod tests {
    use cms_spec::coverage::{Baseline, Documented, UNLISTED_METHOD};
    use cms_spec::dark::{
        AccessBasis, Ages, StorageScan, Tally, access_anomaly, recommended_action, rows,
    };
    use cms_spec::models::{self, Inference, LOG_ROWS_MAX, ModelKey};
    use cms_spec::payload::v1::{
        Complexity, HeatRecovery, ModelEfficiency, StorageClass, TelemetryCoverage,
    };
    use cms_spec::payload::{Context, Data, Payload};
    use cms_spec::provenance::{Confidence, Origin};
    use cms_spec::reading::{Quantity, Readings, Snapshot, Value};
    use cms_spec::units::{Bytes, Fixed, Microjoules};
    use cms_spec::windows::{BUCKET, Windows};
    use cms_spec::{Cadence, Category, Slot};
    use jiff::{SignedDuration, Timestamp};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_768_521_600 + seconds).expect("a time")
    }

    fn tally(gigabytes: u64, oldest: Timestamp) -> Tally {
        Tally {
            bytes: Bytes(gigabytes * 1_000_000_000),
            objects: 1,
            oldest_access: Some(oldest),
        }
    }

    fn scan(seconds: i64, active: Tally, dark: Tally) -> StorageScan {
        StorageScan {
            place: None,
            unit: "archive".parse().expect("a subject"),
            region: "r".to_owned(),
            storage_class: "standard".to_owned(),
            usd_per_gb_month: Some(Fixed::from_raw(23_000)),
            as_of: at(seconds),
            finished_at: at(seconds),
            basis: AccessBasis::AccessTime,
            active,
            dark,
            unreadable: 0,
            ages: Ages::default(),
            classes: Vec::new(),
        }
    }

    fn payload(windows: &Windows, category: Category, slot: Slot) -> Payload {
        let closed = windows.close(category, slot).expect("a source reports");
        Payload::build(closed, &Context::default())
    }

    fn noted(payload: &Payload, text: &str) -> bool {
        let notes = payload
            .provenance()
            .iter()
            .filter_map(|entry| entry.note.as_deref());
        notes.into_iter().any(|note| note.contains(text))
    }

    #[test]
    fn days_agree_with_the_class_at_180_days() {
        let limit = SignedDuration::from_hours(180 * 24);
        let second = SignedDuration::from_secs(1);
        let one = scan(0, tally(1, at(0) - limit), tally(1, at(0) - limit - second));
        let days: Vec<_> = rows(&one)
            .iter()
            .map(|row| (row.classification, row.days_since_access))
            .collect();
        assert_eq!(
            days,
            [(StorageClass::Active, 180), (StorageClass::Dark, 181)]
        );
    }

    #[test]
    fn another_place_under_the_same_name_is_no_anomaly() {
        let old = at(-400 * 86_400);
        let placed = |place: Option<&str>, seconds, active, dark| StorageScan {
            place: place.map(str::to_owned),
            ..scan(seconds, tally(active, at(0)), tally(dark, old))
        };
        for (was, is, is_found) in [
            (Some("/srv"), Some("/srv"), true),
            (Some("/srv"), Some("/mnt"), false),
            // A scan of an older version does not say where it was.
            (None, Some("/srv"), true),
        ] {
            let (before, after) = (placed(was, 0, 1, 9), placed(is, 1, 9, 1));
            assert_eq!(access_anomaly(&before, &after).is_some(), is_found);
        }
    }

    #[test]
    fn more_than_a_fifth_turned_active_is_an_anomaly() {
        let old = at(-200 * 86_400);
        let before = scan(0, tally(10, at(0)), tally(100, old));
        let turned = |active, dark| {
            access_anomaly(&before, &scan(1, tally(active, at(0)), tally(dark, old)))
        };
        assert_eq!(turned(30, 80), None);
        let told = turned(31, 79).map(|anomaly| anomaly.to_string());
        let words = "21.0 GB of 100.0 GB that were dark (21.0 %)";
        assert_eq!(told.as_deref(), Some(words));
        // Deleted, or moved away, is what it should be.
        assert_eq!(turned(10, 0), None);
    }

    #[test]
    fn the_recommended_action_has_the_amount() {
        assert_eq!(
            recommended_action(Fixed::ZERO),
            "nothing to do: no data is dark"
        );
        let terabytes = recommended_action(Fixed::whole(7_914));
        assert_eq!(terabytes, "migrate 7.9 TB to cold storage or delete it");
    }

    #[test]
    fn an_old_scan_does_not_speak_for_today() {
        let mut windows = Windows::new();
        let mut readings = Readings::default();
        readings.snapshot(Snapshot::Storage(scan(
            0,
            tally(1, at(0)),
            Tally::default(),
        )));
        windows.observe(&readings.stamp("storage/filesystem", at(0), "b"));
        let daily = Category::DarkData.cadence();
        assert!(
            windows
                .close(Category::DarkData, daily.slot_at(at(86_400)))
                .is_ok()
        );
        assert!(
            windows
                .close(Category::DarkData, daily.slot_at(at(3 * 86_400)))
                .is_err()
        );
    }

    #[test]
    fn statements_are_dirty_when_and_only_when_they_change() {
        let mut windows = Windows::new();
        let mut before = windows.statements();
        let (small, large) = (tally(1, at(0)), tally(2, at(0)));
        for (seconds, scanned_at, active) in [
            (0, 0, small),
            (5, 0, small),
            (10, 10, small),
            (15, 10, large),
            (20, 10, large),
        ] {
            let mut readings = Readings::default();
            let scan = scan(scanned_at, active, Tally::default());
            readings.snapshot(Snapshot::Storage(scan));
            let dirty = windows.observe(&readings.stamp("storage/filesystem", at(seconds), "b"));
            let now = windows.statements();
            assert_eq!(dirty.statements, now != before, "{seconds}");
            before = now;
        }
    }

    fn heat(silent_from: i64, with_output: bool) -> (HeatRecovery, Payload) {
        let mut windows = Windows::new();
        for minute in (0..=1440).step_by(5) {
            let mut readings = Readings::default();
            let origin = readings.origin(Origin::measured("m", "m/1", Confidence::A));
            let rack = "rack".parse().expect("a subject");
            if with_output {
                readings.push(
                    &rack,
                    Quantity::ThermalOutput,
                    Value::Gauge(40_000_000),
                    origin,
                );
            }
            if minute < silent_from {
                readings.push(
                    &rack,
                    Quantity::HeatDelivered,
                    Value::Gauge(10_000_000),
                    origin,
                );
            }
            windows.observe(&readings.stamp("thermal/modbus", at(minute * 60), "b"));
        }
        let slot = Cadence::from_seconds(300).last_closed(at(86_400));
        let payload = payload(&windows, Category::HeatRecovery, slot);
        let Data::HeatRecovery(heat) = payload.data().clone() else {
            panic!("another category");
        };
        (heat, payload)
    }

    #[test]
    fn an_efficiency_needs_95_percent_of_the_window() {
        let (full, payload) = heat(1440, true);
        assert_eq!(
            full.thermal_sources[0].recovery_efficiency,
            Some(Fixed::from_raw(250))
        );
        assert!(noted(&payload, "below_50kw"));
        let (thin, _) = heat(1440 - 80, true);
        assert_eq!(thin.thermal_sources[0].recovery_efficiency, None);
        assert_eq!(thin.summary.overall_recovery_ratio, None);
    }

    #[test]
    fn an_unknown_output_is_null_and_exempts_nobody() {
        let (unknown, payload) = heat(1440, false);
        assert_eq!(unknown.thermal_sources[0].thermal_output_kw, None);
        assert!(!noted(&payload, "below_50kw"));
    }

    fn request(number: u64) -> Inference {
        Inference {
            request_id: format!("r{number}"),
            at: at(1),
            endpoint: "chat".to_owned(),
            model: "m".to_owned(),
            parameters: Some(30_000_000_000 + number % 2),
            task_type: "summarization".to_owned(),
            complexity: Complexity::Routine,
            tokens: Some(10),
            response_time_ms: None,
            energy: Some(Microjoules(7_200_000)),
            small_model_energy: Some(Microjoules(10_000_000)),
            origin: 0,
        }
    }

    #[test]
    fn a_long_log_is_sampled_and_survives_a_restart() {
        let mut windows = Windows::new();
        let mut readings = Readings::default();
        let origin = readings.origin(Origin::measured("vllm", "vllm/1", Confidence::B));
        for number in 0..1_000 {
            readings.inference(request(number), origin);
        }
        let dirty = windows.observe(&readings.stamp("models/vllm", at(2), "b"));
        let mut reborn = Windows::new();
        reborn.restore(windows.carry());
        reborn.restore_statements(windows.statements());
        for bucket in &dirty.blocks {
            reborn
                .load_block(*bucket, &windows.block(*bucket))
                .expect("a block");
        }
        let slot = BUCKET.slot_at(at(2));
        assert_eq!(
            windows.close(Category::ModelEfficiency, slot),
            reborn.close(Category::ModelEfficiency, slot)
        );
        let payload = payload(&reborn, Category::ModelEfficiency, slot);
        assert!(noted(&payload, "sampled: {of: 1000, rate: 0.400000}"));
        let Data::ModelEfficiency(ModelEfficiency {
            inference_log,
            summary,
        }) = payload.data()
        else {
            panic!("another category");
        };
        assert_eq!(inference_log.len(), LOG_ROWS_MAX);
        assert_eq!(summary.routine_to_slm_ratio, Some(Fixed::from_raw(500)));
        // The small model would have used more: nothing was wasted, and nothing is negative.
        assert_eq!(summary.energy_wasted_kwh, Fixed::ZERO);
    }

    #[test]
    fn tokens_of_servers_that_count_no_requests_waste_energy_and_are_in_no_ratio() {
        let mut windows = Windows::new();
        let mut readings = Readings::default();
        let origin = readings.origin(Origin::measured("it", "it-usage/1", Confidence::B));
        let tally = models::Tally {
            endpoint: "hosted".to_owned(),
            at: at(1),
            key: ModelKey {
                model: "large".to_owned(),
                parameters: Some(70_000_000_000),
                task_type: "classification".to_owned(),
                complexity: Complexity::Routine,
            },
            requests: 0,
            listed: 0,
            tokens: 9_000,
            energy: Microjoules(7_200_000_000_000),
            energy_requests: 0,
            wasted: Microjoules(3_600_000_000_000),
            origin: 0,
        };
        readings.tally(tally, origin);
        windows.observe(&readings.stamp("models/source", at(2), "b"));
        let slot = BUCKET.slot_at(at(2));
        let payload = payload(&windows, Category::ModelEfficiency, slot);
        let Data::ModelEfficiency(ModelEfficiency { summary, .. }) = payload.data() else {
            panic!("another category");
        };
        assert_eq!(summary.total_inference_requests_30day, 0);
        assert_eq!(summary.routine_to_slm_ratio, None);
        assert_eq!(summary.energy_wasted_kwh, Fixed::from_raw(10));
        assert!(noted(&payload, "9000 tokens of the window are of models"));
    }

    #[test]
    fn new_instances_do_not_lift_coverage_above_what_is_documented() {
        let documented = |id: &str| Documented {
            id: id.to_owned(),
            name: String::new(),
            decommissioned: None,
        };
        let mut windows = Windows::new();
        let mut readings = Readings::default();
        readings.snapshot(Snapshot::Baseline(Baseline {
            submission_date: "2025-09-12".parse().expect("a date"),
            instances: vec![documented("a"), documented("a"), documented("b")],
            storage: Vec::new(),
            model_endpoints: Vec::new(),
        }));
        let origin = readings.origin(Origin::measured("p", "p/1", Confidence::B));
        for name in ["a", "x", "y"] {
            let subject = name.parse().expect("a subject");
            readings.push(&subject, Quantity::NetworkBytes, Value::Counter(1), origin);
        }
        windows.observe(&readings.stamp("compute/host", at(0), "b"));
        let slot = Category::CoverageVerification.cadence().slot_at(at(0));
        let payload = payload(&windows, Category::CoverageVerification, slot);
        let Data::TelemetryCoverage(TelemetryCoverage {
            coverage_ratios,
            missing_instances,
            ..
        }) = payload.data()
        else {
            panic!("another category");
        };
        assert_eq!(
            coverage_ratios.instance_coverage,
            Some(Fixed::from_raw(500))
        );
        assert_eq!(coverage_ratios.storage_coverage, None);
        assert_eq!(missing_instances, &["b"]);
        assert!(noted(&payload, "unlisted, 48 hours to enter the inventory"));
        let unlisted = payload
            .provenance()
            .iter()
            .find(|entry| entry.method == UNLISTED_METHOD)
            .expect("an entry");
        let names: Vec<&str> = unlisted.things.iter().map(|t| t.what.as_str()).collect();
        assert_eq!((names, unlisted.rows), (vec!["x", "y"], Some(2)));
    }
}
