//! The agent's program: parse, dispatch, print one error chain, exit code.

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use cms_telemetry_agent::cli::{Cli, ExitStatus};
use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: bodies with prompts pass through buffers of libraries, which do not wipe them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

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
