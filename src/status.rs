//! What the agent says about itself: one state for each part, served on a local socket.
//!
//! Parts write here, nobody reads decisions from here. The set of states is closed, and each carries since
//! when it holds, how often the part has failed, and the last error in words.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cms_collectors::Shown;
use cms_spec::Subject;
use cms_spec::coverage::Forecast;
use cms_spec::dark::AccessAnomaly;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use crate::clock::Clock;
use crate::comparisons::Comparisons;
use crate::limits::DAMAGE_SHOWN_FOR;
use crate::seal::{Protection, StoreKey};
use crate::store::{
    Damage, OutboxCounts, ReceiptRow, SetAside, Store, StoreError, SubmissionRow, WitnessRow,
};

/// Submissions shown by `status`; more are in the store.
const RECENT_ROWS: u32 = 20;

/// How long a reader may take; one that connects and does not read must not keep others waiting.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// The mode of the socket: the agent's group may read.
pub const MODE: u32 = 0o660;

/// The pause after a connection could not be taken.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// The shared board that parts write their state on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Status {
    board: Arc<Mutex<Board>>,
    clock: Clock,
}

/// Where a part stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// This host has no such thing; an answer, not a fault.
    Absent,
    /// Working with loss, and heals itself.
    Degraded,
    /// Needs a person.
    Failed,
    /// Working.
    Ok,
    /// Not yet known.
    #[default]
    Starting,
    /// Ended.
    Stopped,
    /// Ending.
    Stopping,
}

/// One part of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name, for example `compute/host`.
    pub name: String,
    /// Where it stands.
    pub state: PartState,
    /// Since when.
    pub since: Timestamp,
    /// When it last did its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ok: Option<Timestamp>,
    /// How often it has failed since the start.
    pub errors: u64,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What it is doing, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What else there is to know about it, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Part {
    fn new(name: &str, state: PartState, since: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            state,
            since,
            last_ok: None,
            errors: 0,
            last_error: None,
            detail: None,
            details: Vec::new(),
        }
    }
}

/// Everything that `status` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The agent's version.
    pub version: String,
    /// The company that it reports for.
    pub company_id: String,
    /// Its own id.
    pub agent_id: String,
    /// Where it submits to.
    pub endpoint: String,
    /// The key that everything in the store is sealed with.
    #[serde(default)]
    pub key: KeyRow,
    /// Records of the store that cannot be opened and were set aside, by table and column.
    #[serde(default)]
    pub set_aside: SetAside,
    /// When it was started.
    pub started_at: Timestamp,
    /// When this was said.
    pub at: Timestamp,
    /// The worst state of all parts.
    pub state: PartState,
    /// Each part.
    pub parts: Vec<Part>,
    /// How many submissions are in each state.
    pub outbox: OutboxCounts,
    /// The newest submissions, newest first.
    pub recent: Vec<SubmissionRow>,
    /// When each category is submitted next.
    pub next_slots: BTreeMap<String, Timestamp>,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
    /// What was damaged in the store, and set aside.
    #[serde(default)]
    pub damage: Damage,
    /// The newest head of the ledger that the dashboard has countersigned; nothing when it signs none.
    pub receipts: Option<ReceiptRow>,
    /// The newest head that each other witness has signed.
    #[serde(default)]
    pub witnesses: Vec<WitnessRow>,
    /// Storage units of which more dark data turned active between the last two scans than is usual.
    #[serde(default)]
    pub anomalies: BTreeMap<Subject, AccessAnomaly>,
    /// What of the inventory reports, and what will breach when; nothing without an inventory.
    #[serde(default)]
    pub coverage: Option<Forecast>,
    /// The file that holds the inventory.
    #[serde(default)]
    pub inventory: Option<String>,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Nameplate {
    /// The company that it reports for.
    pub company_id: String,
    /// Its own id.
    pub agent_id: String,
    /// Where it submits to.
    pub endpoint: String,
    /// The key of the store.
    pub key: KeyRow,
    /// The file that holds the documented inventory.
    pub inventory: Option<String>,
}

/// The key of the store as `status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// `file`, or `credential`: systemd keeps it, and decides whether a TPM is behind it.
    pub protection: String,
    /// The file or the name of the credential.
    pub place: String,
    /// The key's public name.
    pub id: String,
}

#[derive(Debug)]
struct Board {
    nameplate: Nameplate,
    started_at: Timestamp,
    parts: BTreeMap<String, Part>,
    next_slots: BTreeMap<String, Timestamp>,
    comparisons: Comparisons,
}

impl Status {
    /// An empty board.
    #[must_use]
    pub fn new(nameplate: Nameplate, clock: Clock) -> Self {
        let board = Board {
            nameplate,
            started_at: clock.now(),
            parts: BTreeMap::new(),
            next_slots: BTreeMap::new(),
            comparisons: Comparisons::default(),
        };
        Self {
            board: Arc::new(Mutex::new(board)),
            clock,
        }
    }

    /// Says where submissions go, after a reload.
    pub fn rename(&self, nameplate: Nameplate) {
        self.with(|board, _| board.nameplate = nameplate);
    }

