//! Sources that hang and panic, beside one that works.

use super::*;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use cms_spec::provenance::{Confidence, Origin};
use cms_spec::reading::{Quantity, Value};

use crate::api_keys::ApiKeys;
use crate::config::SecretSource;
use crate::events::Events;
use crate::seal::tests::key;
use crate::status::{KeyRow, Nameplate, Part};

/// More than a busy machine needs; waiting ends as soon as the condition holds.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Way {
    HangsInCollect,
    HangsInOpen,
    PanicsInCollect,
    PanicsInOpen,
    PanicsInProgress,
    Works,
}

#[derive(Debug)]
struct Fake {
    way: Way,
    opened: Arc<AtomicUsize>,
    collected: Arc<AtomicUsize>,
    /// Blocks until the test ends.
    never: Arc<Mutex<Receiver<()>>>,
}

impl Fake {
    fn hang(&self) {
        let _ended = self.never.lock().map(|never| never.recv());
    }

    fn again(&self) -> Self {
        Self {
            way: self.way,
            opened: Arc::clone(&self.opened),
            collected: Arc::clone(&self.collected),
            never: Arc::clone(&self.never),
        }
    }
}

impl Settings for Fake {
    fn name(&self) -> String {
        format!("{:?}", self.way)
    }

    fn open(&self, _: &Host) -> Result<Box<dyn Collector>, OpenError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        match self.way {
            Way::HangsInOpen => self.hang(),
            Way::PanicsInOpen => panic!("as asked"),
            _ => {}
        }
        Ok(Box::new(self.again()))
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(5)
    }

    fn deadline(&self) -> Duration {
        match self.way {
            Way::HangsInCollect | Way::HangsInOpen => Duration::from_millis(50),
            _ => PATIENCE,
        }
    }
}

impl Collector for Fake {
    fn collect<'a, 'b, 'c>(
        &'a mut self,
        _: Timestamp,
        out: &'b mut Readings,
    ) -> Pin<Box<dyn Future<Output = Result<(), CollectError>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        self.collected.fetch_add(1, Ordering::SeqCst);
        match self.way {
            Way::HangsInCollect => self.hang(),
            Way::PanicsInCollect => panic!("as asked"),
            _ => {}
        }
        let origin = out.origin(Origin::measured("fake", "fake/1", Confidence::A));
        let subject = "host:a".parse().unwrap();
        let value = Value::Gauge(1);
        out.push(&subject, Quantity::MemoryUsedMilliPercent, value, origin);
        Box::pin(std::future::ready(Ok(())))
    }

    fn progress(&self) -> Option<String> {
        assert!(!matches!(self.way, Way::PanicsInProgress), "as asked");
        None
    }
}

#[tokio::test]
async fn sources_that_hang_or_panic_are_opened_again_and_the_others_do_not_notice() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &key(1)).await.unwrap();
    let clock = Clock::system();
    let nameplate = Nameplate {
        key: KeyRow::default(),
        company_id: "acme-corp".to_owned(),
        agent_id: "a".to_owned(),
        endpoint: "https://localhost/api/v1".to_owned(),
        inventory: None,
    };
    let status = Status::new(nameplate, clock.clone());
    let agent_id = "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap();
    let origin = cms_attest::Origin::new("acme-corp".parse().unwrap(), agent_id, 1);
    let keys = ApiKeys::at(SecretSource::Env("NONE".to_owned()), None);
    let events = Events::new(store.clone(), &origin, clock.clone(), keys);
    let changes = Changes::new(events, store.clone(), clock.clone());
    let collecting = Collecting {
        host: Host::local(
            "host:a".parse().unwrap(),
            "site".to_owned(),
            Arc::new(cms_collectors::web::Offline),
        ),
        store,
        status: status.clone(),
        metrics: Metrics::new(),
        changes,
        clock,
        chance: Chance::system(),
        blocking: Blocking::OnThreads,
        sampled: Arc::new(Notify::new()),
        pulse: Pulse::default(),
    };
    let (end, never) = sync_channel(1);
    let never = Arc::new(Mutex::new(never));
    let ways = [
        Way::HangsInCollect,
        Way::HangsInOpen,
        Way::PanicsInCollect,
        Way::PanicsInOpen,
        Way::PanicsInProgress,
        Way::Works,
    ];
    let fakes: BTreeMap<String, Arc<Fake>> = ways
        .into_iter()
        .map(|way| {
            let fake = Fake {
                way,
                opened: Arc::default(),
                collected: Arc::default(),
                never: Arc::clone(&never),
            };
            (fake.name(), Arc::new(fake))
        })
        .collect();
    let sources = fakes
        .values()
        .map(|fake| Source {
            collector: "compute/fake",
            category: Category::GhostCompute,
            settings: Arc::<Fake>::clone(fake),
        })
        .collect();
    let reopen = Backoff::new(Duration::from_millis(1), Duration::from_millis(20));
    let running = tokio::spawn(run_with(sources, collecting, reopen));

    let opened = |name: &str| fakes[name].opened.load(Ordering::SeqCst);
    let begun = Instant::now();
    let hung = || {
        let hangs = status
            .parts()
            .into_iter()
            .filter(|part| part.name.starts_with("Hangs"));
        hangs.map(|part| part.errors).collect::<Vec<_>>()
    };
    let all_threads = u64::try_from(THREADS_OF_A_SOURCE).unwrap();
    while opened("PanicsInCollect") < 4
        || opened("PanicsInOpen") < 4
        || opened("PanicsInProgress") < 4
        || hung() != [all_threads; 2]
        || fakes["Works"].collected.load(Ordering::SeqCst) < 20
    {
        assert!(begun.elapsed() < PATIENCE, "{:?}", status.parts());
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(opened("Works"), 1);
    assert_eq!(
        opened("HangsInCollect"),
        THREADS_OF_A_SOURCE,
        "each keeps a thread"
    );
    assert_eq!(
        opened("HangsInOpen"),
        THREADS_OF_A_SOURCE,
        "each keeps a thread"
    );
    let parts: BTreeMap<String, Part> = status
        .parts()
        .into_iter()
        .map(|part| (part.name.clone(), part))
        .collect();
    for (name, words) in [
        ("HangsInCollect", "no answer within 50ms"),
        ("HangsInOpen", "no answer within 50ms"),
        ("PanicsInCollect", "the collector panicked"),
        ("PanicsInOpen", "the collector panicked"),
        ("PanicsInProgress", "the collector panicked"),
    ] {
        let part = &parts[name];
        assert_eq!(part.state, PartState::Degraded, "{part:?}");
        assert!(
            part.last_error.as_ref().unwrap().contains(words),
            "{part:?}"
        );
    }
    assert_eq!(parts["Works"].state, PartState::Ok);
    assert_eq!(parts["store"].state, PartState::Ok);
    running.abort();
    drop(end);
}

#[test]
fn ticks_of_all_sources_fall_on_the_same_grid() {
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    let next = |after: Duration, every: Duration| next_tick(begun, every, begun + after) - begun;
    assert_eq!(next(Duration::ZERO, 5 * second), 5 * second);
    assert_eq!(next(second * 7, 5 * second), 10 * second);
    assert_eq!(next(second * 10, 5 * second), 15 * second);
    assert_eq!(next(second * 61, 60 * second), 120 * second);
}
