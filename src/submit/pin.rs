//! Pinning: by which of the dashboard's keys receipts are verified, and how another takes its place.
//!
//! The first key that a dashboard shows is pinned. Another one is taken where the pinned key itself has named it,
//! step by step, and a leaf says so; everything else waits for a person.

use cms_attest::checkpoint::CosignerKey;
use cms_attest::enrol::EnrolAnswer;
use cms_attest::leaf::LeafKind;
use cms_attest::note::NoteKey;
use cms_attest::succession::{Announced, SUCCESSIONS_MAX, Succession, line_of};
use tokio::time::Instant;

use super::receipts::PART;
use super::{Round, Submitting};
use crate::identity;
use crate::limits::SUCCESSORS_ASKED_AFTER;
use crate::status::PartState;
use crate::store::{COSIGNER, COSIGNER_SUCCESSIONS, LeafDraft, StoreError};

/// What becomes of the pinned key after an enrolment.
#[derive(Debug, PartialEq, Eq)]
enum Pin {
    /// The first, the same, or that of another dashboard; nothing where it gives no receipts.
    Key(Option<CosignerKey>),
    /// The heir of the pinned one, and the successions that lead to it.
    Heir(CosignerKey, Vec<String>),
}

impl Submitting {
    /// Pins the key that the dashboard signs heads with. Another one, or none, does not take its place by itself.
    pub(super) async fn pin_cosigner(&self, answer: &EnrolAnswer) -> Result<(), StoreError> {
        let authority = self.transport.endpoint().authority();
        match pin(self.cosigner().await?, answer, authority) {
            Ok(Pin::Key(key)) => {
                let text = key.map(|key| key.to_string()).unwrap_or_default();
                self.store.set_meta(COSIGNER, text).await
            }
            Ok(Pin::Heir(key, successions)) => self.follow(&key, successions).await,
            Err(error) => {
                tracing::error!(
                    error,
                    "the pinned key stays; a person should look at the dashboard"
                );
                self.status.set(PART, PartState::Failed, Some(error));
                Ok(())
            }
        }
    }

    /// The pinned key, if there is one.
    pub(super) async fn cosigner(&self) -> Result<Option<CosignerKey>, StoreError> {
        let pinned = self.store.meta(COSIGNER).await?;
        Ok(pinned.and_then(|text| text.parse().ok()))
    }

    /// Signatures of the dashboard by a key that is not known here: it may have a new one, and is asked how that
    /// came, once in a while.
    pub(super) async fn notice_successor(
        &self,
        round: &mut Round,
        lines: &str,
        pinned: &CosignerKey,
    ) -> Result<(), StoreError> {
        let asked = round.successors_asked;
        if asked.is_some_and(|at| at.elapsed() < SUCCESSORS_ASKED_AFTER) {
            return Ok(());
        }
        let known = self.store.meta(COSIGNER_SUCCESSIONS).await?;
        let known: Vec<NoteKey> = read(&known.unwrap_or_default())
            .iter()
            .map(|succession| succession.from().clone())
            .collect();
        if pinned.has_namesakes(lines, &known) {
            round.successors_asked = Some(Instant::now());
            // The same keys enrol again without a change, and the answer says what the dashboard signs with.
            self.forget_enrolment(round).await?;
        }
        Ok(())
    }

    async fn follow(&self, key: &CosignerKey, successions: Vec<String>) -> Result<(), StoreError> {
        let key_id = key.note_key().key().key_id();
        tracing::warn!(%key, "the dashboard's pinned key has handed over to this one");
        let moment = identity::moment(&self.clock, &self.api_keys);
        let note = Announced::Dashboard(key_id).to_string();
        let list = serde_json::to_string(&successions).unwrap_or_default();
        self.store
            .append_leaf_with(
                self.sender.origin.clone(),
                moment,
                LeafDraft::event(LeafKind::KeyRotate, &note),
                vec![(COSIGNER, key.to_string()), (COSIGNER_SUCCESSIONS, list)],
            )
            .await
    }
}

/// The successions of a JSON list, as far as they read.
fn read(list: &str) -> Vec<Succession> {
    let notes: Vec<String> = serde_json::from_str(list).unwrap_or_default();
    notes.iter().filter_map(|note| note.parse().ok()).collect()
}

/// The key to hold after an enrolment, or why the pinned one is held on to.
fn pin(pinned: Option<CosignerKey>, answer: &EnrolAnswer, authority: &str) -> Result<Pin, String> {
    let offered: Option<CosignerKey> = answer
        .cosigner
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|_| "the dashboard's key for receipts cannot be understood".to_owned())?;
    let Some(pinned) = pinned else {
        return Ok(Pin::Key(offered));
    };
    let is_same_dashboard = pinned.name().as_str() == authority
        || offered
            .as_ref()
            .is_some_and(|key| key.name() == pinned.name());
    match offered {
        Some(key) if key == pinned => Ok(Pin::Key(Some(key))),
        Some(key) if is_same_dashboard => heir(&pinned, key, &answer.successions, authority),
        None if is_same_dashboard => Err(format!(
            "{authority} does not show its key for receipts any more"
        )),
        other => Ok(Pin::Key(other)),
    }
}

