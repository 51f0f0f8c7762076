//! A body against its leaf: its bytes, what it says of itself, and whether its figures can be true.

use cms_spec::payload::Envelope;
use cms_spec::plausible::{self, Severity};

use super::{Check, Report, Verdict};
use crate::leaf::{Body, Leaf};

/// Examines the body of one leaf.
pub(super) fn examine(report: &mut Report, bytes: &[u8], leaf: &Leaf, name: &str) {
    let tampered = |report: &mut Report, check, first| {
        report.fail(check, Verdict::Tampered, first);
    };
    if leaf.body == Some(Body::of(bytes)) {
        report.held(Check::Digests);
    } else {
        let first = format!("the body of {name} is not the one that the leaf names");
        tampered(report, Check::Digests, first);
    }
    let envelope = match serde_json::from_slice::<Envelope>(bytes) {
        Ok(envelope) => envelope,
        Err(error) => {
            let first = format!("the body of {name} does not read: {error}");
            return tampered(report, Check::Agreement, first);
        }
    };
    match difference(&envelope, leaf) {
        Some(what) => tampered(
            report,
            Check::Agreement,
            format!("the body of {name} has another {what}"),
        ),
        None => report.held(Check::Agreement),
    }
    let mut possible = true;
    for finding in plausible::check(&envelope.data) {
        let said = format!("{name}: {} {}", finding.field, finding.message);
        match finding.severity {
            Severity::Flag => report.remark(said),
            Severity::Refuse => {
                possible = false;
                tampered(report, Check::Arithmetic, said);
            }
        }
    }
    if possible {
        report.held(Check::Arithmetic);
    }
}

/// What a body says otherwise than its leaf.
fn difference(envelope: &Envelope, leaf: &Leaf) -> Option<&'static str> {
    let Some(agent) = &envelope.agent else {
        return Some("form: it names no agent");
    };
    let same = [
        (envelope.company_id == *leaf.origin.company(), "company"),
        (agent.agent_id == leaf.origin.agent_id().as_str(), "agent"),
        (agent.sequence == leaf.index, "index (sequence)"),
        (
            (agent.slot.start, agent.slot.end) == (leaf.from, leaf.to),
            "slot",
        ),
        (Some(envelope.data.category()) == leaf.category, "category"),
    ];
    same.iter().find(|(same, _)| !same).map(|(_, what)| *what)
}
