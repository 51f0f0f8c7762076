//! Prometheus text (0.0.4) and OpenMetrics (1.0), read as it arrives and without copies.
//!
//! Owns: what a line of a metrics page says. Promises: every valid line is an item; a line that is
//! not is counted with its number and its reason and costs no other line anything; names, labels
//! and values borrow from the page; memory does not grow with the page. Refuses: sums, histograms
//! and what a name means, which the collectors of servers and exporters know.

mod labels;
mod line;
#[cfg(test)]
mod tests;

pub use labels::{Label, Labels, Text};
pub use line::{Exemplar, Item, Kind, Sample};

use std::fmt;

/// Longest line that is read; help texts and label values of real exporters stay far below it.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Largest page that a collector should ask for: kube-state-metrics of a large cluster has 50 MB.
pub const PAGE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Bad lines that are kept with their reason; the others are counted.
pub const FAULTS_KEPT: usize = 5;

/// Reads one page from the pieces that it arrives in.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of a line whose end has not arrived.
    begun: Vec<u8>,
    /// Whether the line that has begun is too long and is left out.
    is_skipping: bool,
    found: Found,
}

/// What a page held besides its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Lines, empty ones and comments among them.
    pub lines: u64,
    /// Samples.
    pub samples: u64,
    /// Lines that say nothing in either format.
    pub bad_lines: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
    /// Whether `# EOF` was the last line: a page of OpenMetrics without it is a part of one.
    pub is_complete: bool,
    /// The name of the newest sample.
    name: String,
}

/// A line that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from one.
    pub line: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reader {
    /// A reader at the beginning of a page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next piece of the page; a line that does not end in it waits for the next one.
    pub fn feed(&mut self, mut piece: &[u8], on_item: &mut impl FnMut(Item<'_>)) {
        if !self.begun.is_empty() || self.is_skipping {
            let Some(end) = memchr::memchr(b'\n', piece) else {
                return self.begin(piece);
            };
            let (line, rest) = piece.split_at(end);
            self.begin(line);
            self.end(on_item);
            piece = rest.get(1..).unwrap_or_default();
        }
        let Some(end) = memchr::memrchr(b'\n', piece) else {
            return self.begin(piece);
        };
        let (lines, rest) = piece.split_at(end);
        // All lines at once: they are short, and each check has its price.
        match str::from_utf8(lines) {
            Ok(text) => self.found.text(text, on_item),
            Err(_) => {
                for line in lines.split(|byte| *byte == b'\n') {
                    self.found.line(line, on_item);
                }
            }
        }
        self.begin(rest.get(1..).unwrap_or_default());
    }

    /// Reads what is left when the page has ended, whose last line may lack its end.
    pub fn finish(mut self, on_item: &mut impl FnMut(Item<'_>)) -> Found {
        if !self.begun.is_empty() || self.is_skipping {
            self.end(on_item);
        }
        self.found
    }

    fn begin(&mut self, piece: &[u8]) {
        if self.is_skipping || self.begun.len() + piece.len() > LINE_BYTES_MAX {
            self.is_skipping = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(piece);
        }
    }

    fn end(&mut self, on_item: &mut impl FnMut(Item<'_>)) {
        if std::mem::take(&mut self.is_skipping) {
            self.found.lines += 1;
            self.found.fault(line::TOO_LONG);
            return;
        }
        self.found.line(&self.begun, on_item);
        self.begun.clear();
    }
}

impl Found {
    /// The bad lines in words, where there are any.
    #[must_use]
    pub fn bad_lines_in_words(&self) -> Option<String> {
        let first = self.faults.first()?;
        Some(match self.bad_lines {
            1 => format!("1 bad line: {first}"),
            count => format!("{count} bad lines, the first one: {first}"),
        })
    }

    fn text(&mut self, mut text: &str, on_item: &mut impl FnMut(Item<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', text.as_bytes()) {
            let (line, rest) = text.split_at_checked(end).unwrap_or_default();
            self.valid_line(line, on_item);
            text = rest.get(1..).unwrap_or_default();
        }
        self.valid_line(text, on_item);
    }

    fn line(&mut self, bytes: &[u8], on_item: &mut impl FnMut(Item<'_>)) {
        match str::from_utf8(bytes) {
            Ok(line) => self.valid_line(line, on_item),
            Err(_) => {
                self.lines += 1;
                self.fault("it is not UTF-8");
            }
        }
    }

    #[inline]
    fn valid_line(&mut self, line: &str, on_item: &mut impl FnMut(Item<'_>)) {
        self.lines += 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() > LINE_BYTES_MAX {
            return self.fault(line::TOO_LONG);
        }
        match line::read(line, &mut self.name) {
            Ok(None) => {}
            Ok(Some(_)) if self.is_complete => self.fault("it stands after # EOF"),
            Ok(Some(item)) => {
                self.samples += u64::from(matches!(item, Item::Sample(_)));
                self.is_complete = matches!(item, Item::Eof);
                on_item(item);
            }
            Err(reason) => self.fault(reason),
        }
    }

    fn fault(&mut self, reason: &'static str) {
        self.bad_lines += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(Fault {
                line: self.lines,
                reason,
            });
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}
