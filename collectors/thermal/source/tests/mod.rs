//! Thermal sources over devices that say what a test wants.

use std::sync::Arc;

use cms_spec::provenance::Quality;
use cms_spec::reading::{Quantity, Sample, Value as Read};
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::*;
use crate::web::Offline;

const SOURCE: &str = "[[source]]\nlocation = 'rack-07'\nequipment_type = 'gpu_cluster'\n\
                      cooling_method = 'liquid'\nheat_utilization = 'none'\n";

const START_S: i64 = 1_767_607_200;

struct Bench {
    collector: Box<dyn Collector>,
    second: i64,
}

impl Bench {
    fn of(text: &str) -> Self {
        let text = text.replace("SOURCE", SOURCE);
        let table = DeTable::parse(&text).unwrap();
        let table = toml::Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let settings = (REGISTRATION.parse)(ValueDeserializer::from(table)).unwrap();
        let id = "host:0000000000000000".parse().unwrap();
        let host = Host::local(id, "test".to_owned(), Arc::new(Offline));
        Self {
            collector: settings.open(&host).unwrap(),
            second: START_S,
        }
    }

    /// One tick, 30 s after the one before.
    async fn tick(&mut self) -> Result<Sample, CollectError> {
        let at = Timestamp::from_second(self.second).unwrap();
        self.second += 30;
        let mut out = Readings::default();
        self.collector.collect(at, &mut out).await?;
        Ok(out.stamp("thermal/source", at, "boot"))
    }

    async fn read(&mut self) -> Vec<(Quantity, Read)> {
        let sample = self.tick().await.unwrap();
        sample
            .readings
            .iter()
            .map(|r| (r.quantity, r.value))
            .collect()
    }

    fn detail(&self, name: &str) -> String {
        let found = self
            .collector
            .details()
            .into_iter()
            .find(|line| line.starts_with(name));
        found.unwrap_or_default()
    }
}

fn point(key: &str, say: &str, unit: &str) -> String {
    format!(
        "{key} = {{ fake = {{ say = ['{}'] }}, unit_of_measure = '{unit}' }}\n",
        say.replace(' ', "','")
    )
}

#[tokio::test]
async fn figures_come_from_their_points() {
    let mut bench = Bench::of(&format!(
        "SOURCE{}{}{}{}",
        point("thermal_output", "85.3", "kW"),
        point("exhaust_temp", "41.5", "C"),
        point("heat_captured", "60000", "W"),
        point("source_captured", "240000", "BTU/h"),
    ));
    assert_eq!(
        bench.read().await,
        [
            (Quantity::ThermalOutput, Read::Gauge(85_300_000)),
            (Quantity::HeatDelivered, Read::Gauge(60_000_000)),
            (Quantity::HeatSourceCaptured, Read::Gauge(70_337_057)),
            (Quantity::ExhaustMilliKelvin, Read::Gauge(314_650)),
        ]
    );
    assert_eq!(
        bench.detail("rack-07 exhaust"),
        "rack-07 exhaust_temp: 41.5 C, 0 s old, measured, fake alone: 41.5"
    );
    assert_eq!(bench.collector.trouble(), None);
}

#[tokio::test]
async fn flow_and_temperatures_make_heat_of_stated_accuracy() {
    let mut bench = Bench::of(&format!(
        "SOURCE\nfluid = 'water'\nflow_nominal = 10\n{}{}{}",
        point("flow", "10", "m3/h"),
        point("supply", "40", "C"),
        point("return", "30", "C"),
    ));
    let sample = bench.tick().await.unwrap();
    assert_eq!(sample.readings[0].value, Read::Gauge(115_544_911));
    let origin = &sample.origins[0];
    // 2.02 + 0.5 + 0.3 + 0.5 + 0.9 = 4.22 %.
    assert_eq!(
        (origin.method.as_str(), origin.quality),
        ("flow-delta/1 within 5 %", Quality::Measured)
    );
}

#[tokio::test]
async fn exchanged_sensors_are_told_and_make_no_heat() {
    let mut bench = Bench::of(&format!(
        "SOURCE\nfluid = 'water'\n{}{}{}",
        point("flow", "10", "m3/h"),
        point("supply", "30", "C"),
        point("return", "40", "C"),
    ));
    assert_eq!(bench.read().await, []);
    let trouble = bench.collector.trouble().unwrap();
    assert!(
        trouble.contains("the return is 10 K hotter than the supply"),
        "{trouble}"
    );
}

#[tokio::test]
async fn a_worse_rung_speaks_at_once_and_the_better_one_after_ten_ticks() {
    let meter = format!("80 -1 {}", "80 ".repeat(12).trim());
    let mut bench = Bench::of(&format!(
        "SOURCE{}{}",
        point("thermal_output", &meter, "kW"),
        point("electrical_power", "90", "kW"),
    ));
    let mut methods = Vec::new();
    for _ in 0..13 {
        let sample = bench.tick().await.unwrap();
        let origin = sample.origins[0].clone();
        let from = origin
            .fallback
            .map(|fallback| format!("{}: {}", fallback.from, fallback.reason));
        methods.push((origin.method, origin.quality, from));
    }
    assert_eq!(
        methods[0],
        (
            "heat-power/1 at the source".to_owned(),
            Quality::Measured,
            None
        )
    );
    let estimated = ("electrical-power/1".to_owned(), Quality::Estimated);
    assert_eq!((methods[1].0.clone(), methods[1].1), estimated);
    assert_eq!(
        methods[1].2.as_deref(),
        Some("thermal_output: its value is not plausible")
    );
    assert!(
        methods[1..11]
            .iter()
            .all(|m| (m.0.clone(), m.1) == estimated),
        "{methods:?}"
    );
    assert_eq!(methods[12].1, Quality::Measured);
}

