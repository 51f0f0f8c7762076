//! Writers that rotate in every style under load, a reader that dies at any moment, and an oracle that counts.
//!
//! One sequence of random numbers drives writer, rotation and reader, so that a seed is a run. A line counts as read
//! when the checkpoint after it was stored, as in the agent; what a reader took and did not store is taken again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};

use super::files::{Tail, Taker};
use super::packed::Packing;
use super::place::{Begin, Wrapper};
use crate::models::feed::Line;

/// Rotated files that stay.
const KEPT: usize = 12;

/// Rotations while the reader is not looking.
const UNSEEN_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `app.log` becomes `app.log.1`; the writer opens the new file at once.
    Rename,
    /// The same, but the writer goes on in the old file for a while.
    RenameLate,
    /// A link leads to the newest of `app-1.log`, `app-2.log`, …
    Link,
    /// `0.log` becomes `0.log.TIME`, wrapped, with long lines in parts, behind a link.
    Kubelet,
    /// Docker's records, renamed.
    Docker,
    /// A copy is made, then the file is emptied, and nothing is written in between.
    CopyTruncate,
    /// The same, and lines are written in between: they are lost.
    CopyTruncateUnderLoad,
    /// The file is emptied when everything in it was read.
    Empty,
    /// Renamed, and compressed at once, as `compress` of logrotate has it.
    Compress(Packing),
    /// The newest one of the renamed files stays as it is (`delaycompress`).
    DelayCompress(Packing),
    /// A link leads to the newest file, and the others are compressed.
    CompressLink,
    /// A copy is made and compressed, then the file is emptied.
    CompressCopy(Packing),
}

impl Style {
    /// How the file with a number is packed when it is put aside.
    const fn packing(self) -> Option<(Packing, usize)> {
        match self {
            Self::Compress(packing) | Self::CompressCopy(packing) => Some((packing, 1)),
            Self::DelayCompress(packing) => Some((packing, 2)),
            _ => None,
        }
    }
}

pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound
    }
}

struct Writer {
    folder: PathBuf,
    style: Style,
    file: File,
    rotations: usize,
    written: Vec<String>,
    /// What of the records is not written yet.
    rest: Vec<u8>,
    /// Lines that were written between a copy and its file's end.
    doomed: usize,
    /// A compressed file that is not whole yet: the rest of it, and the plain one that goes then.
    packing: Option<(PathBuf, Vec<u8>, PathBuf)>,
}

impl Writer {
    fn new(folder: &Path, style: Style) -> Self {
        let name = match style {
            Style::Link | Style::CompressLink => "app-0.log",
            Style::Kubelet => "0.log",
            _ => "app.log",
        };
        let writer = Self {
            file: appended(&folder.join(name)),
            folder: folder.to_owned(),
            style,
            rotations: 0,
            written: Vec::new(),
            rest: Vec::new(),
            doomed: 0,
            packing: None,
        };
        if matches!(style, Style::Link | Style::Kubelet | Style::CompressLink) {
            symlink(folder.join(name), writer.path()).unwrap();
        }
        writer
    }

    /// Where the reader looks.
    fn path(&self) -> PathBuf {
        match self.style {
            Style::Link | Style::Kubelet | Style::CompressLink => self.folder.join("current"),
            _ => self.folder.join("app.log"),
        }
    }

    fn line(&mut self, dice: &mut Dice) {
        let number = self.written.len();
        let banner = dice.below(4) == 0;
        let length = if dice.below(60) == 0 {
            3_000
        } else {
            dice.below(90)
        };
        let text = if banner {
            format!("INFO:     Started server process [1] {number}")
        } else {
            format!("{} slot {number}", "x".repeat(length))
        };
        let time = format!("2026-05-02T08:15:{:02}.{number:09}Z", number % 60);
        match self.style {
            Style::Kubelet => {
                let parts: Vec<&[u8]> = text.as_bytes().chunks(1_000).collect();
                let tag = if number.is_multiple_of(3) {
                    "stderr"
                } else {
                    "stdout"
                };
                for (place, part) in parts.iter().enumerate() {
                    let kind = if place + 1 == parts.len() { 'F' } else { 'P' };
                    let part = std::str::from_utf8(part).unwrap();
                    // No two records are of the same nanosecond.
                    let nano = number * 10 + place;
                    let time = format!("2026-05-02T08:15:{:02}.{nano:09}Z", number % 60);
                    let record = format!("{time} {tag} {kind} {part}\n");
                    self.rest.extend_from_slice(record.as_bytes());
                }
            }
            Style::Docker => {
                let record = format!(
                    "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n"
                );
                self.rest.extend_from_slice(record.as_bytes());
            }
            _ => self.rest.extend_from_slice(format!("{text}\n").as_bytes()),
        }
        self.written.push(text);
    }