/// The offered key, where the pinned one leads to it.
fn heir(
    pinned: &CosignerKey,
    offered: CosignerKey,
    notes: &[String],
    authority: &str,
) -> Result<Pin, String> {
    let stranger = || {
        format!(
            "{authority} shows another key for receipts than the pinned one, which has not named it: ask its owner, then run `key trust-dashboard {offered}`"
        )
    };
    let notes = notes.iter().take(SUCCESSIONS_MAX);
    let successions: Vec<Succession> = notes.filter_map(|note| note.parse().ok()).collect();
    let line = line_of(pinned.note_key(), &successions).map_err(|error| error.to_string())?;
    let after = line.iter().skip_while(|key| *key != pinned.note_key());
    if !after.skip(1).any(|key| key == offered.note_key()) {
        return Err(stranger());
    }
    let of_the_line = |succession: &&Succession| line.contains(succession.to());
    let kept = successions.iter().filter(of_the_line);
    let kept = kept.map(ToString::to_string).collect();
    Ok(Pin::Heir(offered, kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_attest::SigningKey;
    use cms_attest::checkpoint::Cosigner;
    use jiff::Timestamp;

    fn cosigner(name: &str, seed: u8) -> Cosigner {
        let signing = SigningKey::from_seed(&[seed; 32]).unwrap();
        Cosigner::new(name.parse().unwrap(), signing)
    }

    fn key(name: &str, seed: u8) -> CosignerKey {
        cosigner(name, seed).published()
    }

    fn follows(from: u8, to: u8) -> String {
        let [from, to] = [from, to].map(|seed| cosigner("dash", seed));
        let time = Timestamp::from_second(1_772_000_000).unwrap();
        Succession::of_cosigners(&from, &to, time)
            .unwrap()
            .to_string()
    }

    fn answer(key: Option<String>, successions: &[String]) -> EnrolAnswer {
        EnrolAnswer {
            agent_id: "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap(),
            api_key_id: "key_0".parse().unwrap(),
            cosigner: key,
            successions: successions.to_vec(),
            server_time: Timestamp::UNIX_EPOCH,
        }
    }

    fn shown(key: &CosignerKey) -> EnrolAnswer {
        answer(Some(key.to_string()), &[])
    }

    #[test]
    fn the_first_key_is_pinned_and_stays() {
        let ours = key("dash", 1);
        let kept = Ok(Pin::Key(Some(ours.clone())));
        assert_eq!(pin(None, &shown(&ours), "dash"), kept);
        assert_eq!(pin(Some(ours.clone()), &shown(&ours), "dash"), kept);
        assert_eq!(pin(None, &answer(None, &[]), "dash"), Ok(Pin::Key(None)));
    }

    #[test]
    fn neither_another_key_nor_none_nor_another_name_unpins() {
        for offered in [
            shown(&key("dash", 2)),
            shown(&key("other", 2)),
            answer(None, &[]),
        ] {
            let held = pin(Some(key("dash", 1)), &offered, "dash");
            assert!(held.is_err(), "{offered:?}");
        }
        let odd = answer(Some("dash+00000000+AAAA".to_owned()), &[]);
        assert!(pin(None, &odd, "dash").is_err());
    }

    #[test]
    fn another_dashboard_brings_its_own_key() {
        let new = key("new", 2);
        let kept = pin(Some(key("old", 1)), &shown(&new), "new");
        assert_eq!(kept, Ok(Pin::Key(Some(new))));
        let none = pin(Some(key("old", 1)), &answer(None, &[]), "new");
        assert_eq!(none, Ok(Pin::Key(None)));
    }

    #[test]
    fn an_heir_is_taken_whom_the_pinned_key_names_and_nobody_else() {
        let line = [follows(1, 2), follows(2, 3)];
        let offered = answer(Some(key("dash", 3).to_string()), &line);
        for pinned in [1, 2] {
            let pinned = pin(Some(key("dash", pinned)), &offered, "dash");
            assert_eq!(pinned, Ok(Pin::Heir(key("dash", 3), line.to_vec())));
        }
        for (pinned, successions) in [
            (7, line.to_vec()),
            (1, vec![follows(2, 3)]),
            (1, vec![follows(1, 2)]),
            (1, vec![follows(3, 1)]),
            (1, vec![follows(1, 3), follows(1, 9)]),
            (1, vec![follows(1, 3).replace("dash", "dish")]),
        ] {
            let offered = answer(Some(key("dash", 3).to_string()), &successions);
            let held = pin(Some(key("dash", pinned)), &offered, "dash");
            assert!(held.is_err(), "{pinned} {successions:?}");
        }
        let back = answer(Some(key("dash", 1).to_string()), &line);
        assert!(pin(Some(key("dash", 3)), &back, "dash").is_err());
    }
}
