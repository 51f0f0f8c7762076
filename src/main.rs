//! The agent's program: parse, dispatch, print one error chain, exit code.

use std::process::ExitCode;

use clap::Parser;
use cms_telemetry_agent::cli::{Cli, ExitStatus};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wanted = !error.use_stderr();
            drop(error.print());
            return if wanted {
                ExitCode::SUCCESS
            } else {
                ExitStatus::Usage.into()
            };
        }
    };
    match cli.run() {
        Ok(status) => status.into(),
        Err(error) => {
            error.print();
            error.status().into()
        }
    }
}
