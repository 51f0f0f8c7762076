//! Secrets are never in the configuration itself: it says where each one is, and this module reads it.
//!
//! Promises: a secret is wiped from memory when dropped and never printed, not even by `{:?}`; a secret file
//! that others can read is refused. Refuses: keeping a secret longer than its reader does.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// No key or password is longer; a longer file is the wrong file.
pub const SECRET_BYTES_MAX: usize = 4096;

/// Where systemd puts the credentials of a service.
pub const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Permission bits of group and others.
const OTHERS_MODE: u32 = 0o077;

/// Says where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A systemd credential of this name: `LoadCredential=` or `LoadCredentialEncrypted=` in the unit.
    Credential(String),
    /// An environment variable.
    Env(String),
    /// A file that only its owner may read.
    File(PathBuf),
}

/// A secret in memory.
pub struct Secret(Zeroizing<String>);

/// A secret cannot be had. No variant holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The process has no credentials.
    #[error("there is no credential {0:?}: {CREDENTIALS_VARIABLE} is not set")]
    FindCredentials(String),
    /// The variable is not set.
    #[error("the environment variable {0} is not set, or not UTF-8")]
    FindVariable(String),
    /// Other users may read the file.
    #[error("{} may be read by others (mode {mode:04o})", path.display())]
    KeepPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    ReadFile(PathBuf, #[source] io::Error),
    /// What was read is no secret.
    #[error("{place} holds no usable secret: {found}")]
    UseContent {
        /// Where it was read.
        place: String,
        /// What is wrong, without any of the content.
        found: &'static str,
    },
}

impl SecretSource {
    /// Reads the secret. One line end after it is not part of it.
    ///
    /// # Errors
    /// When there is nothing, when others can read the file, and when the content cannot be a secret.
    pub fn read(&self) -> Result<Secret, SecretError> {
        self.read_in(|name| env::var(name).ok())
    }

    fn read_in(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        let text = match self {
            Self::Credential(name) => {
                let folder = variable(CREDENTIALS_VARIABLE)
                    .ok_or_else(|| SecretError::FindCredentials(name.clone()))?;
                // systemd grants access by an ACL, which shows as group bits; the folder itself is private.
                read_bounded(&Path::new(&folder).join(name), false)?
            }
            Self::Env(name) => Zeroizing::new(
                variable(name).ok_or_else(|| SecretError::FindVariable(name.clone()))?,
            ),
            Self::File(path) => read_bounded(path, true)?,
        };
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match fault(line) {
            None => Ok(Secret(Zeroizing::new(line.to_owned()))),
            Some(found) => Err(SecretError::UseContent {
                place: self.to_string(),
                found,
            }),
        }
    }
}

impl Secret {
    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl SecretError {
    /// What the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::FindCredentials(name) => format!(
                "start the agent with systemd and LoadCredential={name}:FILE, or use {{ file = \"…\" }}"
            ),
            Self::FindVariable(name) => format!("set {name} in the environment of the agent"),
            Self::KeepPrivate { path, .. } => format!("run: chmod 600 {}", path.display()),
            Self::ReadFile(path, source) => match source.kind() {
                io::ErrorKind::NotFound => {
                    format!(
                        "write the secret into {} and run chmod 600 on it",
                        path.display()
                    )
                }
                io::ErrorKind::PermissionDenied => format!(
                    "make the user of the agent its owner, for example: chown USER {}",
                    path.display()
                ),
                _ => format!("check {}", path.display()),
            },
            Self::UseContent { .. } => {
                "it must hold the secret alone, on one line, as the dashboard printed it".to_owned()
            }
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

fn fault(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("it is empty")
    } else if text.len() > SECRET_BYTES_MAX {
        Some("it is longer than 4 KiB")
    } else if text.chars().any(char::is_control) {
        Some("it has control characters or several lines")
    } else {
        None
    }
}

