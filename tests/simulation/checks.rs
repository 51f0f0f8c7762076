//! What must hold, always and at the end. Each function answers with what does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cms_attest::Digest;
use cms_attest::checkpoint::CosignerKey;
use cms_attest::merkle::Frontier;
use cms_attest::verify::{Trust, Verdict, verify};
use cms_spec::Category;
use cms_telemetry_agent::cli::export::write_bundle;
use cms_telemetry_agent::config;
use jiff::Timestamp;

use super::ledger::{Agent, Taken, taken};
use super::network::Place;

/// What has been seen of a run's ledgers so far, so that nothing can change behind the back of a check.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Every leaf that was ever on disk; two at one place only after an older store was put back.
    known: BTreeMap<Place, BTreeSet<Vec<u8>>>,
    heads_checked: usize,
}

impl Watch {
    /// The invariants that hold at any moment.
    pub(crate) fn look(
        &mut self,
        agent: &Agent,
        dashboard: &Path,
        heads: &[String],
        may_fork: bool,
    ) -> Result<BTreeMap<Place, Taken>, String> {
        contiguous(agent)?;
        for (place, leaf) in &agent.leaves {
            let hashes = self.known.entry(*place).or_default();
            hashes.insert(leaf.hash.clone());
            if hashes.len() > 1 && !may_fork {
                return Err(format!("the leaf at {place:?} was changed"));
            }
        }
        reproducible(agent, &heads[self.heads_checked..])?;
        self.heads_checked = heads.len();
        let taken = taken(dashboard)?;
        for (place, one) in &taken {
            let known = self.known.get(place);
            if !known.is_some_and(|hashes| hashes.contains(&one.leaf)) {
                return Err(format!(
                    "the dashboard holds {place:?}, which no agent has written"
                ));
            }
        }
        for place in agent.in_state(&["accepted", "receipted"]) {
            if !taken.contains_key(&place) {
                return Err(format!(
                    "{place:?} is accepted, and the dashboard does not hold it"
                ));
            }
            if taken[&place].leaf != agent.leaves[&place].hash {
                return Err(format!(
                    "{place:?} is accepted, and the dashboard holds another leaf there"
                ));
            }
        }
        Ok(taken)
    }
}

/// After the last fault: what was enqueued is accepted, each once, and nothing else is. What a clock ahead has
/// closed may wait for its time, which is not `now`.
pub(crate) fn delivered(
    agent: &Agent,
    taken: &BTreeMap<Place, Taken>,
    now: Timestamp,
    may_fork: bool,
    may_mix: bool,
) -> Result<(), String> {
    for (place, state) in &agent.outbox {
        let is_allowed = match state.as_str() {
            "accepted" | "receipted" => true,
            "pending" => agent.ends[place] > now.as_millisecond(),
            "rejected" => may_fork,
            // Somebody else's "stale" is a reason as good as any.
            "superseded" => may_mix,
            _ => false,
        };
        if !is_allowed {
            let slot = &agent.leaves[place].slot;
            return Err(format!("{place:?} of {slot:?} is {state}"));
        }
    }
    let accepted = agent.in_state(&["accepted", "receipted"]);
    for place in taken.keys() {
        if !accepted.contains(place) && !may_fork && !may_mix {
            return Err(format!(
                "the dashboard holds {place:?}, and the agent does not know it"
            ));
        }
    }
    Ok(())
}

