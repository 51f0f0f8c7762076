//! What model servers and providers answer.

use cms_collectors::models::fuzzed;

/// Whatever a server says about its models, only listed keys are read of it.
pub(crate) fn facts(bytes: &[u8]) {
    fuzzed::facts(bytes);
}

/// Pages of usage: a bounded number of rows.
pub(crate) fn usage(bytes: &[u8]) {
    fuzzed::usage(bytes);
}
