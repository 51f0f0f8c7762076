//! Devices for tests: they stand behind a stream in memory and misbehave on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use zeroize::Zeroizing;

use crate::CollectError;
use crate::web::{Dial, Offline, SecretPlace, Server, Site, Stream, Web};

/// What a device does with one question.
#[derive(Clone, Debug)]
pub(in crate::thermal) enum Act {
    /// Answers; a register holds its address and the unit: `unit * 1000 + address`.
    Answer,
    /// Says nothing.
    Nothing,
    /// Says nothing now, and answers when it is asked the next time, before anything else.
    Later,
    /// Answers another transaction.
    WrongNumber,
    /// Answers in the name of another unit.
    WrongUnit,
    /// Leaves the last register away.
    Short,
    /// Refuses.
    Exception(u8),
    /// Hangs up without an answer.
    HangUp,
    /// Answers, then hangs up.
    AnswerAndHangUp,
    /// Sends bytes that are no frame.
    Garbage,
    /// Answers with a damaged last byte.
    Damaged,
}

/// A question as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::thermal) struct Asked {
    pub(in crate::thermal) unit: u8,
    pub(in crate::thermal) function: u8,
    pub(in crate::thermal) first: u16,
    pub(in crate::thermal) count: u16,
}

/// How a device decides.
pub(super) type Mind = Arc<dyn Fn(Asked) -> Act + Send + Sync>;

/// A network with one place on it.
pub(in crate::thermal) struct Bench {
    mind: Mind,
    is_rtu: bool,
    seen: Arc<Mutex<Vec<Asked>>>,
    opened: Arc<Mutex<usize>>,
    /// Replies that were held back, whatever became of the connection.
    late: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench")
            .field("is_rtu", &self.is_rtu)
            .finish_non_exhaustive()
    }
}

impl Bench {
    pub(in crate::thermal) fn new(
        is_rtu: bool,
        mind: impl Fn(Asked) -> Act + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            mind: Arc::new(mind),
            is_rtu,
            seen: Arc::default(),
            opened: Arc::default(),
            late: Arc::default(),
        })
    }

    /// Every question that came.
    pub(super) fn seen(&self) -> Vec<Asked> {
        lock(&self.seen).clone()
    }

    /// How often somebody connected.
    pub(in crate::thermal) fn opened(&self) -> usize {
        *lock(&self.opened)
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Web for Bench {
    fn open(&self, site: &Site) -> Result<Arc<dyn Server>, CollectError> {
        Offline.open(site)
    }

    async fn dial(&self, _: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        let (ours, theirs) = tokio::io::duplex(1024);
        *lock(&self.opened) += 1;
        tokio::spawn(serve(
            theirs,
            self.is_rtu,
            Arc::clone(&self.mind),
            Arc::clone(&self.seen),
            Arc::clone(&self.late),
        ));
        Ok(Box::new(ours))
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        Offline.secret(place)
    }
}

async fn serve(
    mut stream: DuplexStream,
    is_rtu: bool,
    mind: Mind,
    seen: Arc<Mutex<Vec<Asked>>>,
    late: Arc<Mutex<VecDeque<Vec<u8>>>>,
) {
    loop {
        let mut header = [0_u8; 6];
        if !is_rtu && stream.read_exact(&mut header).await.is_err() {
            return;
        }
        let mut question = [0_u8; 6];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        if is_rtu && stream.read_u16().await.is_err() {
            return;
        }
        let [unit, function, a, b, c, d] = question;
        let asked = Asked {
            unit,
            function,
            first: u16::from_be_bytes([a, b]),
            count: u16::from_be_bytes([c, d]),
        };
        lock(&seen).push(asked);
        let act = mind(asked);
        let frame = |unit: u8, number: [u8; 2], pdu: &[u8]| {
            let mut frame = Vec::new();
            if !is_rtu {
                frame.extend(number);
                frame.extend([0, 0]);
                frame.extend(u16::try_from(pdu.len() + 1).unwrap().to_be_bytes());
            }
            frame.push(unit);
            frame.extend(pdu);
            if is_rtu {
                frame.extend(crc(&frame).to_le_bytes());
            }
            frame
        };
        let number = [header[0], header[1]];
        let whole = frame(unit, number, &answer(asked, asked.count));
        let (bytes, hangs_up) = match act {
            Act::Answer => (whole, false),
            Act::Nothing => (Vec::new(), false),
            Act::Later => {
                lock(&late).push_back(whole);
                continue;
            }
            Act::WrongNumber => (
                frame(unit, [0xab, 0xcd], &answer(asked, asked.count)),
                false,
            ),
            Act::WrongUnit => (
                frame(unit ^ 0x55, number, &answer(asked, asked.count)),
                false,
            ),
            Act::Short => (frame(unit, number, &answer(asked, asked.count - 1)), false),
            Act::Exception(code) => (frame(unit, number, &[function | 0x80, code]), false),
            Act::HangUp => (Vec::new(), true),
            Act::AnswerAndHangUp => (whole, true),
            Act::Garbage => (vec![0x55; 40], false),
            Act::Damaged => {
                let mut whole = whole;
                *whole.last_mut().unwrap() ^= 0xff;
                (whole, false)
            }
        };
        let before: Vec<Vec<u8>> = lock(&late).drain(..).collect();
        for reply in before.into_iter().chain([bytes]) {
            if stream.write_all(&reply).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if hangs_up {
            return;
        }
    }
}

fn answer(asked: Asked, count: u16) -> Vec<u8> {
    let value = |at: u16| u16::from(asked.unit) * 1000 + asked.first + at;
    let bytes: Vec<u8> = if asked.function <= 2 {
        let bits: Vec<u16> = (0..count).map(|at| value(at) % 2).collect();
        bits.chunks(8)
            .map(|byte| {
                byte.iter()
                    .rev()
                    .fold(0, |all, bit| (all << 1) | u8::try_from(*bit).unwrap())
            })
            .collect()
    } else {
        (0..count).flat_map(|at| value(at).to_be_bytes()).collect()
    };
    let mut pdu = vec![asked.function, u8::try_from(bytes.len()).unwrap()];
    pdu.extend(bytes);
    pdu
}

/// CRC-16 of Modbus, bit by bit.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xa001
            } else {
                crc >> 1
            }
        })
    })
}
