//! What model servers and providers answer and push.

use cms_collectors::models::fuzzed;

/// Whatever a server says about its models, only listed keys are read of it.
pub(crate) fn facts(bytes: &[u8]) {
    fuzzed::facts(bytes);
}

/// Pages of usage: a bounded number of rows.
pub(crate) fn usage(bytes: &[u8]) {
    fuzzed::usage(bytes);
}

/// A message of an exporter of OpenTelemetry.
pub(super) fn otlp(data: &[u8]) {
    fuzzed::otlp(data);
}

/// A message of LiteLLM.
pub(super) fn litellm(data: &[u8]) {
    fuzzed::litellm(data);
}

/// A message in the standardized log format.
pub(super) fn jsonl(data: &[u8]) {
    fuzzed::jsonl(data);
}
