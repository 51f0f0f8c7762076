//! Control: what a person tells the running agent about its keys, over a socket of its own.
//!
//! One line of JSON there and one back. The socket is beside the status socket, which others may read, and is for
//! the agent's user and root only: by its mode, and by who the kernel says is at the other end. The running agent
//! is the only one that writes keys.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cms_attest::checkpoint::CosignerKey;
use cms_attest::leaf::LeafKind;
use cms_attest::succession::Announced;
use cms_spec::units::Fixed;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::api_keys::ApiKeys;
use crate::clock::Clock;
use crate::comparisons::{COMPARISONS, Comparisons, POINT_DIGITS};
use crate::events::Events;
use crate::identity::{Identity, KeyState, Purpose};
use crate::limits::CONTROL_BYTES_MAX;
use crate::status::{PartState, Status, error_chain};
use crate::store::{COSIGNER, LeafDraft, Store};

/// The mode of the socket.
pub const MODE: u32 = 0o600;

/// How long a person's program may take to ask and to read.
const WITHIN: Duration = Duration::from_secs(5);

/// The pause after a connection could not be taken.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// The name under which `status` shows rotations.
const PART: &str = "keys";

/// What the agent can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Show all keys.
    Keys,
    /// Replace these.
    Rotate {
        /// What the keys are for.
        purposes: Vec<Purpose>,
    },
    /// Note that a person has compared a point with the display of its device.
    Commissioned {
        /// The beginning of the digest of its name and place.
        point: String,
        /// How far it was off, in hundredths of a percent.
        off_basis_points: u32,
    },
    /// Pin this key for receipts.
    TrustDashboard {
        /// As the dashboard publishes it.
        key: String,
    },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All keys, after what was asked is done or has begun.
    Keys(Keys),
    /// It was not done, and why.
    Refused(String),
}

/// All keys of an agent by their public names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// One for each.
    pub keys: Vec<Row>,
    /// Who keeps the key that the private ones are sealed with.
    pub protection: String,
    /// How the last rotation goes or went, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it is for: `request`, `log`, `dashboard`, `api`.
    pub name: String,
    /// Its public name.
    pub id: String,
    /// `current`, `next`, or `previous`.
    pub state: String,
    /// Since when it is in use, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when at least it signs beside its successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What commands work with.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Whose keys.
    pub identity: Arc<Identity>,
    /// Where the dashboard's key is pinned.
    pub store: Store,
    /// What leaves are written with.
    pub events: Events,
    /// The keys of the company.
    pub api_keys: ApiKeys,
    /// How a rotation goes.
    pub status: Status,
    /// The time.
    pub clock: Clock,
    /// Who keeps the key that the private ones are sealed with.
    pub protection: String,
    /// Tells the submitting loop that there is a rotation.
    pub rotating: Arc<Notify>,
}

/// The socket for commands, beside the one for status.
#[must_use]
pub fn socket(status: &Path) -> PathBuf {
    status.with_extension("control")
}