#[tokio::test]
async fn a_register_that_was_away_does_not_count_what_others_said() {
    let mut bench = Bench::of(&format!(
        "SOURCE{}{}",
        point(
            "thermal_output",
            &format!("100 101 bad {}", "110 ".repeat(20).trim()),
            "kWh"
        ),
        point("electrical_power", "90", "kW"),
    ));
    let mut amounts = Vec::new();
    for _ in 0..15 {
        for (quantity, value) in bench.read().await {
            assert_eq!(quantity, Quantity::ThermalOutput);
            let Read::Amount { amount, over_ms } = value else {
                panic!("{value:?}")
            };
            amounts.push((amount, over_ms));
        }
    }
    assert_eq!(amounts[0], (3_600_000_000_000, 30_000));
    assert!(
        amounts[1..]
            .iter()
            .all(|a| *a == (2_700_000_000_000, 30_000) || *a == (0, 30_000)),
        "{amounts:?}"
    );
}

#[tokio::test]
async fn a_point_without_a_value_is_missing_and_told() {
    let mut bench = Bench::of(&format!(
        "SOURCE{}{}",
        point("thermal_output", "80", "kW"),
        "exhaust_temp = { fake = { say = ['32767'] }, unit_of_measure = 'C', scale = 0.1, invalid = [32767] }\n",
    ));
    assert_eq!(bench.read().await.len(), 1);
    let trouble = bench.collector.trouble().unwrap();
    assert!(
        trouble.contains("rack-07 exhaust_temp: it says 32767, which means that it has no value"),
        "{trouble}"
    );
    assert!(
        bench
            .detail("rack-07 exhaust")
            .contains("missing: it says 32767")
    );
}

#[tokio::test(start_paused = true)]
async fn one_bad_device_costs_only_its_own_points() {
    let mut bench = Bench::of(
        "fake = [{ name = 'good' }, { name = 'hangs', does = 'hang' }, { name = 'panics', does = 'panic' }, \
         { name = 'fails', does = 'fail' }]\nSOURCE\
         thermal_output = { fake = { device = 'good', say = ['80'] }, unit_of_measure = 'kW' }\n\
         exhaust_temp = { fake = { device = 'hangs', say = ['1'] }, unit_of_measure = 'C' }\n\
         heat_captured = { fake = { device = 'panics', say = ['1'] }, unit_of_measure = 'kW' }\n\
         source_captured = { fake = { device = 'fails', say = ['1'] }, unit_of_measure = 'kW' }\n",
    );
    for _ in 0..5 {
        assert_eq!(
            bench.read().await,
            [(Quantity::ThermalOutput, Read::Gauge(80_000_000))]
        );
    }
    assert!(
        bench
            .detail("rack-07 exhaust")
            .contains("fake hangs has not answered yet")
    );
    assert!(bench.detail("rack-07 heat_captured").contains("has a bug"));
    assert!(
        bench
            .detail("rack-07 source_captured")
            .contains("the fake is not there; it is asked again in")
    );
    for _ in 0..30 {
        bench.read().await;
    }
    let hanging = bench.detail("rack-07 exhaust");
    assert!(hanging.contains("did not answer within 120 s"), "{hanging}");
}

#[tokio::test(start_paused = true)]
async fn nothing_at_all_is_a_failure_of_the_source() {
    let mut bench = Bench::of(&format!("SOURCE{}", point("thermal_output", "bad", "kW")));
    let error = bench.tick().await.unwrap_err();
    assert_eq!(error.class(), "unreachable");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("rack-07 thermal_output: bad"), "{cause}");
}

#[tokio::test]
async fn formulas_compute_from_points_of_any_unit() {
    let mut bench = Bench::of(&format!(
        "SOURCE[source.thermal_output]\nformula = 'a + b / 1000'\nunit_of_measure = 'kW'\n[source.points]\n{}{}",
        point("a", "50", "kW"),
        point("b", "500 bad", "W"),
    ));
    let sample = bench.tick().await.unwrap();
    assert_eq!(sample.readings[0].value, Read::Gauge(50_500_000));
    assert_eq!(sample.origins[0].method, "formula/1 at the source");
    assert_eq!(bench.read().await, []);
    assert!(
        bench
            .collector
            .trouble()
            .unwrap()
            .contains("thermal_output: b has no value")
    );
}

#[tokio::test]
async fn more_delivered_than_given_off_is_flagged() {
    let mut bench = Bench::of(&format!(
        "SOURCE{}{}",
        point("thermal_output", "80", "kW"),
        point("heat_captured", "90", "kW"),
    ));
    for _ in 0..19 {
        bench.tick().await.unwrap();
    }
    assert_eq!(bench.collector.trouble(), None);
    for _ in 0..5 {
        bench.tick().await.unwrap();
    }
    assert!(
        bench
            .collector
            .trouble()
            .unwrap()
            .contains("heat_captured is more than thermal_output")
    );
}
