//! From records to lines: out of the wrapper, parts put together, colours taken out, too long ones cut.

use std::ops::ControlFlow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::colours;
use super::file::Raw;
use super::identity::mix;
use super::wrapper::{Clock, Form, Record, Tag};
use crate::models::feed::Line;

/// Bytes of a line that are kept. Readers look at its first few hundred; requests with their prompts have megabytes.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// What was read, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// Lines handed out.
    pub(crate) lines: u64,
    /// Of them, cut because they are too long.
    pub(crate) too_long: u64,
    /// Of them, without an end when their file ended.
    pub(crate) unfinished: u64,
    /// Lines that are known to be lost.
    pub(crate) lost: u64,
    /// Records that are not in the form of their wrapper.
    pub(crate) odd: u64,
    /// Files that were rotated while they were read.
    pub(crate) rotations: u64,
    /// Files that were emptied after a copy was made, which was then read to its end.
    pub(crate) copytruncates: u64,
    /// Files that were emptied, and no copy of what was in them was found.
    pub(crate) truncated: u64,
    /// Files that were gone before they were read to their end.
    pub(crate) gone: u64,
    /// Compressed files of which something was read.
    pub(crate) packed: u64,
    /// Compressed files that are damaged, cut off or become too much.
    pub(crate) damaged: u64,
}

/// Where a record stands: the key of its file and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    #[serde(rename = "k")]
    pub(super) key: u64,
    #[serde(rename = "o")]
    pub(super) offset: u64,
}

impl At {
    /// The name of a line that begins here.
    const fn place(self) -> u64 {
        mix(self.key ^ mix(self.offset))
    }
}

/// A line whose end is not there yet.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tag: Tag,
    pub(super) begin: At,
    at: Option<Timestamp>,
    text: Vec<u8>,
    is_cut: bool,
    /// Its beginning is lost, so that it is dropped when it is whole.
    is_headless: bool,
}

/// The unfinished lines of a stream: of each of its two outputs at most one.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Part>);

impl Parts {
    /// Where they begin.
    pub(super) fn begins(&self) -> impl Iterator<Item = (Tag, At)> {
        self.0.iter().map(|part| (part.tag, part.begin))
    }

    /// The beginning of this output's line cannot be read again.
    pub(super) fn lose(&mut self, tag: Tag) {
        self.of(tag);
        self.0.push(Part {
            tag,
            begin: At { key: 0, offset: 0 },
            at: None,
            text: Vec::new(),
            is_cut: true,
            is_headless: true,
        });
    }

    /// Adds a record to the line of its output.
    pub(super) fn add(&mut self, record: &Record<'_>, begin: At) {
        let mut part = self.of(record.tag).unwrap_or_else(|| Part {
            tag: record.tag,
            begin,
            at: record.at,
            text: Vec::new(),
            is_cut: false,
            is_headless: false,
        });
        let room = LINE_BYTES_MAX.saturating_sub(part.text.len());
        let kept = record.text.get(..room).unwrap_or(record.text);
        part.is_cut |= kept.len() < record.text.len();
        part.text.extend_from_slice(kept);
        self.0.push(part);
    }

    /// Whether the output has an unfinished line that is as long as one may get.
    pub(super) fn is_full(&self, tag: Tag) -> bool {
        let full = |part: &Part| part.tag == tag && part.text.len() >= LINE_BYTES_MAX;
        self.0.iter().any(full)
    }

    fn of(&mut self, tag: Tag) -> Option<Part> {
        let at = self.0.iter().position(|part| part.tag == tag)?;
        Some(self.0.swap_remove(at))
    }

    fn first_in(&mut self, key: u64) -> Option<Part> {
        let at = self.0.iter().position(|part| part.begin.key == key)?;
        Some(self.0.swap_remove(at))
    }
}

/// Takes lines out of records. One for all files: it keeps nothing but room.
#[derive(Debug, Default)]
pub(super) struct Unwrapping {
    text: Vec<u8>,
    clean: Vec<u8>,
    clock: Clock,
}

