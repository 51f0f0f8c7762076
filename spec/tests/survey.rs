//! Surveys in the windows: rows of a payload, beside readings of our own, over a restart, and their end.

#[cfg(test)]
mod tests {
    use cms_spec::coverage::{Baseline, Documented};
    use cms_spec::ghost::InstanceFacts;
    use cms_spec::payload::v1::{GhostCompute, InstanceClass};
    use cms_spec::payload::{Context, Data, Payload};
    use cms_spec::provenance::{Confidence, Entry, Origin};
    use cms_spec::reading::{Quantity, Readings, Snapshot, Value};
    use cms_spec::survey::{Mean, Survey, Surveyed};
    use cms_spec::units::Fixed;
    use cms_spec::windows::{BUCKET, INSTANCES_MAX, SURVEYS_MAX, Windows};
    use cms_spec::{Category, Slot};
    use jiff::{SignedDuration, Timestamp};

    const START: Timestamp = Timestamp::constant(1_768_521_600, 0); // 2026-01-16T00:00:00Z

    fn after(hours: i64) -> Timestamp {
        START + SignedDuration::from_hours(hours)
    }

    fn slot_after(hours: i64) -> Slot {
        BUCKET.last_closed(after(hours))
    }

    fn surveyed(name: &str, last_seen: Timestamp, cpu_percent: u64) -> Surveyed {
        let mean = |micro| Some(Mean { micro, origin: 0 });
        Surveyed {
            facts: InstanceFacts {
                instance: name.parse().expect("a subject"),
                instance_type: "m6a.large".to_owned(),
                region: "fra-1".to_owned(),
                launch_time: START,
                monthly_cost_usd: None,
            },
            first_seen: last_seen - SignedDuration::from_hours(30 * 24),
            last_seen,
            observed_ms: 15 * 86_400_000,
            cpu: mean(cpu_percent * 1_000_000),
            memory: mean(4_000_000),
            network: None,
            disk: None,
            power: mean(120_000_000),
        }
    }

    fn survey(server: &str, as_of: Timestamp, instances: Vec<Surveyed>) -> Survey {
        Survey {
            server: server.parse().expect("a subject"),
            as_of,
            origins: vec![Origin::measured(server, "promql/1", Confidence::C)],
            instances,
            notes: vec!["the answer was partial".to_owned()],
        }
    }

    fn take(windows: &mut Windows, survey: Survey) {
        let at = survey.as_of;
        let mut readings = Readings::default();
        readings.snapshot(Snapshot::Survey(survey));
        windows.observe(&readings.stamp("compute/prometheus", at, "boot"));
    }

    fn ghost(windows: &Windows, slot: Slot) -> (GhostCompute, Vec<Entry>) {
        let closed = windows
            .close(Category::GhostCompute, slot)
            .expect("instances report");
        let payload = Payload::build(closed, &Context::default());
        let Data::GhostCompute(ghost) = payload.data().clone() else {
            panic!("another category");
        };
        (ghost, payload.provenance().to_vec())
    }

    #[test]
    fn an_instance_of_a_survey_is_a_row_with_its_coverage() {
        let mut windows = Windows::new();
        let one = surveyed("node-1", after(0), 5);
        take(&mut windows, survey("prometheus", after(0), vec![one]));
        let (ghost, provenance) = ghost(&windows, slot_after(1));
        let row = &ghost.instance_inventory[0];
        assert_eq!(row.cpu_utilization_30day_avg, Some(Fixed::from_raw(500)));
        assert_eq!(row.network_io_30day_avg_mbps, None);
        assert_eq!(row.power_draw_watts, Fixed::whole(120));
        assert_eq!(row.classification, InstanceClass::Ghost);
        let cpu = "instance_inventory[].cpu_utilization_30day_avg";
        let entry = provenance.iter().find(|e| e.figure == cpu).unwrap();
        assert_eq!(entry.coverage, Some(Fixed::from_raw(5_000)));
        assert_eq!(entry.method, "promql/1");
        let note = provenance.iter().find(|e| e.method == "survey/1").unwrap();
        assert_eq!(note.note.as_deref(), Some("the answer was partial"));
        assert_eq!(note.source, "prometheus");
    }

    #[test]
    fn a_new_survey_takes_the_place_of_the_one_before() {
        let mut windows = Windows::new();
        let both = vec![surveyed("a", after(0), 5), surveyed("b", after(0), 5)];
        take(&mut windows, survey("prometheus", after(0), both));
        let one = vec![surveyed("a", after(1), 50)];
        take(&mut windows, survey("prometheus", after(1), one));
        let (ghost, _) = ghost(&windows, slot_after(2));
        assert_eq!(ghost.instance_inventory.len(), 1);
        assert_eq!(
            ghost.instance_inventory[0].classification,
            InstanceClass::Productive
        );
    }

