//! The configuration as it was understood, each value with the place that it comes from.
//!
//! Promises: what is printed is itself a valid configuration with the same meaning; no secret is in it.

use std::fmt;

use cms_attest::Digest;

use super::files::Place;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We ship it; the words say on what grounds, if there is more to say.
    Default(String),
    /// A file says so.
    File(Place),
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key, dotted from the top, or from its table inside a [`Section`].
    pub key: String,
    /// The value as TOML; nothing when it is not set and has no default.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// The table of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The header as TOML: `[[storage.root]]`.
    pub header: String,
    /// Where the table starts.
    pub origin: Place,
    /// What is in it.
    pub settings: Vec<Setting>,
    /// What follows from it, in words.
    pub remark: String,
}

/// The whole configuration, ready to be printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// What does not belong to a source.
    pub settings: Vec<Setting>,
    /// The tables of the sources.
    pub sections: Vec<Section>,
}

impl Resolved {
    /// The digest of what holds, wherever it is written down: an auditor sees by it that something was changed.
    ///
    /// It is SHA-256 of one line `key = value` for each setting that has a value, in the order in which `check`
    /// prints them, after a line with the header of their table where they have one.
    #[must_use]
    pub fn digest(&self) -> String {
        let lines = |settings: &[Setting]| -> String {
            let shown = |s: &Setting| Some(format!("{} = {}\n", s.key, s.value.as_ref()?));
            settings.iter().filter_map(shown).collect()
        };
        let mut text = lines(&self.settings);
        for section in &self.sections {
            text.push_str(&format!("{}\n{}", section.header, lines(&section.settings)));
        }
        format!("sha-256:{}", Digest::of(text.as_bytes()))
    }
}

impl Origin {
    /// A default that needs no grounds.
    pub(super) fn default() -> Self {
        Self::Default(String::new())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(grounds) if grounds.is_empty() => f.write_str("default"),
            Self::Default(grounds) => write!(f, "default: {grounds}"),
            Self::File(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => {
                // As in the example: a default is a comment, so that reading it back configures nothing.
                let comment = match self.origin {
                    Origin::Default(_) => "# ",
                    Origin::File(_) => "",
                };
                write!(f, "{comment}{} = {value}   # {}", self.key, self.origin)
            }
            None => write!(f, "# {} is not set", self.key),
        }
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &self.settings {
            writeln!(f, "{setting}")?;
        }
        for section in &self.sections {
            writeln!(f, "\n{}   # {}", section.header, section.origin)?;
            for setting in &section.settings {
                writeln!(f, "{setting}")?;
            }
            writeln!(f, "# {}", section.remark)?;
        }
        Ok(())
    }
}
