//! Golden vectors: samples as JSON, through window and payload, to the canonical bytes.
//!
//! A folder below `golden/` is a case: `samples.json`, `case.json` (category, slot, energy factors) and the
//! expected `canonical.json`. `CMS_BLESS=1 cargo test -p cms-spec --test golden` writes the latter anew.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use cms_spec::factors::EnergyFactors;
    use cms_spec::impact::Equivalents;
    use cms_spec::payload::v1::{InstanceClass, StorageClass};
    use cms_spec::payload::{AgentInfo, Context, Data, Delivery, Envelope, Payload, Role};
    use cms_spec::plausible::{Severity, check};
    use cms_spec::reading::Sample;
    use cms_spec::units::Fixed;
    use cms_spec::windows::Windows;
    use cms_spec::{Category, Slot};
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        category: Category,
        slot: Slot,
        #[serde(default)]
        energy: EnergyFactors,
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
        serde_json::from_str(&read(path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn canonical(folder: &str) -> (Vec<u8>, Data) {
        let folder = root().join(folder);
        let case: Case = json(&folder.join("case.json"));
        let samples: Vec<Sample> = json(&folder.join("samples.json"));
        let mut windows = Windows::new();
        for sample in &samples {
            windows.observe(sample);
        }
        let closed = windows
            .close(case.category, case.slot)
            .expect("a source has reported");
        let context = Context {
            energy: case.energy,
        };
        let payload = Payload::build(closed, &context);
        let data = payload.data().clone();
        let agent = AgentInfo {
            agent_id: "01940000-0000-7000-8000-000000000000".to_owned(),
            version: "0.0.0".to_owned(),
            site: Some("fra-1".to_owned()),
            role: Role::Node,
            slot: case.slot,
            sequence: 42,
            delivery: Delivery::Live,
            schema: String::new(),
        };
        let company = "acme-corp".parse().expect("a company id");
        (payload.canonical(&company, agent).into_bytes(), data)
    }

    fn holds(folder: &str) -> Data {
        let (bytes, data) = canonical(folder);
        let expected = root().join(folder).join("canonical.json");
        if std::env::var_os("CMS_BLESS").is_some() {
            fs::write(&expected, &bytes).expect("the golden file can be written");
        }
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        assert_eq!(
            text,
            read(&expected),
            "{folder}: run with CMS_BLESS=1 if the change is meant"
        );

        let envelope: Envelope = serde_json::from_str(&text).expect("an envelope reads back");
        assert_eq!(envelope.data, data);
        assert_eq!(
            serde_json::to_string(&envelope).expect("an envelope prints"),
            text
        );
        let refused: Vec<_> = check(&data)
            .into_iter()
            .filter(|finding| finding.severity == Severity::Refuse)
            .collect();
        assert_eq!(refused, [], "{folder}: our own figures must be plausible");
        data
    }

    #[test]
    fn ghost_compute() {
        let Data::GhostCompute(ghost) = holds("ghost-compute") else {
            panic!("another category");
        };
        let summary = &ghost.energy_summary;
        assert_eq!(summary.ghost_energy_kwh_daily.to_string(), "232.8");
        assert_eq!(summary.productive_energy_kwh_daily.to_string(), "4891.2");
        assert_eq!(summary.total_energy_kwh_daily.to_string(), "5124.0");
        assert_eq!(summary.ghost_energy_ratio, Some(Fixed::from_raw(454)));
        assert_eq!(summary.ghost_efficiency_score, Some(Fixed::from_raw(9_546)));
        assert_eq!(
            summary.total_energy_with_cooling_kwh_daily.to_string(),
            "7276.1"
        );
        // 232.8 kWh of a day, 30 days, PUE 1.42: 9,917.28 kWh at the facility.
        let impact = &ghost.physical_impact;
        assert_eq!(impact.monthly_waste_usd.to_string(), "9530.88");
        assert_eq!(impact.co2e_kg_monthly.raw(), 3_808);
        assert_eq!(impact.water_liters_monthly.raw(), 43_633);
        assert_eq!(impact.grid_capacity_wasted_mw.to_string(), "0.0138");
        assert_eq!(
            Equivalents::of_megawatts(impact.grid_capacity_wasted_mw).homes,
            11
        );
        let row = &ghost.instance_inventory[0];
        assert_eq!(row.classification, InstanceClass::Ghost);
        assert_eq!(row.monthly_energy_kwh.to_string(), "205.2");
        assert_eq!(row.monthly_energy_cost_usd.to_string(), "20.52");
    }

    #[test]
    fn dark_data() {
        let Data::DarkData(dark) = holds("dark-data") else {
            panic!("another category");
        };
        let names: Vec<&str> = dark
            .storage_inventory
            .iter()
            .map(|row| row.bucket_name.as_str())
            .collect();
        assert_eq!(
            names,
            ["research-archive", "research-archive:dark", "scratch:dark"]
        );
        let rows: Fixed<9> = dark
            .storage_inventory
            .iter()
            .map(|row| row.total_size_gb)
            .sum();
        assert_eq!(rows, dark.summary.total_storage_gb);
        for row in &dark.storage_inventory {
            let is_dark = row.days_since_access > 180;
            assert_eq!(row.classification == StorageClass::Dark, is_dark);
        }
        let bytes = canonical("dark-data").0;
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        assert!(
            text.contains("access_anomaly: research-archive: 1200000000001 of 4280500000001"),
            "{text}"
        );
    }

    #[test]
    fn coverage_verification() {
        let Data::TelemetryCoverage(coverage) = holds("coverage-verification") else {
            panic!("another category");
        };
        assert_eq!(
            coverage.missing_instances,
            ["node-03 (staging database)", "node-04 (orphaned)"]
        );
        assert_eq!(coverage.current_telemetry_sources.instances_reporting, 2);
        assert_eq!(
            coverage.coverage_ratios.overall_coverage,
            Some(Fixed::from_raw(571))
        );
    }

    #[test]
    fn heat_recovery() {
        let Data::HeatRecovery(heat) = holds("heat-recovery") else {
            panic!("another category");
        };
        let efficiencies: Vec<_> = heat
            .thermal_sources
            .iter()
            .map(|row| row.recovery_efficiency)
            .collect();
        // The delivery meter was silent for 45 minutes: more than 95 % of the window is common.
        assert_eq!(
            efficiencies,
            [Some(Fixed::from_raw(263)), Some(Fixed::ZERO)]
        );
        assert_eq!(
            heat.summary.overall_recovery_ratio,
            Some(Fixed::from_raw(179))
        );
    }

    #[test]
    fn model_efficiency() {
        let Data::ModelEfficiency(model) = holds("model-efficiency") else {
            panic!("another category");
        };
        let summary = &model.summary;
        assert_eq!(summary.total_inference_requests_30day, 11);
        assert_eq!(summary.routine_tasks_total, 8);
        assert_eq!(summary.routine_to_slm_count, 4);
        assert_eq!(summary.model_mismatch_count, 4);
        // Four mismatches, each 210 Wh where the small model needs 30.
        assert_eq!(summary.energy_wasted_kwh.to_string(), "0.7");
        assert_eq!(model.inference_log.len(), 10);
    }

    /// Numbers compare as numbers: `1.000` in a document is the `1` that we print.
    fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
        use serde_json::Value::{Array, Number, Object};
        match (a, b) {
            (Number(a), Number(b)) => a.as_f64() == b.as_f64(),
            (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Object(a), Object(b)) => {
                let within =
                    |(key, value): (&String, _)| b.get(key).is_some_and(|other| same(value, other));
                a.len() == b.len() && a.iter().all(within)
            }
            _ => a == b,
        }
    }

    #[test]
    fn examples_of_the_wire_form_read_and_print_the_same() {
        for category in Category::ALL {
            let path = root().join("examples").join(format!("{category}.json"));
            let text = read(&path);
            let before: serde_json::Value = json(&path);
            let data: Data =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{category}: {error}"));
            assert_eq!(data.category(), category);
            let after = serde_json::to_value(&data).expect("data prints");
            assert!(same(&before, &after), "{category}: {before} became {after}");
            assert_eq!(check(&data), [], "{category}");
        }
    }
}
