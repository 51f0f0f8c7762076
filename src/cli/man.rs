//! `man`: one page for the program and all of its commands, made from the command line's own definition.

use std::io;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, CliError, ExitStatus, print};

/// Prints the man page.
#[derive(Debug, Args)]
pub(super) struct Man {}

impl Man {
    pub(super) fn run(self) -> Result<ExitStatus, CliError> {
        let page = page().map_err(|error| CliError::failed(&error).hint("please report this"))?;
        print(&page);
        Ok(ExitStatus::Ok)
    }
}

/// What each exit code means.
const EXIT_CODES: [(&str, &str); 5] = [
    ("0", "all is well"),
    ("1", "a check, status or demo found a problem"),
    ("64", "the command line is wrong"),
    ("70", "a bug or a failed start"),
    ("78", "the configuration is wrong"),
];

/// What the agent reads.
const FILES: [(&str, &str); 3] = [
    ("/etc/cms-telemetry-agent/config.toml", "the configuration"),
    (
        "/etc/cms-telemetry-agent/conf.d/*.toml",
        "drop-ins, merged into it in the order of their names",
    ),
    (
        "/var/lib/cms-telemetry-agent",
        "readings, windows, what waits to be sent, the ledger and the keys",
    ),
];

fn page() -> io::Result<String> {
    let command = Cli::command();
    let mut page = Vec::new();
    let top = Page::new(command.clone());
    top.render_title(&mut page)?;
    top.render_name_section(&mut page)?;
    top.render_synopsis_section(&mut page)?;
    top.render_description_section(&mut page)?;
    top.render_options_section(&mut page)?;
    commands(&command, command.get_name(), &mut page)?;
    let mut rest = Roff::new();
    list(&mut rest, "EXIT STATUS", &EXIT_CODES);
    list(&mut rest, "FILES", &FILES);
    rest.to_writer(&mut page)?;
    String::from_utf8(page).map_err(io::Error::other)
}

/// Every command in a section of its own, and those below it after it.
fn commands(above: &Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    for command in above.get_subcommands() {
        let path = format!("{path} {}", command.get_name());
        let mut title = Roff::new();
        title.control("SH", [path.to_uppercase().as_str()]);
        title.to_writer(page)?;
        parts(command.clone().bin_name(path.as_str()), page)?;
        commands(command, &path, page)?;
    }
    Ok(())
}

/// The library writes a heading for each part; within one page they become subheadings.
fn parts(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let of_command = Page::new(command);
    let mut parts = Vec::new();
    of_command.render_description_section(&mut parts)?;
    of_command.render_synopsis_section(&mut parts)?;
    of_command.render_options_section(&mut parts)?;
    let parts = String::from_utf8(parts).map_err(io::Error::other)?;
    for line in parts.lines() {
        let line = match line.strip_prefix(".SH ") {
            Some(heading) => format!(".SS {heading}\n"),
            None => format!("{line}\n"),
        };
        page.extend_from_slice(line.as_bytes());
    }
    Ok(())
}

fn list(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, meaning) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_command_file_and_exit_code() {
        let page = page().unwrap();
        for command in Cli::command().get_subcommands() {
            let title = format!("CMS-TELEMETRY-AGENT {}", command.get_name().to_uppercase());
            assert!(page.contains(&title), "{title} is missing");
        }
        assert!(page.starts_with(".ie") || page.starts_with(".TH"), "{page}");
        assert!(page.contains("EXIT STATUS") && page.contains("/var/lib/cms"));
    }
}
