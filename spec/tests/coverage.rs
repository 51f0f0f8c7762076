//! Clocks of coverage: when they begin, what does not put them back, and what ends them.

#[cfg(test)]
mod tests {
    use cms_spec::coverage::{
        Assessment, Baseline, Decommissioned, Documented, Evidence, Kind, Thing, enough_of,
        is_enough, share,
    };
    use cms_spec::ghost::InstanceFacts;
    use cms_spec::merge::Merged;
    use cms_spec::payload::build::Payload;
    use cms_spec::payload::{AgentInfo, Context, Delivery, Envelope, Role, SCHEMA};
    use cms_spec::provenance::{Confidence, Origin};
    use cms_spec::reading::{Quantity, Readings, Snapshot, Value};
    use cms_spec::score::score;
    use cms_spec::survey::{Survey, Surveyed};
    use cms_spec::units::Fixed;
    use cms_spec::windows::{Statements, Windows};
    use cms_spec::{Category, Slot};
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::constant(1_768_521_600, 0); // 2026-01-16T00:00:00Z

    fn after(hours: i64) -> Timestamp {
        START + SignedDuration::from_hours(hours)
    }

    fn row(id: &str) -> Documented {
        Documented {
            id: id.to_owned(),
            name: String::new(),
            decommissioned: None,
        }
    }

    fn gone(id: &str, date: &str, digest: Evidence) -> Documented {
        Documented {
            decommissioned: Some(Decommissioned {
                date: date.parse().unwrap(),
                evidence: "termination.log".to_owned(),
                digest,
            }),
            ..row(id)
        }
    }

    fn digest(text: &str) -> Evidence {
        Evidence::Sha256(text.to_owned())
    }

    fn baseline(instances: Vec<Documented>) -> Baseline {
        Baseline {
            submission_date: "2026-01-01".parse().unwrap(),
            instances,
            storage: Vec::new(),
            model_endpoints: Vec::new(),
        }
    }

    fn document(windows: &mut Windows, hours: i64, baseline: Baseline) {
        let mut readings = Readings::default();
        readings.snapshot(Snapshot::Baseline(baseline));
        windows.observe(&readings.stamp("coverage/baseline", after(hours), "boot"));
    }

    fn report(windows: &mut Windows, hours: i64, ids: &[&str]) {
        let mut readings = Readings::default();
        let origin = readings.origin(Origin::measured("p", "p/1", Confidence::B));
        for id in ids {
            let subject = id.parse().unwrap();
            readings.push(&subject, Quantity::NetworkBytes, Value::Counter(1), origin);
        }
        windows.observe(&readings.stamp("compute/host", after(hours), "boot"));
    }

    fn survey(windows: &mut Windows, hours: i64, ids: &[&str]) {
        let one = |id: &&str| Surveyed {
            facts: InstanceFacts {
                instance: id.parse().unwrap(),
                instance_type: "x".to_owned(),
                region: "y".to_owned(),
                launch_time: START,
                monthly_cost_usd: None,
            },
            // A server knows at most one window: this moves on with each survey.
            first_seen: after(hours - 30 * 24),
            last_seen: after(hours),
            observed_ms: 1,
            cpu: None,
            memory: None,
            network: None,
            disk: None,
            power: None,
        };
        let mut readings = Readings::default();
        readings.snapshot(Snapshot::Survey(Survey {
            server: "prometheus".parse().unwrap(),
            as_of: after(hours),
            origins: Vec::new(),
            instances: ids.iter().map(one).collect(),
            notes: Vec::new(),
        }));
        windows.observe(&readings.stamp("compute/prometheus", after(hours), "boot"));
    }

    /// As after a restart: what the store keeps, and nothing else.
    fn restarted(windows: &Windows) -> Windows {
        let kept = serde_json::to_string(&windows.statements()).unwrap();
        let mut again = Windows::new();
        again.restore(windows.carry());
        again.restore_statements(serde_json::from_str::<Statements>(&kept).unwrap());
        again
    }