    /// The time, by the clock that the board goes by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Time since boot without suspend.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// A part did its work.
    pub fn ok(&self, name: &str, detail: Option<String>) {
        self.change(name, PartState::Ok, None, detail);
    }

    /// A part is in this state; an error is counted and kept.
    pub fn set(&self, name: &str, state: PartState, error: Option<String>) {
        self.change(name, state, error, None);
    }

    /// Lists what else there is to know about a part.
    pub fn describe(&self, name: &str, details: Vec<String>) {
        self.with(|board, _| {
            if let Some(part) = board.parts.get_mut(name) {
                part.details = details;
            }
        });
    }

    /// Says which points were compared with their displays.
    pub fn compared(&self, comparisons: Comparisons) {
        self.with(|board, _| board.comparisons = comparisons);
    }

    /// Lists the points of a part, each with its newest comparison.
    pub fn describe_points(&self, name: &str, lines: Vec<String>, points: &[Shown]) {
        let told = self.with(|board, _| board.comparisons.told(lines, points));
        self.describe(name, told);
    }

    /// Forgets parts that a reload has removed.
    pub fn keep_only(&self, names: &[String]) {
        self.with(|board, _| {
            board
                .parts
                .retain(|name, _| names.iter().any(|kept| kept == name))
        });
    }

    /// Says when a category is submitted next.
    pub fn next_slot(&self, category: &str, at: Timestamp) {
        self.with(|board, _| {
            board.next_slots.insert(category.to_owned(), at);
        });
    }

    /// Each part as it stands.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        self.with(|board, _| board.parts.values().cloned().collect())
    }

    /// Everything, with what the store adds. A store that cannot be read is a failed part, not an error.
    pub async fn snapshot(&self, store: &Store) -> Snapshot {
        let kept = kept(store, self.clock.now()).await.unwrap_or_else(|error| {
            self.set("store", PartState::Failed, Some(error_chain(&error)));
            Kept::default()
        });
        let store_bytes = store.size_bytes();
        self.with(|board, now| {
            let mut parts = board.parts.clone();
            if kept.damage.last.is_some() {
                // Also before the store has done its first work.
                let name = "store".to_owned();
                let opened = || Part::new(&name, PartState::Ok, board.started_at);
                let store = parts.entry(name.clone()).or_insert_with(opened);
                show_damage(store, &kept.damage, now);
            }
            let parts: Vec<Part> = parts.into_values().collect();
            Snapshot {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                company_id: board.nameplate.company_id.clone(),
                agent_id: board.nameplate.agent_id.clone(),
                endpoint: board.nameplate.endpoint.clone(),
                key: board.nameplate.key.clone(),
                set_aside: kept.set_aside,
                started_at: board.started_at,
                at: now,
                state: worst(&parts),
                parts,
                outbox: kept.outbox,
                recent: kept.recent,
                next_slots: board.next_slots.clone(),
                store_bytes,
                damage: kept.damage,
                receipts: kept.receipts,
                witnesses: kept.witnesses,
                anomalies: kept.anomalies,
                coverage: kept.coverage,
                inventory: board.nameplate.inventory.clone(),
            }
        })
    }

    fn change(&self, name: &str, state: PartState, error: Option<String>, detail: Option<String>) {
        self.with(|board, now| {
            let new = || Part::new(name, state, now);
            let part = board.parts.entry(name.to_owned()).or_insert_with(new);
            if part.state != state {
                part.state = state;
                part.since = now;
            }
            if state == PartState::Ok {
                part.last_ok = Some(now);
            }
            if error.is_some() {
                part.errors += 1;
                part.last_error = error;
            }
            // What it was doing explains a failure; once it works again and says nothing, that is over.
            if state == PartState::Ok || detail.is_some() {
                part.detail = detail;
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Board, Timestamp) -> T) -> T {
        // The board has no invariant that a panic could break, so a poisoned lock is still good.
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut board, self.clock.now())
    }
}

impl KeyRow {
    /// The row of a key.
    #[must_use]
    pub fn of(key: &StoreKey) -> Self {
        let (protection, place) = match key.protection() {
            Protection::Credential(name) => ("credential", name),
            Protection::File(path) => ("file", path),
        };
        Self {
            protection: protection.to_owned(),
            place: place.clone(),
            id: key.id().to_string(),
        }
    }

    /// Who keeps it, for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self {
            protection,
            place,
            id,
        } = self;
        let tpm = match protection.as_str() {
            "credential" => "; systemd decides whether a TPM is behind it",
            _ => "",
        };
        format!("key protection: {protection} ({place}{tpm}), key id {id}")
    }
}

/// What the store says of itself.
#[derive(Default)]
struct Kept {
    outbox: OutboxCounts,
    recent: Vec<SubmissionRow>,
    receipts: Option<ReceiptRow>,
    witnesses: Vec<WitnessRow>,
    set_aside: SetAside,
    damage: Damage,
    anomalies: BTreeMap<Subject, AccessAnomaly>,
    coverage: Option<Forecast>,
}

