//! Directories that outlast a power cut.
//!
//! A new directory is durable before anything is put into it: what a file's own sync makes last can only be
//! found again where every directory above it has been synced too.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes a directory, and those missing above it, for this user alone. Leaves one that is there as it is.
///
/// # Errors
/// When one of them cannot be made or synced.
pub fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    DirBuilder::new().mode(0o700).create(path)?;
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn all_that_is_missing_is_made_and_nothing_that_is_there_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let (there, path) = (directory.path().join("a"), directory.path().join("a/b/c"));
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o755)).unwrap();
        make_directory(&path).unwrap();
        make_directory(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&there), mode(&path)), (0o755, 0o700));
        fs::write(path.join("file"), "").unwrap();
        assert!(make_directory(&path.join("file")).is_err());
    }
}
