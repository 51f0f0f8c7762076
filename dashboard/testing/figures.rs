//! Bodies that are plausible, and what companies amount to by them.

use cms_attest::AgentId;
use cms_spec::Category;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::bench::{NOON, SLOT_END};
use super::{Bench, Signer};

/// Two instances at one PUE: a ghost and a productive one, of these whole watts.
pub(super) fn ghost(name: &str, idle_w: u32, busy_w: u32) -> Value {
    let (idle, busy) = (f64::from(idle_w), f64::from(busy_w));
    let row = |id: String, watts: f64, percent: f64, class: &str| {
        json!({
            "instance_id": id, "instance_type": "x", "region": "fra-1", "state": "running",
            "launch_time": "2025-11-15T08:30:00Z",
            "cpu_utilization_30day_avg": percent, "memory_utilization_30day_avg": percent,
            "network_io_30day_avg_mbps": 0.4, "disk_io_30day_avg_iops": 12,
            "power_draw_watts": watts, "classification": class,
            "monthly_cost_usd": 0.0, "monthly_energy_kwh": watts * 0.72,
            "monthly_energy_cost_usd": watts * 0.072,
        })
    };
    let daily = |watts: f64| watts * 0.024;
    let ratio = idle / (idle + busy);
    json!({ "ghost_compute": {
        "instance_inventory": [
            row(format!("{name}-idle"), idle, 3.0, "ghost"),
            row(format!("{name}-busy"), busy, 60.0, "productive"),
        ],
        "energy_summary": {
            "total_instances": 2, "ghost_instances": 1, "productive_instances": 1,
            "ghost_energy_kwh_daily": daily(idle), "productive_energy_kwh_daily": daily(busy),
            "total_energy_kwh_daily": daily(idle + busy),
            "ghost_energy_ratio": (ratio * 1e4).round() / 1e4,
            "ghost_efficiency_score": ((1.0 - ratio) * 1e4).round() / 1e2,
            "pue_multiplier": 1.0, "total_energy_with_cooling_kwh_daily": daily(idle + busy),
        },
        "physical_impact": {
            "monthly_waste_usd": (idle * 7.2).round() / 100.0, "co2e_kg_monthly": (idle * 0.72 * 0.384).round(),
            "water_liters_monthly": (idle * 0.72 * 4.93).round(), "component_stress_instances": 1,
            "grid_capacity_wasted_mw": (idle / 100.0).round() / 1e4,
        },
    }})
}

pub(super) fn model(routine: u32, small: u32) -> Value {
    json!({ "model_efficiency": {
        "inference_log": [],
        "summary": {
            "total_inference_requests_30day": routine, "routine_tasks_total": routine,
            "routine_to_slm_count": small,
            "routine_to_slm_ratio": (f64::from(small) / f64::from(routine) * 1e3).round() / 1e3,
            "model_mismatch_count": routine - small, "energy_wasted_kwh": 1.5,
        },
    }})
}

/// One storage unit at noon of the test's day.
pub(super) fn dark(name: &str, active_gb: u32, dark_gb: u32) -> Value {
    let end: Timestamp = SLOT_END.parse().unwrap();
    let row = |name: String, gb: u32, days: i64, class: &str| {
        json!({
            "bucket_name": name, "region": "fra-1", "total_size_gb": gb, "object_count": 10,
            "last_accessed_oldest": end - SignedDuration::from_hours(24 * days),
            "days_since_access": days, "classification": class,
            "monthly_cost_usd": f64::from(gb) * 0.02, "storage_class": "standard",
        })
    };
    json!({ "dark_data": {
        "storage_inventory": [
            row(name.to_owned(), active_gb, 6, "active"),
            row(format!("{name}:dark"), dark_gb, 400, "dark"),
        ],
        "summary": {
            "total_storage_gb": active_gb + dark_gb, "dark_data_gb": dark_gb,
            "dark_data_ratio": (f64::from(dark_gb) / f64::from(active_gb + dark_gb) * 1e3).round() / 1e3,
            "monthly_waste_usd": f64::from(dark_gb) * 0.02,
            "recommended_action": "migrate it to cold storage",
        },
    }})
}

pub(super) fn heat(output_kw: u32, captured_kw: u32) -> Value {
    let ratio = (f64::from(captured_kw) / f64::from(output_kw) * 1e3).round() / 1e3;
    json!({ "heat_recovery": {
        "thermal_sources": [{
            "location": "rack-07", "equipment_type": "gpu_cluster", "thermal_output_kw": output_kw,
            "exhaust_temp_celsius": 42, "cooling_method": "liquid", "heat_captured_kw": captured_kw,
            "heat_utilization": "office_space_heating", "recovery_efficiency": ratio,
        }],
        "summary": {
            "total_thermal_output_kw": output_kw, "total_heat_captured_kw": captured_kw,
            "overall_recovery_ratio": ratio,
            "primary_utilization_methods": ["office_space_heating"],
        },
    }})
}