/// Answers on the socket until the task is dropped.
pub async fn serve(listener: UnixListener, desk: Desk) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                if let Err(error) = desk.answer(connection).await {
                    tracing::debug!(%error, "a command was not answered");
                }
            }
            Err(error) => {
                // Out of file descriptors, for example: the next call would fail at once, too.
                tracing::debug!(%error, "a command could not be taken");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Desk {
    async fn answer(&self, mut connection: UnixStream) -> io::Result<()> {
        let uid = connection.peer_cred()?.uid();
        let allowed = [0, rustix::process::geteuid().as_raw()];
        if !allowed.contains(&uid) {
            tracing::warn!(uid, "a command of another user is refused");
            return Ok(());
        }
        let (reading, mut writing) = connection.split();
        let mut line = String::new();
        let mut reading = BufReader::new(reading.take(CONTROL_BYTES_MAX));
        timeout(WITHIN, reading.read_line(&mut line)).await??;
        let answer = match serde_json::from_str(&line) {
            Ok(ask) => self.act(ask).await,
            Err(error) => Answer::Refused(format!("the agent does not know this command: {error}")),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(WITHIN, writing.write_all(&text)).await?
    }

    async fn act(&self, ask: Ask) -> Answer {
        let done = match ask {
            Ask::Keys => Ok(()),
            Ask::Rotate { purposes } => self.rotate(&purposes).await,
            Ask::TrustDashboard { key } => self.trust(&key).await,
            Ask::Commissioned {
                point,
                off_basis_points,
            } => self.commissioned(&point, off_basis_points).await,
        };
        match done {
            Ok(()) => Answer::Keys(self.keys().await),
            Err(error) => Answer::Refused(error),
        }
    }

    async fn rotate(&self, purposes: &[Purpose]) -> Result<(), String> {
        let now = self.clock.now();
        let prepared = self.identity.prepare(purposes, now).await;
        prepared.map_err(|error| error_chain(&error))?;
        tracing::info!(
            ?purposes,
            "new keys were made; the dashboard is asked to take them"
        );
        let error = "the new keys wait for the dashboard".to_owned();
        self.status.set(PART, PartState::Degraded, Some(error));
        self.rotating.notify_one();
        Ok(())
    }

    async fn trust(&self, text: &str) -> Result<(), String> {
        let key: CosignerKey = text.parse().map_err(|_| {
            "this is not a key for receipts: copy the line from the dashboard's GET /keys"
                .to_owned()
        })?;
        let id = key.note_key().key().key_id();
        tracing::warn!(%key, "a person has pinned this key of the dashboard");
        let note = Announced::Dashboard(id).to_string();
        let values = vec![(COSIGNER, key.to_string())];
        let draft = LeafDraft::event(LeafKind::KeyRotate, &note);
        self.events
            .write_with(draft, values)
            .await
            .map_err(|error| error_chain(&error))
    }

    /// The leaf names the point by a digest: the ledger holds nothing that a person named.
    async fn commissioned(&self, point: &str, off_basis_points: u32) -> Result<(), String> {
        let is_digest = point.len() == POINT_DIGITS && point.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_digest {
            return Err("this is not the digest of a point".to_owned());
        }
        let off = Fixed::<2>::from_raw(i64::from(off_basis_points));
        let note = format!("commissioned: point #{point} is {off} % off the display");
        let at = self.clock.now();
        let mut comparisons = Comparisons::kept(&self.store).await;
        comparisons.add(point, at, off_basis_points);
        let kept = serde_json::to_string(&comparisons).map_err(|error| error_chain(&error))?;
        let draft = LeafDraft::event(LeafKind::Config, &note);
        self.events
            .write_with(draft, vec![(COMPARISONS, kept)])
            .await
            .map_err(|error| error_chain(&error))?;
        self.status.compared(comparisons);
        Ok(())
    }

    async fn keys(&self) -> Keys {
        let mut keys: Vec<Row> = self.identity.keys().into_iter().map(row).collect();
        if let Ok(Some(pinned)) = self.store.meta(COSIGNER).await
            && let Ok(key) = pinned.parse::<CosignerKey>()
        {
            keys.push(Row::current("dashboard", key.to_string()));
        }
        if let Ok(key) = self.api_keys.read() {
            keys.push(Row::current("api", key.id()));
            if let Some(other) = self.api_keys.other(&key) {
                let next = Row::current("api", other.id());
                keys.push(Row {
                    state: "next".to_owned(),
                    ..next
                });
            }
        }
        let parts = self.status.parts().into_iter();
        let part = parts.into_iter().find(|part| part.name == PART);
        let rotation = part.and_then(|part| match part.state {
            PartState::Ok => part.detail,
            _ => part.last_error,
        });
        Keys {
            keys,
            protection: self.protection.clone(),
            rotation,
        }
    }
}

impl Row {
    fn current(name: &str, id: String) -> Self {
        Self {
            name: name.to_owned(),
            id,
            state: "current".to_owned(),
            since: None,
            until: None,
        }
    }
}

fn row(key: crate::identity::HeldKey) -> Row {
    let (state, until) = match key.state {
        KeyState::Current => ("current", None),
        KeyState::Next => ("next", None),
        // That of the ledger signs until the first receipt.
        KeyState::Previous(_) if key.purpose == Purpose::Log => ("previous", None),
        KeyState::Previous(until) => ("previous", Some(until)),
    };
    Row {
        name: key.purpose.to_string(),
        id: key.id.to_string(),
        state: state.to_owned(),
        since: key.since,
        until,
    }
}
