//! Where figures about models come from, and what they cannot speak for.

use jiff::Timestamp;

use super::{count, rule};
use crate::models;
use crate::provenance::{Entry, Quality};
use crate::units::Fixed;

/// Entries of a model efficiency payload.
pub(in crate::payload) fn model(observed: &models::Observed, end: Timestamp) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (origin, at) in &observed.origins {
        for figure in ["inference_log[]", "summary"] {
            let mut entry = Entry::new(figure, origin);
            entry.observed_at = Some((*at).min(end));
            entries.push(entry);
        }
    }
    let shown = count(observed.log.len());
    if shown < observed.log_of {
        let rate =
            Fixed::<6>::ratio(u128::from(shown), u128::from(observed.log_of)).unwrap_or_default();
        let note = format!("sampled: {{of: {}, rate: {rate}}}", observed.log_of);
        let mut entry = rule("inference_log[]", "hash-sample/1", Quality::Measured, note);
        entry.rows = Some(shown);
        entries.push(entry);
    }
    if observed.summed > 0 {
        let note = format!(
            "{} requests of the slot were told as sums only: they count in the summary and have no row here",
            observed.summed
        );
        entries.push(rule("inference_log[]", "sums/1", Quality::Measured, note));
    }
    let untold = count(
        observed
            .log
            .iter()
            .filter(|row| row.tokens.is_none())
            .count(),
    );
    if untold > 0 {
        let note = format!("the servers of {untold} listed requests do not count tokens");
        let figure = "inference_log[].tokens_processed";
        entries.push(rule(figure, "tokens/1", Quality::Unavailable, note));
    }
    for (figure, requests, note) in models::unknowns(&observed.rolling) {
        if requests > 0 {
            let note = format!("{requests} requests of the window {note}");
            entries.push(rule(figure, "model-size/1", Quality::Unavailable, note));
        }
    }
    let uncounted = models::uncounted(&observed.rolling);
    if uncounted > 0 {
        let note = format!(
            "{uncounted} tokens of the window are of models of which no request was counted: they are in no count and no ratio"
        );
        let figure = "summary.total_inference_requests_30day";
        entries.push(rule(figure, "uncounted/1", Quality::Unavailable, note));
    }
    entries
}