fn read_bounded(path: &Path, private: bool) -> Result<Zeroizing<String>, SecretError> {
    let refuse = |source| SecretError::ReadFile(path.to_owned(), source);
    let file = File::open(path).map_err(refuse)?;
    // The open file is asked, not the path, so that nobody can exchange it in between.
    let mode = file.metadata().map_err(refuse)?.mode() & 0o7777;
    if private && mode & OTHERS_MODE != 0 {
        return Err(SecretError::KeepPrivate {
            path: path.to_owned(),
            mode,
        });
    }
    // Room for all of it from the start: growing would leave copies behind that are not wiped.
    let mut text = Zeroizing::new(String::with_capacity(SECRET_BYTES_MAX + 4));
    file.take(SECRET_BYTES_MAX as u64 + 3)
        .read_to_string(&mut text)
        .map_err(refuse)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const KEY: &str = "cms_live_d41d8cd98f";

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, SecretSource::File(path))
    }

    #[test]
    fn one_line_end_is_not_part_of_the_secret() {
        for content in [KEY.to_owned(), format!("{KEY}\n"), format!("{KEY}\r\n")] {
            let (_folder, source) = file(content.as_bytes(), 0o600);
            assert_eq!(source.read().unwrap().expose(), KEY);
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command() {
        for mode in [0o640, 0o604, 0o666, 0o620, 0o601] {
            let (_folder, source) = file(KEY.as_bytes(), mode);
            let error = source.read().unwrap_err();
            assert!(matches!(error, SecretError::KeepPrivate { .. }), "{mode:o}");
            assert!(
                error.hint().starts_with("run: chmod 600 /"),
                "{}",
                error.hint()
            );
        }
        let (_folder, source) = file(KEY.as_bytes(), 0o400);
        assert!(source.read().is_ok());
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_and_not_shown() {
        let long = "x".repeat(SECRET_BYTES_MAX + 1);
        for content in [
            "",
            "\n",
            "  \n",
            "cms_live_a\ncms_live_b\n",
            "cms_live_a\u{7}",
            "cms_live_a\n\n",
            &long,
        ] {
            let (_folder, source) = file(content.as_bytes(), 0o600);
            let error = source.read().unwrap_err();
            let shown = format!("{error} {error:?} {}", error.hint());
            assert!(
                matches!(error, SecretError::UseContent { .. }),
                "{content:?}"
            );
            assert!(
                !shown.contains("cms_live") && !shown.contains("xxx"),
                "{shown}"
            );
        }
        let (_folder, source) = file(&[0xff, 0xfe], 0o600);
        assert!(matches!(source.read(), Err(SecretError::ReadFile(..))));
    }

    #[test]
    fn the_longest_secret_is_whole() {
        let key = "k".repeat(SECRET_BYTES_MAX);
        let (_folder, source) = file(format!("{key}\r\n").as_bytes(), 0o600);
        assert_eq!(source.read().unwrap().expose().len(), SECRET_BYTES_MAX);
    }

    #[test]
    fn credentials_and_variables() {
        let (folder, _) = file(KEY.as_bytes(), 0o440);
        let path = folder.path().to_str().unwrap().to_owned();
        let credential = SecretSource::Credential("api.key".to_owned());
        let found = credential.read_in(|name| (name == CREDENTIALS_VARIABLE).then(|| path.clone()));
        assert_eq!(found.unwrap().expose(), KEY);
        let none = credential.read_in(|_| None).unwrap_err();
        assert!(matches!(none, SecretError::FindCredentials(_)));

        let variable = SecretSource::Env("CMS_KEY".to_owned());
        let found = variable.read_in(|name| (name == "CMS_KEY").then(|| KEY.to_owned()));
        assert_eq!(found.unwrap().expose(), KEY);
        let none = variable.read_in(|_| None).unwrap_err();
        assert!(matches!(none, SecretError::FindVariable(_)));
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let (_folder, source) = file(KEY.as_bytes(), 0o600);
        assert_eq!(format!("{:?}", source.read().unwrap()), "Secret(not shown)");
    }
}