async fn kept(store: &Store, now: Timestamp) -> Result<Kept, StoreError> {
    Ok(Kept {
        outbox: store.outbox_counts().await?,
        recent: store.recent_submissions(RECENT_ROWS).await?,
        receipts: store.newest_receipt().await?,
        witnesses: store.witnesses().await?,
        set_aside: store.set_aside().await?,
        damage: store.damage().await?,
        anomalies: store.access_anomalies().await?,
        coverage: store.coverage(now).await?,
    })
}

/// Listens on a socket that whoever the mode lets may connect to.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // A socket of an agent that was killed is in the way; anything else is somebody's file.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Answers on the socket until the task is dropped.
pub async fn serve(listener: UnixListener, status: Status, store: Store) {
    loop {
        let mut connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                // Out of file descriptors, for example: the next call would fail at once, too.
                tracing::debug!(%error, "a status reader could not be answered");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let snapshot = status.snapshot(&store).await;
        if let Ok(mut line) = serde_json::to_vec(&snapshot) {
            line.push(b'\n');
            let written = tokio::time::timeout(READ_WITHIN, connection.write_all(&line)).await;
            if !matches!(written, Ok(Ok(()))) {
                tracing::debug!("a status reader left early or does not read");
            }
        }
    }
}

/// An error with all its sources on one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A store that was healed shows it for a day: long enough to be seen, and not until somebody confirms it.
fn show_damage(store: &mut Part, damage: &Damage, now: Timestamp) {
    let (Some(at), Some(last)) = (damage.last_at, &damage.last) else {
        return;
    };
    let words = format!("damaged at {at}: {last}");
    if store.state == PartState::Ok && now.duration_since(at) < DAMAGE_SHOWN_FOR {
        store.state = PartState::Degraded;
        store.since = at;
        store.errors = store.errors.max(damage.count);
        store.last_error = Some(words);
    } else if store.detail.is_none() {
        store.detail = Some(words);
    }
}

fn worst(parts: &[Part]) -> PartState {
    let rank = |state: PartState| match state {
        PartState::Absent | PartState::Ok => 0,
        PartState::Starting => 1,
        PartState::Stopped | PartState::Stopping => 2,
        PartState::Degraded => 3,
        PartState::Failed => 4,
    };
    parts
        .iter()
        .map(|part| part.state)
        .max_by_key(|&state| rank(state))
        .map_or(PartState::Starting, |state| {
            if state == PartState::Absent {
                PartState::Ok
            } else {
                state
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn status() -> Status {
        let nameplate = Nameplate {
            company_id: "acme-corp".to_owned(),
            agent_id: "a".to_owned(),
            endpoint: "https://localhost/api/v1".to_owned(),
            key: KeyRow::default(),
            inventory: None,
        };
        Status::new(nameplate, Clock::system())
    }

    #[test]
    fn since_moves_only_when_the_state_changes() {
        let status = status();
        status.set("store", PartState::Degraded, Some("first".to_owned()));
        let first = status.parts()[0].clone();
        status.set("store", PartState::Degraded, Some("second".to_owned()));
        let second = status.parts()[0].clone();
        assert_eq!(first.since, second.since);
        assert_eq!(
            (second.errors, second.last_error.as_deref()),
            (2, Some("second"))
        );
        status.ok("store", None);
        let healed = status.parts()[0].clone();
        assert_eq!((healed.state, healed.errors), (PartState::Ok, 2));
        assert!(healed.since >= second.since);
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_socket_is_left_alone_and_an_old_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run").join("status.sock");
        drop(listen(&path, MODE).unwrap());
        drop(listen(&path, MODE).unwrap());
        let file = directory.path().join("notes.txt");
        fs::write(&file, "mine").unwrap();
        assert!(listen(&file, MODE).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_damage_is_shown_as_degraded_for_a_day_and_told_after_that() {
        let status = status();
        status.ok("store", None);
        let at: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let damage = Damage {
            count: 2,
            last_at: Some(at),
            last: Some("store.db is a directory; kept 3 leaves".to_owned()),
            ..Damage::default()
        };
        let mut fresh = status.parts()[0].clone();
        let mut old = fresh.clone();
        show_damage(&mut fresh, &damage, at + SignedDuration::from_hours(23));
        assert_eq!((fresh.state, fresh.since), (PartState::Degraded, at));
        let said = fresh.last_error.unwrap();
        assert!(
            said.contains("2026-03-01T10:00:00Z: store.db is a directory"),
            "{said}"
        );
        show_damage(&mut old, &damage, at + SignedDuration::from_hours(25));
        assert_eq!(old.state, PartState::Ok);
        assert!(old.detail.unwrap().contains("kept 3 leaves"));
    }

    #[test]
    fn the_worst_part_decides_and_absence_is_no_fault() {
        let status = status();
        status.set("rapl", PartState::Absent, None);
        assert_eq!(worst(&status.parts()), PartState::Ok);
        status.ok("store", None);
        assert_eq!(worst(&status.parts()), PartState::Ok);
        status.set("dashboard", PartState::Failed, Some("401".to_owned()));
        assert_eq!(worst(&status.parts()), PartState::Failed);
    }
}
