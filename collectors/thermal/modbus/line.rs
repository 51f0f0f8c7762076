//! One way to some units, and what happens on it when one of them misbehaves.
//!
//! Promises: one question at a time; a reply is never taken for the reply to another question, because a connection that
//! may be out of step is closed, the line is silent before it is used again, and after a question that was given up the
//! next one to that unit has a reply of another length: on RTU replies carry no number, and gateways give the number of
//! the next question to a reply that comes late. Whoever hangs
//! up after each reply, or garbles one, is asked once more. Refuses: which registers, when, and how often.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::web::{Tls, Web};

use super::endpoint::Endpoint;
use super::fault::{Fault, Remedy};
use super::link::Link;
use super::register::{Kind, Span};

/// A device that says it is busy is asked once more after so long.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// How a unit wants to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// How long a reply may take.
    pub timeout: Duration,
    /// How long to wait before each question.
    pub pause: Duration,
}

/// A way and its connection.
#[derive(Debug)]
pub struct Line {
    endpoint: Endpoint,
    tls: Option<Tls>,
    web: Arc<dyn Web>,
    link: Option<Link>,
    /// The other end hangs up after each reply.
    is_single: bool,
    /// Questions that were given up, whose replies may still come.
    given_up: Option<GivenUp>,
    /// The question that is being asked. Whoever drops a round leaves it here.
    open: Option<(u8, Span)>,
}

/// Questions to one unit, replies to which may come in place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GivenUp {
    unit: u8,
    /// How long the replies would be; there are two at most, the question and one that was to find out.
    lengths: Vec<u16>,
}

/// More replies than this are not waited for: the line was silent in between, so older ones are gone.
const GIVEN_UP_MAX: usize = 2;

impl Line {
    /// A way; nothing is opened yet.
    #[must_use]
    pub fn new(endpoint: Endpoint, tls: Option<Tls>, web: Arc<dyn Web>) -> Self {
        Self {
            endpoint,
            tls,
            web,
            link: None,
            is_single: false,
            given_up: None,
            open: None,
        }
    }

    /// The way.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Reads registers of a unit.
    ///
    /// # Errors
    /// When they were not read; the next question begins on a connection that is in step.
    pub async fn ask(&mut self, unit: u8, span: Span, manner: Manner) -> Result<Vec<u16>, Fault> {
        let first = match self.once(unit, span, manner).await {
            Ok(registers) => return Ok(registers),
            Err(fault) => fault,
        };
        if first.is_busy() {
            sleep(BUSY_PAUSE).await;
        } else if first.remedy() != Remedy::Reconnect {
            return Err(first);
        }
        self.once(unit, span, manner).await
    }

    async fn once(&mut self, unit: u8, span: Span, manner: Manner) -> Result<Vec<u16>, Fault> {
        if let Some((unit, span)) = self.open.take() {
            self.give_up(unit, span);
        }
        let mut link = match self.link.take() {
            Some(link) => {
                sleep(manner.pause).await;
                link
            }
            None => {
                let tls = self.tls.as_ref();
                Link::open(&self.endpoint, tls, self.web.as_ref(), manner.timeout).await?
            }
        };
        self.fall_in_step(&mut link, unit, span, manner).await?;
        // Whatever drops this future while it waits drops the connection with it, and leaves the question open.
        self.open = Some((unit, span));
        let read = link.ask(unit, span, manner.timeout).await;
        self.open = None;
        let fault = read.as_ref().err();
        if fault.is_none_or(|fault| fault.remedy() == Remedy::None) {
            self.link = Some(link).filter(|_| !self.is_single);
            return read;
        }
        if matches!(fault, Some(Fault::Closed { .. })) && link.answered() == 1 {
            self.is_single = true;
        }
        // Of a closed connection nothing comes any more.
        if !matches!(fault, Some(Fault::Closed { .. })) {
            self.give_up(unit, span);
        }
        read
    }

    /// Remembers that a reply may come when nobody waits for it.
    fn give_up(&mut self, unit: u8, span: Span) {
        let mut lengths = match self.given_up.take() {
            Some(before) if before.unit == unit => before.lengths,
            _ => Vec::new(),
        };
        lengths.push(length(span.kind(), span.count()));
        let surplus = lengths.len().saturating_sub(GIVEN_UP_MAX);
        lengths.drain(..surplus);
        self.given_up = Some(GivenUp { unit, lengths });
    }

    /// Before a unit is asked again whose reply may still come: a question whose reply has another length than all that
    /// may come, and than the one that is wanted.
    async fn fall_in_step(
        &mut self,
        link: &mut Link,
        unit: u8,
        wanted: Span,
        manner: Manner,
    ) -> Result<(), Fault> {
        let Some(before) = self.given_up.clone().filter(|before| before.unit == unit) else {
            return Ok(());
        };
        let is_free = |other: &u16| {
            !before.lengths.contains(other) && *other != length(wanted.kind(), wanted.count())
        };
        let check = (1..)
            .find(is_free)
            .and_then(|length| with_length(wanted, length));
        let Some(check) = check else {
            return Ok(());
        };
        self.open = Some((unit, check));
        let checked = link.ask(unit, check, manner.timeout).await;
        self.open = None;
        match checked {
            Ok(_) | Err(Fault::Exception { .. }) => {
                self.given_up = None;
                Ok(())
            }
            Err(fault) => {
                self.give_up(unit, check);
                let within = manner.timeout;
                let is_of_before = |got: usize| {
                    let length = length(check.kind(), u16::try_from(got).unwrap_or(u16::MAX));
                    before.lengths.contains(&length)
                };
                Err(match fault {
                    Fault::Short { got, .. } if is_of_before(got) => Fault::Late { unit, within },
                    fault => fault,
                })
            }
        }
    }
}

/// How long the reply is: registers, or bytes of eight bits.
fn length(kind: Kind, count: u16) -> u16 {
    if kind.is_bit() {
        count.div_ceil(8)
    } else {
        count
    }
}

/// Registers near these, so many that the reply has this length.
fn with_length(span: Span, length: u16) -> Option<Span> {
    let count = if span.kind().is_bit() {
        length.checked_mul(8)?
    } else {
        length
    };
    let first = span.first().min(u16::MAX.checked_sub(count)?);
    Span::new(span.kind(), first, count).ok()
}
