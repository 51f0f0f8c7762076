//! `completions`: the command line for the shell, made from its own definition.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, CliError, ExitStatus, print};

/// Prints shell completions.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell that will read them.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<ExitStatus, CliError> {
        print(&script(self.shell));
        Ok(ExitStatus::Ok)
    }
}

fn script(shell: Shell) -> String {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Cli::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell} does not know {command}"
                );
            }
        }
    }
}
