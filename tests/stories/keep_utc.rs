//! The zone of a machine, and its summer time, change nothing.

use std::fs;

use crate::site::{Site, wait_until};

/// Half an hour off the full hour, and summer time moves it by half an hour: nothing of it falls on UTC's days.
const ZONE: &str = "Australia/Lord_Howe";

#[test]
fn a_daily_slot_begins_at_midnight_in_utc_wherever_the_machine_stands() {
    let site = Site::new();
    fs::remove_dir_all(site.path("agent")).unwrap();
    let toml = fs::read_to_string(site.path("agent.toml")).unwrap();
    let daily = toml.replace("dark_data = \"2s\"\n", "");
    assert_ne!(toml, daily);
    fs::write(site.path("agent.toml"), daily).unwrap();
    let agent = site.start_agent_with(&[("TZ", ZONE)]);
    wait_until("a daily submission", || {
        let enqueued = site.enqueued();
        enqueued.values().any(|category| category == "dark-data")
    });
    let body = site.first_body("dark-data");
    let slot = &body["agent"]["slot"];
    assert!(
        slot["start"].as_str().unwrap().ends_with("T00:00:00Z"),
        "{slot}"
    );
    for time in [&slot["end"], &body["timestamp"]] {
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    }
    assert_eq!(agent.stop(), 0);
}