    /// Writes all that is left, or a part of it that may end inside a line.
    fn write(&mut self, whole: bool, dice: &mut Dice) {
        let end = if whole || self.rest.is_empty() {
            self.rest.len()
        } else {
            dice.below(self.rest.len() + 1)
        };
        let now: Vec<u8> = self.rest.drain(..end).collect();
        self.file.write_all(&now).unwrap();
    }

    /// Writes up to the end of a record, where rotation may come in.
    fn write_records(&mut self, dice: &mut Dice) {
        if self.style != Style::Kubelet {
            return self.write(true, dice);
        }
        // The runtime rotates between records, also inside a line.
        let keep = dice.below(3);
        let ends: Vec<usize> = (0..self.rest.len())
            .filter(|at| self.rest[*at] == b'\n')
            .collect();
        let end = ends
            .len()
            .checked_sub(1 + keep)
            .map_or(0, |last| ends[last] + 1);
        let is_inside = self.written.len() > 1 && end > 0;
        let end = if is_inside { end } else { self.rest.len() };
        let now: Vec<u8> = self.rest.drain(..end).collect();
        self.file.write_all(&now).unwrap();
    }

    fn rotate(&mut self, dice: &mut Dice) {
        self.rotations += 1;
        self.end_packing();
        match self.style {
            Style::Rename | Style::Docker | Style::Compress(_) | Style::DelayCompress(_) => {
                self.write_records(dice);
                self.shift();
                fs::rename(self.folder.join("app.log"), self.folder.join("app.log.1")).unwrap();
                self.file = appended(&self.folder.join("app.log"));
                self.pack_put_aside(dice);
            }
            Style::RenameLate => {
                self.shift();
                fs::rename(self.folder.join("app.log"), self.folder.join("app.log.1")).unwrap();
                let new = appended(&self.folder.join("app.log"));
                for _ in 0..dice.below(4) {
                    self.line(dice);
                }
                self.write(true, dice);
                self.file = new;
            }
            Style::Link | Style::CompressLink => {
                let old = format!("app-{}.log", self.rotations - 1);
                self.write_records(dice);
                let target = self.folder.join(format!("app-{}.log", self.rotations));
                self.file = appended(&target);
                symlink(&target, self.folder.join("new")).unwrap();
                fs::rename(self.folder.join("new"), self.folder.join("current")).unwrap();
                if self.style == Style::CompressLink {
                    self.pack(&self.folder.join(old), Packing::Gzip, dice);
                } else if let Some(old) = self.rotations.checked_sub(KEPT) {
                    fs::remove_file(self.folder.join(format!("app-{old}.log"))).unwrap();
                }
            }
            Style::Kubelet => {
                self.write_records(dice);
                let name = |number: usize| format!("0.log.20260502-{number:06}");
                let rotated = self.folder.join(name(self.rotations));
                fs::rename(self.folder.join("0.log"), rotated).unwrap();
                self.file = appended(&self.folder.join("0.log"));
                if let Some(old) = self.rotations.checked_sub(KEPT).filter(|old| *old > 0) {
                    let (old, packed) = (name(old), format!("{}.gz", name(old)));
                    fs::remove_file(self.folder.join(old)).unwrap();
                    fs::write(self.folder.join(packed), [0x1f, 0x8b, 8, 0]).unwrap();
                }
            }
            Style::CopyTruncate | Style::CopyTruncateUnderLoad | Style::CompressCopy(_) => {
                self.write(true, dice);
                self.shift();
                fs::copy(self.folder.join("app.log"), self.folder.join("app.log.1")).unwrap();
                if self.style == Style::CopyTruncateUnderLoad {
                    let before = self.written.len();
                    for _ in 0..dice.below(4) {
                        self.line(dice);
                    }
                    self.write(true, dice);
                    self.doomed += self.written.len() - before;
                }
                self.file.set_len(0).unwrap();
                self.pack_put_aside(dice);
            }
            Style::Empty => self.file.set_len(0).unwrap(),
        }
    }

