//! Witnesses besides the dashboard: each is shown the newest head of the ledger and signs that it has seen it.
//!
//! One task for each witness, so that a slow or dead one delays neither the others nor the dashboard. Promises:
//! a head that is signed continues all that this witness has signed; every signature is verified and kept.
//! Refuses: to begin a new epoch on a witness's word, which would let anybody who is one tear the ledger apart;
//! a contradiction calls a person, and the dashboard goes on.

use std::sync::Arc;
use std::time::Duration;

use cms_attest::add_checkpoint::AddCheckpoint;
use cms_attest::checkpoint::verify_cosignature;
use cms_attest::{Checkpoint, Origin};
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::chance::Chance;
use crate::config::Witness;
use crate::events::Events;
use crate::identity::Identity;
use crate::limits::{RETRY_CEILING, RETRY_FIRST, WITNESS_FIRST};
use crate::status::{PartState, Status, error_chain};
use crate::store::{Offer, Store, StoreError};
use crate::transport::{HeadAnswer, SendError, Transport};

/// An offer that begins at the wrong size is made again from the size that the witness names, this often.
const RESYNCS_MAX: usize = 2;

/// What one witness's task works with.
#[derive(Clone, Debug)]
pub struct Witnessing {
    /// Who is asked.
    pub witness: Witness,
    /// The way there.
    pub transport: Transport,
    /// Where the ledger is.
    pub store: Store,
    /// Who signs heads.
    pub identity: Arc<Identity>,
    /// Names the epoch that is written to.
    pub events: Events,
    /// Where states are shown.
    pub status: Status,
    /// What pauses are spread by.
    pub chance: Chance,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    /// The witness holds what this ledger does not continue.
    #[error("it holds another ledger under this agent's name: {0}")]
    Fork(String),
    /// There is no answer, or none that helps.
    #[error("{0}")]
    NoAnswer(String),
    /// The answer is not its signature.
    #[error("what it answers is not its signature over the head: {0}")]
    NotIts(String),
    /// The store fails.
    #[error("the ledger cannot be shown")]
    Store(#[from] StoreError),
}

/// The name under which `status` shows a witness.
#[must_use]
pub fn part(witness: &Witness) -> String {
    format!("witness/{}", witness.key.name())
}

impl Witnessing {
    /// Shows new heads until the future is dropped.
    pub async fn run(self) {
        let part = part(&self.witness);
        self.status.set(&part, PartState::Starting, None);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_CEILING);
        let mut forked: Option<u64> = None;
        let mut last_error = String::new();
        // The agents of a fleet are restarted together.
        let spread = u64::try_from(WITNESS_FIRST.as_millis()).unwrap_or(1).max(1);
        let first = Duration::from_millis(self.chance.next() % spread);
        sleep(first.min(self.witness.interval)).await;
        loop {
            let pause = match self.show_newest(&mut forked).await {
                Ok(detail) => {
                    backoff.reset();
                    if let Some(detail) = detail {
                        self.status.ok(&part, Some(detail));
                        last_error.clear();
                    }
                    self.witness.interval
                }
                Err(error) => {
                    let state = match &error {
                        Unseen::Fork(_) | Unseen::NotIts(_) => PartState::Failed,
                        Unseen::NoAnswer(_) | Unseen::Store(_) => PartState::Degraded,
                    };
                    let error = error_chain(&error);
                    if error != last_error {
                        tracing::warn!(witness = %self.witness.key.name(), error, "a witness has not signed the newest head");
                    }
                    last_error.clone_from(&error);
                    self.status.set(&part, state, Some(error));
                    backoff
                        .next(self.chance.next())
                        .max(self.witness.interval.min(RETRY_CEILING))
                }
            };
            sleep(pause).await;
        }
    }

    /// Shows the newest head, unless it was seen. Answers what was signed, in words.
    async fn show_newest(&self, forked: &mut Option<u64>) -> Result<Option<String>, Unseen> {
        let origin = self.events.newest().await?;
        if *forked == Some(origin.epoch()) {
            return Ok(None);
        }
        let key = self.witness.key.to_string();
        let mut old = self.store.witnessed_size(&origin, key).await?;
        if self.store.ledger_size(&origin).await? == old {
            return Ok(None);
        }
        for _ in 0..=RESYNCS_MAX {
            let Some(offer) = self.store.offer(origin.clone(), Some(old)).await? else {
                return Ok(None);
            };
            let size = offer.checkpoint.head.size;
            let (answer, note) = self.show(&offer).await?;
            match answer {
                HeadAnswer::Cosigned(lines) => return self.keep(&offer, &lines, note).await,
                HeadAnswer::Holds(held) if held <= size => old = held,
                HeadAnswer::Holds(held) => {
                    *forked = Some(origin.epoch());
                    tracing::error!(witness = %self.witness.key.name(), head = note, held, "a witness has signed more leaves than there are");
                    let words = format!("it has signed {held} leaves, this store has {size}");
                    return Err(Unseen::Fork(words));
                }
                HeadAnswer::Fork(problem) => {
                    *forked = Some(origin.epoch());
                    tracing::error!(witness = %self.witness.key.name(), head = note, problem, "a witness holds another ledger under this agent's name");
                    return Err(Unseen::Fork(problem));
                }
            }
        }
        Err(Unseen::NoAnswer(
            "it names another size each time".to_owned(),
        ))
    }

    async fn show(&self, offer: &Offer) -> Result<(HeadAnswer, String), Unseen> {
        let note = self
            .identity
            .sign_head(&offer.checkpoint)
            .map_err(|error| Unseen::NoAnswer(error_chain(&error)))?;
        let request = AddCheckpoint {
            old: offer.old,
            proof: offer.proof.clone(),
            note: note.clone(),
        };
        match self.transport.show_witness(&request).await {
            Ok(answer) => Ok((answer, note)),
            Err(error) => Err(self.no_answer(&offer.checkpoint, error)),
        }
    }

    fn no_answer(&self, checkpoint: &Checkpoint, error: SendError) -> Unseen {
        Unseen::NoAnswer(match error {
            SendError::Blocked(problem) | SendError::Rejected(problem) => problem.to_string(),
            // A witness knows the logs that it was told of, by name and key.
            SendError::NotThere { url } => format!(
                "{url} does not know this ledger{}",
                self.log_key(&checkpoint.origin)
            ),
            SendError::Unexplained { status: 403, .. } => format!(
                "it does not know the key of this ledger{}",
                self.log_key(&checkpoint.origin)
            ),
            error => error.to_string(),
        })
    }

    fn log_key(&self, origin: &Origin) -> String {
        self.identity
            .log_key_of(origin)
            .map_or_else(String::new, |key| format!(": tell it the key {key}"))
    }

    async fn keep(
        &self,
        offer: &Offer,
        lines: &str,
        note: String,
    ) -> Result<Option<String>, Unseen> {
        let receipt = verify_cosignature(lines, &offer.checkpoint, &self.witness.key)
            .map_err(|error| Unseen::NotIts(error_chain(&error)))?;
        let words = format!(
            "{} leaves, signed {}",
            offer.checkpoint.head.size,
            receipt.time()
        );
        let key = self.witness.key.to_string();
        self.store.keep_cosignature(key, receipt, note).await?;
        Ok(Some(words))
    }
}
