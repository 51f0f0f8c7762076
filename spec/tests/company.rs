//! What several agents say together: merging in any order and grouping, and the score of the result.

#[cfg(test)]
mod tests {
    use cms_spec::merge::Merged;
    use cms_spec::payload::v1::{
        BaselineCounts, CoverageRatios, DarkData, GhostCompute, HeatRecovery, Instance,
        InstanceClass, ModelEfficiency, ModelSummary, SourceCounts, StorageClass, StorageRow,
        TelemetryCoverage, ThermalSource,
    };
    use cms_spec::payload::{Data, Envelope};
    use cms_spec::score::{Metric, Points, score};
    use cms_spec::tier::Tier;
    use cms_spec::units::Fixed;
    use cms_spec::{Category, dark, heat};
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn envelope(second: i64, data: Data) -> Envelope {
        Envelope {
            company_id: "acme-corp".parse().expect("a company id"),
            timestamp: Timestamp::from_second(1_768_521_600 + second).expect("a time"),
            data,
            agent: None,
            provenance: Vec::new(),
        }
    }

    fn instance(id: &str, deciwatts: i64, class: InstanceClass) -> Instance {
        Instance {
            instance_id: id.to_owned(),
            instance_type: "x".to_owned(),
            region: "y".to_owned(),
            state: "running".to_owned(),
            launch_time: Timestamp::UNIX_EPOCH,
            cpu_utilization_30day_avg: None,
            memory_utilization_30day_avg: None,
            network_io_30day_avg_mbps: None,
            disk_io_30day_avg_iops: None,
            power_draw_watts: Fixed::from_raw(deciwatts),
            classification: class,
            monthly_cost_usd: Fixed::from_raw(100),
            monthly_energy_kwh: Fixed::ZERO,
            monthly_energy_cost_usd: Fixed::ZERO,
        }
    }

    fn ghosts(rows: Vec<Instance>) -> Data {
        let mut ghost = GhostCompute {
            instance_inventory: rows,
            ..GhostCompute::default()
        };
        ghost.energy_summary.pue_multiplier = Fixed::from_raw(1_500);
        Data::GhostCompute(ghost)
    }

    fn storage(name: &str, gigabytes: u32, class: StorageClass) -> StorageRow {
        StorageRow {
            bucket_name: name.to_owned(),
            region: "y".to_owned(),
            total_size_gb: Fixed::whole(u64::from(gigabytes)),
            object_count: 1,
            last_accessed_oldest: Timestamp::UNIX_EPOCH,
            days_since_access: 1,
            classification: class,
            monthly_cost_usd: Fixed::ONE,
            storage_class: "standard".to_owned(),
        }
    }

    fn stored(rows: Vec<StorageRow>) -> Data {
        let summary = dark::summary(&rows);
        Data::DarkData(DarkData {
            storage_inventory: rows,
            summary,
        })
    }

    fn requests(routine: u64, small: u64) -> Data {
        Data::ModelEfficiency(ModelEfficiency {
            inference_log: Vec::new(),
            summary: ModelSummary {
                total_inference_requests_30day: routine,
                routine_tasks_total: routine,
                routine_to_slm_count: small,
                model_mismatch_count: routine.saturating_sub(small),
                ..ModelSummary::default()
            },
        })
    }

    fn warmth(location: &str, output: i64, captured: i64) -> Data {
        let rows = vec![ThermalSource {
            location: location.to_owned(),
            equipment_type: "rack".to_owned(),
            thermal_output_kw: Some(Fixed::from_raw(output)),
            exhaust_temp_celsius: None,
            cooling_method: "air".to_owned(),
            heat_captured_kw: Some(Fixed::from_raw(captured)),
            heat_utilization: "offices".to_owned(),
            recovery_efficiency: Some(Fixed::ZERO),
        }];
        let summary = heat::summary(&rows);
        Data::HeatRecovery(HeatRecovery {
            thermal_sources: rows,
            summary,
        })
    }

