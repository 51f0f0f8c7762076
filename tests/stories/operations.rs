//! The agent under a service manager: the test plays systemd, with its socket and its watchdog.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::site::{Running, Site, is_taken, wait_until};

/// `WatchdogSec=` of this manager: short, so that a sign of life is due every 200 ms.
const WATCHDOG: Duration = Duration::from_millis(600);

/// Longer than a sign of life ever takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The manager's end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    /// Starts the site's agent as a service of `Type=notify` with a watchdog.
    fn start(site: &Site) -> (Self, Running) {
        let path = site.path("notify.sock");
        let manager = Self(UnixDatagram::bind(&path).unwrap());
        let agent = site.start_agent_with(&[
            ("NOTIFY_SOCKET", path.to_str().unwrap()),
            ("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string()),
        ]);
        (manager, agent)
    }

    /// The next message that is not a sign of life.
    fn told(&self) -> Vec<String> {
        loop {
            let told = self.next(PATIENCE).unwrap();
            if told != ["WATCHDOG=1"] {
                return told;
            }
        }
    }

    /// The lines of the next message, if one comes in time.
    fn next(&self, within: Duration) -> Option<Vec<String>> {
        let mut bytes = [0; 4096];
        self.0.set_read_timeout(Some(within)).unwrap();
        let length = self.0.recv(&mut bytes).ok()?;
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }

    fn wait_for_a_sign_of_life(&self) {
        assert_eq!(self.next(PATIENCE).unwrap(), ["WATCHDOG=1"]);
    }
}

#[test]
fn a_service_manager_hears_of_start_reload_refusal_and_stop() {
    let site = Site::new();
    let (manager, agent) = Manager::start(&site);
    let ready = manager.told();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].starts_with("STATUS=3 sources"), "{ready:?}");
    for _ in 0..4 {
        manager.wait_for_a_sign_of_life();
    }

    let before = monotonic();
    agent.signal("-HUP");
    expect_reload(&manager, before);
    let ready = manager.told();
    assert_eq!(ready[0], "READY=1");
    assert!(!ready[1].contains("refused"), "{ready:?}");
    agent.wait_for("configuration reloaded");

    let good = fs::read_to_string(site.path("agent.toml")).unwrap();
    let broken = good.replacen("[compute]", "[compute]\nintervall = \"1s\"", 1);
    fs::write(site.path("agent.toml"), broken).unwrap();
    let before = monotonic();
    agent.signal("-HUP");
    expect_reload(&manager, before);
    let ready = manager.told();
    assert_eq!(ready[0], "READY=1");
    assert!(
        ready[1].contains("the last reload was refused"),
        "{ready:?}"
    );
    let line = agent.wait_for("the old one stays at work");
    assert!(
        line.contains("agent.toml:") && line.contains("intervall"),
        "{line}"
    );
    manager.wait_for_a_sign_of_life();

    fs::write(site.path("agent.toml"), good).unwrap();
    agent.signal("-TERM");
    assert_eq!(manager.told(), ["STOPPING=1"]);
    assert_eq!(agent.stop(), 0);
    assert_eq!(log_bytes(&site), 0, "one file holds everything");
    assert_eq!(site.last_leaf().as_deref(), Some("stop"));
}

#[test]
fn a_frozen_agent_gives_no_sign_of_life() {
    let site = Site::new();
    let (manager, agent) = Manager::start(&site);
    assert_eq!(manager.told()[0], "READY=1");
    manager.wait_for_a_sign_of_life();
    agent.signal("-STOP");
    wait_until("the agent to stand still", || state(agent.id()) == "T");
    while manager.next(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.next(WATCHDOG), None);
    agent.signal("-CONT");
    manager.wait_for_a_sign_of_life();
    assert_eq!(agent.stop(), 0);
}

#[test]
fn what_was_being_sent_at_a_reload_is_sent_again() {
    let site = Site::new();
    let dashboard = site.start_dashboard();
    let agent = site.start_agent();
    site.wait_until_all_accepted(3);
    dashboard.signal("-STOP");
    let mut sent = None;
    wait_until("a submission to be on its way", || {
        let outbox = site.outbox();
        let found = outbox.iter().find(|(_, state)| *state == "in_flight");
        sent = found.map(|(key, _)| *key);
        sent.is_some()
    });
    agent.signal("-HUP");
    agent.wait_for("configuration reloaded");
    dashboard.signal("-CONT");
    wait_until("it to be accepted", || {
        is_taken(&site.outbox()[&sent.unwrap()])
    });
    assert_eq!(agent.stop(), 0);
}

/// A reload is announced with its time in one message, as `Type=notify-reload` wants it.
fn expect_reload(manager: &Manager, not_before: u128) {
    let told = manager.told();
    assert_eq!(told[0], "RELOADING=1");
    let at: u128 = told[1]
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((not_before..=monotonic()).contains(&at), "{told:?}");
}

/// Bytes of the store's write-ahead log.
fn log_bytes(site: &Site) -> u64 {
    fs::metadata(site.path("agent/store.db-wal")).map_or(0, |log| log.len())
}

fn monotonic() -> u128 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap().as_micros()
}

/// The letter of a process's state.
fn state(id: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, after) = stat.rsplit_once(") ").unwrap();
    after[..1].to_owned()
}
