//! Why registers were not read, in words.

use std::time::Duration;

use crate::CollectError;

use super::register::Span;

/// Why there is no answer, or none that counts.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The device answered that it will not.
    #[error("{}", exception(*code, *unit, *span))]
    Exception {
        /// The code, 1 to 255.
        code: u8,
        /// Whom we asked.
        unit: u8,
        /// For what.
        span: Span,
    },
    /// Nothing came.
    #[error(
        "unit {unit} did not answer within {within:?}: check its number, power and wiring, or raise `timeout` if it is slow"
    )]
    Silent {
        /// Whom we asked.
        unit: u8,
        /// How long we waited.
        within: Duration,
    },
    /// Something came that is no whole reply.
    #[error(
        "the reply of unit {unit} came garbled ({bytes} bytes): check wiring, termination, baud rate and parity, and that \
         `rtu+tcp` and `tcp` are not mistaken for each other"
    )]
    Garbled {
        /// Whom we asked.
        unit: u8,
        /// How much came.
        bytes: usize,
    },
    /// A whole reply, but to another question.
    #[error("a reply to another question came: {found}; the connection was made anew")]
    Foreign {
        /// What was wrong with it.
        found: String,
    },
    /// The reply to a question that we had given up.
    #[error("unit {unit} answered after we had given up: raise `timeout` above {within:?}")]
    Late {
        /// Whom we asked.
        unit: u8,
        /// How long we had waited.
        within: Duration,
    },
    /// A reply with more or fewer registers than were asked for.
    #[error(
        "unit {unit} sent {got} of {asked} registers: lower `max_registers`, or its firmware is broken"
    )]
    Short {
        /// Whom we asked.
        unit: u8,
        /// How many were asked for.
        asked: u16,
        /// How many came.
        got: usize,
    },
    /// The other end hung up.
    #[error(
        "the connection was closed before unit {unit} answered: does the device accept another client?"
    )]
    Closed {
        /// Whom we asked.
        unit: u8,
    },
    /// There is no connection.
    #[error("cannot connect")]
    Unreachable(#[source] CollectError),
    /// The serial line cannot be used.
    #[error("cannot open the serial line: {hint}")]
    Port {
        /// What helps.
        hint: &'static str,
        /// What the system said.
        source: tokio_serial::Error,
    },
    /// Bytes keep coming although nobody is asked.
    #[error(
        "the line is never silent: another master asks on it, or it is noisy; there can be one master only"
    )]
    Noisy,
}

/// What is to be done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The device spoke to us; the connection is good.
    None,
    /// The connection is out of step, and a new one may do better at once.
    Reconnect,
    /// The connection is out of step; whoever is silent has had its turn.
    GiveUp,
}

impl Fault {
    /// The reason with what is behind it, on one line.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut line = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            line = format!("{line}: {error}");
            next = error.source();
        }
        line
    }

    /// Whether the device says that it does not have these registers, or not so many at once.
    #[must_use]
    pub const fn is_about_registers(&self) -> bool {
        matches!(self, Self::Exception { code: 2 | 3, .. })
    }

    /// Whether the device may have time for us in a moment.
    pub(crate) const fn is_busy(&self) -> bool {
        matches!(self, Self::Exception { code: 5 | 6, .. })
    }

    /// Whether the rest of the unit's registers is not worth a question now.
    #[must_use]
    pub const fn is_of_unit(&self) -> bool {
        match self {
            Self::Exception { code, .. } => matches!(code, 10 | 11),
            _ => true,
        }
    }

    /// Whether none of the units on the connection can be asked.
    pub(crate) const fn is_of_line(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Port { .. } | Self::Noisy)
    }

    pub(crate) const fn remedy(&self) -> Remedy {
        match self {
            Self::Exception { .. } => Remedy::None,
            Self::Garbled { .. }
            | Self::Foreign { .. }
            | Self::Late { .. }
            | Self::Short { .. }
            | Self::Closed { .. } => Remedy::Reconnect,
            Self::Silent { .. } | Self::Unreachable(_) | Self::Port { .. } | Self::Noisy => {
                Remedy::GiveUp
            }
        }
    }
}

fn exception(code: u8, unit: u8, span: Span) -> String {
    let words = match code {
        1 => match span.kind().is_bit() {
            true => "it does not know this function: is it really a coil or discrete input?",
            false => {
                "it does not know this function: try `input` in place of `holding`, or the other way round"
            }
        },
        2 => "it has no such address",
        3 => "it does not answer so many at once: lower `max_registers`",
        4 => "it reports a fault of its own: look at the device",
        5 => "it needs longer than one request: raise `timeout`, or read it less often",
        6 => "it is busy: raise `pause`, or read it less often",
        8 => "its memory is faulty: look at the device",
        10 => "the gateway knows no way to it: check the unit's number and the gateway's settings",
        11 => "the gateway got no answer from it: check its number, power and wiring",
        _ => "its manual says what that means",
    };
    let mut line = format!("unit {unit}, {span}: exception {code}, {words}");
    if code == 2
        && let Some((kind, address)) = super::register::Kind::of_paper(span.first().into())
    {
        line += &format!(
            "; if {} is how a list writes {kind} register {address}, say `paper = true`",
            span.first()
        );
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::register::Kind;
    use super::*;

    fn exception_of(code: u8, kind: Kind, first: u16) -> Fault {
        let span = Span::new(kind, first, 2).unwrap();
        Fault::Exception {
            code,
            unit: 7,
            span,
        }
    }

    #[test]
    fn exceptions_have_words() {
        assert_eq!(
            exception_of(2, Kind::Holding, 40_108).reason(),
            "unit 7, holding 40108 to 40109: exception 2, it has no such address; if 40108 is how a list writes holding \
             register 107, say `paper = true`"
        );
        assert!(
            exception_of(11, Kind::Input, 4)
                .reason()
                .contains("the gateway got no answer")
        );
        assert!(
            exception_of(1, Kind::Input, 4)
                .reason()
                .contains("try `input`")
        );
        for code in 0..=u8::MAX {
            let fault = exception_of(code, Kind::Holding, 1);
            assert_eq!(fault.remedy(), Remedy::None);
            assert!(fault.reason().contains(&format!("exception {code}, ")));
            assert!(!(fault.is_of_unit() && fault.is_about_registers()));
        }
    }

    #[test]
    fn a_reason_names_what_is_behind_it() {
        let source = CollectError::Vanished {
            what: "the port".to_owned(),
        };
        assert_eq!(
            Fault::Unreachable(source).reason(),
            "cannot connect: the port is not there"
        );
    }
}
