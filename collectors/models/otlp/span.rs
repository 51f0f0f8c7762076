//! What is read of a span: the attributes on our list, by their names of today and before.

use std::str;

use cms_spec::decimal::Decimal;
use cms_spec::payload::v1::Complexity;

use super::super::json::whole;
use super::super::request::{Request, Route, Tags, Word};
use super::super::sglang::is_health_check;
use super::super::vllm::id::Id;
use super::super::words::{complexity, instant};

/// A value that is no list and no map.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Text(&'a [u8]),
    Whole(i64),
    Real(f64),
    Exact(Decimal),
}

/// What is read of whoever the spans are from.
#[derive(Debug, Default)]
pub(super) struct Resource {
    service: Option<Word>,
    tags: Tags,
}

/// What is read of a span.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) has_failed: bool,
    trace: Option<Word>,
    span: Option<Word>,
    operation: Option<Operation>,
    /// The response's, the request's.
    model: [Option<Word>; 2],
    /// The response's, the request's, an older name, the proxy's.
    id: [Option<Word>; 4],
    input_tokens: [Option<u64>; 2],
    output_tokens: [Option<u64>; 2],
    took: Option<Decimal>,
    tags: Tags,
}

/// What a span says that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// A model was asked; where in the API, where that is certain.
    Inference(Option<&'static str>),
    /// Something around requests to models, which have spans of their own.
    Around,
    /// Not known here: it counts if it used tokens.
    Other,
}

impl Resource {
    /// Takes an attribute if it is on the list.
    pub(super) fn attribute(&mut self, key: &[u8], value: Scalar<'_>) {
        match key {
            b"service.name" => self.service = value.word(),
            _ => tag(&mut self.tags, key, value),
        }
    }
}

impl Draft {
    /// The code of a status that says so.
    pub(super) const FAILED: u64 = 2;

    /// Takes an attribute if it is on the list.
    pub(super) fn attribute(&mut self, key: &[u8], value: Scalar<'_>) {
        let Self {
            model: [response_model, request_model],
            id: [response_id, request_id, older_id, proxy_id],
            input_tokens: [input, prompt],
            output_tokens: [output, completion],
            ..
        } = self;
        match key {
            b"gen_ai.operation.name" => self.operation = value.text().map(operation),
            b"gen_ai.response.model" => *response_model = value.word(),
            b"gen_ai.request.model" => *request_model = value.word(),
            b"gen_ai.response.id" => *response_id = value.word(),
            b"gen_ai.request.id" => *request_id = value.word(),
            b"gen_ai.response_id" => *older_id = value.word(),
            b"litellm.call_id" => *proxy_id = value.word(),
            b"gen_ai.usage.input_tokens" => *input = value.count(),
            b"gen_ai.usage.prompt_tokens" => *prompt = value.count(),
            b"gen_ai.usage.output_tokens" => *output = value.count(),
            b"gen_ai.usage.completion_tokens" => *completion = value.count(),
            b"gen_ai.latency.e2e" => self.took = value.number(),
            _ => tag(&mut self.tags, key, value),
        }
    }

    /// The id of the trace, as bytes.
    pub(super) fn trace(&mut self, id: &[u8]) {
        self.trace = hex(id);
    }

    /// The id of the span, as bytes.
    pub(super) fn span(&mut self, id: &[u8]) {
        self.span = hex(id);
    }

    /// The id of the trace, as text.
    pub(super) fn trace_text(&mut self, id: Option<Word>) {
        self.trace = id;
    }

    /// The id of the span, as text.
    pub(super) fn span_text(&mut self, id: Option<Word>) {
        self.span = id;
    }