pub(super) fn coverage(documented: u64, reporting: u64) -> Value {
    let share = |part: u64, whole: u64| {
        let thousandths = (part * 1000 + whole / 2) / whole;
        json!(f64::from(u32::try_from(thousandths).unwrap()) / 1e3)
    };
    let missing: Vec<String> = (reporting..documented)
        .map(|n| format!("i-{n} (idle-{n})"))
        .collect();
    json!({ "telemetry_coverage": {
        "bronze_inventory_baseline": {
            "submission_date": "2025-09-12", "total_instances_documented": documented,
            "total_storage_buckets_documented": 4, "total_model_endpoints_documented": 2,
        },
        "current_telemetry_sources": {
            "instances_reporting": reporting, "storage_reporting": 4, "model_endpoints_reporting": 2,
        },
        "coverage_ratios": {
            "instance_coverage": share(reporting, documented), "storage_coverage": 1.0,
            "model_coverage": 1.0, "overall_coverage": share(reporting + 6, documented + 6),
        },
        "missing_instances": missing,
    }})
}

/// Sends all four scored categories of one agent, all accepted.
pub(super) async fn submit_all(bench: &Bench, agent: &Signer, first_index: u64) {
    let bodies = [
        ghost("a", 100, 900),
        model(200, 190),
        dark("archive", 900, 100),
        heat(100, 93),
        coverage(20, 20),
    ];
    for (index, data) in (first_index..).zip(bodies) {
        let sent = bench.submission(agent, index, data);
        let accepted = bench.submit(agent, &sent).await.accepted().json();
        assert_eq!(accepted["warnings"], json!([]), "{accepted}");
    }
}

#[tokio::test]
async fn two_agents_are_one_company() {
    let bench = Bench::new();
    let (one, two) = (bench.agent(1).await, bench.agent(2).await);
    submit_all(&bench, &one, 0).await;
    let status = bench.status().await;
    assert_eq!(
        status["individual_metrics"]["ghost_compute"]["efficiency_score"],
        90.0
    );
    assert_eq!(
        status["individual_metrics"]["dark_data"]["efficiency_score"],
        90.0
    );
    assert_eq!(status["composite_efficiency"], 92.0);
    assert_eq!(status["certification_tier"], "Obsidian Prime");
    assert_eq!(
        status["individual_metrics"]["ghost_compute"]["tier_contribution"],
        "Prime"
    );
    assert_eq!(status["tier_history"][0]["tier"], "Obsidian Prime");
    assert_eq!(status["company_name"], "Acme <Corp> & Söhne");

    // Energies are added and then divided: (100 + 300) of (1000 + 1000), not the mean of two scores.
    let sent = bench.submission(&two, 0, ghost("b", 300, 700));
    bench.submit(&two, &sent).await.accepted();
    let status = bench.status().await;
    let ghost = &status["individual_metrics"]["ghost_compute"];
    assert_eq!(ghost["efficiency_score"], 80.0);
    assert_eq!(ghost["wasted_kwh_daily"], 9.6);
    assert_eq!(status["telemetry"]["ghost_compute"]["agents_live"], 2);
    assert_eq!(status["physical_impact"]["equivalent_homes"], 0);
}

#[tokio::test]
async fn nothing_is_known_of_a_company_that_has_sent_nothing() {
    let bench = Bench::new();
    let status = bench.status().await;
    assert_eq!(status["composite_efficiency"], Value::Null);
    assert_eq!(status["certification_tier"], "Silver");
    let ghost = &status["individual_metrics"]["ghost_compute"];
    assert_eq!(ghost["efficiency_score"], Value::Null);
    assert_eq!(ghost["wasted_kwh_daily"], Value::Null);
    assert_eq!(ghost["reason"], "missing: no submission yet");
    assert_eq!(status["physical_impact"]["co2e_monthly_kg"], Value::Null);
}

#[tokio::test]
async fn a_silent_agents_figures_are_withheld_after_half_an_hour() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    submit_all(&bench, &agent, 0).await;
    bench.pass(SignedDuration::from_mins(29));
    assert_eq!(bench.status().await["composite_efficiency"], 92.0);
    bench.pass(SignedDuration::from_mins(1));
    let status = bench.status().await;
    assert_eq!(status["composite_efficiency"], Value::Null);
    let telemetry = &status["telemetry"];
    assert_eq!(telemetry["ghost_compute"]["state"], "stale");
    assert_eq!(
        telemetry["dark_data"]["state"], "live",
        "a day's figure holds for the day"
    );
    let reason = &status["individual_metrics"]["ghost_compute"]["reason"];
    assert!(reason.as_str().unwrap().starts_with("stale"), "{reason}");
    bench.pass(SignedDuration::from_hours(24));
    assert_eq!(
        bench.status().await["telemetry"]["dark_data"]["state"],
        "stale"
    );
}

