//! What a server says about its models: their names, how many parameters they have, which one is loaded.
//!
//! Promises: a few small questions every ten minutes, answers of bounded time and size; of an answer only the listed
//! keys are kept. Refuses: any page that may show prompts, such as `/slots`; guessing a size that no answer and no name
//! says.

mod answers;
pub(crate) mod size;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use self::answers::{Listed, MODELS_MAX, Models, SglangInfo, Show, Tagged, Tags, TgiInfo};
use super::feed::Out;
use super::few;
use super::request::{ModelFacts, SizeFrom, Word};
use crate::web::{Body, Request, Server, Site, malformed};
use crate::{CollectError, Host};

/// What a server serves changes when people change it.
const EVERY: SignedDuration = SignedDuration::from_mins(10);

/// After a failure, and for which of its models Ollama has loaded.
const AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(4);

/// Longest answer: what Ollama shows of a mixture of experts lists tens of thousands of tensors.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Models of Ollama that are asked for in one go; the others come with the next.
const SHOWN_MAX: usize = 8;

/// A model name of Ollama's, as its questions have it.
const JSON: &str = "application/json";

/// Servers that say what they serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LlamaCpp,
    Ollama,
    Sglang,
    Tgi,
    Vllm,
}

/// What one server said about its models.
pub(crate) struct Facts {
    kind: Kind,
    server: Arc<dyn Server>,
    url: String,
    asked: Option<Timestamp>,
    looked: Option<Timestamp>,
    has_failed: bool,
    known: BTreeMap<Word, Known>,
    /// Names under which no adapter, but a model itself is served.
    base: BTreeSet<Word>,
    /// What Ollama has in memory.
    loaded: BTreeSet<Word>,
    blobs: BTreeMap<String, Word>,
    /// Models of Ollama that wait to be asked for.
    unasked: usize,
}

/// What is known of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    size: Option<(u64, SizeFrom)>,
    /// Of Ollama's manifest, by which a model is known to be the same.
    digest: Option<String>,
    has_been_shown: bool,
}

impl Facts {
    /// A server's models; nothing is asked yet. The address may be that of its metrics.
    ///
    /// # Errors
    /// When a certificate file cannot be used.
    pub(crate) fn open(kind: Kind, site: &Site, host: &Host) -> Result<Self, CollectError> {
        let site = site.without(&["/v1/metrics", "/metrics", "/v1"]);
        Ok(Self {
            kind,
            server: host.web.open(&site)?,
            url: site.address().to_string(),
            asked: None,
            looked: None,
            has_failed: false,
            known: BTreeMap::new(),
            base: BTreeSet::new(),
            loaded: BTreeSet::new(),
            blobs: BTreeMap::new(),
            unasked: 0,
        })
    }

    /// Asks again where it is time to, and tells what is known of the models then. It may be called with every tick.
    ///
    /// # Errors
    /// When the server does not say what it serves; what is known stays known.
    pub(crate) async fn refresh(
        &mut self,
        at: Timestamp,
        out: &mut dyn Out,
    ) -> Result<(), CollectError> {
        let is_over = |since: Option<Timestamp>, every| {
            since.is_none_or(|since| {
                let passed = at.duration_since(since);
                passed.is_negative() || passed >= every
            })
        };
        let is_late = self.has_failed || self.unasked > 0;
        if is_over(self.asked, if is_late { AGAIN } else { EVERY }) {
            self.asked = Some(at);
            self.has_failed = true;
            self.ask().await?;
            self.has_failed = false;
            for (name, known) in &self.known {
                if let Some((parameters, from)) = known.size {
                    out.model(ModelFacts {
                        name: name.clone(),
                        parameters,
                        from,
                    });
                }
            }
        }
        if self.kind == Kind::Ollama && is_over(self.looked, AGAIN) {
            self.look(at).await?;
        }
        Ok(())
    }

    /// Whether a model may have been loaded since it was asked which ones are: none was.
    pub(crate) fn may_have_loaded(&self) -> bool {
        self.kind == Kind::Ollama && self.loaded.is_empty()
    }