    fn look(windows: &Windows, hours: i64) -> Assessment {
        let now = windows.coverage(after(hours)).expect("an inventory");
        let then = restarted(windows).coverage(after(hours));
        assert_eq!(Some(&now), then.as_ref(), "a restart changes nothing");
        now
    }

    fn clocks(things: &[Thing]) -> Vec<(&str, Timestamp, Option<Timestamp>)> {
        let clock = |thing: &'_ Thing| (thing.since, thing.due);
        let names = things.iter().map(|thing| thing.what.as_str());
        let clocks = things.iter().map(clock);
        names
            .zip(clocks)
            .map(|(name, (since, due))| (name, since, due))
            .collect()
    }

    #[test]
    fn an_edit_of_the_inventory_puts_no_clock_back() {
        let mut windows = Windows::new();
        document(&mut windows, 0, baseline(vec![row("a"), row("b")]));
        report(&mut windows, 0, &["a"]);
        document(
            &mut windows,
            100,
            baseline(vec![row("a"), row("b"), row("c")]),
        );
        report(&mut windows, 100, &["a"]);
        let missing = [
            ("b", after(0), Some(after(7 * 24))),
            ("c", after(100), Some(after(100 + 7 * 24))),
        ];
        assert_eq!(clocks(&look(&windows, 101).missing), missing);
        // Taken out for a while, which is told, and put back.
        document(&mut windows, 110, baseline(vec![row("a"), row("c")]));
        let without = look(&windows, 111);
        assert_eq!(
            without
                .coverage
                .bronze_inventory_baseline
                .total_instances_documented,
            2
        );
        assert!(
            without.remarks[0].starts_with("instance b left the inventory at 2026-01-20T14:00:00Z"),
            "{:?}",
            without.remarks
        );
        document(
            &mut windows,
            120,
            baseline(vec![row("a"), row("b"), row("c")]),
        );
        assert_eq!(clocks(&look(&windows, 121).missing), missing);
        assert!(look(&windows, 121).remarks.is_empty());
    }

    #[test]
    fn what_was_seen_is_missing_since_then_however_long_ago() {
        let mut windows = Windows::new();
        document(&mut windows, 0, baseline(vec![row("a"), row("b")]));
        report(&mut windows, 10, &["a", "b"]);
        survey(&mut windows, 10, &["c"]);
        for day in 1..50 {
            report(&mut windows, day * 24, &["a"]);
            let missing = look(&windows, day * 24 + 1).missing;
            let expected = [("b", after(10), Some(after(10 + 7 * 24)))];
            // Silent for a day first.
            assert_eq!(
                clocks(&missing),
                expected[..usize::from(day > 1)],
                "day {day}"
            );
        }
    }

    #[test]
    fn what_is_new_has_48_hours_from_the_first_sight_and_never_longer() {
        let mut windows = Windows::new();
        // Known for long before there was an inventory: nobody could have listed it.
        survey(&mut windows, 0, &["a", "old"]);
        document(&mut windows, 5, baseline(vec![row("a")]));
        report(&mut windows, 7, &["new"]);
        for hours in 6..200 {
            survey(&mut windows, hours, &["a", "old"]);
            report(&mut windows, hours.max(7), &["new"]);
            let unlisted = look(&windows, hours).unlisted;
            let first = clocks(&unlisted)[0];
            assert_eq!(
                first,
                ("old", after(5), Some(after(5 + 48))),
                "hour {hours}"
            );
            if hours > 7 {
                let second = clocks(&unlisted)[1];
                assert_eq!(
                    second,
                    ("new", after(7), Some(after(7 + 48))),
                    "hour {hours}"
                );
            }
        }
        let forecast = look(&windows, 54).forecast(after(54));
        assert_eq!(
            (forecast.overdue, forecast.next_breach),
            (1, Some(after(53)))
        );
        document(
            &mut windows,
            200,
            baseline(vec![row("a"), row("new"), row("old")]),
        );
        assert!(look(&windows, 201).unlisted.is_empty());
    }

