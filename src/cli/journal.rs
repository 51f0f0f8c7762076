//! Events for the journal, in its own protocol: a field for each of theirs, beside a message that says all.
//!
//! `journalctl` shows the message alone; a reason that were a field only would be hidden from whoever reads
//! it. Promises never to hold the agent up: a line that the journal does not take soon is lost. Refuses what
//! is longer than a line can be, by cutting it.

use std::fmt::{self, Write};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where every systemd listens for it.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Before the names of our fields, which then cannot be taken for the journal's.
const PREFIX: &str = "CMS_";

/// Longest name of a field that the journal takes.
const NAME_BYTES_MAX: usize = 64;

/// Longest value. A refused configuration, rendered, is a few thousand bytes; a datagram takes about 200,000.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// How long a full journal may hold up the thread that both loops run on.
const WAIT: Duration = Duration::from_millis(100);

/// Sends each event to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Fails where no journal listens.
    pub(super) fn connect(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WAIT))?;
        let journal = Self { socket, path };
        // An empty message is none: it only shows whether somebody listens.
        journal.send(&[])?;
        Ok(journal)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // By its path each time, so that a journal that was started again is found.
        self.socket.send_to(bytes, &self.path).map(drop)
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line::default();
        event.record(&mut line);
        line.put("MESSAGE", &(line.message.clone() + &line.said));
        line.put("PRIORITY", priority(*metadata.level()));
        line.put("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
        line.put("TARGET", metadata.target());
        if let (Some(file), Some(number)) = (metadata.file(), metadata.line()) {
            line.put("CODE_FILE", file);
            line.put("CODE_LINE", &number.to_string());
        }
        // There is nobody left to tell.
        self.send(&line.bytes).ok();
    }
}

/// As syslog numbers them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// One event on its way into the journal.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    message: String,
    /// The other fields in words.
    said: String,
}

impl Line {
    fn take(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let separator = if self.said.is_empty() { ": " } else { ", " };
        // Writing into a String cannot fail.
        write!(self.said, "{separator}{}={value}", field.name()).ok();
        let mut name = PREFIX.to_owned();
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        name.extend(field.name().chars().map(plain));
        name.truncate(NAME_BYTES_MAX);
        self.put(&name, value);
    }

    /// Name, length and value, so that a value may hold any byte.
    fn put(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(VALUE_BYTES_MAX)];
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes
            .extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    use tracing_subscriber::prelude::*;

    fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
            let name = std::str::from_utf8(&bytes[..end]).unwrap();
            let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap());
            let length = usize::try_from(length).unwrap();
            let value = std::str::from_utf8(&bytes[end + 9..end + 9 + length]).unwrap();
            fields.insert(name.to_owned(), value.to_owned());
            assert_eq!(bytes[end + 9 + length], b'\n');
            bytes = &bytes[end + 10 + length..];
        }
        fields
    }

    #[test]
    fn the_message_says_what_the_fields_hold() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(Journal::connect(path.clone()).is_err());
        let reader = UnixDatagram::bind(&path).unwrap();
        reader
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let journal = Journal::connect(path).unwrap();
        let mut bytes = vec![0; 1 << 20];
        assert_eq!(reader.recv(&mut bytes).unwrap(), 0);
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(source = %"compute/host", error = "two\nlines", "source failed");
            tracing::info!(slots = 3, long = "é".repeat(VALUE_BYTES_MAX), "counted");
        });

        let length = reader.recv(&mut bytes).unwrap();
        let first = fields(&bytes[..length]);
        assert_eq!(
            first["MESSAGE"],
            "source failed: source=compute/host, error=two\nlines"
        );
        assert_eq!(first["CMS_SOURCE"], "compute/host");
        assert_eq!(first["CMS_ERROR"], "two\nlines");
        assert_eq!(first["PRIORITY"], "4");
        assert_eq!(first["SYSLOG_IDENTIFIER"], "cms-telemetry-agent");
        assert!(first["CODE_FILE"].ends_with("journal.rs"));

        let length = reader.recv(&mut bytes).unwrap();
        let second = fields(&bytes[..length]);
        assert_eq!(
            (second["CMS_SLOTS"].as_str(), second["PRIORITY"].as_str()),
            ("3", "6")
        );
        assert_eq!(second["CMS_LONG"].len(), VALUE_BYTES_MAX);
    }
}
