//! What lines are wrapped in: by container runtimes, `TIME stdout F LINE` and JSON records of Docker, and by whatever printed
//! them out of the journal or took them over syslog.
//!
//! Owns: knowing the form by a file's beginning, taking a line out of its record without copying it where that is
//! possible. Promises: a record that is not in the form is told as such, never guessed at.

use jiff::Timestamp;
use memchr::{memchr, memchr2, memmem};

use super::place::Wrapper;
use super::printed;

/// How records of Docker begin.
const DOCKER: &[u8] = b"{\"log\":\"";

/// Docker cuts lines at this size. A shorter one without its end is the last of a process.
const DOCKER_PART_BYTES: usize = 16 * 1024;

/// Without the end of a line in so many bytes, a file that is not wrapped may be told.
const CERTAIN_BYTES: usize = 64;

/// How the lines of one file are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Cri,
    Docker,
    Journalctl,
    Syslog,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: Option<Timestamp>,
    /// Which of the two streams it was written to.
    pub(super) tag: Tag,
    /// Whether the line goes on in the next record of its stream.
    pub(super) is_part: bool,
}

/// The two streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Tag {
    #[serde(rename = "o")]
    Out,
    #[serde(rename = "e")]
    Err,
}

impl Form {
    /// The form of a file by its beginning; `None` while there is too little of it.
    pub(super) fn of(head: &[u8], said: Wrapper) -> Option<Self> {
        match said {
            Wrapper::None => return Some(Self::Plain),
            Wrapper::Cri => return Some(Self::Cri),
            Wrapper::Docker => return Some(Self::Docker),
            Wrapper::Journalctl => return Some(Self::Journalctl),
            Wrapper::Syslog => return Some(Self::Syslog),
            Wrapper::Auto => {}
        }
        let mut head = head;
        while printed::is_remark(head) {
            head = head.get(memchr(b'\n', head)? + 1..)?;
        }
        let end = memchr(b'\n', head);
        if end.is_none() && head.len() < CERTAIN_BYTES {
            return None;
        }
        let line = end.and_then(|end| head.get(..end)).unwrap_or(head);
        let mut clock = Clock::default();
        Some(if cri(line, &mut clock).is_some() {
            Self::Cri
        } else if line.starts_with(DOCKER) {
            Self::Docker
        } else if printed::is_entry(line) {
            Self::Journalctl
        } else if printed::line(line, &mut clock).is_some() {
            Self::Syslog
        } else {
            Self::Plain
        })
    }
}

impl Form {
    /// Takes a record apart; text with escapes is written into `scratch`. Nothing where it is not in this form, or is
    /// plain.
    pub(super) fn record<'a>(
        self,
        record: &'a [u8],
        scratch: &'a mut Vec<u8>,
        clock: &mut Clock,
    ) -> Option<Record<'a>> {
        match self {
            Self::Plain => None,
            Self::Cri => cri(record, clock),
            Self::Docker => docker(record, scratch, clock),
            Self::Journalctl | Self::Syslog if printed::is_remark(record) => Some(Record {
                text: &[],
                at: None,
                tag: Tag::Out,
                is_part: false,
            }),
            Self::Journalctl => printed::entry(record, scratch),
            Self::Syslog => printed::line(record, clock),
        }
    }

    /// Whether colours show only when the record was taken apart.
    pub(super) const fn hides_colours(self) -> bool {
        matches!(self, Self::Docker | Self::Journalctl)
    }
}

/// Takes a record of the Container Runtime Interface apart.
fn cri<'a>(record: &'a [u8], clock: &mut Clock) -> Option<Record<'a>> {
    let space = memchr(b' ', record)?;
    let (time, rest) = record.split_at_checked(space)?;
    let (tag, rest) = if let Some(rest) = rest.strip_prefix(b" stdout ") {
        (Tag::Out, rest)
    } else {
        (Tag::Err, rest.strip_prefix(b" stderr ")?)
    };
    let (&first, rest) = rest.split_first()?;
    let is_part = match first {
        b'P' => true,
        b'F' => false,
        _ => return None,
    };
    let text = match rest.split_first() {
        Some((b' ', text)) => text,
        // More tags, separated by colons.
        Some((b':', rest)) => rest.get(memchr(b' ', rest)? + 1..)?,
        None => rest,
        Some(_) => return None,
    };
    Some(Record {
        text,
        at: Some(clock.read(time)?),
        tag,
        is_part,
    })
}