    fn shift(&self) {
        for end in ["", ".gz", ".zst"] {
            let name = |number: usize| self.folder.join(format!("app.log.{number}{end}"));
            for number in (1..KEPT).rev() {
                if name(number).exists() {
                    fs::rename(name(number), name(number + 1)).unwrap();
                }
            }
        }
    }

    fn pack_put_aside(&mut self, dice: &mut Dice) {
        if let Some((packing, number)) = self.style.packing() {
            let path = self.folder.join(format!("app.log.{number}"));
            if path.exists() {
                self.pack(&path, packing, dice);
            }
        }
    }

    /// Compresses a file; now and then in two goes, and not always with the time of the plain one.
    fn pack(&mut self, path: &Path, packing: Packing, dice: &mut Dice) {
        let plain = fs::read(path).unwrap();
        let (packed, end) = packed(&plain, packing);
        let into = PathBuf::from(format!("{}{end}", path.display()));
        let whole = if dice.below(3) == 0 {
            dice.below(packed.len())
        } else {
            packed.len()
        };
        fs::write(&into, &packed[..whole]).unwrap();
        self.packing = Some((into.clone(), packed[whole..].to_vec(), path.to_owned()));
        if whole == packed.len() {
            let changed = fs::metadata(path).unwrap().modified().unwrap();
            self.end_packing();
            if dice.below(3) > 0 {
                File::open(into).unwrap().set_modified(changed).unwrap();
            }
        }
    }

    fn end_packing(&mut self) {
        if let Some((into, rest, plain)) = self.packing.take() {
            appended(&into).write_all(&rest).unwrap();
            fs::remove_file(plain).unwrap();
        }
    }
}

/// A whole file, and how its name ends.
pub(super) fn packed(plain: &[u8], packing: Packing) -> (Vec<u8>, &'static str) {
    match packing {
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).unwrap();
            (encoder.finish().unwrap(), ".gz")
        }
        Packing::Zstd => (zstd::encode_all(plain, 1).unwrap(), ".zst"),
    }
}

pub(super) fn appended(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.append(true).create(true).open(path).unwrap()
}

/// Lines with the names of their places.
#[derive(Default)]
pub(super) struct Kept(pub(super) Vec<(u64, String)>);

impl Taker<()> for Kept {
    fn begin(&mut self, (): &mut ()) {}

    fn line(&mut self, (): &mut (), line: Line<'_>) {
        assert!(!line.is_cut, "{:?}", String::from_utf8_lossy(line.text));
        let text = String::from_utf8(line.text.to_vec()).unwrap();
        self.0.push((line.place, text));
    }
}

struct Run {
    missing: usize,
    repeated: usize,
    lines: usize,
    doomed: usize,
    out_of_order: usize,
    rotations: usize,
    crashes: usize,
}

fn run(style: Style, seed: u64) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(seed);
    let mut writer = Writer::new(folder.path(), style);
    let open = |path: PathBuf| Tail::<()>::new(path, Begin::End, Wrapper::Auto, Box::new(|| ()));
    let mut reader = open(writer.path());
    let mut at = Timestamp::UNIX_EPOCH;
    let mut stored: Option<String> = None;
    let mut kept = Kept::default();
    let (mut unseen, mut crashes) = (0, 0);
    let mut read = |reader: &mut Tail<()>, stored: &mut Option<String>, crash: bool| {
        at += SignedDuration::from_secs(5);
        let mut taken = Kept::default();
        reader.take(at, &mut taken).unwrap();
        if !crash {
            kept.0.extend(taken.0);
            *stored = reader.checkpoint(|()| None);
        }
    };
    read(&mut reader, &mut stored, false);
    for _ in 0..250 {
        match dice.below(20) {
            0..8 => {
                for _ in 0..=dice.below(5) {
                    writer.line(&mut dice);
                }
                writer.write(false, &mut dice);
            }
            8..11 if unseen < UNSEEN_MAX => {
                if style == Style::Empty {
                    writer.write(true, &mut dice);
                    read(&mut reader, &mut stored, false);
                }
                writer.rotate(&mut dice);
                unseen += 1;
                if dice.below(3) == 0 && style != Style::Empty && unseen < UNSEEN_MAX {
                    writer.line(&mut dice);
                    writer.rotate(&mut dice);
                    unseen += 1;
                }
            }
            11 => writer.end_packing(),
            12..18 => {
                read(&mut reader, &mut stored, false);
                unseen = 0;
            }
            18 => {
                // It dies before what it took is stored.
                read(&mut reader, &mut stored, true);
                reader = open(writer.path());
                reader.resume(stored.as_deref().unwrap_or_default(), |(), _| {});
                crashes += 1;
            }
            _ => {
                reader = open(writer.path());
                reader.resume(stored.as_deref().unwrap_or_default(), |(), _| {});
                crashes += 1;
            }
        }
    }
    writer.write(true, &mut dice);
    writer.end_packing();
    for _ in 0..20 {
        read(&mut reader, &mut stored, false);
    }
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, text) in &kept.0 {
        *times.entry(text).or_default() += 1;
        *places.entry(*place).or_default() += 1;
    }
    assert!(
        places.values().all(|count| *count == 1),
        "two lines of one name"
    );
    let missing = writer
        .written
        .iter()
        .filter(|line| !times.contains_key(line.as_str()));
    let numbers = kept.0.iter().map(|(_, text)| {
        let number = text.rsplit(' ').next().unwrap();
        number.parse::<usize>().unwrap()
    });
    let numbers: Vec<usize> = numbers.collect();
    Run {
        missing: missing.count(),
        repeated: times.values().map(|count| count - 1).sum(),
        lines: writer.written.len(),
        doomed: writer.doomed,
        out_of_order: numbers.windows(2).filter(|pair| pair[0] > pair[1]).count(),
        rotations: writer.rotations,
        crashes,
    }
}