    fn inventory(documented: u64, missing: &[&str]) -> Data {
        let gone = u64::try_from(missing.len()).expect("few");
        Data::TelemetryCoverage(TelemetryCoverage {
            bronze_inventory_baseline: BaselineCounts {
                submission_date: "2025-09-12".parse().expect("a date"),
                total_instances_documented: documented,
                total_storage_buckets_documented: 2,
                total_model_endpoints_documented: 0,
            },
            current_telemetry_sources: SourceCounts {
                instances_reporting: documented.saturating_sub(gone),
                storage_reporting: 1,
                model_endpoints_reporting: 0,
            },
            coverage_ratios: CoverageRatios::default(),
            missing_instances: missing.iter().map(|id| (*id).to_owned()).collect(),
        })
    }

    fn scored(figures: [Data; 4]) -> cms_spec::score::CompanyScore {
        let mut merged = Merged::new();
        for data in figures {
            merged.add("one", &envelope(0, data));
        }
        score(&merged)
    }

    fn points(raw: i64) -> Points {
        Points::from_raw(raw * Points::SCALE / 10)
    }

    #[test]
    fn a_company_of_four_metrics() {
        let company = scored([
            ghosts(vec![
                instance("a", 942, InstanceClass::Productive),
                instance("b", 58, InstanceClass::Ghost),
            ]),
            requests(1_000, 918),
            stored(vec![
                storage("s", 897, StorageClass::Active),
                storage("s:dark", 103, StorageClass::Dark),
            ]),
            warmth("hall", 10_000, 9_350),
        ]);
        assert_eq!(company.ghost, Metric::Scored(points(942)));
        assert_eq!(company.model, Metric::Scored(points(918)));
        assert_eq!(company.dark, Metric::Scored(points(897)));
        assert_eq!(company.heat, Metric::Scored(points(935)));
        assert_eq!(company.composite, Some(points(923)));
        assert_eq!(company.tier, Tier::ObsidianPrime);
        assert_eq!(company.reason, None);
    }

    #[test]
    fn under_50_kw_heat_weighs_nothing() {
        let company = scored([
            ghosts(vec![instance("a", 1_000, InstanceClass::Productive)]),
            requests(100, 80),
            stored(vec![storage("s", 10, StorageClass::Active)]),
            warmth("hall", 499, 0),
        ]);
        assert_eq!(company.heat, Metric::Exempt);
        // 33 + 0.33 * 80 + 34.
        assert_eq!(company.composite, Some(points(934)));
    }

    #[test]
    fn one_metric_below_75_is_silver() {
        let company = scored([
            ghosts(vec![instance("a", 1_000, InstanceClass::Productive)]),
            requests(100_000, 74_999),
            stored(vec![storage("s", 10, StorageClass::Active)]),
            warmth("hall", 1_000, 1_000),
        ]);
        assert_eq!(company.tier, Tier::Silver);
        assert_eq!(company.failing, [Category::ModelEfficiency]);
        assert!(
            company
                .composite
                .is_some_and(|points| Tier::of(points) > Tier::Silver)
        );
    }

    #[test]
    fn without_figures_there_is_no_composite() {
        let empty = score(&Merged::new());
        assert_eq!(empty.composite, None);
        assert_eq!(empty.missing.len(), 4);
        let company = scored([
            ghosts(Vec::new()),
            requests(0, 0),
            stored(Vec::new()),
            warmth("hall", 499, 0),
        ]);
        assert_eq!(company.ghost, Metric::NotApplicable);
        assert_eq!(company.composite, None);
    }

    #[test]
    fn energies_are_summed_and_ratios_never_averaged() {
        let mut merged = Merged::new();
        merged.add(
            "one",
            &envelope(0, ghosts(vec![instance("a", 100, InstanceClass::Ghost)])),
        );
        merged.add(
            "two",
            &envelope(
                0,
                ghosts(vec![instance("b", 9_900, InstanceClass::Productive)]),
            ),
        );
        let summary = &merged.ghost().expect("two agents").energy_summary;
        assert_eq!(summary.ghost_energy_ratio, Some(Fixed::from_raw(100)));
        assert_eq!(summary.pue_multiplier, Fixed::from_raw(1_500));
    }

