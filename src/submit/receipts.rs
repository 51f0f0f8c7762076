//! Receipts: shows the dashboard the head of the ledger and keeps what it signs of it.
//!
//! After a start or an outage the head goes first, which fixes the whole buffered history before any of it is
//! sent; then again whenever the outbox has run empty. A dashboard that offers no receipts is fine. One that
//! holds another log under our name is a fork: both sides keep both heads, a person is called, and a new epoch
//! begins.

use std::time::Duration;

use cms_attest::add_checkpoint::AddCheckpoint;
use cms_attest::checkpoint::{CosignerKey, verify_cosignature};
use tokio::time::Instant;

use super::{Round, Submitting};
use crate::identity::{self, Purpose};
use crate::limits::RETRY_CEILING;
use crate::status::{PartState, error_chain};
use crate::store::{Offer, StoreError};
use crate::transport::{HeadAnswer, SendError};

/// The name under which `status` shows how receipts go.
pub(super) const PART: &str = "receipts";

/// An offer that begins at the wrong size is made again from the size that the dashboard names, this often.
const RESYNCS_MAX: usize = 2;

impl Submitting {
    /// Offers the newest head, and keeps the receipt, unless it failed lately. Trouble with receipts never holds
    /// up submissions.
    pub(super) async fn ask_for_receipt(&mut self, round: &mut Round) -> Result<(), StoreError> {
        if round
            .receipts_closed_until
            .is_some_and(|until| Instant::now() < until)
        {
            return Ok(());
        }
        round.head_first = false;
        round.receipt_due = false;
        let Some(cosigner) = self.cosigner().await? else {
            return Ok(());
        };
        let mut old = None;
        for _ in 0..=RESYNCS_MAX {
            let Some(offer) = self.store.offer(self.sender.origin.clone(), old).await? else {
                return Ok(());
            };
            let size = offer.checkpoint.head.size;
            match self.show(&offer).await {
                Ok((HeadAnswer::Cosigned(lines), note)) => {
                    self.keep(round, &offer, &lines, note, &cosigner).await?;
                    return self.notice_successor(round, &lines, &cosigner).await;
                }
                Ok((HeadAnswer::Holds(held), _)) if held <= size => old = Some(held),
                Ok((HeadAnswer::Holds(held), _)) => {
                    let reason =
                        format!("the dashboard has receipted {held} leaves, this store has {size}");
                    return self.begin_epoch(reason).await;
                }
                Ok((HeadAnswer::Fork(problem), note)) => {
                    tracing::error!(
                        head = note,
                        problem,
                        "the dashboard holds another ledger under this agent's name"
                    );
                    return self.begin_epoch(format!("fork: {problem}")).await;
                }
                Err((error, retry_after)) => {
                    self.status.set(PART, PartState::Degraded, Some(error));
                    self.rest_receipts(round, retry_after);
                    return Ok(());
                }
            }
        }
        let error = "the dashboard names another size each time".to_owned();
        self.status.set(PART, PartState::Degraded, Some(error));
        self.rest_receipts(round, None);
        Ok(())
    }

    /// Asks for no receipt for a while, and then for that of the head of that time.
    fn rest_receipts(&self, round: &mut Round, retry_after: Option<Duration>) {
        let asked = retry_after.unwrap_or_default().min(RETRY_CEILING);
        let pause = round.receipts_backoff.next(self.chance.next()).max(asked);
        round.receipts_closed_until = Some(Instant::now() + pause);
        round.receipt_due = true;
    }

    /// Shows a head; without an answer about it, says why and for how long the dashboard asks to wait.
    async fn show(
        &self,
        offer: &Offer,
    ) -> Result<(HeadAnswer, String), (String, Option<Duration>)> {
        self.beat();
        let note = self
            .identity
            .sign_head(&offer.checkpoint)
            .map_err(|error| (error_chain(&error), None))?;
        let request = AddCheckpoint {
            old: offer.old,
            proof: offer.proof.clone(),
            note: note.clone(),
        };
        let agent = self.sender.origin.agent_id();
        match self.transport.offer_head(agent, &request).await {
            Ok(answer) => Ok((answer, note)),
            Err(
                SendError::Blocked(problem)
                | SendError::Rejected(problem)
                | SendError::Unexplained { problem, .. },
            ) => Err((problem.to_string(), None)),
            Err(SendError::Deferred {
                reason,
                retry_after,
            }) => Err((reason, retry_after)),
            Err(error @ SendError::NotThere { .. }) => Err((error.to_string(), None)),
        }
    }

    async fn keep(
        &self,
        round: &mut Round,
        offer: &Offer,
        lines: &str,
        note: String,
        cosigner: &CosignerKey,
    ) -> Result<(), StoreError> {
        match verify_cosignature(lines, &offer.checkpoint, cosigner) {
            Ok(receipt) => {
                let detail = format!(
                    "{} leaves, signed {}",
                    offer.checkpoint.head.size,
                    receipt.time()
                );
                tracing::debug!(size = offer.checkpoint.head.size, "head receipted");
                self.store.keep_receipt(receipt, note).await?;
                round.receipts_backoff.reset();
                round.receipts_closed_until = None;
                self.finish_handing_over().await;
                self.status.ok(PART, Some(detail));
            }
            Err(error) => {
                let error = format!(
                    "the dashboard's receipt does not hold: {}",
                    error_chain(&error)
                );
                tracing::error!(error, "the receipt is not kept");
                self.status.set(PART, PartState::Failed, Some(error));
                self.rest_receipts(round, None);
            }
        }
        Ok(())
    }

    /// The head that both ledger keys have signed is receipted: the replaced one is not needed any more.
    async fn finish_handing_over(&self) {
        if !self.identity.hands_over_the_ledger() {
            return;
        }
        let now = self.clock.now();
        if let Err(error) = self.identity.settle(Purpose::Log, now).await {
            tracing::warn!(error = %error_chain(&error), "the replaced ledger key is still kept; the next receipt tries again");
        }
    }

    /// Goes on in a new ledger after a doubt about this one. A signed log is never repaired.
    async fn begin_epoch(&mut self, reason: String) -> Result<(), StoreError> {
        tracing::error!(
            reason,
            "a new epoch of the ledger begins; a person should look at the old one"
        );
        let moment = identity::moment(&self.clock, &self.api_keys);
        self.sender.origin = self
            .store
            .begin_epoch(self.sender.origin.clone(), moment, reason.clone())
            .await?;
        self.status.set(
            PART,
            PartState::Failed,
            Some(format!("new epoch: {reason}")),
        );
        Ok(())
    }
}
