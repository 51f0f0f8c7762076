//! Logs that are copied and emptied by turns, in the middle of what a reader does.
//!
//! The writer gets on by single steps, as logrotate's calls are: a name is shifted, a part is copied, the file is
//! emptied. Steps come between two looks and between any two calls of a reader to the system, so that every moment
//! is met, and a seed is a run.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use super::files::Tail;
use super::packed::Packing;
use super::place::{Begin, Wrapper};
use super::torture::{Dice, Kept, appended, packed};

/// Rotated files that stay.
const KEPT: usize = 20;

/// Turns between two looks; those that are begun during a look come on top.
const UNSEEN_MAX: usize = 6;

thread_local! {
    static WRITER: RefCell<Option<(Rc<RefCell<Writer>>, Dice)>> = const { RefCell::new(None) };
}

/// Lets the writer in between two steps of a reader.
pub(super) fn between_steps() {
    WRITER.with_borrow_mut(|writer| {
        if let Some((writer, dice)) = writer
            && dice.below(24) == 0
        {
            for _ in 0..=dice.below(6) {
                writer.borrow_mut().step(dice);
            }
        }
    });
}

/// What logrotate does, call by call.
#[derive(Clone, Copy, Debug)]
enum Step {
    Shift(usize),
    Create,
    CopyPart,
    CopyAll,
    Empty,
    /// A part of the compressed file is written.
    Pack(usize),
    PackEnd(usize),
    Remove(usize),
}

struct Writer {
    folder: PathBuf,
    file: File,
    packing: Option<Packing>,
    /// Which of the copies is compressed: the second one has `delaycompress`.
    packs: usize,
    steps: VecDeque<Step>,
    /// Where the copy is read from.
    from: Option<File>,
    rest: Vec<u8>,
    written: Vec<String>,
    /// How many lines are in the copy or in an older one.
    copied: usize,
    /// Lines that are in no file.
    doomed: BTreeSet<usize>,
    turns: usize,
    turns_left: usize,
}

impl Writer {
    fn new(folder: &Path, packing: Option<Packing>, packs: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            file: appended(&folder.join("app.log")),
            packing,
            packs,
            steps: VecDeque::new(),
            from: None,
            rest: Vec::new(),
            written: Vec::new(),
            copied: 0,
            doomed: BTreeSet::new(),
            turns: 0,
            turns_left: UNSEEN_MAX,
        }
    }

    fn copy(&self, number: usize, end: &str) -> PathBuf {
        self.folder.join(format!("app.log.{number}{end}"))
    }

    fn end(&self) -> &'static str {
        match self.packing {
            Some(Packing::Zstd) => ".zst",
            _ => ".gz",
        }
    }

    fn lines(&mut self, dice: &mut Dice) {
        let count = match dice.below(12) {
            0 => 60,
            1..4 => 20,
            _ => 2,
        };
        for _ in 0..=dice.below(count) {
            let number = self.written.len();
            let text = match dice.below(40) {
                0 => format!("{} slot {number}", "y".repeat(3_000)),
                1..8 => format!("INFO:     Started server process [1] {number}"),
                _ => format!("{} slot {number}", "x".repeat(dice.below(90))),
            };
            self.file.write_all(format!("{text}\n").as_bytes()).unwrap();
            self.written.push(text);
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        if dice.below(3) == 0 {
            return self.lines(dice);
        }
        let Some(step) = self.steps.pop_front() else {
            // As logrotate has it with `notifempty`.
            let is_empty = self.file.metadata().unwrap().len() == 0;
            if self.turns_left == 0 || is_empty || dice.below(3) == 0 {
                return self.lines(dice);
            }
            self.turns_left -= 1;
            self.turns += 1;
            self.steps.extend((1..=KEPT).rev().map(Step::Shift));
            self.steps.push_back(Step::Create);
            for _ in 0..dice.below(3) {
                self.steps.push_back(Step::CopyPart);
            }
            self.steps.extend([Step::CopyAll, Step::Empty]);
            if self.packing.is_some() {
                let number = self.packs;
                self.steps.push_back(Step::Pack(number));
                self.steps.push_back(Step::PackEnd(number));
                self.steps.push_back(Step::Remove(number));
            }
            return;
        };
        self.act(step, dice);
        // Most names are not there.
        while let Some(Step::Shift(number)) = self.steps.front().copied() {
            if ["", self.end()]
                .iter()
                .any(|end| self.copy(number, end).exists())
            {
                break;
            }
            self.steps.pop_front();
        }
    }

    fn end_turn(&mut self, dice: &mut Dice) {
        while let Some(step) = self.steps.pop_front() {
            self.act(step, dice);
        }
    }

    fn act(&mut self, step: Step, dice: &mut Dice) {
        let end = self.end();
        match step {
            Step::Shift(number) => {
                for end in ["", end] {
                    let from = self.copy(number, end);
                    if from.exists() && number == KEPT {
                        fs::remove_file(from).unwrap();
                    } else if from.exists() {
                        fs::rename(from, self.copy(number + 1, end)).unwrap();
                    }
                }
            }
            Step::Create => {
                File::create_new(self.copy(1, "")).unwrap();
                self.from = Some(File::open(self.folder.join("app.log")).unwrap());
            }
            Step::CopyPart | Step::CopyAll => {
                let is_part = matches!(step, Step::CopyPart);
                let from = self.from.as_mut().unwrap();
                let mut read = Vec::new();
                if is_part {
                    let most = dice.below(6_000) as u64;
                    from.take(most).read_to_end(&mut read).unwrap();
                } else {
                    from.read_to_end(&mut read).unwrap();
                    self.copied = self.written.len();
                }
                appended(&self.copy(1, "")).write_all(&read).unwrap();
            }
            Step::Empty => {
                self.file.set_len(0).unwrap();
                self.doomed.extend(self.copied..self.written.len());
            }
            Step::Pack(number) => {
                let Ok(plain) = fs::read(self.copy(number, "")) else {
                    self.steps.clear();
                    return;
                };
                let (packed, _) = packed(&plain, self.packing.unwrap());
                let most = dice.below(packed.len());
                fs::write(self.copy(number, end), &packed[..most]).unwrap();
                self.rest = packed[most..].to_vec();
            }
            Step::PackEnd(number) => {
                let rest = std::mem::take(&mut self.rest);
                let mut into = appended(&self.copy(number, end));
                into.write_all(&rest).unwrap();
                let plain = fs::metadata(self.copy(number, "")).unwrap();
                if dice.below(3) > 0 {
                    into.set_modified(plain.modified().unwrap()).unwrap();
                }
            }
            Step::Remove(number) => fs::remove_file(self.copy(number, "")).unwrap(),
        }
    }
}

