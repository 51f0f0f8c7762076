//! Where the lines of a log come from, as a table of the configuration says it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Longest name of a unit, as systemd has it.
const UNIT_BYTES_MAX: usize = 255;

/// A log: `{ file = "/var/log/vllm.log" }` or `{ journal = "ollama.service" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
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

/// What a container runtime wraps lines in.
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    file: Option<PathBuf>,
    journal: Option<String>,
    journal_folder: Option<PathBuf>,
    #[serde(default)]
    from: Begin,
    #[serde(default)]
    wrapper: Wrapper,
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

    /// The journal's lines of a unit.
    pub(crate) fn journal(unit: &str) -> Self {
        let folders = ["/var/log/journal", "/run/log/journal"];
        Self {
            origin: Origin::Journal {
                unit: unit.to_owned(),
                folders: folders.iter().map(PathBuf::from).collect(),
            },
            begin: Begin::default(),
            wrapper: Wrapper::None,
        }
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

impl TryFrom<Written> for Place {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let absolute = |path: &Path| {
            if path.is_absolute() {
                return Ok(());
            }
            Err(format!(
                "{:?} is not an absolute path: begin it with /",
                path.display().to_string()
            ))
        };
        let mut place = match (written.file, written.journal) {
            (Some(path), None) if written.journal_folder.is_none() => {
                absolute(&path)?;
                Self::file(path)
            }
            (None, Some(unit)) => Self::journal(&full_name(&unit)?),
            (Some(_), None) => return Err("`journal_folder` goes with `journal`".to_owned()),
            (Some(_), Some(_)) => {
                return Err("`file` and `journal` exclude each other".to_owned());
            }
            (None, None) => {
                return Err("say where the log is: `file` or `journal`".to_owned());
            }
        };
        if let Some(folder) = written.journal_folder {
            absolute(&folder)?;
            place = place.in_folder(&folder);
        }
        let is_journal = matches!(place.origin, Origin::Journal { .. });
        if is_journal && written.wrapper != Wrapper::Auto {
            return Err("lines of the journal have no `wrapper`".to_owned());
        }
        place.begin = written.from;
        if !is_journal {
            place.wrapper = written.wrapper;
        }
        Ok(place)
    }
}

/// `ollama` is `ollama.service`, as systemctl has it.
fn full_name(unit: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
    if unit.is_empty() || unit.len() > UNIT_BYTES_MAX || !unit.bytes().all(allowed) {
        return Err(format!(
            "{unit:?} is no name of a unit: write it as `systemctl list-units` shows it"
        ));
    }
    let has_type = unit.rsplit_once('.').is_some_and(|(_, kind)| {
        ["service", "scope", "slice", "socket", "timer", "mount"].contains(&kind)
    });
    Ok(if has_type {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Place, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_table_says_where_a_log_is() {
        assert_eq!(
            read("file = '/var/log/vllm.log'"),
            Ok(Place::file("/var/log/vllm.log"))
        );
        assert_eq!(
            read("file = '/a/*.log'\nfrom = 'start'\nwrapper = 'cri'"),
            Ok(Place::file("/a/*.log")
                .begun_at_start()
                .wrapped(Wrapper::Cri))
        );
        assert_eq!(
            read("journal = 'ollama'"),
            Ok(Place::journal("ollama.service"))
        );
        let elsewhere = Place::journal("a.scope").in_folder(Path::new("/host/journal"));
        assert_eq!(
            read("journal = 'a.scope'\njournal_folder = '/host/journal'"),
            Ok(elsewhere)
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_fix() {
        for (text, part) in [
            ("", "`file` or `journal`"),
            ("file = 'a.log'", "begin it with /"),
            ("file = '/a'\njournal = 'b'", "exclude"),
            ("file = '/a'\njournal_folder = '/b'", "goes with"),
            ("journal = 'a b'", "systemctl list-units"),
            ("journal = 'a'\nwrapper = 'cri'", "no `wrapper`"),
            ("file = '/a'\nform = 'end'", "unknown field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
