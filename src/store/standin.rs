//! A store without a disk. It stands in while the one on disk cannot be used, and holds what is read until then.
//!
//! Promises: nothing is written anywhere, every write is an error that says why, and the newest samples are
//! held up to a bound. Refuses: ledger and outbox, since nothing may be signed that is not on disk.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use cms_spec::reading::Sample;
use cms_spec::windows::Windows;

use super::seal::Sealer;
use super::{Inner, Store, StoreError, heal, place, samples, silent};
use crate::blocking::Blocking;
use crate::clock::Clock;
use crate::limits::HELD_VALUES_MAX;
use crate::seal::{KeyError, Protection, StoreKey, random_key};

/// What a store without a disk holds.
pub(super) struct Held {
    path: PathBuf,
    reason: String,
    samples: VecDeque<(String, Sample)>,
    values: usize,
    dropped: u64,
}

/// What was read while there was no disk.
#[derive(Debug, Default)]
pub struct Taken {
    /// Source and sample, oldest first.
    pub samples: Vec<(String, Sample)>,
    /// How many older ones had to go.
    pub dropped: u64,
}

impl Store {
    /// Stands in for the store under `path`, which cannot be used for this reason.
    ///
    /// # Errors
    /// When the system gives no thread or no random numbers.
    pub async fn stand_in(
        path: &Path,
        reason: String,
        blocking: Blocking,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let held = Held {
            path: path.to_owned(),
            reason,
            samples: VecDeque::new(),
            values: 0,
            dropped: 0,
        };
        Self::start(path, blocking, move || Inner::without_disk(held, clock)).await
    }

    /// Says anew why the store on disk cannot be used.
    ///
    /// # Errors
    /// When the store's thread has ended.
    pub async fn stand_in_because(&self, reason: String) -> Result<(), StoreError> {
        self.call(move |inner| {
            if let Some(held) = &mut inner.held {
                held.reason = reason;
            }
            Ok(())
        })
        .await
    }

    /// Takes what was held, to be recorded by the store on disk.
    ///
    /// # Errors
    /// When the store's thread has ended.
    pub async fn take_held(&self) -> Result<Taken, StoreError> {
        self.call(|inner| {
            Ok(inner.held.as_mut().map_or_else(Taken::default, |held| {
                held.values = 0;
                Taken {
                    samples: held.samples.drain(..).collect(),
                    dropped: std::mem::take(&mut held.dropped),
                }
            }))
        })
        .await
    }
}

impl Inner {
    fn without_disk(held: Held, clock: Clock) -> Result<Self, StoreError> {
        let bytes = random_key().map_err(KeyError::Encrypt)?;
        let nowhere = Protection::File("none: the store has no disk".to_owned());
        let key = StoreKey::new(&bytes, nowhere).map_err(KeyError::Encrypt)?;
        let connection = heal::in_memory()?;
        let sealer = Sealer::reading(&connection, &held.path, &key)?;
        Ok(Self {
            connection,
            sealer,
            place: place::Place::nowhere(held.path.join("store.db")),
            windows: Windows::default(),
            unsaved: samples::Unsaved::default(),
            silent: silent::Silent::default(),
            oldest_tick_bucket: i64::MIN,
            health: heal::Health::new(clock, key),
            held: Some(held),
        })
    }

    /// Holds a sample where there is no disk; then it is not recorded.
    pub(super) fn hold(&mut self, source: &str, sample: &Sample) -> Result<(), StoreError> {
        if let Some(held) = &mut self.held {
            held.push(source, sample);
        }
        self.refuse_without_disk()
    }

    /// Whether this is the store on disk.
    pub(super) fn refuse_without_disk(&self) -> Result<(), StoreError> {
        match &self.held {
            None => Ok(()),
            Some(held) => Err(StoreError::NoDisk {
                path: held.path.clone(),
                reason: held.reason.clone(),
            }),
        }
    }
}

impl Held {
    fn push(&mut self, source: &str, sample: &Sample) {
        self.values += values(sample);
        self.samples.push_back((source.to_owned(), sample.clone()));
        while self.values > HELD_VALUES_MAX
            && let Some((_, oldest)) = self.samples.pop_front()
        {
            self.values -= values(&oldest);
            self.dropped += 1;
        }
    }
}

/// What a sample takes, in readings; an empty one takes something too.
fn values(sample: &Sample) -> usize {
    1 + sample.values()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::provenance::{Confidence, Origin};
    use cms_spec::reading::{Quantity, Readings, Value};
    use jiff::Timestamp;

    fn sample(second: i64, count: usize) -> Sample {
        let mut readings = Readings::default();
        let origin = readings.origin(Origin::measured("p", "p/1", Confidence::A));
        let host = "host:a".parse().unwrap();
        for _ in 0..count {
            readings.push(&host, Quantity::CpuBusyMs, Value::Gauge(1), origin);
        }
        readings.stamp("compute/host", Timestamp::from_second(second).unwrap(), "b")
    }

    #[tokio::test]
    async fn samples_are_held_up_to_the_bound_and_every_write_says_why() {
        let path = Path::new("/nowhere");
        let store = Store::stand_in(
            path,
            "read-only".to_owned(),
            Blocking::OnThreads,
            Clock::system(),
        )
        .await
        .unwrap();
        for second in 0..4 {
            let kept = store
                .record("compute/host", sample(second, HELD_VALUES_MAX / 3))
                .await;
            assert!(kept.unwrap_err().to_string().contains("read-only"));
        }
        assert!(matches!(store.ping().await, Err(StoreError::NoDisk { .. })));
        store.stand_in_because("no space".to_owned()).await.unwrap();
        assert!(
            store
                .ping()
                .await
                .unwrap_err()
                .to_string()
                .contains("no space")
        );
        assert!(store.set_meta("a", "b".to_owned()).await.is_err());
        assert_eq!(store.outbox_counts().await.unwrap().pending, 0);
        let taken = store.take_held().await.unwrap();
        assert_eq!((taken.samples.len(), taken.dropped), (2, 2));
        assert_eq!(taken.samples[0].1.at, Timestamp::from_second(2).unwrap());
        assert_eq!(store.take_held().await.unwrap().samples.len(), 0);
    }
}
