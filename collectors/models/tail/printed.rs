//! Entries of the journal as `journalctl -o json` prints them, and lines as syslog daemons and `journalctl` write them.
//!
//! Owns: taking the message out of either. Promises: of an entry only the message and its time are read; of a
//! message with several lines only the first, because the others could pass for lines of the server.

use jiff::Timestamp;
use memchr::{memchr, memmem};

use super::wrapper::{Clock, Record, Tag, unescape};
use crate::models::json::{Broken, Json, whole};

/// What an entry is known by: it has this field wherever it stands in it.
const MESSAGE: &[u8] = b"\"MESSAGE\":";

/// Longest name of a host and of a program, with its number; a longer one is no such line.
const NAMES_BYTES_MAX: usize = 256;

/// `Mar 14 09:26:56`, a digit for each `0`, a letter for each `a`.
const STAMP: &[u8; 15] = b"Aaa 00 00:00:00";

/// What `journalctl` says between entries.
const REMARK: &[u8] = b"-- ";

/// Whether a line is a remark of the program that printed the others.
pub(super) fn is_remark(line: &[u8]) -> bool {
    line.starts_with(REMARK)
}

/// Whether a line is an entry, or the beginning of one.
pub(super) fn is_entry(line: &[u8]) -> bool {
    line.starts_with(b"{") && memmem::find(line, MESSAGE).is_some()
}

/// Takes an entry apart; the message is written into `scratch`.
pub(super) fn entry<'a>(record: &[u8], scratch: &'a mut Vec<u8>) -> Option<Record<'a>> {
    scratch.clear();
    let mut at = None;
    let mut json = Json::new(record);
    let is_object = json.object(|json, key| {
        match key {
            b"MESSAGE" => message(json, scratch)?,
            b"__REALTIME_TIMESTAMP" => at = json.quoted_number()?.and_then(whole),
            _ => {}
        }
        Ok(())
    });
    if !is_object.ok()? || !json.is_at_end() {
        return None;
    }
    let end = memchr(b'\n', scratch).unwrap_or(scratch.len());
    Some(Record {
        text: scratch.get(..end)?,
        at: at
            .and_then(|at| i64::try_from(at).ok())
            .and_then(|at| Timestamp::from_microsecond(at).ok()),
        tag: Tag::Out,
        is_part: false,
    })
}

/// A message is text, or a list of bytes where it is none; one that was too long to print is null.
fn message(json: &mut Json<'_>, into: &mut Vec<u8>) -> Result<(), Broken> {
    let mut list = json.clone();
    if let Some(mut text) = json.written()? {
        while let Some(escape) = memchr(b'\\', text) {
            let (plain, rest) = text.split_at_checked(escape).ok_or(Broken::Syntax)?;
            into.extend_from_slice(plain);
            let rest = rest.get(1..).ok_or(Broken::Syntax)?;
            text = unescape(rest, into).ok_or(Broken::Syntax)?;
        }
        into.extend_from_slice(text);
        return Ok(());
    }
    list.array(|json| {
        let byte = json.count()?.and_then(|byte| u8::try_from(byte).ok());
        into.push(byte.ok_or(Broken::Syntax)?);
        Ok(())
    })?;
    Ok(())
}

/// Takes a line `TIME HOST PROGRAM[NUMBER]: MESSAGE` apart. A time without its year is none.
pub(super) fn line<'a>(record: &'a [u8], clock: &mut Clock) -> Option<Record<'a>> {
    let (at, rest) = match record.split_first_chunk::<15>() {
        Some((stamp, rest)) if is_stamp(stamp) => (None, rest.strip_prefix(b" ")?),
        _ => {
            let (time, rest) = word(record)?;
            (Some(moment(time, clock)?), rest)
        }
    };
    let (host, rest) = word(rest)?;
    let colon = memchr(b':', rest)?;
    let (program, text) = rest.split_at_checked(colon)?;
    let text = match text.get(1..)? {
        [b' ', text @ ..] => text,
        [] => &[],
        _ => return None,
    };
    let is_name = |name: &[u8]| {
        (1..=NAMES_BYTES_MAX).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
    };
    (is_name(host) && is_name(program)).then_some(Record {
        text,
        at,
        tag: Tag::Out,
        is_part: false,
    })
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (word, rest) = text.split_at_checked(memchr(b' ', text)?)?;
    Some((word, rest.get(1..)?))
}

