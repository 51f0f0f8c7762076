//! Colours and carriage returns, out of lines that have some.

use memchr::{memchr, memchr2, memmem};

const ESCAPE: u8 = 0x1b;

/// How rsyslog writes an escape character.
const OCTAL: &[u8] = b"#033";

/// How a code begins whose escape character was lost.
const BARE: &[u8] = b"[0;";

/// Longest sequence that is taken out; real ones have a dozen bytes.
const SEQUENCE_BYTES_MAX: usize = 64;

/// Finds, in pieces of many lines, the lines that have something to take out.
#[derive(Debug)]
pub(super) struct Finder {
    octal: memmem::Finder<'static>,
    bare: memmem::Finder<'static>,
}

/// Where the next ones stand in a piece.
#[derive(Debug, Default)]
pub(super) struct Next {
    control: usize,
    octal: usize,
    bare: usize,
    begun: bool,
}

impl Finder {
    pub(super) fn new() -> Self {
        Self {
            octal: memmem::Finder::new(OCTAL),
            bare: memmem::Finder::new(BARE),
        }
    }

    /// Whether the line from `start` to `end` has something to take out. Lines come in their order.
    pub(super) fn has(&self, piece: &[u8], next: &mut Next, start: usize, end: usize) -> bool {
        let is_new = !std::mem::replace(&mut next.begun, true);
        let rest = piece.get(start..).unwrap_or_default();
        let place = |found: Option<usize>| found.map_or(usize::MAX, |at| start.saturating_add(at));
        if is_new || next.control < start {
            next.control = place(memchr2(ESCAPE, b'\r', rest));
        }
        if is_new || next.octal < start {
            next.octal = place(self.octal.find(rest));
        }
        if is_new || next.bare < start {
            next.bare = place(self.bare.find(rest));
        }
        next.control < end || next.octal < end || next.bare < end
    }
}

/// Whether one line has something to take out.
pub(super) fn has(line: &[u8]) -> bool {
    memchr2(ESCAPE, b'\r', line).is_some()
        || memmem::find(line, OCTAL).is_some()
        || memmem::find(line, BARE).is_some()
}

/// Writes the line without colours and carriage returns.
pub(super) fn strip(line: &[u8], into: &mut Vec<u8>) {
    into.clear();
    let is_bare = memmem::find(line, BARE).is_some();
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let left = match byte {
            b'\r' => Some(after),
            ESCAPE => Some(after_escape(after)),
            b'#' => rest
                .strip_prefix(OCTAL)
                .filter(|after| after.first() == Some(&b'['))
                .map(after_escape),
            b'[' if is_bare => after_code(after),
            _ => None,
        };
        if let Some(left) = left {
            rest = left;
        } else {
            // What cannot begin a sequence is copied in one piece.
            let run = after
                .iter()
                .position(|byte| matches!(*byte, b'\r' | ESCAPE | b'#' | b'['))
                .unwrap_or(after.len());
            let (run, left) = rest.split_at(run.saturating_add(1).min(rest.len()));
            into.extend_from_slice(run);
            rest = left;
        }
    }
}

/// What follows a sequence whose escape character was just read.
fn after_escape(rest: &[u8]) -> &[u8] {
    match rest.split_first() {
        Some((b'[', rest)) => {
            let bound = rest.get(..SEQUENCE_BYTES_MAX).unwrap_or(rest);
            match bound.iter().position(|byte| (0x40..=0x7e).contains(byte)) {
                Some(end) => rest.get(end + 1..).unwrap_or_default(),
                None => rest,
            }
        }
        // The title of a window, up to a bell.
        Some((b']', rest)) => match memchr(0x07, rest) {
            Some(end) => rest.get(end + 1..).unwrap_or_default(),
            None => rest,
        },
        Some((_, rest)) => rest,
        None => rest,
    }
}

/// What follows the rest of a colour such as `0;36m`.
fn after_code(rest: &[u8]) -> Option<&[u8]> {
    let end = rest
        .iter()
        .take(SEQUENCE_BYTES_MAX)
        .position(|byte| !byte.is_ascii_digit() && *byte != b';')?;
    let is_code = end > 0 && rest.get(end) == Some(&b'm');
    is_code.then(|| rest.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(line: &str) -> String {
        let mut into = b"what was there before".to_vec();
        strip(line.as_bytes(), &mut into);
        String::from_utf8(into).unwrap()
    }

    #[test]
    fn colours_of_every_kind_are_taken_out() {
        for (line, plain) in [
            (
                "\x1b[0;36m(APIServer pid=3)\x1b[0;0m INFO x",
                "(APIServer pid=3) INFO x",
            ),
            ("| \x1b[97;42m 200 \x1b[0m|", "|  200 |"),
            (
                "#033[2m2026-01-01T00:00:00Z#033[0m  INFO",
                "2026-01-01T00:00:00Z  INFO",
            ),
            (
                "[0;36m(EngineCore pid=9)[0;0m INFO",
                "(EngineCore pid=9) INFO",
            ),
            ("\x1b]0;a title\x07text", "text"),
            ("a\rb\r", "ab"),
            ("\x1b", ""),
            ("#033", "#033"),
        ] {
            assert_eq!(stripped(line), plain, "{line:?}");
            assert!(has(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn brackets_of_lines_stay() {
        let line = "[GIN] 2026/01/01 - 10:00:00 | 200 | [7m] #1 [0, 1]";
        assert_eq!(stripped(line), line);
        assert!(!has(line.as_bytes()));
    }

    #[test]
    fn the_lines_of_a_piece_are_told_apart() {
        let piece = b"plain\n\x1b[1mbold\nplain\n[0;3mx\n#033[1m\nplain\nend\r";
        let (finder, mut next) = (Finder::new(), Next::default());
        let mut start = 0;
        let mut found = Vec::new();
        for line in piece.split(|byte| *byte == b'\n') {
            found.push(finder.has(piece, &mut next, start, start + line.len()));
            start += line.len() + 1;
        }
        assert_eq!(found, [false, true, false, true, true, false, true]);
    }
}