#[derive(Debug, Default)]
struct Sum {
    lines: usize,
    turns: usize,
    restarts: usize,
    doomed: usize,
    nowhere: usize,
    missing: usize,
    repeated: usize,
    /// Seeds with something missing or repeated.
    failed: Vec<u64>,
}

fn run(packing: Option<Packing>, packs: usize, is_met: bool, seed: u64, sum: &mut Sum) {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(seed);
    let writer = Rc::new(RefCell::new(Writer::new(folder.path(), packing, packs)));
    let path = folder.path().join("app.log");
    let open = || Tail::<()>::new(path.clone(), Begin::End, Wrapper::Auto, Box::new(|| ()));
    let mut reader = open();
    let mut at = Timestamp::UNIX_EPOCH;
    let mut stored: Option<String> = None;
    let mut kept = Kept::default();
    let let_in = |is_let_in: bool, seed: u64| {
        let with = is_let_in.then(|| (Rc::clone(&writer), Dice::new(seed)));
        WRITER.set(with);
    };
    let mut read = |reader: &mut Tail<()>, stored: &mut Option<String>, is_stored: bool| {
        at += SignedDuration::from_secs(5);
        let mut taken = Kept::default();
        reader.take(at, &mut taken).unwrap();
        if is_stored {
            kept.0.extend(taken.0);
            *stored = reader.checkpoint(|()| None);
            writer.borrow_mut().turns_left = UNSEEN_MAX;
        }
    };
    read(&mut reader, &mut stored, true);
    for round in 0..60 {
        // Between most looks a little happens, and now and then a great deal.
        let steps = [3, 12, 40, 120][dice.below(4)];
        for _ in 0..dice.below(steps) {
            writer.borrow_mut().step(&mut dice);
        }
        let_in(is_met && dice.below(2) == 0, seed * 1000 + round);
        if dice.below(4) == 0 {
            // It dies, also before what it took is stored.
            if dice.below(2) == 0 {
                read(&mut reader, &mut stored, false);
            }
            reader = open();
            reader.resume(stored.as_deref().unwrap_or_default(), |(), _| {});
            sum.restarts += 1;
        }
        read(&mut reader, &mut stored, true);
        let_in(false, 0);
    }
    writer.borrow_mut().end_turn(&mut dice);
    for _ in 0..20 {
        read(&mut reader, &mut stored, true);
    }
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, text) in &kept.0 {
        *times.entry(text).or_default() += 1;
    }
    let writer = writer.borrow();
    let lines = writer.written.iter().enumerate();
    let gone: Vec<usize> = lines
        .filter(|(_, line)| !times.contains_key(line.as_str()))
        .map(|(number, _)| number)
        .collect();
    let missing = gone.iter().filter(|line| !writer.doomed.contains(line));
    let missing = missing.count();
    let repeated: usize = times.values().map(|count| count - 1).sum();
    sum.lines += writer.written.len();
    sum.turns += writer.turns;
    sum.doomed += writer.doomed.len();
    sum.nowhere += gone.len() - missing;
    sum.missing += missing;
    sum.repeated += repeated;
    if missing + repeated > 0 {
        sum.failed.push(seed);
    }
}

fn all(packing: Option<Packing>, packs: usize, is_met: bool) {
    let seeds = std::env::var("CMS_TAIL_SEEDS").map_or(2, |text| text.parse().unwrap());
    let mut sum = Sum::default();
    let first = std::env::var("CMS_TAIL_SEED").map_or(1, |text| text.parse().unwrap());
    for seed in first..first + seeds {
        run(packing, packs, is_met, seed, &mut sum);
    }
    println!("{packing:?} {packs} met={is_met}: {sum:?}");
    assert!(sum.failed.is_empty(), "{packing:?}: seeds {:?}", sum.failed);
    assert!(sum.turns > 20 && sum.restarts > 10 && sum.doomed > 20);
}

#[test]
fn several_copies_between_two_looks_are_told_apart() {
    all(None, 1, false);
}

#[test]
fn several_compressed_copies_between_two_looks_are_told_apart() {
    all(Some(Packing::Gzip), 1, false);
    all(Some(Packing::Zstd), 2, false);
}

#[test]
fn a_log_may_be_copied_and_emptied_in_the_middle_of_a_look() {
    all(None, 1, true);
}

#[test]
fn a_copy_may_be_made_and_compressed_in_the_middle_of_a_look() {
    all(Some(Packing::Gzip), 2, true);
    all(Some(Packing::Zstd), 1, true);
}
