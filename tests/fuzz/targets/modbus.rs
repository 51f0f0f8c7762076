//! Modbus: what a device sends, what registers mean, which requests a device makes necessary, what Telegraf's users wrote.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use cms_collectors::CollectError;
use cms_collectors::thermal::modbus::decode::{Decoded, Order, Type};
use cms_collectors::thermal::modbus::line::{Line, Manner};
use cms_collectors::thermal::modbus::plan::{Limits, Plan, Round};
use cms_collectors::thermal::modbus::probe::import::import;
use cms_collectors::thermal::modbus::probe::rank::rank;
use cms_collectors::thermal::modbus::probe::scan::{Register, Scan};
use cms_collectors::thermal::modbus::register::{Kind, Span};
use cms_collectors::web::{Dial, Offline, SecretPlace, Server, Site, Stream, Web};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroizing;

use super::text;

/// Registers of the machine that is asked in [`plan`].
const MACHINE: usize = 128;

/// A place where every connection says the same, once it was asked, and ends.
#[derive(Clone, Debug)]
struct Said(Vec<u8>);

struct Saying {
    said: Vec<u8>,
    at: usize,
    was_asked: bool,
}

#[async_trait]
impl Web for Said {
    fn open(&self, site: &Site) -> Result<Arc<dyn Server>, CollectError> {
        Offline.open(site)
    }

    async fn dial(&self, _: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        Ok(Box::new(Saying {
            said: self.0.clone(),
            at: 0,
            was_asked: false,
        }))
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        Offline.secret(place)
    }
}

impl AsyncRead for Saying {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.was_asked {
            let rest = this.said.get(this.at..).unwrap_or_default();
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            this.at += count;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Saying {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().was_asked = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A question, which the first four bytes say, and everything that comes back.
pub(super) fn reply(data: &[u8]) {
    let [way, kind, unit, count, said @ ..] = data else {
        return;
    };
    // Who is busy is given half a second: that is right, and too long here.
    let is_busy = |pair: &[u8]| matches!(pair, [0x81..=0x84, 5 | 6]);
    if said.windows(2).any(is_busy) {
        return;
    }
    let is_tcp = way % 2 == 0;
    let kind = Kind::ALL[usize::from(kind % 4)];
    let count = u16::from(*count).clamp(1, kind.at_once_max());
    let span = Span::new(kind, 7, count).expect("it fits");
    let endpoint = if is_tcp { "tcp://x" } else { "rtu+tcp://x" };
    let endpoint = endpoint.parse().expect("an endpoint");
    let manner = Manner {
        timeout: Duration::from_secs(1),
        pause: Duration::ZERO,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut line = Line::new(endpoint, None, Arc::new(Said(said.to_vec())));
    match runtime.block_on(line.ask(*unit, span, manner)) {
        Ok(registers) => {
            assert_eq!(registers.len(), usize::from(count));
            assert!(!kind.is_bit() || registers.iter().all(|bit| *bit <= 1));
            let function = [1, 2, 3, 4][Kind::ALL.iter().position(|k| *k == kind).expect("a kind")];
            let head = [*unit, function];
            assert!(
                said.windows(2).any(|pair| pair == head),
                "it is not from there"
            );
        }
        Err(fault) => assert!(!fault.reason().is_empty()),
    }
}

/// Registers in every type and order, and the readings that are plausible.
pub(super) fn registers(data: &[u8]) {
    let words: Vec<u16> = data
        .chunks_exact(2)
        .take(64)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    let (first, width) = data
        .first()
        .map_or((0, 1), |byte| (byte % 16, 1 + byte / 16 % 16));
    let count = u16::try_from(words.len()).expect("at most 64");
    let odd = [Type::Text { registers: count }, Type::Bits { first, width }];
    for means in Type::NUMBERS.into_iter().chain(odd) {
        for order in Order::ALL {
            let whole = usize::from(means.registers());
            match words.get(..whole).map(|words| means.decode(words, order)) {
                Some(Ok(Decoded::Single(number))) => assert!(number.is_finite()),
                Some(Ok(Decoded::Double(number))) => assert!(number.is_finite()),
                Some(Ok(Decoded::Text(text))) => assert!(!text.chars().any(char::is_control)),
                Some(Ok(Decoded::Whole(_)) | Err(_)) | None => {}
            }
        }
    }
    let registers = (0_u16..).zip(&words).map(|(address, word)| {
        let register = Register {
            first: *word,
            second: (address % 3 != 0).then_some(word ^ address),
            request: u32::from(address / 40),
        };
        (address, register)
    });
    let scan = Scan {
        registers: registers.collect(),
        ..Scan::default()
    };
    let ranked = rank(Kind::Holding, &scan, Some(42.0));
    let mut taken = [false; 64];
    for reading in ranked {
        assert!(reading.value.is_finite());
        for offset in 0..usize::from(reading.means.registers()) {
            let slot = &mut taken[usize::from(reading.address) + offset];
            assert!(
                !std::mem::replace(slot, true),
                "a register is in two readings"
            );
        }
    }
}

/// Values on a machine that lacks some registers: each is read once or refused once in every round.
pub(super) fn plan(data: &[u8]) {
    let [registers_max, gap_max, count_max, lacks, places @ ..] = data else {
        return;
    };
    let limits = Limits {
        registers_max: u16::from(*registers_max).clamp(4, 125),
        gap_max: u16::from(gap_max % 16),
        ..Limits::default()
    };
    let has: Vec<bool> = (0..MACHINE)
        .map(|at| *lacks == 0 || (at * 7) % usize::from(*lacks) != 1)
        .collect();
    let answers = |span: Span| {
        let first = usize::from(span.first());
        let all = has.get(first..first + usize::from(span.count()));
        span.count() <= u16::from(*count_max).max(4)
            && all.is_some_and(|all| all.iter().all(|has| *has))
    };
    let values: Vec<Span> = places
        .chunks_exact(2)
        .take(64)
        .map(|pair| {
            Span::new(
                Kind::Input,
                u16::from(pair[0] % 120),
                1 + u16::from(pair[1] % 4),
            )
        })
        .collect::<Result<_, _>>()
        .expect("they fit");
    let mut plan = Plan::new(values.clone(), limits);
    for _ in 0..3 {
        let mut outcomes = vec![0; values.len()];
        let mut round = Round::of(&plan);
        while let Some(batch) = round.following() {
            assert!(batch.span.count() <= limits.registers_max);
            if answers(batch.span) {
                for at in &batch.values {
                    assert!(answers(values[*at]));
                    outcomes[*at] += 1;
                }
                round.answered(&batch, &mut plan);
            } else if !round.refused(&batch, &mut plan) {
                assert!(batch.values.iter().all(|at| !answers(values[*at])));
                batch.values.iter().for_each(|at| outcomes[*at] += 1);
            }
        }
        assert!(outcomes.iter().all(|times| *times == 1));
    }
}

/// A configuration of Telegraf: what is taken over is TOML, with a table for each point.
pub(super) fn telegraf(data: &[u8]) {
    let Some(Ok(import)) = text(data).map(import) else {
        return;
    };
    let table: toml::Table = import.table.parse().expect("it is TOML");
    let points = table
        .get("thermal")
        .and_then(|thermal| thermal.get("points"))
        .and_then(toml::Value::as_table)
        .map_or(0, toml::Table::len);
    assert_eq!(points, import.points);
}
