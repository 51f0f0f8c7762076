//! Where log lines go: text or JSON on standard error, or the journal with its fields.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use super::LogFormat;
use super::journal::{self, Journal};
use crate::config::{Log, LogFormat as Configured};

/// Starts logging. `RUST_LOG`, where set, decides the levels instead of the configuration.
pub(super) fn start(log: Log, asked: Option<LogFormat>) {
    let format = match asked {
        Some(LogFormat::Json) => Configured::Json,
        Some(LogFormat::Text) => Configured::Text,
        None => log.format,
    };
    // The libraries below us are chatty at info; ours is what an operator reads.
    let levels = format!(
        "warn,cms_telemetry_agent={0},cms_collectors={0},cms_dashboard={0}",
        log.level.as_tracing()
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(levels));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let started = match format {
        Configured::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        Configured::Text => registry.with(lines).try_init(),
        Configured::Journald => match Journal::connect(PathBuf::from(journal::SOCKET)) {
            Ok(journal) => registry.with(journal).try_init(),
            Err(error) => {
                let started = registry.with(lines).try_init();
                tracing::warn!(path = journal::SOCKET, %error, "no journal listens; log lines go to standard error");
                started
            }
        },
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging had been started before");
    }
}