    /// Asks Ollama which models it has loaded.
    ///
    /// # Errors
    /// When it does not say so.
    pub(crate) async fn look(&mut self, at: Timestamp) -> Result<(), CollectError> {
        self.looked = Some(at);
        self.loaded.clear();
        let running: Tags = self.get("/api/ps").await?;
        let running = running.models.map_or(Vec::new(), |few| few.all);
        self.loaded = running.iter().filter_map(|one| word(&one.name)).collect();
        Ok(())
    }

    /// Asks again at the next call, because something else may be served now.
    pub(crate) fn expire(&mut self) {
        self.asked = None;
        self.looked = None;
    }

    /// The model that serves whatever is served, where there is only one: for Ollama the one that is loaded.
    pub(crate) fn only_model(&self) -> Option<&Word> {
        let of = match self.kind {
            Kind::Ollama => &self.loaded,
            _ => &self.base,
        };
        let mut names = of.iter();
        names.next().filter(|_| names.next().is_none())
    }

    /// The model whose weights have this digest of SHA-256, in hexadecimal digits, as Ollama names its files.
    pub(crate) fn by_blob(&self, digest: &str) -> Option<&Word> {
        self.blobs.get(digest)
    }

    /// Each model with its size, where that is known.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&Word, Option<(u64, SizeFrom)>)> {
        self.known.iter().map(|(name, known)| (name, known.size))
    }

    /// How many models wait to be asked for; the next calls ask.
    pub(crate) const fn unasked(&self) -> usize {
        self.unasked
    }

    /// What is known, one line each.
    pub(crate) fn details(&self) -> Vec<String> {
        let line = |(name, known): (&Word, &Known)| match known.size {
            Some((parameters, from)) => {
                format!("model {name}: {parameters} parameters, {}", from.in_words())
            }
            None => format!("model {name}: neither the server nor its name says a size"),
        };
        self.known.iter().map(line).collect()
    }

    async fn ask(&mut self) -> Result<(), CollectError> {
        match self.kind {
            Kind::LlamaCpp | Kind::Vllm => {
                let models: Models = self.get("/v1/models").await?;
                self.serve(&models.data.all, None);
            }
            Kind::Sglang => {
                let models: Models = self.get("/v1/models").await?;
                let info = match self.get::<SglangInfo>("/model_info").await {
                    Err(CollectError::Vanished { .. }) => {
                        self.get::<SglangInfo>("/get_model_info").await
                    }
                    answer => answer,
                }?;
                self.serve(&models.data.all, Some(&info.model_path));
            }
            Kind::Tgi => {
                let info: TgiInfo = self.get("/info").await?;
                let listed = Listed {
                    id: info.model_id,
                    root: None,
                    parent: None,
                    meta: None,
                };
                self.serve(&[listed], None);
            }
            Kind::Ollama => {
                let tags: Tags = self.get("/api/tags").await?;
                self.collect(tags.models.map_or(Vec::new(), |few| few.all));
                self.show().await?;
            }
        }
        Ok(())
    }

    /// What is listed is served.
    fn serve(&mut self, models: &[Listed], path: Option<&str>) {
        let of = |listed: &Listed| {
            let counted = listed.meta.as_ref().and_then(|meta| meta.n_params);
            let counted = counted.filter(|count| *count > 0);
            let places = [listed.root.as_deref(), path, Some(&listed.id)];
            let named = || places.into_iter().flatten().find_map(size::of_name);
            counted
                .map(|count| (count, SizeFrom::Counted))
                .or_else(|| Some((named()?, SizeFrom::Name)))
        };
        self.known.clear();
        self.base.clear();
        for listed in models {
            let Some(name) = word(&listed.id) else {
                continue;
            };
            let parent = listed.parent.as_deref().filter(|id| *id != listed.id);
            let base = parent.and_then(|id| models.iter().find(|other| other.id == id));
            if parent.is_none() {
                self.base.insert(name.clone());
            }
            let known = Known {
                size: of(base.unwrap_or(listed)),
                ..Known::default()
            };
            self.known.insert(name, known);
        }
    }

    /// What Ollama has on disk; what is the same as before keeps what was shown of it.
    fn collect(&mut self, models: Vec<Tagged>) {
        let mut before = std::mem::take(&mut self.known);
        for model in models {
            let Some(name) = word(&model.name) else {
                continue;
            };
            let same = before
                .remove(&name)
                .filter(|known| known.digest.is_some() && known.digest == model.digest);
            let rounded = || {
                let text = model.details.as_ref()?.parameter_size.as_deref()?;
                Some((size::of_name(text)?, SizeFrom::Rounded))
            };
            let known = same.unwrap_or_else(|| Known {
                size: rounded().or_else(|| Some((size::of_name(name.as_str())?, SizeFrom::Name))),
                digest: model.digest.clone(),
                has_been_shown: false,
            });
            self.known.insert(name, known);
        }
        let known = &self.known;
        self.blobs.retain(|_, name| known.contains_key(name));
    }

    /// Asks Ollama for models that it has not shown yet.
    async fn show(&mut self) -> Result<(), CollectError> {
        let unshown =
            |(name, known): (&Word, &Known)| (!known.has_been_shown).then(|| name.clone());
        let waiting: Vec<Word> = self.known.iter().filter_map(unshown).collect();
        self.unasked = waiting.len();
        for name in waiting.into_iter().take(SHOWN_MAX) {
            let question = serde_json::json!({ "model": name.as_str() }).to_string();
            let shown = self.post::<Show>("/api/show", question.as_bytes()).await;
            let shown = match shown {
                // It was removed since it was listed.
                Err(CollectError::Vanished { .. } | CollectError::Malformed { .. }) => None,
                shown => Some(shown?),
            };
            self.unasked -= 1;
            let Some(known) = self.known.get_mut(&name) else {
                continue;
            };
            known.has_been_shown = true;
            let Some(shown) = shown else { continue };
            let counted = shown.model_info.and_then(|info| info.parameters);
            if let Some(count) = counted.filter(|count| *count > 0) {
                known.size = Some((count, SizeFrom::Counted));
            }
            let digest = shown.modelfile.and_then(|weights| weights.0);
            if let Some(digest) = digest.filter(|_| self.blobs.len() < MODELS_MAX) {
                self.blobs.insert(digest, name);
            }
        }
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CollectError> {
        self.fetch(path, None).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, CollectError> {
        let body = Body {
            content_type: JSON,
            bytes: body,
        };
        self.fetch(path, Some(body)).await
    }

    async fn fetch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<Body<'_>>,
    ) -> Result<T, CollectError> {
        let url = format!("{}{path}", self.url);
        let request = Request {
            path,
            body,
            headers: &[("accept", JSON)],
            within: WITHIN,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let mut text = zeroize::Zeroizing::new(Vec::new());
        let mut on_piece = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(())
        };
        let answer = self.server.ask(&request, &mut on_piece).await?;
        answer.require_good(&url)?;
        few::read(&text).map_err(|why| malformed(&url, &why))
    }
}

/// The size of a model by its name alone, for those that no server tells.
pub(crate) fn by_name(name: &Word) -> Option<ModelFacts> {
    Some(ModelFacts {
        name: name.clone(),
        parameters: size::of_name(name.as_str())?,
        from: SizeFrom::Name,
    })
}

/// An error in one line, with what is behind it.
pub(super) fn words(error: &CollectError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A name as it is told; of one that is a path the file alone.
fn word(name: &str) -> Option<Word> {
    let name = Word::new(name.as_bytes()).or_else(|| {
        let file = name.rsplit(['/', '\\']).next()?;
        Word::new(file.as_bytes())
    });
    name.map(Word::without_folder)
}

/// Reads any bytes as each of the answers: for tests with inputs that nobody wrote.
pub(super) fn read_any(body: &[u8]) {
    let _models = few::read::<Models>(body);
    let _info = few::read::<TgiInfo>(body);
    let _path = few::read::<SglangInfo>(body);
    let _tags = few::read::<Tags>(body);
    if let Ok(shown) = few::read::<Show>(body)
        && let Some(digest) = shown.modelfile.and_then(|weights| weights.0)
    {
        assert!(digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    if let Ok(name) = str::from_utf8(body) {
        let _size = size::of_name(name);
    }
}
