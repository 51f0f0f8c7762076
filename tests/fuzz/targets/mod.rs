//! What is fuzzed: one function for each parser of what others wrote, from any bytes to nothing.
//!
//! Owns: the table of targets. libFuzzer (`run.rs`) and the agent's tests (`main.rs`) call the same functions.
//! Promises: a target panics only where the parser did, or where what it read is not what its module promises:
//! that a text has one form, that nothing is proved without a signature, that damage is never called whole.

mod broker;
mod documents;
mod fieldbus;
mod ledger;
mod logs;
mod modbus;
mod models;
mod points;
mod requests;
mod sources;

/// Tries one input.
pub(crate) type Target = fn(&[u8]);

/// Every target, by the name of its corpus and of its program.
pub(crate) const TARGETS: [(&str, Target); 51] = [
    ("add_checkpoint", ledger::add_checkpoint),
    ("answers", documents::answers),
    ("bacnet", fieldbus::bacnet),
    ("bacnet_answers", fieldbus::bacnet_answers),
    ("baseline_csv", sources::baseline_csv),
    ("baseline_toml", sources::baseline_toml),
    ("block", documents::block),
    ("bundle", ledger::bundle),
    ("bundle_resealed", ledger::bundle_resealed),
    ("carry", documents::carry),
    ("checkpoint", ledger::checkpoint),
    ("cms_ledger", requests::cms_ledger),
    ("config", sources::config),
    ("content_digest", requests::content_digest),
    ("cosignature", ledger::cosignature),
    ("dashboard_config", sources::dashboard_config),
    ("decimal", points::decimal),
    ("enrolment", requests::enrolment),
    ("envelope", documents::envelope),
    ("exposition", sources::exposition),
    ("formula", points::formula),
    ("headers", requests::headers),
    ("idempotency_key", requests::idempotency_key),
    ("jwk", documents::jwk),
    ("jsonl", models::jsonl),
    ("leaf", ledger::leaf),
    ("litellm", models::litellm),
    ("log_journal", logs::journal),
    ("log_lines", cms_collectors::models::fuzzed::log_lines),
    ("log_records", logs::records),
    ("machine", sources::machine),
    ("modbus_plan", modbus::plan),
    ("modbus_registers", modbus::registers),
    ("modbus_reply", modbus::reply),
    ("modbus_telegraf", modbus::telegraf),
    ("model_facts", models::facts),
    ("model_usage", models::usage),
    ("mounts", sources::mounts),
    ("mqtt", broker::mqtt),
    ("note", ledger::note),
    ("note_key", ledger::note_key),
    ("origin", ledger::origin),
    ("otlp", models::otlp),
    ("policy", ledger::policy),
    ("rotation", requests::rotation),
    ("sealed", sources::sealed),
    ("select", points::select),
    ("signature_headers", requests::signature_headers),
    ("snmp_value", points::snmp_value),
    ("statements", documents::statements),
    ("succession", ledger::succession),
];

/// The input as text; what is no UTF-8 never reaches these parsers.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// What the seeds of the corpora are made with.
#[cfg(test)]
pub(crate) mod seeding {
    pub(crate) use super::ledger::{checkpoint_of_seven, cosigner};
    pub(crate) use super::requests::{AGENT, CHALLENGE, NAMES, agent, honest_lines, key, now};
    pub(crate) use super::sources::FILES;
}