fn all(style: Style) -> Run {
    // What is compressed costs more, and has five styles.
    let usual = if style.packing().is_some() { 4 } else { 6 };
    let seeds = std::env::var("CMS_TAIL_SEEDS").map_or(usual, |text| text.parse().unwrap());
    let mut sum = Run {
        missing: 0,
        repeated: 0,
        lines: 0,
        doomed: 0,
        out_of_order: 0,
        rotations: 0,
        crashes: 0,
    };
    for seed in 1..=seeds {
        let run = run(style, seed);
        if style != Style::CopyTruncateUnderLoad {
            let lost = (run.missing, run.repeated);
            assert_eq!(lost, (0, 0), "{style:?}, seed {seed}: missing, repeated");
        }
        assert!(
            run.missing <= run.doomed,
            "{style:?}, seed {seed}: {} missing",
            run.missing
        );
        sum.missing += run.missing;
        sum.repeated += run.repeated;
        sum.lines += run.lines;
        sum.doomed += run.doomed;
        sum.out_of_order += run.out_of_order;
        sum.rotations += run.rotations;
        sum.crashes += run.crashes;
    }
    println!(
        "{style:?}: {} lines, {} rotations, {} crashes: {} missing, {} repeated, {} out of order",
        sum.lines, sum.rotations, sum.crashes, sum.missing, sum.repeated, sum.out_of_order
    );
    assert!(sum.lines > 1_000 && sum.rotations > 100 && sum.crashes > 100);
    sum
}

#[test]
fn nothing_is_missing_or_repeated_when_files_are_renamed() {
    assert_eq!(all(Style::Rename).out_of_order, 0);
    all(Style::RenameLate);
}

#[test]
fn nothing_is_missing_or_repeated_when_a_link_is_swapped() {
    assert_eq!(all(Style::Link).out_of_order, 0);
}

#[test]
fn nothing_is_missing_or_repeated_in_containers() {
    all(Style::Kubelet);
    assert_eq!(all(Style::Docker).out_of_order, 0);
}

#[test]
fn nothing_is_missing_or_repeated_when_a_file_is_emptied_after_its_copy() {
    all(Style::CopyTruncate);
    all(Style::Empty);
}

#[test]
fn nothing_is_missing_or_repeated_when_files_are_compressed() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        all(Style::Compress(packing));
        all(Style::DelayCompress(packing));
    }
    all(Style::CompressLink);
}

#[test]
fn nothing_is_missing_or_repeated_when_a_copy_is_compressed() {
    all(Style::CompressCopy(Packing::Gzip));
    all(Style::CompressCopy(Packing::Zstd));
}

#[test]
fn a_copy_loses_what_is_written_between_it_and_the_end_of_its_file_and_repeats_nothing() {
    let sum = all(Style::CopyTruncateUnderLoad);
    assert_eq!(sum.repeated, 0);
    assert!(sum.missing > 0 && sum.missing <= sum.doomed);
}