/// Takes a record of Docker's json-file driver apart; text with escapes is written into `scratch`.
fn docker<'a>(record: &'a [u8], scratch: &'a mut Vec<u8>, clock: &mut Clock) -> Option<Record<'a>> {
    let body = record.strip_prefix(DOCKER)?;
    let (text, rest) = string(body, scratch)?;
    let rest = rest.strip_prefix(b",\"stream\":\"std")?;
    let (tag, rest) = if let Some(rest) = rest.strip_prefix(b"out\"") {
        (Tag::Out, rest)
    } else {
        (Tag::Err, rest.strip_prefix(b"err\"")?)
    };
    // Labels stand before the time and may hold anything.
    let time = memmem::rfind(rest, b",\"time\":\"")?;
    let time = rest.get(time + 9..)?;
    let (time, end) = time.split_at_checked(memchr(b'"', time)?)?;
    if end != b"\"}" {
        return None;
    }
    let at = Some(clock.read(time)?);
    let (text, is_part) = match text.strip_suffix(b"\n") {
        Some(text) => (text, false),
        None => (text, text.len() >= DOCKER_PART_BYTES),
    };
    Some(Record {
        text,
        at,
        tag,
        is_part,
    })
}

/// The text of a JSON string whose opening quote was read, and what follows its closing quote.
fn string<'a>(body: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<(&'a [u8], &'a [u8])> {
    let first = memchr2(b'"', b'\\', body)?;
    let (text, rest) = body.split_at_checked(first)?;
    if let Some(rest) = rest.strip_prefix(b"\"") {
        return Some((text, rest));
    }
    scratch.clear();
    scratch.extend_from_slice(text);
    let mut rest = rest;
    loop {
        rest = match rest.split_first()? {
            (b'"', rest) => return Some((scratch.as_slice(), rest)),
            (_, escape) => unescape(escape, scratch)?,
        };
        let next = memchr2(b'"', b'\\', rest)?;
        let (text, behind) = rest.split_at_checked(next)?;
        scratch.extend_from_slice(text);
        rest = behind;
    }
}

/// Writes the character of an escape whose backslash was read; gives what follows.
pub(super) fn unescape<'a>(escape: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, rest) = escape.split_first()?;
    let byte = match kind {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0c,
        b'"' | b'\\' | b'/' => kind,
        b'u' => return unicode(rest, into),
        _ => return None,
    };
    into.push(byte);
    Some(rest)
}

fn unicode<'a>(rest: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, rest) = four_digits(rest)?;
    let mut after = rest;
    let mut code = first;
    if (0xd800..0xdc00).contains(&first) {
        let second = rest.strip_prefix(b"\\u").and_then(four_digits);
        if let Some((low, rest)) = second.filter(|(low, _)| (0xdc00..0xe000).contains(low)) {
            code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            after = rest;
        }
    }
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(after)
}

fn four_digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut code = 0;
    for digit in digits {
        code = code * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((code, rest))
}

/// Reads times; those of the same second share the work.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The last time up to its seconds, for example `2026-03-14T09:26:53`.
    text: [u8; 19],
    second: i64,
}