/// Every slot that ended from `since` up to `until` has its leaf, and where clocks were right just one.
pub(crate) fn covered(
    agent: &Agent,
    categories: &[Category],
    (since, until): (Timestamp, Timestamp),
    just_one: bool,
) -> Result<(), String> {
    for &category in categories {
        let length = i64::from(category.cadence().seconds()) * 1000;
        let of_category = |leaf: &&(Category, i64)| leaf.0 == category;
        let slots = agent.leaves.values().filter_map(|leaf| leaf.slot.as_ref());
        let mut ends = BTreeSet::new();
        for (_, end) in slots.filter(of_category) {
            if !ends.insert(*end) && just_one {
                let end = Timestamp::from_millisecond(*end).unwrap();
                return Err(format!(
                    "the slot of {category} that ends {end} has two leaves"
                ));
            }
        }
        // A day's slot may end when the agent wakes, so that slots are counted, not the instants of their ends.
        let number = |end: &i64| (end - 1).div_euclid(length);
        let have: BTreeSet<i64> = ends.iter().map(number).collect();
        let first = since.as_millisecond().div_euclid(length) + 1;
        let last = until.as_millisecond().div_euclid(length) - 1;
        let missing: Vec<i64> = (first..=last).filter(|slot| !have.contains(slot)).collect();
        if let Some(slot) = missing.first() {
            let end = Timestamp::from_millisecond((slot + 1) * length).unwrap();
            return Err(format!(
                "{} slots of {category} have no leaf, the first ends {end}",
                missing.len()
            ));
        }
    }
    Ok(())
}

/// The evidence of the whole run stands.
pub(crate) fn evident(
    store: &config::Store,
    output: &Path,
    (from, to): (Timestamp, Timestamp),
    cosigner: &str,
) -> Result<Verdict, String> {
    let written = write_bundle(store, from, to, output.to_owned());
    written.map_err(|error| format!("no evidence: {error:?}"))?;
    let bytes = std::fs::read(output).unwrap();
    let cosigner: CosignerKey = cosigner.trim().parse().unwrap();
    let trust = Trust {
        cosigner: Some(cosigner),
        ..Trust::default()
    };
    let report = verify(&mut bytes.as_slice(), &trust).unwrap();
    if report.verdict == Verdict::Ok {
        return Ok(report.verdict);
    }
    let worst = report
        .checks
        .iter()
        .filter(|one| one.verdict != Verdict::Ok);
    let first: Vec<String> = worst
        .map(|one| format!("{:?} {:?}", one.check, one.first))
        .collect();
    if report.verdict == Verdict::Incomplete {
        return Ok(report.verdict);
    }
    Err(format!(
        "the evidence is {:?}: {}",
        report.verdict,
        first.join("; ")
    ))
}

/// Indices of each epoch run from zero without a hole.
fn contiguous(agent: &Agent) -> Result<(), String> {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for &(epoch, index) in agent.leaves.keys() {
        let expected = next.entry(epoch).or_default();
        if index != *expected {
            return Err(format!("epoch {epoch} has a hole before {index}"));
        }
        *expected += 1;
    }
    Ok(())
}

/// Every head that was signed is the head of leaves that are on disk: so any two of them are consistent.
fn reproducible(agent: &Agent, heads: &[String]) -> Result<(), String> {
    let mut wanted: BTreeMap<Place, String> = BTreeMap::new();
    for note in heads {
        let mut lines = note.lines();
        let epoch = lines.next().and_then(|origin| origin.rsplit('/').next());
        let epoch = epoch.and_then(|epoch| epoch.parse().ok()).unwrap();
        let size = lines.next().and_then(|size| size.parse().ok()).unwrap();
        let root = lines.next().unwrap().to_owned();
        if let Some(other) = wanted.insert((epoch, size), root.clone())
            && other != root
        {
            return Err(format!(
                "two heads of size {size} of epoch {epoch} were signed"
            ));
        }
    }
    let mut frontier = (0, Frontier::default());
    for (&(epoch, index), leaf) in &agent.leaves {
        if frontier.0 != epoch {
            frontier = (epoch, Frontier::default());
        }
        frontier
            .1
            .append(Digest::from_bytes(leaf.hash.as_slice().try_into().unwrap()));
        if let Some(root) = wanted.remove(&(epoch, index + 1)) {
            let found = frontier.1.root().to_string();
            if !found.contains(&root) {
                return Err(format!(
                    "the signed head of size {} of epoch {epoch} is not that of the leaves",
                    index + 1
                ));
            }
        }
    }
    match wanted.keys().next() {
        None => Ok(()),
        Some(head) => Err(format!(
            "a head was signed over leaves that are not there: {head:?}"
        )),
    }
}