    #[test]
    fn of_two_sources_the_newest_reading_counts_and_that_is_said() {
        let mut windows = Windows::new();
        let mut readings = Readings::default();
        let origin = readings.origin(Origin::measured("procfs", "procfs/1", Confidence::B));
        let same = "same".parse().unwrap();
        readings.push(
            &same,
            Quantity::MemoryUsedMilliPercent,
            Value::Gauge(9_000),
            origin,
        );
        windows.observe(&readings.stamp("compute/host", after(1), "boot"));
        for (server, hours, cpu) in [("old", 0, 5), ("new", 2, 70)] {
            let one = surveyed("same", after(hours), cpu);
            take(&mut windows, survey(server, after(2), vec![one]));
        }
        let (ghost, provenance) = ghost(&windows, slot_after(3));
        assert_eq!(ghost.instance_inventory.len(), 1);
        let cpu = ghost.instance_inventory[0].cpu_utilization_30day_avg;
        assert_eq!(cpu, Some(Fixed::whole(70)));
        let twice = provenance.iter().find(|e| e.method == "newest-wins/1");
        let note = twice.and_then(|e| e.note.as_deref()).unwrap();
        assert!(note.starts_with("2 instances"), "{note}");
    }

    #[test]
    fn an_instance_that_the_server_lost_is_gone_after_a_day() {
        let mut windows = Windows::new();
        let both = vec![surveyed("a", after(0), 5), surveyed("b", after(-20), 5)];
        take(&mut windows, survey("prometheus", after(0), both));
        assert_eq!(ghost(&windows, slot_after(1)).0.instance_inventory.len(), 2);
        assert_eq!(ghost(&windows, slot_after(5)).0.instance_inventory.len(), 1);
        assert!(
            windows
                .close(Category::GhostCompute, slot_after(25))
                .is_err()
        );
    }

    #[test]
    fn a_surveyed_instance_is_covered() {
        let mut windows = Windows::new();
        let mut readings = Readings::default();
        let instances = ["a", "b"].map(|id| Documented {
            id: id.to_owned(),
            name: id.to_owned(),
            decommissioned: None,
        });
        readings.snapshot(Snapshot::Baseline(Baseline {
            submission_date: "2026-01-01".parse().unwrap(),
            instances: instances.into(),
            storage: Vec::new(),
            model_endpoints: Vec::new(),
        }));
        windows.observe(&readings.stamp("coverage/baseline", after(0), "boot"));
        let both = vec![surveyed("a", after(0), 5), surveyed("b", after(-30), 5)];
        take(&mut windows, survey("prometheus", after(0), both));
        let closed = windows
            .close(Category::CoverageVerification, slot_after(1))
            .unwrap();
        let payload = Payload::build(closed, &Context::default());
        let Data::TelemetryCoverage(coverage) = payload.data() else {
            panic!("another category");
        };
        assert_eq!(coverage.current_telemetry_sources.instances_reporting, 1);
    }

    #[test]
    fn surveys_survive_a_restart_and_leave_with_their_window() {
        let mut windows = Windows::new();
        take(
            &mut windows,
            survey("prometheus", after(0), vec![surveyed("a", after(0), 5)]),
        );
        let text = serde_json::to_string(&windows.statements()).unwrap();
        let mut again = Windows::new();
        again.restore(windows.carry());
        again.restore_statements(serde_json::from_str(&text).unwrap());
        assert_eq!(ghost(&again, slot_after(1)), ghost(&windows, slot_after(1)));
        take(&mut again, survey("other", after(31 * 24), Vec::new()));
        assert_eq!(again.instances(), 0);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut windows = Windows::new();
        let many = |count: usize| {
            (0..count)
                .map(|n| surveyed(&n.to_string(), after(0), 5))
                .collect()
        };
        take(
            &mut windows,
            survey("one", after(0), many(INSTANCES_MAX - 1)),
        );
        take(&mut windows, survey("two", after(0), many(3)));
        assert_eq!(
            (windows.instances(), windows.dropped().excess),
            (INSTANCES_MAX, 2)
        );
        for server in 2..SURVEYS_MAX {
            take(
                &mut windows,
                survey(&server.to_string(), after(0), Vec::new()),
            );
        }
        take(&mut windows, survey("one too many", after(0), many(4)));
        assert_eq!(windows.dropped().excess, 6);
    }
}