    #[test]
    fn the_newest_statement_about_an_instance_wins_and_the_other_is_reported() {
        let mut merged = Merged::new();
        merged.add(
            "one",
            &envelope(60, ghosts(vec![instance("a", 100, InstanceClass::Ghost)])),
        );
        merged.add(
            "two",
            &envelope(
                0,
                ghosts(vec![instance("a", 900, InstanceClass::Productive)]),
            ),
        );
        let rows = &merged.ghost().expect("two agents").instance_inventory;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].classification, InstanceClass::Ghost);
        let conflict = &merged.conflicts()[0];
        assert_eq!(
            (conflict.kept.as_str(), conflict.left_out.as_str()),
            ("one", "two")
        );
    }

    #[test]
    fn agents_that_share_a_baseline_cover_it_together() {
        let mut merged = Merged::new();
        merged.add("one", &envelope(0, inventory(3, &["b", "c"])));
        merged.add("two", &envelope(0, inventory(3, &["a", "c"])));
        let coverage = merged.coverage().expect("two agents");
        assert_eq!(coverage.missing_instances, ["c"]);
        assert_eq!(coverage.current_telemetry_sources.instances_reporting, 2);
        assert_eq!(coverage.coverage_ratios.storage_coverage, Some(Fixed::ONE));
        assert_eq!(score(&merged).coverage_gate(), Some(false));
    }

    fn data() -> impl Strategy<Value = Data> {
        let ids = || prop::sample::select(vec!["a", "b", "c"]);
        let class = prop::sample::select(vec![
            InstanceClass::Ghost,
            InstanceClass::InsufficientData,
            InstanceClass::Productive,
        ]);
        let rows = prop::collection::vec((ids(), any::<i64>(), class), 0..4);
        let kept = prop::sample::select(vec![StorageClass::Active, StorageClass::Dark]);
        let units = prop::collection::vec((ids(), any::<u32>(), kept), 0..4);
        prop_oneof![
            rows.prop_map(|rows| {
                let row =
                    |(id, watts, class): (&str, i64, InstanceClass)| instance(id, watts, class);
                ghosts(rows.into_iter().map(row).collect())
            }),
            units.prop_map(|rows| {
                let row = |(id, size, class): (&str, u32, StorageClass)| storage(id, size, class);
                stored(rows.into_iter().map(row).collect())
            }),
            (any::<u64>(), any::<u64>()).prop_map(|(routine, small)| requests(routine, small)),
            (ids(), any::<i64>(), any::<i64>()).prop_map(|(id, a, b)| warmth(id, a, b)),
            (any::<u64>(), prop::collection::vec(ids(), 0..3))
                .prop_map(|(documented, missing)| inventory(documented, &missing)),
        ]
    }

    fn statements() -> impl Strategy<Value = Vec<(&'static str, Envelope)>> {
        let agents = prop::sample::select(vec!["one", "two", "three"]);
        let one = (agents, 0_i64..3, data())
            .prop_map(|(agent, second, data)| (agent, envelope(second, data)));
        prop::collection::vec(one, 0..6)
    }

    fn merged(statements: &[(&str, Envelope)]) -> Merged {
        let mut merged = Merged::new();
        for (agent, envelope) in statements {
            merged.add(agent, envelope);
        }
        merged
    }

    fn same(a: &Merged, b: &Merged) -> bool {
        a == b
            && a.ghost() == b.ghost()
            && a.model() == b.model()
            && a.dark() == b.dark()
            && a.heat() == b.heat()
            && a.coverage() == b.coverage()
            && a.conflicts() == b.conflicts()
            && score(a) == score(b)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn merging_is_associative_commutative_and_idempotent(a in statements(), b in statements(), c in statements()) {
            let (ma, mb, mc) = (merged(&a), merged(&b), merged(&c));
            let left = ma.clone().merge(&mb).merge(&mc);
            let right = ma.clone().merge(&mb.clone().merge(&mc));
            prop_assert!(same(&left, &right));
            prop_assert!(same(&ma.clone().merge(&mb), &mb.merge(&ma)));
            prop_assert!(same(&left.clone().merge(&left), &left));
            let mut all = [a, b, c].concat();
            all.reverse();
            prop_assert!(same(&left, &merged(&all)));
        }

        #[test]
        fn scores_are_between_0_and_100(a in statements()) {
            let company = score(&merged(&a));
            for metric in [company.ghost, company.model, company.dark, company.heat] {
                if let Some(points) = metric.points() {
                    prop_assert!(points >= Points::ZERO && points <= self::points(1_000));
                }
            }
            prop_assert!(company.composite.is_none_or(|points| points <= self::points(1_000)));
        }
    }
}
