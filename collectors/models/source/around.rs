//! What stands around a feed: the facts of its models, and the energy of its processors.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::models::facts::Facts;
use crate::models::feed::{Feed, Out};
use crate::models::gpus::Gpus;
use crate::models::request::{ModelFacts, Request, Sum, Used, Word};
use crate::{CollectError, chain};

/// How a model is named by the digest of its weights.
const BLOB: &str = "sha256-";

/// A feed whose server says what it serves.
pub(super) struct WithFacts {
    pub(super) feed: Box<dyn Feed>,
    pub(super) facts: Facts,
    /// Why the server does not say it now.
    pub(super) failed: Option<String>,
}

#[async_trait]
impl Feed for WithFacts {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        let asked = self.facts.refresh(at, out).await;
        self.failed = asked.err().map(|error| chain(&error));
        let mut named = Named {
            facts: &self.facts,
            out,
        };
        self.feed.take(at, &mut named).await
    }

    fn checkpoint(&self) -> Option<String> {
        self.feed.checkpoint()
    }

    fn resume(&mut self, checkpoint: &str) {
        self.feed.resume(checkpoint);
    }

    fn stored(&mut self) {
        self.feed.stored();
    }

    fn details(&self) -> Vec<String> {
        let mut lines = self.feed.details();
        lines.extend(self.facts.details());
        lines
    }

    fn trouble(&self) -> Option<String> {
        // Requests without a model's name or size are worth a word, but lost lines are worth more.
        let facts = || {
            let why = self.failed.as_ref()?;
            Some(format!("it does not say what it serves: {why}"))
        };
        self.feed.trouble().or_else(facts)
    }

    fn caveat(&self) -> Option<String> {
        self.feed.caveat()
    }
}

/// Gives requests the name of the one model that is served, where they have none.
struct Named<'a> {
    facts: &'a Facts,
    out: &'a mut dyn Out,
}

impl Named<'_> {
    fn name(&self, told: Option<Word>) -> Option<Word> {
        match &told {
            None => self.facts.only_model().cloned(),
            Some(name) => match name.as_str().strip_prefix(BLOB) {
                Some(digest) => self.facts.by_blob(digest).cloned(),
                None => told,
            },
        }
    }
}

impl Out for Named<'_> {
    fn request(&mut self, mut request: Request) {
        request.model = self.name(request.model);
        self.out.request(request);
    }

    fn sum(&mut self, mut sum: Sum) {
        sum.model = self.name(sum.model);
        self.out.sum(sum);
    }

    fn model(&mut self, facts: ModelFacts) {
        self.out.model(facts);
    }

    fn used(&mut self, used: Used) {
        self.out.used(used);
    }
}

/// A feed whose server computes on GPUs of this machine.
pub(super) struct WithGpus {
    pub(super) feed: Box<dyn Feed>,
    pub(super) gpus: Gpus,
}

#[async_trait]
impl Feed for WithGpus {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        if let Some(used) = self.gpus.look(at) {
            out.used(used);
        }
        self.feed.take(at, out).await
    }

    fn checkpoint(&self) -> Option<String> {
        self.feed.checkpoint()
    }

    fn resume(&mut self, checkpoint: &str) {
        self.feed.resume(checkpoint);
    }

    fn stored(&mut self) {
        self.feed.stored();
    }

    fn details(&self) -> Vec<String> {
        self.feed.details()
    }

    fn trouble(&self) -> Option<String> {
        let gpus = || {
            let why = self.gpus.trouble()?;
            Some(format!("energy is not measured: {why}"))
        };
        self.feed.trouble().or_else(gpus)
    }

    fn caveat(&self) -> Option<String> {
        self.feed.caveat()
    }
}
