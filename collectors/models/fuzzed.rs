//! Readers of what servers say, for tests with inputs that nobody wrote.
//!
//! Promises: a function ends for any bytes, and panics only where a reader does or does not keep its word.

/// Answers about models, and names with sizes.
pub fn facts(bytes: &[u8]) {
    super::facts::read_any(bytes);
    super::probe::read_any(bytes);
}

/// Lines of logs, by the reader of every kind of server.
pub fn log_lines(bytes: &[u8]) {
    super::logs::read_any(bytes);
}

/// Pages of usage as providers account it.
pub fn usage(bytes: &[u8]) {
    super::openai::read_any(bytes);
    super::anthropic::read_any(bytes);
}

/// Messages of exporters of OpenTelemetry, in protobuf and JSON.
pub fn otlp(bytes: &[u8]) {
    super::otlp::read_any(bytes);
}

/// Messages of the callback of LiteLLM.
pub fn litellm(bytes: &[u8]) {
    super::litellm::read_any(bytes);
}

/// Messages and lines in the standardized log format.
pub fn jsonl(bytes: &[u8]) {
    super::jsonl::read_any(bytes);
}
