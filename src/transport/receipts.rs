//! Asking for a receipt: one POST of a signed head of the ledger, in the text form that witnesses speak.
//!
//! It carries no API key: the signature over the head is the proof.

use cms_attest::add_checkpoint::{
    AddCheckpoint, REQUEST_MEDIA_TYPE, SIZE_MEDIA_TYPE, parse_size_answer,
};
use cms_attest::origin::AgentId;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{SendError, Transport, classify, deferred};

/// What the dashboard or a witness says to a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadAnswer {
    /// It signed; the lines are to be verified.
    Cosigned(String),
    /// It holds another log under this name, and keeps both heads.
    Fork(String),
    /// It holds a head of this size; the proof must begin there.
    Holds(u64),
}

impl Transport {
    /// Offers a head of the ledger.
    ///
    /// # Errors
    /// When there is no answer about the head; the error says what to do next.
    pub async fn offer_head(
        &self,
        agent: &AgentId,
        offer: &AddCheckpoint,
    ) -> Result<HeadAnswer, SendError> {
        let url = self.endpoint.url(&format!("agents/{agent}/checkpoint"));
        self.offer(&url, offer).await
    }

    /// Shows a head of the ledger to the witness that the endpoint is the address of.
    ///
    /// # Errors
    /// As [`Transport::offer_head`].
    pub async fn show_witness(&self, offer: &AddCheckpoint) -> Result<HeadAnswer, SendError> {
        match self.offer(&self.endpoint.to_string(), offer).await {
            // A witness owes nobody an explanation; its status says it all.
            Err(SendError::Unexplained { status, problem })
                if status == StatusCode::UNPROCESSABLE_ENTITY.as_u16() =>
            {
                Ok(HeadAnswer::Fork(problem.message))
            }
            answer => answer,
        }
    }

    async fn offer(&self, url: &str, offer: &AddCheckpoint) -> Result<HeadAnswer, SendError> {
        let media = HeaderValue::from_static(REQUEST_MEDIA_TYPE);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, media)]);
        let body = offer.to_string().into_bytes();
        let answer = self.exchange(url, headers, body).await?;
        let is_size = answer
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(SIZE_MEDIA_TYPE.as_bytes()));
        if answer.status == StatusCode::CONFLICT && is_size {
            let text = String::from_utf8_lossy(&answer.body);
            return parse_size_answer(&text)
                .map(HeadAnswer::Holds)
                .ok_or_else(|| {
                    deferred("the dashboard's answer about the ledger's size makes no sense")
                });
        }
        let unfit = answer.status == StatusCode::UNPROCESSABLE_ENTITY;
        match classify(url, answer) {
            Ok(lines) => Ok(HeadAnswer::Cosigned(
                String::from_utf8_lossy(&lines).into_owned(),
            )),
            Err(SendError::Rejected(problem)) if unfit => Ok(HeadAnswer::Fork(problem.to_string())),
            Err(error) => Err(error),
        }
    }
}
