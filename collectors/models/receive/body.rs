//! Reading a message: as it comes, within its bounds of length, memory and time.

use std::future::poll_fn;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use hyper::body::Body;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::{self, Refusal};
use super::{BODY_BYTES_MAX, refusal::NO_ROOM};

/// What all messages may take together while they are received, unpacked and read: two of the longest with what they
/// unpack to. Those that wait for the disk are read already and take none.
pub(super) const ROOM_BYTES: usize = 4 * BODY_BYTES_MAX;

/// How much is unpacked in one step.
const STEP_BYTES: usize = 64 * 1024;

/// Room is lent in these units, so that a short message does not take more than it has.
const UNIT_BYTES: usize = 1024;

/// Room for all messages.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ROOM_BYTES / UNIT_BYTES))
}

/// Bytes, and the room that is lent to them. They may hold prompts; the program's allocator wipes them when they are freed.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    room: Arc<Semaphore>,
    lent: Vec<OwnedSemaphorePermit>,
    /// In bytes.
    paid: usize,
}

impl Held {
    fn new(room: &Arc<Semaphore>) -> Self {
        Self {
            bytes: Vec::new(),
            room: Arc::clone(room),
            lent: Vec::new(),
            paid: 0,
        }
    }

    fn push(&mut self, more: &[u8], bytes_max: usize) -> Result<(), Refusal> {
        let length = self.bytes.len() + more.len();
        if length > bytes_max {
            return Err(refusal::TOO_LONG);
        }
        if length > self.paid {
            // Ahead by as much as there is, as the vector grows, so that a message is lent room a few times only.
            let wanted = length.max(2 * self.paid).min(bytes_max.max(length)) - self.paid;
            let units = wanted.div_ceil(UNIT_BYTES);
            let count = u32::try_from(units).map_err(|_| refusal::TOO_LONG)?;
            let lent = Arc::clone(&self.room).try_acquire_many_owned(count);
            self.lent.push(lent.map_err(|_| NO_ROOM)?);
            self.paid += units * UNIT_BYTES;
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

/// Receives a whole message as it was sent.
pub(super) async fn gather<B: Body + Unpin>(
    body: B,
    bytes_max: usize,
    within: Duration,
    room: &Arc<Semaphore>,
) -> Result<Held, Refusal>
where
    B::Data: AsRef<[u8]>,
{
    let gathered = timeout(within, pieces(body, bytes_max, room)).await;
    gathered.unwrap_or(Err(refusal::TOO_SLOW))
}

async fn pieces<B: Body + Unpin>(
    mut body: B,
    bytes_max: usize,
    room: &Arc<Semaphore>,
) -> Result<Held, Refusal>
where
    B::Data: AsRef<[u8]>,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(refusal::TOO_LONG);
    }
    let mut held = Held::new(room);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| refusal::CUT_OFF)?;
        if let Ok(data) = frame.into_data() {
            held.push(data.as_ref(), bytes_max)?;
        }
    }
    Ok(held)
}

/// Whether the message comes as gzip.
pub(super) fn is_packed(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    match (
        codings.next().map(|coding| coding.as_bytes()),
        codings.next(),
    ) {
        (None | Some(b"" | b"identity"), None) => Ok(false),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(true),
        _ => Err(refusal::PACKED_OTHERWISE),
    }
}

/// Unpacks gzip, no further than a message may be long.
pub(super) fn unpack(packed: &[u8], room: &Arc<Semaphore>) -> Result<Held, Refusal> {
    let mut held = Held::new(room);
    let mut decoder = MultiGzDecoder::new(packed);
    let mut step = vec![0; STEP_BYTES];
    loop {
        let length = decoder.read(&mut step).map_err(|_| refusal::NOT_PACKED)?;
        if length == 0 {
            return Ok(held);
        }
        held.push(step.get(..length).unwrap_or_default(), BODY_BYTES_MAX)?;
    }
}