fn is_stamp(text: &[u8; 15]) -> bool {
    text.iter().zip(STAMP).all(|(byte, kind)| match kind {
        b'A' => byte.is_ascii_uppercase(),
        b'a' => byte.is_ascii_lowercase(),
        // A day has a space before it where it has one digit.
        b'0' => byte.is_ascii_digit() || *byte == b' ',
        kind => byte == kind,
    })
}

/// A time of RFC 3339; `journalctl` writes its offset without a colon.
fn moment(text: &[u8], clock: &mut Clock) -> Option<Timestamp> {
    let is_long = text.len() >= 20 && text.get(10) == Some(&b'T');
    is_long.then(|| clock.read(text)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    #[test]
    fn entries_are_printed_as_text_as_bytes_or_not_at_all() {
        let mut scratch = Vec::new();
        let mut read = |text: &str| {
            let record = entry(text.as_bytes(), &mut scratch)?;
            Some((String::from_utf8_lossy(record.text).into_owned(), record.at))
        };
        let at = time("2026-05-02T08:15:30.25Z");
        let text = r#"{"PRIORITY":"6","__REALTIME_TIMESTAMP":"1777709730250000","MESSAGE":"a \"b\" \u001b[1mc\nINFO forged"}"#;
        assert_eq!(read(text), Some(("a \"b\" \u{1b}[1mc".to_owned(), at)));
        let bytes = r#"{"MESSAGE":[97,32,27,98],"__REALTIME_TIMESTAMP":"1777709730250000"}"#;
        assert_eq!(read(bytes), Some(("a \u{1b}b".to_owned(), at)));
        let none = r#"{"MESSAGE":null,"_PID":"7"}"#;
        assert_eq!(read(none), Some((String::new(), None)));
        for wrong in [
            "",
            "[]",
            r#"{"MESSAGE":"x"#,
            r#"{"MESSAGE":[256]}"#,
            r#"{"MESSAGE":["x"]}"#,
            r#"{"MESSAGE":"\q"}"#,
            r#"{"MESSAGE":"x"} x"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lines_have_a_time_a_host_and_a_program_before_them() {
        let mut clock = Clock::default();
        let mut read = |text: &'static str| {
            let record = line(text.as_bytes(), &mut clock)?;
            Some((record.text, record.at))
        };
        let at = time("2026-05-02T08:15:30.25Z");
        for text in [
            "May  2 08:15:30 gpu1 vllm[937]: INFO: x",
            "May 12 08:15:30 gpu1 vllm: INFO: x",
        ] {
            assert_eq!(read(text), Some((&b"INFO: x"[..], None)), "{text}");
        }
        for text in [
            "2026-05-02T08:15:30.250000+00:00 gpu1 vllm[937]: INFO: x",
            "2026-05-02T10:15:30.25+0200 gpu1 vllm[937]: INFO: x",
            "2026-05-02T08:15:30.25Z gpu1 vllm[937]: INFO: x",
        ] {
            assert_eq!(read(text), Some((&b"INFO: x"[..], at)), "{text}");
        }
        let empty = read("May  2 08:15:30 gpu1 vllm[937]:");
        assert_eq!(empty, Some((&b""[..], None)));
        for wrong in [
            "",
            "-- Boot 5f --",
            "                              second line: of a message",
            "May  2 08:15:30 gpu1 vllm[937]",
            "May  2 08:15:30 gpu1 vllm [937]: x",
            "May  2 08:15:30 gpu1 INFO:x",
            "INFO 05-02 08:15:30 api.py:1] x: y",
            "2026-05-02T08:15:30.25Z stdout F x",
            "soon gpu1 vllm[937]: x",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
