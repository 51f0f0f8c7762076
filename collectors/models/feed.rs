//! What a kind of server gives to the rest of the family: a feed of requests, and readers of logs.

use async_trait::async_trait;
use jiff::Timestamp;

use super::request::{ModelFacts, Request, Sum, Used};
use crate::CollectError;

/// The telemetry of one server, from the moment at which it was opened.
///
/// It works on a thread of its own that may block, one call at a time. A call that hangs or panics costs this feed
/// alone: it is opened again from its last checkpoint.
#[async_trait]
pub(crate) trait Feed: Send {
    /// Tells what there is since the last time, at most about a second's work; the rest comes next time.
    ///
    /// `at` is the moment of this call. What was told before an error stands.
    ///
    /// # Errors
    /// When the server cannot be read now; it is tried again at the next tick.
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError>;

    /// Where to go on after a restart. It is written in one transaction with what was told, so that nothing is lost
    /// and nothing repeated.
    fn checkpoint(&self) -> Option<String> {
        None
    }

    /// Takes back its checkpoint, before the first call. What makes no sense is ignored.
    fn resume(&mut self, _checkpoint: &str) {}

    /// Everything that was told is on disk now: the moment to acknowledge it to whoever sent it.
    fn stored(&mut self) {}

    /// What `status` lists about it, one line each.
    fn details(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is wrong with it although it works: lost lines, a log that shows prompts.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// What a reader of the payload must know of what the last call told, for its provenance.
    fn caveat(&self) -> Option<String> {
        None
    }
}

/// Where feeds tell things.
pub(crate) trait Out: Send {
    /// One request.
    fn request(&mut self, request: Request);

    /// Requests of which only sums are known.
    fn sum(&mut self, sum: Sum);

    /// What a model is.
    fn model(&mut self, facts: ModelFacts);

    /// What the server's processors used; it is shared among the requests told in the same call.
    fn used(&mut self, used: Used);
}

/// One line of a log, out of its wrapper: without its end, colours and carriage returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// The line, or the beginning of one that is too long.
    pub(crate) text: &'a [u8],
    /// When the wrapper (journald, a container runtime) says that it was written.
    pub(crate) at: Option<Timestamp>,
    /// Whether more of it was there than is kept.
    pub(crate) is_cut: bool,
    /// Names the line uniquely and the same after a restart: a hash of its file and place in it. For servers that
    /// give their requests no id.
    pub(crate) place: u64,
}

/// Reads the log of one kind of server.
///
/// It recognises lines from their beginning, by a list of its own, and forgets at once what is not on it. It never
/// keeps, echoes or logs the text of a line.
pub(crate) trait LineReader: Send {
    /// A tick begins, with the moment of the lines that follow; tells what waited long enough. It is called once before
    /// the lines of each tick, also when there are none.
    fn tick(&mut self, _at: Timestamp, _out: &mut dyn Out) {}

    /// Takes the next line; tells a request when a line completes one.
    ///
    /// While there is a refusal, lines are still to be given: nothing of them is told, but they show whether the log
    /// goes on showing prompts.
    fn line(&mut self, line: Line<'_>, out: &mut dyn Out);

    /// The halves of requests that wait for their other lines, for a checkpoint; bounded.
    fn checkpoint(&self) -> Option<String> {
        None
    }

    /// Takes the halves back.
    fn resume(&mut self, _checkpoint: &str) {}

    /// Why this log must not be read: it shows prompts or bodies. The advice says how the server is told to stop. It
    /// ends when the log has shown none for a while.
    fn refusal(&self) -> Option<String> {
        None
    }

    /// What is wrong with the log although it is read.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// What `status` lists about the log, one line each: failed requests, halves that found no other half.
    fn details(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Keeps what it is told, for tests of feeds and readers.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) requests: Vec<Request>,
    pub(crate) sums: Vec<Sum>,
    pub(crate) models: Vec<ModelFacts>,
    pub(crate) used: Vec<Used>,
}

#[cfg(test)]
impl Out for Heard {
    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn sum(&mut self, sum: Sum) {
        self.sums.push(sum);
    }

    fn model(&mut self, facts: ModelFacts) {
        self.models.push(facts);
    }

    fn used(&mut self, used: Used) {
        self.used.push(used);
    }
}
