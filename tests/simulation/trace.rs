//! What happened, in order: the last lines for a person, and a digest of all of them to compare two runs.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::sky::Sky;

/// Lines that are kept: enough to see the hours before something went wrong.
const LINES_MAX: usize = 150;

/// The story of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    lines: VecDeque<String>,
    digest: u64,
    panicked: Option<String>,
    prints: bool,
}

impl Trace {
    /// One that also prints each line as it comes, where asked.
    pub(crate) fn new(prints: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            lines: VecDeque::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            panicked: None,
            prints,
        })))
    }

    pub(crate) fn say(&self, at: Timestamp, text: &str) {
        self.add(at, text, "");
    }

    /// `more` may differ between two runs of one seed, such as keys; `text` may not.
    fn add(&self, at: Timestamp, text: &str, more: &str) {
        let mut state = self.0.lock().unwrap();
        for byte in at
            .as_millisecond()
            .to_le_bytes()
            .into_iter()
            .chain(text.bytes())
        {
            state.digest = (state.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
        }
        let line = format!("{at:.3} {text}{more}");
        if state.prints {
            println!("{line}");
        }
        state.lines.push_back(line);
    }

    pub(crate) fn digest(&self) -> u64 {
        self.0.lock().unwrap().digest
    }

    /// What the agent says of a panic in it.
    pub(crate) fn panicked(&self) -> Option<String> {
        self.0.lock().unwrap().panicked.clone()
    }

    pub(crate) fn lines(&self) -> String {
        let state = self.0.lock().unwrap();
        state.lines.iter().fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        })
    }
}

/// Takes the agent's own log into the trace.
pub(crate) struct Log {
    pub(crate) trace: Trace,
    pub(crate) sky: Sky,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("cms_")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = event.metadata().level();
        let text = format!("    {level} {}", words.message);
        self.trace.add(self.sky.true_now(), &text, &words.fields);
        if words.message.contains("panicked") {
            self.trace.0.lock().unwrap().panicked = Some(words.message);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        written.unwrap();
    }
}
