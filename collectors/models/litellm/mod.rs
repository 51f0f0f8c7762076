//! LiteLLM: the payload that its proxy logs for every request, pushed by its callback `generic_api`.
//!
//! Promises: of the payload, which holds prompt, answer, addresses and errors, only the keys below are read.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use cms_spec::decimal::Decimal;

use super::feed::Feed;
use super::json::items::items;
use super::json::{Broken, Json};
use super::receive::{Dialect, Form, Listen, Receiver, Refusal, Told};
use super::request::{Request, Route, Tags, Word};
use super::words::{complexity, instant, path};
use crate::CollectError;
use crate::host::Host;

/// Where the callback posts to.
const PATHS: [&str; 2] = ["/v1/litellm", "/"];

/// Listens for the callback.
///
/// # Errors
/// When the address is taken, or the token cannot be read.
pub(crate) fn open(listen: &Listen, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
    let receiver = Receiver::open(listen, Arc::new(LiteLlm), host)?;
    Ok(Box::new(receiver))
}

/// What the callback sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiteLlm;

impl Dialect for LiteLlm {
    fn form(&self, at: &str, media: &str) -> Result<Form, Refusal> {
        if !PATHS.contains(&at) {
            return Err(super::receive::not_here(
                "LiteLLM posts to /v1/litellm: set GENERIC_LOGGER_ENDPOINT to that address",
            ));
        }
        super::receive::json(media)
    }

    fn read(&self, _: Form, message: &[u8]) -> Result<Told, Refusal> {
        told(message)
    }

    // When a POST ends, well or not, the callback clears its queue with all that was logged meanwhile: a second of
    // waiting in every five would lose a fifth of all requests, and it never sends anything twice.
    fn is_answered_at_once(&self) -> bool {
        true
    }
}

/// Everything that a message tells.
pub(super) fn told(message: &[u8]) -> Result<Told, Refusal> {
    let mut told = Told::default();
    let mut overflow = Ok(());
    let wrong = items(message, payload, |payload| match payload.judged() {
        Ok(request) => overflow = overflow.and_then(|()| told.keep(request)),
        Err(why) => told.left.count(why, 1),
    })
    .map_err(|_| super::receive::malformed("the message is no array of JSON objects"))?;
    overflow?;
    told.left.count("lines that were no JSON", wrong);
    Ok(told)
}

/// Reads any bytes.
pub(super) fn read_any(bytes: &[u8]) {
    super::receive::keeps_its_word(|| told(bytes));
}

/// What is read of one payload.
#[derive(Debug, Default)]
struct Payload {
    is_object: bool,
    id: Option<Word>,
    call_id: Option<Word>,
    has_succeeded: bool,
    is_from_cache: bool,
    call: Option<Call>,
    provider: Option<Word>,
    model: Option<Word>,
    group: Option<Word>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    began: Option<Decimal>,
    ended: Option<Decimal>,
    took: Option<Decimal>,
    tagged: Tags,
    metadata: Metadata,
}

#[derive(Debug, Default)]
struct Metadata {
    key: Option<Word>,
    project: Option<Word>,
    team: Option<Word>,
    route: Option<Word>,
    spend: Tags,
    headers: Tags,
}

/// What kind of call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// A model was asked; where in the API.
    Model(&'static str),
    /// Not known here: it counts if it used tokens.
    Other,
}

