//! The machine as collectors see it: roots that can be moved, and small files that are read with a
//! bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cms_spec::Subject;

use crate::CollectError;
use crate::snmp::{Snmp, Udp};
use crate::thermal::bacnet::link::Links;
use crate::web::Web;

/// No file of /proc or /sys that we read is longer; a longer one is refused, not cut.
pub const SMALL_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where the machine is. Tests move the roots; a container sets them to the host's mounts.
#[derive(Clone, Debug)]
pub struct Host {
    /// Normally `/proc`.
    pub proc: PathBuf,
    /// Normally `/sys`.
    pub sys: PathBuf,
    /// Normally `/dev`.
    pub dev: PathBuf,
    /// The id of this instance unless it is configured.
    pub instance: Subject,
    /// The region or site unless a source says otherwise.
    pub region: String,
    /// Makes clients of servers elsewhere.
    pub web: Arc<dyn Web>,
    /// Makes sessions with devices that speak SNMP.
    pub snmp: Arc<dyn Snmp>,
    /// Sockets that BACnet devices share.
    pub links: Links,
}

impl Host {
    /// The machine we run on.
    #[must_use]
    pub fn local(instance: Subject, region: String, web: Arc<dyn Web>) -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            dev: "/dev".into(),
            instance,
            region,
            web,
            snmp: Arc::new(Udp),
            links: Links::default(),
        }
    }

    /// A file below `/proc`.
    #[must_use]
    pub fn proc(&self, path: &str) -> PathBuf {
        self.proc.join(path)
    }

    /// A file below `/sys`.
    #[must_use]
    pub fn sys(&self, path: &str) -> PathBuf {
        self.sys.join(path)
    }
}

/// Reads a small text file as it stands.
///
/// # Errors
/// When it is missing, may not be read, is longer than [`SMALL_FILE_BYTES_MAX`] or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, CollectError> {
    let refuse = |source: io::Error| CollectError::from_io(path, source);
    let file = File::open(path).map_err(refuse)?;
    let mut text = String::new();
    let read = file
        .take(SMALL_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(refuse)?;
    if read as u64 > SMALL_FILE_BYTES_MAX {
        return Err(CollectError::malformed(path, "it is longer than 4 MiB"));
    }
    Ok(text)
}

/// Reads a file that holds one unsigned number.
///
/// # Errors
/// As [`read_text`], and when the content is no such number.
pub fn read_number(path: &Path) -> Result<u64, CollectError> {
    let text = read_text(path)?;
    let text = text.trim();
    text.parse()
        .map_err(|_| CollectError::malformed(path, &format!("{text:?} is not a number")))
}