#[tokio::test]
async fn backfill_and_older_slots_do_not_become_current() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    let end: Timestamp = SLOT_END.parse().unwrap();
    let older = end - SignedDuration::from_mins(15);
    let newest = bench.submission(&agent, 0, ghost("a", 100, 900));
    bench.submit(&agent, &newest).await.accepted();
    let earlier = bench.submission_at(&agent, 1, ghost("a", 900, 100), older);
    bench.submit(&agent, &earlier).await.accepted();
    let mut late = bench.submission_at(&agent, 2, ghost("a", 800, 200), end);
    late.delivery = cms_spec::payload::Delivery::Backfill;
    let answer = bench.submit(&agent, &late).await.accepted().json();
    assert_eq!(answer["delivery"], "backfill");
    let status = bench.status().await;
    assert_eq!(
        status["individual_metrics"]["ghost_compute"]["efficiency_score"],
        90.0
    );
}

#[tokio::test]
async fn a_test_key_never_drives_a_figure() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    let key = bench.new_key("acme-corp", crate::key::Mode::Test);
    let sent = bench.submission(&agent, 0, ghost("a", 100, 900));
    let answer = bench
        .send(sent.signed(&agent, &key))
        .await
        .accepted()
        .json();
    assert!(answer["warnings"][0].as_str().unwrap().contains("test key"));
    let status = bench.status().await;
    assert_eq!(status["telemetry"]["ghost_compute"]["state"], "none");
}

#[tokio::test]
async fn history_has_a_line_for_each_day_and_the_tier_falls_after_seven() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    submit_all(&bench, &agent, 0).await;
    assert_eq!(bench.status().await["certification_tier"], "Obsidian Prime");
    for day in 1..=7 {
        bench.pass(SignedDuration::from_hours(24));
        crate::evaluate::day(&bench.app).await.unwrap();
        let held = &bench.status().await["certification_tier"];
        let expected = if day < 7 { "Obsidian Prime" } else { "Silver" };
        assert_eq!(held, expected, "day {day}");
    }
    let path = "/api/v1/company/acme-corp/metrics/history";
    let history = bench.get(path).await.accepted().json();
    let days = history["days"].as_array().unwrap();
    assert_eq!(days.len(), 8);
    assert_eq!(days[0]["composite_efficiency"], 92.0);
    assert_eq!(days[1]["composite_efficiency"], Value::Null);
    let metrics = &days[0]["metrics"]["individual_metrics"];
    assert_eq!(metrics["dark_data"]["dark_data_ratio"], 0.1);
    let one = format!("{path}?start_date=2026-01-16&end_date=2026-01-16");
    assert_eq!(
        bench.get(&one).await.json()["days"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for wrong in [
        "start_date=x",
        "start_date=2026-02-01&end_date=2026-01-01",
        "start_date=2020-01-01",
    ] {
        bench
            .get(&format!("{path}?{wrong}"))
            .await
            .refused(400, "query_malformed");
    }
}

#[tokio::test]
async fn current_gives_sums_and_no_inventory() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    submit_all(&bench, &agent, 0).await;
    let answer = bench
        .get("/api/v1/company/acme-corp/metrics/current")
        .await
        .accepted();
    let current = answer.json();
    assert_eq!(
        current["metrics"]["ghost_compute"]["energy_summary"]["total_instances"],
        2
    );
    assert_eq!(
        current["metrics"]["telemetry_coverage"]["missing_instances_count"],
        0
    );
    assert!(
        !answer.text.contains("a-idle"),
        "inventories are not public"
    );
    let unknown = bench.get("/api/v1/company/nobody/metrics/current").await;
    unknown.refused(404, "company_unknown");
}

#[tokio::test]
async fn sources_name_agents_and_their_last_words() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    submit_all(&bench, &agent, 0).await;
    let sources = bench
        .get("/api/v1/company/acme-corp/sources")
        .await
        .accepted()
        .json();
    let source = &sources["sources"][0];
    let id: AgentId = source["agent_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id, agent.id);
    assert_eq!(
        source["last_submissions"].as_array().unwrap().len(),
        Category::ALL.len()
    );
}

#[tokio::test]
async fn what_is_past_its_time_is_dropped_and_counted() {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    submit_all(&bench, &agent, 0).await;
    bench.settle().await;
    let noon: Timestamp = NOON.parse().unwrap();
    let store = bench.app.store();
    let at = |days: i64| noon + SignedDuration::from_hours(24 * days + 1);
    assert_eq!(
        store.retain(noon).await.unwrap(),
        crate::store::Dropped::default()
    );
    let day = store.retain(at(0)).await.unwrap();
    assert_eq!((day.nonces, day.bodies), (5, 0));
    let quarter = store.retain(at(90)).await.unwrap();
    assert_eq!(
        (quarter.bodies, quarter.submissions, quarter.days),
        (5, 0, 0)
    );
    let year = store.retain(at(366)).await.unwrap();
    assert_eq!((year.bodies, year.submissions, year.days), (0, 5, 1));
    let events = store
        .events(super::bench::company("acme-corp"), 10)
        .await
        .unwrap();
    assert_eq!(events.len(), 1, "events are for ever");
}
