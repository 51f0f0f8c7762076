//! The clock, the store's folder, and the places where the agent listens.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{Access, StatVfs, access, statvfs};
use rustix::process::geteuid;

use super::Finding;
use crate::config::Store;
use crate::seal;
use crate::status::{KeyRow, error_chain};
use crate::store;

/// Before this second, the first of 2026, no release of the agent existed: the clock is wrong.
const EARLIEST_SECOND: i64 = 1_767_225_600;

/// After this second, the first of 2100, the agent is long gone: the clock is wrong.
const LATEST_SECOND: i64 = 4_102_444_800;

/// Below this the store cannot even write its log ahead.
const FREE_BYTES_MIN: u64 = 16 * 1024 * 1024;

const MIB: u64 = 1024 * 1024;

/// Whether the time can be true. How true it is, the dashboard knows.
pub(super) fn clock(now: Timestamp) -> Finding {
    if (EARLIEST_SECOND..LATEST_SECOND).contains(&now.as_second()) {
        return Finding::ok("clock", format!("{now:.0}"));
    }
    Finding::fail("clock", format!("{now:.0} cannot be true")).hint(
        "submissions are refused when their time is wrong; set the clock, for example with chrony",
    )
}

/// Whether `run` can open its store, and whether it has room.
pub(super) fn store(limits: &Store) -> Vec<Finding> {
    let path = &limits.path;
    let shown = path.display();
    let folder = match fs::symlink_metadata(path).and_then(|_| fs::metadata(path)) {
        Ok(folder) if !folder.is_dir() => {
            let finding = Finding::fail("store", format!("{shown} is not a folder"));
            return vec![finding.hint("remove it, or name another folder as store.path")];
        }
        Ok(folder) => Some(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let finding = Finding::fail("store", format!("cannot look at {shown}: {error}"));
            return vec![finding.hint(access_hint(path))];
        }
    };
    let mut findings = Vec::new();
    match (&folder, writable(path)) {
        (_, Err(error)) => {
            findings.push(Finding::fail("store", error).hint(access_hint(path)));
            return findings;
        }
        (None, Ok(())) => findings.push(Finding::ok("store", format!("{shown} will be made"))),
        (Some(folder), Ok(())) => findings.push(owned(path, folder)),
    }
    findings.push(key(limits));
    findings.push(room(limits));
    findings
}

/// Whether the key of the store is there, and is the one that the store was sealed with.
fn key(limits: &Store) -> Finding {
    let what = "store key";
    match store::key::find(limits) {
        Ok(Some(key)) => match store::key::fits(&limits.path, &key) {
            Ok(()) => Finding::ok(what, KeyRow::of(&key).in_words()),
            Err(error) => Finding::fail(what, error_chain(&error)),
        },
        Ok(None) if limits.key.is_none() => {
            let file = seal::default_file(&limits.path);
            match writable(file.parent().unwrap_or(&file)) {
                Ok(()) => Finding::ok(what, format!("{} will be made", file.display())),
                Err(error) => Finding::fail(what, error).hint(access_hint(&file)),
            }
        }
        Ok(None) => Finding::warn(what, "store.key names a place where there is no key yet"),
        Err(error) => Finding::fail(what, error_chain(&error)),
    }
}

/// Whether the status socket can be made. A running agent answers on it.
pub(super) fn status_socket(path: &Path) -> Finding {
    let what = "status socket";
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Finding::fail(what, format!("{shown} is there and is not a socket"))
                .hint("remove it, or name another path as status.socket");
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Finding::ok(what, format!("{shown}: an agent is running and answers"));
        }
        _ => {}
    }
    match writable(path.parent().unwrap_or(path)) {
        Ok(()) => Finding::ok(what, format!("{shown} can be made")),
        Err(error) => Finding::fail(what, error).hint(access_hint(path)),
    }
}

/// Whether the agent's own metrics can be served.
pub(super) fn metrics(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("metrics", format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::warn("metrics", format!("{address} is taken"))
                .hint("that is right when the agent is running; otherwise name another port as metrics.listen")
        }
        Err(error) => Finding::fail("metrics", format!("cannot listen on {address}: {error}"))
            .hint("name another address as metrics.listen"),
    }
}

fn owned(path: &Path, folder: &Metadata) -> Finding {
    let shown = path.display();
    let user = geteuid().as_raw();
    let mode = folder.mode() & 0o7777;
    if folder.uid() != user {
        let owner = folder.uid();
        return Finding::warn(
            "store",
            format!("{shown} belongs to user {owner}, and this is user {user}"),
        )
        .hint(format!(
            "check as the agent's user: sudo -u '#{owner}' cms-telemetry-agent check"
        ));
    }
    if mode & 0o077 != 0 {
        return Finding::warn(
            "store",
            format!("{shown} is open to others (mode {mode:04o})"),
        )
        .hint(format!("run: chmod 700 {shown}"));
    }
    Finding::ok("store", format!("{shown} is writable"))
}