impl Clock {
    /// A time of RFC 3339.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<Timestamp> {
        let (second, rest) = text.split_first_chunk::<19>()?;
        let Some(fraction) = rest.strip_suffix(b"Z") else {
            return std::str::from_utf8(text).ok()?.parse().ok();
        };
        if *second != self.text {
            let parsed: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
            self.text = *second;
            self.second = parsed.as_second();
            return Some(parsed);
        }
        let mut nanos = 0_i32;
        if !fraction.is_empty() {
            let digits = fraction.strip_prefix(b".")?;
            if digits.is_empty() || digits.len() > 9 {
                return None;
            }
            for digit in digits {
                let digit = char::from(*digit).to_digit(10)?;
                nanos = nanos * 10 + i32::try_from(digit).ok()?;
            }
            for _ in digits.len()..9 {
                nanos *= 10;
            }
        }
        Timestamp::new(self.second, nanos).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    #[test]
    fn records_of_the_runtime_interface() {
        let mut clock = Clock::default();
        let mut read = |text: &'static str| cri(text.as_bytes(), &mut clock);
        let record = read("2026-05-02T08:15:30.000000017Z stdout F a line with  spaces ").unwrap();
        assert_eq!(record.text, b"a line with  spaces ");
        assert_eq!(record.at, time("2026-05-02T08:15:30.000000017Z"));
        assert_eq!((record.tag, record.is_part), (Tag::Out, false));
        let record = read("2026-05-02T08:15:30.5Z stderr P:x half").unwrap();
        assert_eq!((record.text, record.tag), (&b"half"[..], Tag::Err));
        assert_eq!(record.at, time("2026-05-02T08:15:30.5Z"));
        assert!(record.is_part);
        let record = read("2026-05-02T10:15:31.25+02:00 stdout F").unwrap();
        assert_eq!(record.at, time("2026-05-02T08:15:31.25Z"));
        assert_eq!(record.text, b"");
        for wrong in [
            "",
            "2026-05-02T08:15:30.5Z",
            "2026-05-02T08:15:30.5Z stdin F x",
            "2026-05-02T08:15:30.5Z stdout Q x",
            "2026-05-02T08:15:30.5Z stdout Fx",
            "2026-05-02T08:15:30.Z stdout F x",
            "2026-05-02T08:15:30.1234567890Z stdout F x",
            "yesterday stdout F x",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn records_of_docker() {
        let (mut scratch, mut clock) = (Vec::new(), Clock::default());
        let mut read = |text: &str| {
            docker(text.as_bytes(), &mut scratch, &mut clock).map(|record| {
                let text = String::from_utf8(record.text.to_vec()).unwrap();
                (text, record.at, record.tag, record.is_part)
            })
        };
        let at = time("2026-05-02T08:15:30.25Z");
        let plain = r#"{"log":"plain\n","stream":"stdout","time":"2026-05-02T08:15:30.25Z"}"#;
        assert_eq!(read(plain), Some(("plain".into(), at, Tag::Out, false)));
        let escaped = r#"{"log":"\"POST\" \u001b[1m \u00b5 \ud83d\ude00 \ud83d \\\t\/\r\n","stream":"stderr","attrs":{"time":",\"time\":\""},"time":"2026-05-02T08:15:30.25Z"}"#;
        let text = "\"POST\" \x1b[1m \u{b5} \u{1f600} \u{fffd} \\\t/\r".to_owned();
        assert_eq!(read(escaped), Some((text, at, Tag::Err, false)));
        let last = r#"{"log":"no end","stream":"stdout","time":"2026-05-02T08:15:30.25Z"}"#;
        assert_eq!(read(last), Some(("no end".into(), at, Tag::Out, false)));
        let part = format!(
            r#"{{"log":"{}","stream":"stdout","time":"2026-05-02T08:15:30.25Z"}}"#,
            "x".repeat(DOCKER_PART_BYTES)
        );
        assert!(read(&part).is_some_and(|(.., is_part)| is_part));
        for wrong in [
            "",
            r#"{"log":"x"#,
            r#"{"log":"x\n"}"#,
            r#"{"log":"x\q","stream":"stdout","time":"2026-05-02T08:15:30.25Z"}"#,
            r#"{"log":"x","stream":"stdout","time":"2026-05-02T08:15:30.25Z"} "#,
            r#"{"log":"x","stream":"stdout","time":"now"}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_form_is_known_by_the_first_line() {
        let auto = |head: &str| Form::of(head.as_bytes(), Wrapper::Auto);
        assert_eq!(auto(""), None);
        assert_eq!(auto("2026-05-02T08:15"), None);
        let cri = "2026-05-02T08:15:30.5Z stdout F x\n";
        assert_eq!(auto(cri), Some(Form::Cri));
        let docker = "{\"log\":\"x\\n\",\"stream\":\"stdout\"";
        assert_eq!(auto(&format!("{docker}\n")), Some(Form::Docker));
        assert_eq!(auto(&format!("INFO x\n{cri}")), Some(Form::Plain));
        assert_eq!(auto(&"x".repeat(CERTAIN_BYTES)), Some(Form::Plain));
        let printed = "{\"PRIORITY\":\"6\",\"MESSAGE\":\"x\"}\n";
        assert_eq!(auto(printed), Some(Form::Journalctl));
        let remarked = format!("-- Journal begins at Sat 2026-05-02. --\n{printed}");
        assert_eq!(auto(&remarked), Some(Form::Journalctl));
        assert_eq!(auto("-- Journal begins at Sat 2026-05-02. --\n"), None);
        let syslog = "May  2 08:15:30 gpu1 ollama[937]: x\n";
        assert_eq!(auto(syslog), Some(Form::Syslog));
        assert_eq!(Form::of(b"", Wrapper::Cri), Some(Form::Cri));
    }
}