fn payload(json: &mut Json<'_>) -> Result<Payload, Broken> {
    let mut read = Payload::default();
    read.is_object = json.object(|json, key| {
        match key {
            b"id" => read.id = json.word()?,
            b"litellm_call_id" => read.call_id = json.word()?,
            b"status" => read.has_succeeded = json.text()?.as_deref() == Some(b"success"),
            b"cache_hit" => read.is_from_cache = json.truth()? == Some(true),
            b"call_type" => read.call = json.text()?.as_deref().map(call),
            b"custom_llm_provider" => read.provider = json.word()?,
            b"model" => read.model = json.word()?,
            b"model_group" => read.group = json.word()?,
            b"prompt_tokens" => read.input_tokens = json.count()?,
            b"completion_tokens" => read.output_tokens = json.count()?,
            b"startTime" => read.began = json.number()?,
            b"endTime" => read.ended = json.number()?,
            b"response_time" => read.took = json.number()?,
            b"request_tags" => {
                json.array(|json| {
                    if let Some(text) = json.text()? {
                        tag(&text, &mut read.tagged);
                    }
                    Ok(())
                })?;
            }
            b"metadata" => metadata(json, &mut read.metadata)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(read)
}

fn metadata(json: &mut Json<'_>, read: &mut Metadata) -> Result<(), Broken> {
    json.object(|json, key| {
        match key {
            b"user_api_key_alias" => read.key = json.word()?,
            b"user_api_key_project_alias" => read.project = json.word()?,
            b"user_api_key_team_alias" => read.team = json.word()?,
            b"user_api_key_request_route" => {
                read.route = json.text()?.as_deref().and_then(path);
            }
            b"spend_logs_metadata" => {
                json.object(|json, key| named_tag(json, key, &mut read.spend))?;
            }
            b"requester_custom_headers" => {
                json.object(|json, key| {
                    let name = key.strip_prefix(b"x-").unwrap_or_default();
                    named_tag(json, name, &mut read.headers)
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(())
}

fn named_tag(json: &mut Json<'_>, name: &[u8], tags: &mut Tags) -> Result<(), Broken> {
    match name {
        b"task_type" | b"task-type" => tags.task_type = json.word()?,
        b"complexity" | b"task_complexity" | b"task-complexity" => {
            tags.complexity = json.text()?.as_deref().and_then(complexity);
        }
        _ => {}
    }
    Ok(())
}

/// One of the request's tags, of which any but ours are nothing to us.
fn tag(text: &[u8], tags: &mut Tags) {
    let after = |name: &[u8]| text.strip_prefix(name).map(<[u8]>::trim_ascii);
    if let Some(task) = after(b"task:").or_else(|| after(b"task_type:")) {
        tags.task_type = Word::new(task).or(tags.task_type.take());
    } else if let Some(said) = after(b"complexity:").or_else(|| after(b"task_complexity:")) {
        tags.complexity = complexity(said).or(tags.complexity);
    }
}

fn call(call_type: &[u8]) -> Call {
    // Calls have an `a` before their name where they are made asynchronously, as the proxy makes them.
    let path = match call_type.strip_prefix(b"a").unwrap_or(call_type) {
        b"completion" => "/v1/chat/completions",
        b"nthropic_messages" | b"anthropic_messages" => "/v1/messages",
        b"text_completion" => "/v1/completions",
        b"embedding" => "/v1/embeddings",
        b"rerank" => "/v1/rerank",
        b"responses" => "/v1/responses",
        b"transcription" => "/v1/audio/transcriptions",
        b"speech" => "/v1/audio/speech",
        b"image_generation" => "/v1/images/generations",
        b"image_edit" => "/v1/images/edits",
        b"moderation" => "/v1/moderations",
        _ => return Call::Other,
    };
    Call::Model(path)
}

impl Payload {
    /// The request to a model that it tells of, or why it tells of none.
    fn judged(self) -> Result<Request, &'static str> {
        if !self.is_object {
            return Err("that were no objects");
        }
        if !self.has_succeeded {
            return Err("that failed");
        }
        if self.is_from_cache {
            return Err("answered from the cache of LiteLLM, where no model was used");
        }
        let used = self.input_tokens.unwrap_or(0) + self.output_tokens.unwrap_or(0) > 0;
        let route = match self.call {
            Some(Call::Model(path)) => Word::new(path.as_bytes()),
            Some(Call::Other) | None if used => None,
            Some(Call::Other) | None => return Err("that asked no model"),
        };
        let took = match (self.took, self.began, self.ended) {
            (Some(took), ..) => Some(took),
            (None, Some(began), Some(ended)) => ended.checked_sub(began),
            _ => None,
        };
        let Metadata {
            key,
            project,
            team,
            route: at,
            spend,
            headers,
        } = self.metadata;
        let tags = [self.tagged, spend, headers];
        Ok(Request {
            id: self.id.or(self.call_id),
            at: self.ended.or(self.began).and_then(instant),
            model: named(self.model, self.provider.as_ref()).or(self.group),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            total_tokens: None,
            energy: None,
            duration_ms: took.and_then(Decimal::to_milli),
            tags: Tags {
                complexity: tags.iter().find_map(|tags| tags.complexity),
                task_type: tags.into_iter().find_map(|tags| tags.task_type),
            },
            route: Route {
                path: at.or(route),
                key: key.or(project).or(team),
                adapter: None,
            },
        })
    }
}

/// The model's name without the provider's before it, which LiteLLM adds or not.
fn named(model: Option<Word>, provider: Option<&Word>) -> Option<Word> {
    let model = model?;
    let bare = provider
        .and_then(|provider| model.as_str().strip_prefix(provider.as_str()))
        .and_then(|rest| rest.strip_prefix('/'));
    match bare {
        Some(bare) => Word::new(bare.as_bytes()).or(Some(model)),
        None => Some(model),
    }
}