impl Unwrapping {
    /// Leaves nothing of what was read in memory.
    pub(super) fn wipe(&mut self) {
        for room in [&mut self.text, &mut self.clean] {
            room.fill(0);
            room.clear();
        }
    }

    /// Takes a record; hands out the line that it is or completes.
    pub(super) fn take(
        &mut self,
        form: Form,
        raw: &Raw<'_>,
        key: u64,
        parts: &mut Parts,
        counts: &mut Counts,
        each: &mut dyn FnMut(Line<'_>),
    ) {
        let Self { text, clean, clock } = self;
        let begin = At {
            key,
            offset: raw.offset,
        };
        counts.unfinished += u64::from(raw.is_unfinished);
        let record = match form {
            Form::Plain => {
                let line = Line {
                    text: raw.text,
                    at: None,
                    is_cut: raw.is_cut,
                    place: begin.place(),
                };
                return hand_out(line, raw.is_coloured, clean, counts, each);
            }
            form => form.record(raw.text, text, clock),
        };
        let Some(record) = record else {
            counts.odd += u64::from(!raw.text.is_empty());
            return;
        };
        if record.is_part {
            parts.add(&record, begin);
            return;
        }
        if let Some(part) = parts.of(record.tag) {
            parts.0.push(part);
            parts.add(&record, begin);
            if let Some(whole) = parts.of(record.tag) {
                hand_out_part(&whole, raw.is_cut, clean, counts, each);
            }
            return;
        }
        let line = Line {
            text: record.text,
            at: record.at,
            is_cut: raw.is_cut,
            place: begin.place(),
        };
        let is_coloured = raw.is_coloured || form.hides_colours() && colours::has(record.text);
        hand_out(line, is_coloured, clean, counts, each);
    }

    /// Takes a record again of which only the unfinished line of one output is wanted.
    pub(super) fn take_again(
        &mut self,
        form: Form,
        raw: &Raw<'_>,
        key: u64,
        tag: Tag,
        parts: &mut Parts,
    ) -> ControlFlow<()> {
        let Self { text, clock, .. } = self;
        let record = form.record(raw.text, text, clock);
        if let Some(record) = record.filter(|record| record.tag == tag && record.is_part) {
            let offset = raw.offset;
            parts.add(&record, At { key, offset });
        }
        if parts.is_full(tag) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Hands out what is there of lines that began in a file and will not go on.
    pub(super) fn give_up(
        &mut self,
        key: u64,
        parts: &mut Parts,
        counts: &mut Counts,
        each: &mut dyn FnMut(Line<'_>),
    ) {
        while let Some(part) = parts.first_in(key) {
            counts.unfinished += 1;
            hand_out_part(&part, true, &mut self.clean, counts, each);
        }
    }
}

fn hand_out_part(
    part: &Part,
    is_cut: bool,
    clean: &mut Vec<u8>,
    counts: &mut Counts,
    each: &mut dyn FnMut(Line<'_>),
) {
    if part.is_headless {
        counts.lost += 1;
        return;
    }
    let line = Line {
        text: &part.text,
        at: part.at,
        is_cut: is_cut || part.is_cut,
        place: part.begin.place(),
    };
    counts.too_long += u64::from(part.is_cut);
    hand_out(line, colours::has(&part.text), clean, counts, each);
}

fn hand_out(
    mut line: Line<'_>,
    is_coloured: bool,
    clean: &mut Vec<u8>,
    counts: &mut Counts,
    each: &mut dyn FnMut(Line<'_>),
) {
    if let Some(kept) = line.text.get(..LINE_BYTES_MAX)
        && kept.len() < line.text.len()
    {
        line.text = kept;
        line.is_cut = true;
        counts.too_long += 1;
    }
    counts.lines += 1;
    if !is_coloured {
        return each(line);
    }
    colours::strip(line.text, clean);
    each(Line {
        text: clean,
        ..line
    });
}
