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

/// Most requests of a tick that wait until it is asked which model was loaded for them.
const NAMELESS_MAX: usize = 1_024;

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
            nameless: Vec::new(),
            out,
        };
        let taken = self.feed.take(at, &mut named).await;
        let nameless = named.nameless;
        if !nameless.is_empty()
            && let Err(error) = self.facts.look(at).await
        {
            self.failed = Some(chain(&error));
        }
        for mut request in nameless {
            request.model = self.facts.only_model().cloned();
            out.request(request);
        }
        taken
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
    /// Requests for which a model was loaded since the server was asked.
    nameless: Vec<Request>,
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
        let is_asked_for = request.model.is_none()
            && self.facts.may_have_loaded()
            && self.nameless.len() < NAMELESS_MAX;
        if is_asked_for {
            self.nameless.push(request);
        } else {
            self.out.request(request);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::facts::Kind;
    use crate::models::fake::{Fake, site};
    use crate::models::feed::Heard;

    /// A log that tells one request, without a model, at each look.
    struct Nameless;

    #[async_trait]
    impl Feed for Nameless {
        async fn take(&mut self, _at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
            out.request(Request::default());
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_request_for_which_a_model_was_loaded_has_its_name() {
        let server = Arc::new(Fake::default());
        server.says("/api/tags", r#"{"models":[]}"#);
        let facts = Facts::open(
            Kind::Ollama,
            &site("http://localhost:11434"),
            &server.host(),
        );
        let mut feed = WithFacts {
            feed: Box::new(Nameless),
            facts: facts.unwrap(),
            failed: None,
        };
        let mut heard = Heard::default();
        let mut names = Vec::new();
        for (second, loaded) in (0..).zip(["", "a", "a", "b"]) {
            let models = match loaded {
                "" => String::new(),
                name => format!(r#"{{"name":"{name}"}}"#),
            };
            server.says("/api/ps", &format!(r#"{{"models":[{models}]}}"#));
            let at = Timestamp::from_second(1_780_000_000 + second).unwrap();
            feed.take(at, &mut heard).await.unwrap();
            let told = std::mem::take(&mut heard.requests);
            names.extend(told.into_iter().map(|request| request.model));
        }
        let names: Vec<_> = names.iter().flatten().map(Word::as_str).collect();
        assert_eq!(
            names,
            ["a", "a", "a"],
            "the second was asked for at once, the last would be in 15 s"
        );
        let asked = server.asked();
        let looks = asked.iter().filter(|path| *path == "/api/ps").count();
        assert_eq!(looks, 3, "{asked:?}");
    }
}
