//! Calls of gRPC, as far as a receiver of unary calls needs them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::header::{HeaderMap, HeaderValue};
use tokio::sync::Semaphore;

use super::body::{Held, unpack};
use super::refusal::{self, RETRY_SECONDS, Refusal};

/// What stands before a message: whether it is compressed, and its length.
pub(super) const HEAD_BYTES: usize = 5;

/// The answer of a call that has nothing to say: one message, empty.
pub(super) const EMPTY_MESSAGE: [u8; HEAD_BYTES] = [0; HEAD_BYTES];

/// The message of a unary call.
pub(super) enum Message<'a> {
    /// As it was sent.
    Plain(&'a [u8]),
    /// Unpacked.
    Unpacked(Held),
}

impl Message<'_> {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Unpacked(held) => &held.bytes,
        }
    }
}

/// Whether messages that say they are compressed are gzip.
pub(super) fn is_packed(headers: &HeaderMap) -> Result<bool, Refusal> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(_) => Err(refusal::PACKED_OTHERWISE),
    }
}

/// The one message in the body of a call.
pub(super) fn message<'a>(
    body: &'a [u8],
    is_packed: bool,
    room: &Arc<Semaphore>,
) -> Result<Message<'a>, Refusal> {
    let (head, message) = body
        .split_first_chunk::<HEAD_BYTES>()
        .ok_or(refusal::NO_CALL)?;
    let [flag, length @ ..] = *head;
    if usize::try_from(u32::from_be_bytes(length)) != Ok(message.len()) {
        return Err(refusal::NO_CALL);
    }
    match (flag, is_packed) {
        (0, _) => Ok(Message::Plain(message)),
        (1, true) => unpack(message, room).map(Message::Unpacked),
        _ => Err(refusal::NO_CALL),
    }
}

/// How a call ended, in headers or trailers.
pub(super) fn status(refusal: Option<Refusal>) -> HeaderMap {
    let mut map = HeaderMap::new();
    let code = refusal.map_or(0, |refusal| refusal.grpc);
    map.insert("grpc-status", HeaderValue::from(u16::from(code)));
    let Some(refusal) = refusal else { return map };
    // Our texts have no percent sign and only printable ASCII, so that they need no encoding.
    map.insert("grpc-message", HeaderValue::from_static(refusal.text));
    if refusal.may_repeat
        && let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(retry_details(code)))
    {
        map.insert("grpc-status-details-bin", details);
    }
    map
}

/// A `google.rpc.Status` whose only detail is a `google.rpc.RetryInfo`: without it exporters do not come again.
fn retry_details(code: u8) -> Vec<u8> {
    let seconds = u8::try_from(RETRY_SECONDS).unwrap_or(u8::MAX >> 1);
    // Duration { seconds: 1 }, inside of RetryInfo { retry_delay: 1 }.
    let info = [0x0a, 2, 0x08, seconds];
    const TYPE: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";
    // Any { type_url: 1, value: 2 }; every length here is below 128.
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or_default();
    let any = [&[0x0a, length(TYPE)], TYPE, &[0x12, length(&info)], &info].concat();
    // Status { code: 1, details: 3 }.
    [&[0x08, code, 0x1a, length(&any)], &any[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::body::room;
    use super::*;

    #[test]
    fn a_call_has_exactly_one_message() {
        let room = room();
        let read = |body: &[u8], packed| {
            message(body, packed, &room).map(|message| message.bytes().to_vec())
        };
        assert_eq!(read(&[0, 0, 0, 0, 2, 7, 8], false), Ok(vec![7, 8]));
        assert_eq!(read(&EMPTY_MESSAGE, true), Ok(vec![]));
        for wrong in [
            &[][..],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 7],
            &[0, 0, 0, 0, 1, 7, 8],
            &[2, 0, 0, 0, 1, 7],
            &[0, 0xff, 0xff, 0xff, 0xff, 7],
        ] {
            assert_eq!(read(wrong, false), Err(refusal::NO_CALL), "{wrong:?}");
        }
        assert_eq!(read(&[1, 0, 0, 0, 1, 7], false), Err(refusal::NO_CALL));
        assert_eq!(read(&[1, 0, 0, 0, 1, 7], true), Err(refusal::NOT_PACKED));
    }

    #[test]
    fn who_may_come_again_is_told_when() {
        let full = status(Some(refusal::FULL));
        assert_eq!(full["grpc-status"], "14");
        let details = STANDARD_NO_PAD
            .decode(&full["grpc-status-details-bin"])
            .unwrap();
        let text = String::from_utf8_lossy(&details);
        assert!(text.contains("type.googleapis.com/google.rpc.RetryInfo"));
        assert!(
            details.ends_with(&[0x12, 4, 0x0a, 2, 0x08, 5]),
            "{details:?}"
        );
        let long = status(Some(refusal::TOO_LONG));
        assert_eq!(long["grpc-status"], "8");
        assert!(!long.contains_key("grpc-status-details-bin"));
        assert_eq!(status(None)["grpc-status"], "0");
    }
}
