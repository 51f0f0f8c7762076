//! What decided the kinds of tasks, as text or JSON.

use std::fmt::Write as _;

use cms_collectors::Decisions;
use cms_collectors::models::source::decisions::{Decided, DecidedBy, Unclassified};
use cms_spec::units::Fixed;

use crate::cli::{CliError, ExitStatus};

/// The output of `--decisions`.
pub(super) fn asked_for(decisions: Option<&Decisions>, as_json: bool) -> Result<String, CliError> {
    let decisions = decisions.ok_or_else(|| CliError::Failed {
        status: ExitStatus::Problem,
        chain: "no source tells of requests to models".to_owned(),
        hint: Some(
            "switch on a [[models.source]]; `probe inference URL` suggests the table".to_owned(),
        ),
    })?;
    if as_json {
        let json = serde_json::to_string(decisions).map_err(|error| CliError::failed(&error))?;
        return Ok(json + "\n");
    }
    Ok(text(decisions))
}

/// Tables for a person. What can go into the configuration stands as it would there.
pub(super) fn text(decisions: &Decisions) -> String {
    let mut text = String::new();
    let mut line = |content: String| {
        text.push_str(content.trim_end());
        text.push('\n');
    };
    let since = decisions.since.map_or_else(
        || "now".to_owned(),
        |since| since.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    );
    line(format!(
        "# What decided the kinds of tasks since {since}: {} requests, {} unclassified{}",
        decisions.requests,
        decisions.unclassified,
        share(decisions.unclassified_percent)
    ));
    for source in &decisions.sources {
        line(String::new());
        line(format!("# {}: {} requests", source.source, source.requests));
        if source.decided.is_empty() {
            continue;
        }
        line(format!(
            "#   {:>12} {:>8} {:>16}  decided by",
            "requests", "share", "output tokens"
        ));
        for row in &source.decided {
            line(format!(
                "#   {:>12} {:>8} {:>16}  {}",
                row.requests,
                row.share_percent
                    .map(|percent| format!("{percent} %"))
                    .unwrap_or_default(),
                row.output_tokens,
                name(row)
            ));
        }
    }
    if !decisions.idle_rules.is_empty() {
        line(String::new());
        line("# Rules that have matched nothing:".to_owned());
    }
    for idle in &decisions.idle_rules {
        line(format!("#   rule {} {}", idle.rule, idle.says));
        line(format!("#     {}", idle.why));
    }
    if !decisions.routes.is_empty() {
        line(String::new());
        line("# Unclassified, the most frequent first. Tags of the requests themselves come before any rule.".to_owned());
    }
    for route in &decisions.routes {
        line(String::new());
        line(unclassified(route));
    }
    if decisions.more_routes > 0 {
        line(String::new());
        line(format!(
            "# and {} more unclassified requests on other routes",
            decisions.more_routes
        ));
    }
    if !decisions.unsized_models.is_empty() {
        line(String::new());
        line("# Models of unknown size count as not small. Say how large they are:".to_owned());
    }
    for model in &decisions.unsized_models {
        line(String::new());
        let of = format!(
            "{} requests of {}, {} output tokens",
            model.requests, model.source, model.output_tokens
        );
        line(match &model.table {
            Some(table) => format!("# {of}\n{table}"),
            None => format!(
                "# {of}, without the name of a model: give the source the `url` of its server, where it can be asked for"
            ),
        });
    }
    text
}

fn share(percent: Option<Fixed<1>>) -> String {
    percent.map_or_else(String::new, |percent| format!(" ({percent} %)"))
}

fn name(row: &Decided) -> String {
    let mut name = match (row.by, row.rule) {
        (DecidedBy::Tags, _) => "tags".to_owned(),
        (DecidedBy::Rule, Some(number)) => format!("rule {number}"),
        (DecidedBy::Rule, None) | (DecidedBy::FormerRule, _) => {
            "a rule that is there no more".to_owned()
        }
        (DecidedBy::Path, _) => "the path".to_owned(),
        (DecidedBy::Nothing, _) => "nothing: unclassified".to_owned(),
    };
    if let Some(says) = &row.says {
        let _ = write!(name, " {says}");
    }
    name
}

fn unclassified(route: &Unclassified) -> String {
    let mut text = format!(
        "# {} requests of {}, {} output tokens\n",
        route.requests, route.source, route.output_tokens
    );
    match (&route.decided_now, &route.rule) {
        (Some(by), _) => {
            let said = [
                ("path", &route.path),
                ("key", &route.key),
                ("model", &route.model),
                ("adapter", &route.adapter),
            ];
            let said = said.into_iter();
            let said: Vec<String> = said
                .filter_map(|(key, word)| Some(format!("{key} {}", word.as_ref()?)))
                .collect();
            let _ = writeln!(
                text,
                "# {}: decided by {by} from now on; these stay as they were counted",
                said.join(", ")
            );
        }
        (None, Some(rule)) => text.push_str(rule),
        (None, None) => {}
    }
    text
}