    /// The request to a model that it tells of, or why it tells of none.
    pub(super) fn judged(self, resource: &Resource) -> Result<Request, &'static str> {
        let Self {
            model: [response_model, request_model],
            id: [response_id, request_id, older_id, proxy_id],
            input_tokens: [input, prompt],
            output_tokens: [output, completion],
            ..
        } = self;
        let (input_tokens, output_tokens) = (input.or(prompt), output.or(completion));
        let used = input_tokens
            .unwrap_or(0)
            .saturating_add(output_tokens.unwrap_or(0))
            > 0;
        let path = match self.operation {
            Some(Operation::Inference(path)) => path,
            Some(Operation::Other) | None if used => None,
            Some(Operation::Around | Operation::Other) | None => {
                return Err("spans that ask no model");
            }
        };
        if self.has_failed && output_tokens.unwrap_or(0) == 0 {
            return Err("that failed");
        }
        let asked = request_id.as_ref().map_or("", Word::as_str);
        if is_health_check(asked, input_tokens, output_tokens) {
            return Err("of health checks");
        }
        let spanned_ns = self.ended_ns.checked_sub(self.began_ns);
        let spanned_ns = spanned_ns.filter(|_| self.began_ns > 0);
        let spanned = spanned_ns.map(|span| Decimal::from_nano(i128::from(span)));
        let of_span = || {
            let (trace, span) = (self.trace?, self.span?);
            Word::new(format!("{trace}:{span}").as_bytes())
        };
        let by_id = [&request_id, &response_id, &older_id, &proxy_id]
            .into_iter()
            .flatten()
            .map(|id| Id(id).tags_of_any())
            .find(|tags| tags.complexity.is_some())
            .unwrap_or_default();
        let tags = [self.tags, by_id, resource.tags.clone()];
        let told = response_id.or(request_id).or(older_id).or(proxy_id);
        // vLLM's spans name no operation; its ids do.
        let path_of_id = told.as_ref().map(|id| Id(id).path()).unwrap_or_default();
        Ok(Request {
            id: told.or_else(of_span),
            at: instant(Decimal::from_nano(i128::from(self.ended_ns))),
            model: response_model.or(request_model),
            input_tokens,
            output_tokens,
            total_tokens: None,
            energy: None,
            duration_ms: self.took.or(spanned).and_then(Decimal::to_milli),
            tags: Tags {
                complexity: tags.iter().find_map(|tags| tags.complexity),
                task_type: tags.into_iter().find_map(|tags| tags.task_type),
            },
            route: Route {
                path: Word::new(path.map_or(path_of_id, str::as_bytes)),
                key: resource.service.clone(),
                adapter: None,
            },
        })
    }
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn word(self) -> Option<Word> {
        self.text().and_then(Word::new)
    }

    /// A number; some libraries write numbers as text.
    fn number(self) -> Option<Decimal> {
        /// Longest number that is read.
        const BYTES_MAX: usize = 40;
        match self {
            Self::Text(text) if text.len() <= BYTES_MAX => str::from_utf8(text).ok()?.parse().ok(),
            Self::Text(_) => None,
            Self::Whole(number) => Some(Decimal::whole(number)),
            Self::Real(number) => Decimal::from_f64(number).ok(),
            Self::Exact(number) => Some(number),
        }
    }

    fn count(self) -> Option<u64> {
        self.number().and_then(whole)
    }

    fn complexity(self) -> Option<Complexity> {
        self.text().and_then(complexity)
    }
}

fn tag(tags: &mut Tags, key: &[u8], value: Scalar<'_>) {
    match key {
        b"cms.task_type" => tags.task_type = value.word().or(tags.task_type.take()),
        b"cms.complexity" => tags.complexity = value.complexity().or(tags.complexity),
        b"app.ai.task_type" => tags.task_type = tags.task_type.take().or(value.word()),
        b"app.ai.complexity" => tags.complexity = tags.complexity.or(value.complexity()),
        _ => {}
    }
}

fn operation(name: &[u8]) -> Operation {
    match name {
        b"chat" => Operation::Inference(Some("/v1/chat/completions")),
        b"text_completion" => Operation::Inference(Some("/v1/completions")),
        b"embeddings" => Operation::Inference(Some("/v1/embeddings")),
        b"generate_content" => Operation::Inference(None),
        b"execute_tool" | b"invoke_agent" | b"create_agent" | b"invoke_workflow" | b"plan"
        | b"retrieval" | b"search_memory" | b"update_memory" => Operation::Around,
        _ => Operation::Other,
    }
}

/// An id in the form in which traces are shown.
fn hex(id: &[u8]) -> Option<Word> {
    /// The id of a trace; no id is longer.
    const BYTES_MAX: usize = 16;
    let id = Some(id).filter(|id| id.len() <= BYTES_MAX)?;
    let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    Word::new(text.as_bytes())
}
