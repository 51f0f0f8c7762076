//! Where the lines of a log come from.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Longest name of a unit, as systemd has it.
const UNIT_BYTES_MAX: usize = 255;

/// A log: a file, a pattern of files, or a unit's lines of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) origin: Origin,
    pub(super) begin: Begin,
    pub(super) wrapper: Wrapper,
}

/// What holds the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A path; `*` and `?` stand for what a directory holds.
    File(PathBuf),
    /// The journal's lines of one unit, and the folders that hold the journal.
    Journal { unit: String, folders: Vec<PathBuf> },
}

/// Where reading begins in a log that is there at first sight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Begin {
    /// After its last line: what was written before the agent came is nobody's window.
    #[default]
    End,
    /// At its first line.
    Start,
}

/// What lines are wrapped in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wrapper {
    /// The first line of each file tells.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// `TIME stdout F LINE`, as Kubernetes has it.
    Cri,
    /// `{"log":"LINE\n","stream":"stdout","time":"TIME"}`, as Docker has it.
    Docker,
    /// `{"MESSAGE":"LINE", …}`, as `journalctl -o json` prints entries.
    Journalctl,
    /// `TIME HOST PROGRAM[NUMBER]: LINE`, as syslog daemons and `journalctl` write them.
    Syslog,
}

impl Place {
    /// A file, or the files that a pattern leads to.
    pub(crate) fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            origin: Origin::File(path.into()),
            begin: Begin::default(),
            wrapper: Wrapper::default(),
        }
    }

    /// The same place, read from its first line.
    #[must_use]
    pub(crate) fn begun_at_start(mut self) -> Self {
        self.begin = Begin::Start;
        self
    }

    /// The same place, with lines in this wrapper.
    #[must_use]
    pub(crate) fn wrapped(mut self, wrapper: Wrapper) -> Self {
        self.wrapper = wrapper;
        self
    }

    /// The journal's lines of a unit, whose type may be left out where it is a service.
    ///
    /// # Errors
    /// In words, when no unit can be called so.
    pub(crate) fn journal(unit: &str) -> Result<Self, String> {
        let folders = ["/var/log/journal", "/run/log/journal"];
        Ok(Self {
            origin: Origin::Journal {
                unit: full_name(unit)?,
                folders: folders.iter().map(PathBuf::from).collect(),
            },
            begin: Begin::default(),
            wrapper: Wrapper::None,
        })
    }

    /// The same unit in a journal that lies elsewhere.
    #[must_use]
    pub(crate) fn in_folder(mut self, folder: &Path) -> Self {
        if let Origin::Journal { folders, .. } = &mut self.origin {
            *folders = vec![folder.to_owned()];
        }
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Journal { unit, .. } => write!(f, "the journal of {unit}"),
        }
    }
}

/// `ollama` is `ollama.service`, as systemctl has it.
fn full_name(unit: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
    let has_type = unit.rsplit_once('.').is_some_and(|(_, kind)| {
        ["service", "scope", "slice", "socket", "timer", "mount"].contains(&kind)
    });
    let full = match has_type {
        true => unit.to_owned(),
        false => format!("{unit}.service"),
    };
    if unit.is_empty() || full.len() > UNIT_BYTES_MAX || !unit.bytes().all(allowed) {
        return Err(format!(
            "{unit:?} is no name of a unit: write it as `systemctl list-units` shows it"
        ));
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_called_as_systemctl_has_it() {
        for (said, full) in [
            ("ollama", "ollama.service"),
            ("ollama.service", "ollama.service"),
            ("vllm@0", "vllm@0.service"),
            ("a.scope", "a.scope"),
            ("qwen3.6", "qwen3.6.service"),
            (r"dev-disk\x2dby.mount", r"dev-disk\x2dby.mount"),
        ] {
            let place = Place::journal(said).unwrap();
            assert_eq!(place.to_string(), format!("the journal of {full}"));
        }
        for said in ["", "a b", "a/b.service", "*", "a\n", &"a".repeat(249)] {
            let refusal = Place::journal(said).unwrap_err();
            assert!(refusal.contains("systemctl list-units"), "{refusal}");
        }
    }
}