    #[test]
    fn a_decommission_counts_with_evidence_only_and_from_its_day() {
        let mut windows = Windows::new();
        document(&mut windows, 0, baseline(vec![row("a"), row("b")]));
        report(&mut windows, 0, &["a"]);
        let unreadable = Evidence::Unreadable("termination.log is not there".to_owned());
        let rows = vec![row("a"), gone("b", "2026-01-17", unreadable)];
        document(&mut windows, 1, baseline(rows));
        report(&mut windows, 2, &["a"]);
        let without = look(&windows, 25);
        assert_eq!(without.coverage.missing_instances, ["b"]);
        assert!(without.remarks[0].contains("does not count: termination.log is not there"));

        let rows = vec![row("a"), gone("b", "2026-01-17", digest("aa"))];
        document(&mut windows, 2, baseline(rows));
        report(&mut windows, 20, &["a"]);
        assert_eq!(look(&windows, 23).missing.len(), 1, "not before its day");
        let with = look(&windows, 25);
        assert_eq!(with.missing, []);
        assert_eq!(
            with.coverage.coverage_ratios.instance_coverage,
            Some(Fixed::ONE)
        );
        let [thing] = &with.decommissioned[..] else {
            panic!("{:?}", with.decommissioned);
        };
        assert_eq!((thing.since, thing.due), (after(24), None));
        assert_eq!(thing.proof.as_deref(), Some("termination.log sha-256 aa"));
        assert!(with.remarks.is_empty(), "{:?}", with.remarks);

        // Other evidence for the same record is told, also after a restart.
        let rows = vec![row("a"), gone("b", "2026-01-17", digest("bb"))];
        document(&mut windows, 30, baseline(rows));
        let changed = look(&windows, 31);
        assert_eq!(changed.missing, []);
        assert!(
            changed.remarks[0].contains("has changed: sha-256 aa at 2026-01-16T02:00:00Z, now bb"),
            "{:?}",
            changed.remarks
        );
        // And so is what reports all the same.
        report(&mut windows, 31, &["a", "b"]);
        let back = look(&windows, 32);
        assert_eq!(
            back.coverage.current_telemetry_sources.instances_reporting,
            1
        );
        assert!(
            back.remarks
                .iter()
                .any(|remark| remark.contains("reports all the same"))
        );
    }

    #[test]
    fn storage_and_endpoints_have_clocks_too() {
        let mut windows = Windows::new();
        document(
            &mut windows,
            0,
            Baseline {
                storage: vec![row("archive")],
                model_endpoints: vec![row("chat")],
                ..baseline(vec![row("a")])
            },
        );
        report(&mut windows, 0, &["a"]);
        let found = look(&windows, 1);
        let kinds: Vec<Kind> = found.missing.iter().map(|thing| thing.kind).collect();
        assert_eq!(kinds, [Kind::Storage, Kind::ModelEndpoint]);
        assert!(found.coverage.missing_instances.is_empty());
        assert!(!found.passes());
    }

    #[test]
    fn no_rounding_lifts_a_share_over_the_gate() {
        assert_eq!(share(1_899, 2_000), Some(Fixed::from_raw(950)));
        assert!(!is_enough(1_899, 2_000));
        assert!(is_enough(1_900, 2_000) && is_enough(0, 0));
        assert_eq!(
            (enough_of(2_000), enough_of(1), enough_of(35)),
            (1_900, 1, 34)
        );
    }

    fn said(windows: &Windows, hours: i64) -> Envelope {
        let slot = Slot {
            start: after(hours - 24),
            end: after(hours),
        };
        let closed = windows.close(Category::CoverageVerification, slot).unwrap();
        let agent = AgentInfo {
            agent_id: "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".to_owned(),
            version: "0".to_owned(),
            site: None,
            role: Role::Node,
            slot,
            sequence: 0,
            delivery: Delivery::Live,
            schema: SCHEMA.to_owned(),
        };
        let company = "acme-corp".parse().unwrap();
        let body = Payload::build(closed, &Context::default()).canonical(&company, agent);
        serde_json::from_slice(body.as_bytes()).unwrap()
    }