fn room(limits: &Store) -> Finding {
    let what = "store space";
    let existing = limits.path.ancestors().find(|p| p.is_dir());
    let stat: StatVfs = match statvfs(existing.unwrap_or(Path::new("/"))) {
        Ok(stat) => stat,
        Err(error) => return Finding::warn(what, format!("the free space is not known: {error}")),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let used = used_bytes(&limits.path);
    let wanted = limits.bytes_max.saturating_sub(used);
    let detail = format!(
        "{} MiB free, {} MiB used of at most {} MiB",
        free / MIB,
        used / MIB,
        limits.bytes_max / MIB
    );
    if free < FREE_BYTES_MIN {
        return Finding::fail(what, detail).hint("make room: the store cannot write");
    }
    if free < wanted {
        return Finding::warn(what, detail).hint("make room, or set a smaller store.max_size");
    }
    Finding::ok(what, detail)
}

/// The files of the store lie side by side; a folder in it holds keys, which are small.
fn used_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(Metadata::is_file);
    files.map(|file| file.len()).sum()
}

/// Whether a folder can be written, or made and then written.
fn writable(folder: &Path) -> Result<(), String> {
    // A relative path has an empty last ancestor; the configuration holds absolute paths only.
    let is_there =
        |path: &&Path| path.as_os_str() != OsStr::new("") && path.symlink_metadata().is_ok();
    let Some(existing) = folder.ancestors().find(is_there) else {
        return Err(format!("nothing of {} is there", folder.display()));
    };
    let shown = existing.display();
    if !existing.is_dir() {
        return Err(format!("{shown} is not a folder"));
    }
    match access(existing, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(error) => Err(format!(
            "user {} cannot write to {shown}: {error}",
            geteuid().as_raw()
        )),
    }
}

fn access_hint(path: &Path) -> String {
    format!(
        "check as the agent's user, or give it {}: systemd does so with StateDirectory= and RuntimeDirectory=",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::super::Verdict;
    use super::*;

    fn limits(path: &Path) -> Store {
        Store {
            path: path.to_owned(),
            bytes_max: 64 * MIB,
            retention: Duration::from_secs(90 * 86_400),
            key: None,
            old_key: None,
        }
    }

    fn verdict(path: &Path) -> (Verdict, String) {
        let first = store(&limits(path)).remove(0);
        (first.verdict, first.detail)
    }

    #[test]
    fn a_clock_from_before_the_agent_is_wrong() {
        let at = |text: &str| clock(text.parse().unwrap()).verdict;
        assert_eq!(at("1970-01-01T00:00:07Z"), Verdict::Fail);
        assert_eq!(at("2025-12-31T23:59:59Z"), Verdict::Fail);
        assert_eq!(at("2026-01-01T00:00:00Z"), Verdict::Ok);
        assert_eq!(at("2100-01-01T00:00:00Z"), Verdict::Fail);
    }

    #[test]
    fn a_store_that_is_not_there_will_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let (verdict, detail) = verdict(&folder.path().join("a/b"));
        assert_eq!(verdict, Verdict::Ok);
        assert!(detail.ends_with("will be made"), "{detail}");
        assert!(!folder.path().join("a").exists());
    }

    #[test]
    fn a_file_in_the_place_of_the_store_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store");
        fs::write(&file, "").unwrap();
        assert_eq!(verdict(&file).0, Verdict::Fail);
        assert_eq!(verdict(&file.join("below")).0, Verdict::Fail);
        std::os::unix::fs::symlink(folder.path().join("nowhere"), folder.path().join("link"))
            .unwrap();
        assert_eq!(verdict(&folder.path().join("link")).0, Verdict::Fail);
    }

    #[test]
    fn a_store_that_others_can_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(verdict(folder.path()).0, Verdict::Warn);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(verdict(folder.path()).0, Verdict::Ok);
    }

    #[test]
    fn a_socket_answers_or_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.sock");
        assert!(status_socket(&path).detail.ends_with("can be made"));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(status_socket(&path).detail.ends_with("answers"));
        drop(listener);
        assert!(status_socket(&path).detail.ends_with("can be made"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "not a socket").unwrap();
        assert_eq!(status_socket(&path).verdict, Verdict::Fail);
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(metrics(address).verdict, Verdict::Warn);
        drop(listener);
        assert_eq!(metrics(address).verdict, Verdict::Ok);
    }
}
