//! `verify`: checks an evidence bundle without a network, a configuration or a store.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use cms_attest::checkpoint::CosignerKey;
use cms_attest::policy::{POLICY_BYTES_MAX, Policy};
use cms_attest::verify::{Report, Trust, Verdict, verify};

use super::{CliError, ExitStatus, print};
use crate::status::error_chain;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Checks an evidence bundle offline. Ends with 0 when all holds, 1 when it was tampered with, 2 when something
/// is not there.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The bundle that `export` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The dashboard's key for receipts, as it shows it at /keys; without it the bundle's own word is taken.
    #[arg(long, value_name = "KEY")]
    cosigner: Option<CosignerKey>,

    /// Whose countersignatures count, as a policy of C2SP tlog-policy; the dashboard's alone without it.
    #[arg(long, value_name = "FILE", conflicts_with = "cosigner")]
    policy: Option<PathBuf>,

    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<ExitStatus, CliError> {
        let unreadable = |error: &std::io::Error| unreadable(&self.file, error);
        let file = File::open(&self.file).map_err(|error| unreadable(&error))?;
        let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
        let trust = Trust {
            cosigner: self.cosigner,
            policy: self.policy.as_deref().map(read_policy).transpose()?,
        };
        let report = verify(&mut input, &trust).map_err(|error| unreadable(&error))?;
        show(&report, self.json)
    }
}

/// Prints a report, and ends with what it found.
pub(super) fn show(report: &Report, json: bool) -> Result<ExitStatus, CliError> {
    if json {
        let mut text =
            serde_json::to_string_pretty(report).map_err(|error| CliError::failed(&error))?;
        text.push('\n');
        print(&text);
    } else {
        print(&report.to_string());
    }
    Ok(match report.verdict {
        Verdict::Incomplete => ExitStatus::Incomplete,
        Verdict::Ok => ExitStatus::Ok,
        Verdict::Tampered => ExitStatus::Problem,
    })
}

fn read_policy(path: &Path) -> Result<Policy, CliError> {
    let failed = |chain: String| CliError::Failed {
        status: ExitStatus::Usage,
        chain: format!("cannot take the policy {}: {chain}", path.display()),
        hint: Some("write witness and quorum lines, as docs/PROTOCOL.md shows".to_owned()),
    };
    let file = File::open(path).map_err(|error| failed(error_chain(&error)))?;
    let mut text = String::new();
    file.take(POLICY_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(error_chain(&error)))?;
    text.parse().map_err(|error| failed(error_chain(&error)))
}

fn unreadable(file: &Path, error: &std::io::Error) -> CliError {
    CliError::Failed {
        status: ExitStatus::Usage,
        chain: format!("cannot read {}: {}", file.display(), error_chain(error)),
        hint: Some("name the file that export wrote".to_owned()),
    }
}