    #[test]
    fn agents_of_one_inventory_are_merged_also_where_one_cannot_read_the_evidence() {
        let unreadable = Evidence::Unreadable("termination.log is not there".to_owned());
        let mut gateway = Windows::new();
        let mut node = Windows::new();
        for (windows, evidence, ids) in [
            (&mut gateway, digest("aa"), ["a", "x"]),
            (&mut node, unreadable, ["b", "b"]),
        ] {
            let rows = vec![
                row("a"),
                row("b"),
                row("c"),
                gone("d", "2026-01-10", evidence),
            ];
            document(windows, 0, baseline(rows));
            report(windows, 3, &ids);
        }
        let mut merged = Merged::new();
        merged.add("gateway", &said(&gateway, 24));
        merged.add("node", &said(&node, 24));
        let coverage = merged.coverage().expect("two agents");
        assert_eq!(
            coverage
                .bronze_inventory_baseline
                .total_instances_documented,
            3
        );
        assert_eq!(coverage.current_telemetry_sources.instances_reporting, 2);
        assert_eq!(coverage.missing_instances, ["c"]);
        let clocks = merged.clocks();
        let names = |things: &[Thing]| things.iter().map(|t| t.what.clone()).collect::<Vec<_>>();
        assert_eq!(names(&clocks.missing), ["c"]);
        assert_eq!(names(&clocks.unlisted), ["x"]);
        assert_eq!(names(&clocks.decommissioned), ["d"]);
        assert_eq!(score(&merged).coverage_gate(), Some(false));
        // Another inventory of the same size and date is another one.
        let mut other = Windows::new();
        document(&mut other, 0, baseline(vec![row("e"), row("f"), row("g")]));
        report(&mut other, 3, &["e", "f", "g"]);
        merged.add("elsewhere", &said(&other, 24));
        let coverage = merged.coverage().expect("three agents");
        assert_eq!(
            coverage
                .bronze_inventory_baseline
                .total_instances_documented,
            6
        );
        assert_eq!(coverage.current_telemetry_sources.instances_reporting, 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn counts_agree_with_lists_whatever_happens(
            steps in prop::collection::vec((0_u8..4, 0_usize..6, 1_i64..40), 1..40),
        ) {
            const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
            let mut windows = Windows::new();
            let mut documented = vec![row("a")];
            document(&mut windows, 0, baseline(documented.clone()));
            let mut hours = 0;
            for (what, which, wait) in steps {
                hours += wait;
                let id = IDS[which];
                match what {
                    0 => report(&mut windows, hours, &[id]),
                    1 => survey(&mut windows, hours, &[id]),
                    2 if documented.iter().all(|known| known.id != id) => documented.push(row(id)),
                    _ => documented.retain(|known| known.id != id || documented_last(known)),
                }
                document(&mut windows, hours, baseline(documented.clone()));
                let found = look(&windows, hours);
                let counts = &found.coverage.bronze_inventory_baseline;
                let reporting = found.coverage.current_telemetry_sources.instances_reporting;
                let total = counts.total_instances_documented;
                prop_assert_eq!(total, u64::try_from(documented.len()).unwrap());
                prop_assert_eq!(total - reporting, u64::try_from(found.missing.len()).unwrap());
                prop_assert_eq!(found.missing.len(), found.coverage.missing_instances.len());
                for thing in found.missing.iter().chain(&found.unlisted) {
                    prop_assert!(thing.since <= after(hours), "a clock begins in the future: {:?}", thing);
                }
            }
        }
    }

    /// An inventory is never empty.
    fn documented_last(known: &Documented) -> bool {
        known.id == "a"
    }
}
