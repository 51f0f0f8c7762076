//! The files of one configuration, laid end to end, so that one offset names one place in one of them.
//!
//! Owns: reading the main file and its drop-ins, and turning an offset into file, line and column.
//! Promises: files are read in the order in which they are merged, each at most once. Refuses: understanding
//! what is in them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The folder beside the main file whose `*.toml` are merged into it.
pub const DROP_IN_FOLDER: &str = "conf.d";

/// A configuration of a whole machine room is a few hundred kilobytes; a larger file is the wrong file.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One file for each of some hundred meters is thinkable; more is a folder that was named by mistake.
pub const DROP_INS_MAX: usize = 1024;

/// Where something is written, counted from 1 as editors do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// All files of one configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    texts: Vec<Text>,
}

/// One file and where it starts in the common count of bytes.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// As it was named, for messages.
    pub(super) name: String,
    /// The content.
    pub(super) content: String,
    /// The offset of its first byte.
    pub(super) base: usize,
}

/// A file of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{} has no end within {} MiB", .0.display(), FILE_BYTES_MAX / (1024 * 1024))]
    FileTooLong(PathBuf),
    #[error("{} holds more than {DROP_INS_MAX} files", .0.display())]
    FolderTooFull(PathBuf),
    #[error("cannot list {}", .0.display())]
    ListFolder(PathBuf, #[source] io::Error),
    #[error("{} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    #[error("cannot read {}", .0.display())]
    ReadFile(PathBuf, #[source] io::Error),
}

impl FileError {
    /// What the reader can do about it.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::FileTooLong(path) => {
                format!("check that {} is the configuration", path.display())
            }
            Self::FolderTooFull(path) => {
                format!("put several tables into one file of {}", path.display())
            }
            Self::ListFolder(path, _) | Self::ReadFile(path, _) => match self.kind() {
                Some(io::ErrorKind::NotFound) => {
                    "name the file with --config, or copy config.example.toml to this place"
                        .to_owned()
                }
                Some(io::ErrorKind::PermissionDenied) => format!(
                    "give the user of the agent read access, for example: setfacl -m u:USER:rX {}",
                    path.display()
                ),
                _ => format!("check {} and the file system below it", path.display()),
            },
            Self::NotText(_) => "save the file as UTF-8".to_owned(),
        }
    }

    fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::ListFolder(_, source) | Self::ReadFile(_, source) => Some(source.kind()),
            _ => None,
        }
    }
}

impl Files {
    /// Reads the main file and the `*.toml` in the folder `conf.d` beside it, in the order of their names.
    pub(super) fn read(main: &Path) -> Result<Self, FileError> {
        let mut files = Self::default();
        files.add(main.display().to_string(), read_text(main)?);
        for drop_in in drop_ins(main)? {
            files.add(drop_in.display().to_string(), read_text(&drop_in)?);
        }
        Ok(files)
    }

    /// Adds a text after those that are there.
    pub(super) fn add(&mut self, name: String, content: String) {
        // One byte lies between two files, so that the end of one is not the start of the next.
        let base = self
            .texts
            .last()
            .map_or(0, |t| t.base + t.content.len() + 1);
        self.texts.push(Text {
            name,
            content,
            base,
        });
    }

    /// The texts in the order in which they are merged.
    pub(super) fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// The texts, to be masked.
    pub(super) fn texts_mut(&mut self) -> &mut [Text] {
        &mut self.texts
    }

    /// The text that holds this offset.
    pub(super) fn text_at(&self, offset: usize) -> Option<&Text> {
        self.texts.iter().rev().find(|t| t.base <= offset)
    }

    /// The text that holds this offset, to be masked.
    pub(super) fn text_at_mut(&mut self, offset: usize) -> Option<&mut Text> {
        self.texts.iter_mut().rev().find(|t| t.base <= offset)
    }

    /// File, line and column of an offset.
    pub(super) fn place(&self, offset: usize) -> Option<Place> {
        let text = self.text_at(offset)?;
        let before = text.content.get(..offset - text.base)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some(Place {
            file: text.name.clone(),
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before.get(line_start..)?.chars().count() + 1,
        })
    }
}

impl Text {
    /// The part of a span that lies in the first line it touches, counted from the start of this text.
    pub(super) fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let length = self.content.len();
        let start = span.start.saturating_sub(self.base).min(length);
        let end = span.end.saturating_sub(self.base).clamp(start, length);
        let line = self.content.get(start..end).unwrap_or_default();
        let line = line.split('\n').next().unwrap_or_default();
        start..start + line.trim_end_matches('\r').len()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, FileError> {
    let folder = match main.parent() {
        Some(parent) => parent.join(DROP_IN_FOLDER),
        None => PathBuf::from(DROP_IN_FOLDER),
    };
    let refuse = |source| FileError::ListFolder(folder.clone(), source);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refuse(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(refuse)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if found.len() == DROP_INS_MAX {
            return Err(FileError::FolderTooFull(folder));
        }
        found.push(path);
    }
    found.sort();
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, FileError> {
    let refuse = |source| FileError::ReadFile(path.to_owned(), source);
    let file = File::open(path).map_err(refuse)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(refuse)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::FileTooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_names_one_place_in_one_file() {
        let mut files = Files::default();
        files.add("a".to_owned(), "x = 1\ny = \"ä\" # z\n".to_owned());
        files.add("b".to_owned(), "z = 1".to_owned());
        let second = files.texts()[1].base;
        let place = |offset| files.place(offset).map(|p| (p.file, p.line, p.column));
        assert_eq!(place(0), Some(("a".to_owned(), 1, 1)));
        assert_eq!(place(13), Some(("a".to_owned(), 2, 7)));
        assert_eq!(place(second), Some(("b".to_owned(), 1, 1)));
        assert_eq!(place(second + 5), Some(("b".to_owned(), 1, 6)));
    }

    #[test]
    fn drop_ins_are_read_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("config.toml");
        fs::write(&main, "main").unwrap();
        let drop_in_folder = folder.path().join(DROP_IN_FOLDER);
        fs::create_dir(&drop_in_folder).unwrap();
        for name in [
            "20-b.toml",
            "10-a.toml",
            "30.toml~",
            ".hidden.toml",
            "README",
        ] {
            fs::write(drop_in_folder.join(name), name).unwrap();
        }
        let files = Files::read(&main).unwrap();
        let contents: Vec<_> = files.texts().iter().map(|t| t.content.as_str()).collect();
        assert_eq!(contents, ["main", "10-a.toml", "20-b.toml"]);
    }

    #[test]
    fn what_cannot_be_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("config.toml");
        assert!(matches!(Files::read(&main), Err(FileError::ReadFile(..))));
        fs::write(&main, [0xff, 0xfe]).unwrap();
        assert!(matches!(Files::read(&main), Err(FileError::NotText(_))));
        let sparse = File::create(&main).unwrap();
        sparse.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(Files::read(&main), Err(FileError::FileTooLong(_))));
    }
}
