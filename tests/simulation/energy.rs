//! Conservation: what the windows hold is what the meter's counters grew by, to the microjoule.

use cms_spec::Category;
use cms_spec::windows::{BUCKET, Windows};
use cms_telemetry_agent::config;
use cms_telemetry_agent::store::{key, read_windows};
use jiff::Timestamp;

use super::meter::{INSTANCE, Look};

/// Where the series of energy stands in the carry of an instance.
const ENERGY_SERIES: usize = 4;

/// What the windows must hold.
#[derive(Debug, Default)]
pub(crate) struct Energy {
    /// The newest look that is on disk.
    last: Option<Look>,
    total_uj: u128,
    /// What the counters grew by altogether, whether somebody looked in time or not.
    grown_uj: u128,
    newest: Option<Look>,
}

impl Energy {
    /// Compares the store of an agent that does not run with what the meter has shown since the last time.
    ///
    /// Looks that were not written before the process died are bridged by the next one of the same boot. Where
    /// the clock was stepped, a part may be missing, and nothing may be there twice.
    pub(crate) fn settle(
        &mut self,
        store: &config::Store,
        looks: Vec<Look>,
        is_exact: bool,
    ) -> Result<(), String> {
        for look in &looks {
            if let Some(before) = self.newest.replace(look.clone())
                && before.boot == look.boot
            {
                self.grown_uj += u128::from(look.energy_uj - before.energy_uj);
            }
        }
        let windows = read(store)?;
        let (written, held_uj) = (last_look(&windows), held(&windows)?);
        if held_uj > self.grown_uj {
            return Err(format!(
                "the windows hold {held_uj} uJ, and the meter grew by {} uJ only",
                self.grown_uj
            ));
        }
        if !is_exact {
            return Ok(());
        }
        if written != self.last {
            let reached = looks.iter().position(|look| Some(look) == written.as_ref());
            let reached = reached.ok_or("the newest look in the store is none of the meter's")?;
            for look in looks.into_iter().take(reached + 1) {
                if let Some(before) = self.last.replace(look.clone())
                    && before.boot == look.boot
                {
                    self.total_uj += u128::from(look.energy_uj - before.energy_uj);
                }
            }
        }
        if held_uj == self.total_uj {
            return Ok(());
        }
        Err(format!(
            "the windows hold {held_uj} uJ, and the written looks make {} uJ",
            self.total_uj
        ))
    }

    /// Takes the store as it is for the truth, after an older one was put back.
    pub(crate) fn begin_from(&mut self, store: &config::Store) -> Result<(), String> {
        let windows = read(store)?;
        self.last = last_look(&windows);
        self.total_uj = held(&windows)?;
        Ok(())
    }
}

fn read(store: &config::Store) -> Result<Windows, String> {
    let key = key::find(store).map_err(|error| error.to_string())?;
    let key = key.ok_or("the store has no key")?;
    read_windows(&store.path, &key).map_err(|error| error.to_string())
}

/// The microjoules of all buckets, up to the newest.
fn held(windows: &Windows) -> Result<u128, String> {
    let Some(look) = last_look(windows) else {
        return Ok(0);
    };
    let newest = Timestamp::from_millisecond(look.at_ms).unwrap();
    let slot = BUCKET.slot_at(newest);
    let Ok(closed) = windows.close(Category::GhostCompute, slot) else {
        return Ok(0);
    };
    // Sums are not public: what leaves the agent is rounded. Their text is.
    let text = format!("{closed:?}");
    let (_, sums) = text.split_once("microjoules: ").ok_or("no energy")?;
    let digits = sums.split(',').next().unwrap_or_default();
    digits.parse().map_err(|_| "no number".to_owned())
}

/// The baseline from which the next look is counted.
fn last_look(windows: &Windows) -> Option<Look> {
    let carry = serde_json::to_value(windows.carry()).unwrap();
    let last = &carry["instances"][INSTANCE]["series"][ENERGY_SERIES];
    let boot = usize::try_from(last["boot"].as_u64()?).unwrap();
    Some(Look {
        boot: carry["names"][boot].as_str()?.to_owned(),
        at_ms: last["at"].as_i64()?,
        energy_uj: last["values"][0].as_u64()?,
    })
}
