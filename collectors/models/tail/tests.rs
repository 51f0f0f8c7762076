//! What a log feed hands out, on files of every form.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use super::feed::LogFeed;
use super::joined::LINE_BYTES_MAX;
use super::packed::Packing;
use super::place::Place;
use super::stream::LINGER;
use super::torture::packed;

use crate::models::feed::{Feed, Heard, Line, LineReader, Out};
use crate::models::request::Request;

type Lines = Arc<Mutex<Vec<(String, Option<Timestamp>, bool)>>>;

/// Keeps every line, which no reader of ours may do; refuses logs that say so.
struct Keeping {
    lines: Lines,
    state: String,
    is_refused: bool,
    ticks: usize,
}

impl LineReader for Keeping {
    fn tick(&mut self, _at: Timestamp, _out: &mut dyn Out) {
        self.ticks += 1;
    }

    fn details(&self) -> Vec<String> {
        vec![format!("{} ticks", self.ticks)]
    }

    fn line(&mut self, line: Line<'_>, out: &mut dyn Out) {
        let text = String::from_utf8_lossy(line.text).into_owned();
        self.is_refused |= text.starts_with("DEBUG");
        self.state.clone_from(&text);
        let mut lines = self.lines.lock().unwrap();
        lines.push((text, line.at, line.is_cut));
        out.request(Request::default());
    }

    fn checkpoint(&self) -> Option<String> {
        Some(self.state.clone())
    }

    fn resume(&mut self, checkpoint: &str) {
        let mut lines = self.lines.lock().unwrap();
        lines.push((format!("resumed {checkpoint}"), None, false));
    }

    fn refusal(&self) -> Option<String> {
        self.is_refused
            .then(|| "the log shows prompts: take --debug away".to_owned())
    }
}

struct Lab {
    folder: TempDir,
    lines: Lines,
    feed: LogFeed,
    place: Place,
    at: Timestamp,
}

impl Lab {
    fn new(place: impl FnOnce(&Path) -> Place) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines = Lines::default();
        let place = place(folder.path());
        Self {
            feed: feed(&place, &lines),
            folder,
            lines,
            place,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    /// A log at `app.log`, read from its start.
    fn plain() -> Self {
        Self::new(|folder| Place::file(folder.join("app.log")).begun_at_start())
    }

    fn write(&self, name: &str, text: &[u8]) {
        let path = self.folder.path().join(name);
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).open(path).unwrap();
        file.write_all(text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.folder.path().join(from), self.folder.path().join(to)).unwrap();
    }

    fn try_take(&mut self) -> Result<usize, String> {
        self.at += SignedDuration::from_secs(5);
        let mut heard = Heard::default();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut future = self.feed.take(self.at, &mut heard);
        let polled = future.as_mut().poll(&mut context);
        drop(future);
        match polled {
            std::task::Poll::Ready(Ok(())) => Ok(heard.requests.len()),
            std::task::Poll::Ready(Err(error)) => Err(error.to_string()),
            std::task::Poll::Pending => panic!("it reads files and waits for nothing"),
        }
    }

    /// The lines of one call.
    fn take(&mut self) -> Vec<String> {
        self.take_all().into_iter().map(|(text, ..)| text).collect()
    }

    fn take_all(&mut self) -> Vec<(String, Option<Timestamp>, bool)> {
        self.try_take().unwrap();
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// Ends, and begins anew with its checkpoint.
    fn restart(&mut self) {
        let checkpoint = self.feed.checkpoint().unwrap();
        self.feed = feed(&self.place, &self.lines);
        self.feed.resume(&checkpoint);
        self.lines.lock().unwrap().clear();
    }
}

fn feed(place: &Place, lines: &Lines) -> LogFeed {
    let lines = Arc::clone(lines);
    let make = move || {
        Box::new(Keeping {
            lines: Arc::clone(&lines),
            state: String::new(),
            is_refused: false,
            ticks: 0,
        }) as Box<dyn LineReader>
    };
    LogFeed::open(place.clone(), Arc::new(make))
}

#[test]
fn a_log_is_read_from_its_end_and_goes_on_after_a_restart() {
    let mut lab = Lab::new(|folder| Place::file(folder.join("app.log")));
    lab.write("app.log", b"old\nhalf");
    assert_eq!(lab.take(), [""; 0]);
    lab.write("app.log", b" a line\nnew\npart");
    assert_eq!(lab.take(), ["half a line", "new"]);
    let checkpoint = lab.feed.checkpoint().unwrap();
    assert!(!checkpoint.contains("part"), "{checkpoint}");
    lab.restart();
    lab.write("app.log", b"ial\r\nlast\n");
    assert_eq!(lab.take(), ["partial", "last"]);
    assert_eq!(lab.take(), [""; 0]);
    let name = lab.place.to_string();
    assert_eq!(
        lab.feed.details(),
        [format!("{name}: 4 lines, 0 lost"), "2 ticks".to_owned()]
    );
    assert_eq!(lab.feed.trouble(), None);
}

#[test]
fn a_log_that_appears_later_is_read_from_its_start() {
    let mut lab = Lab::new(|folder| Place::file(folder.join("app.log")));
    assert!(lab.try_take().unwrap_err().contains("is not there"));
    lab.restart();
    assert!(lab.try_take().is_err());
    lab.write("app.log", b"first\n");
    assert_eq!(lab.take(), ["first"]);
}

#[test]
fn what_a_reader_keeps_comes_back() {
    let mut lab = Lab::plain();
    lab.write("app.log", b"one\n");
    assert_eq!(lab.take(), ["one"]);
    let checkpoint = lab.feed.checkpoint().unwrap();
    lab.feed = feed(&lab.place, &lab.lines);
    lab.feed.resume(&checkpoint);
    assert_eq!(lab.take(), ["resumed one"]);
    // A checkpoint of something else is ignored.
    lab.feed = feed(&lab.place, &lab.lines);
    lab.feed.resume("{\"version\":7}");
    assert_eq!(lab.take(), ["one"]);
}

#[test]
fn lines_that_are_too_long_are_cut_and_the_rest_is_passed_over() {
    let mut lab = Lab::plain();
    let long = "x".repeat(3 * 1024 * 1024);
    lab.write("app.log", b"before\n");
    lab.write("app.log", long.as_bytes());
    let first = lab.take_all();
    assert_eq!(first.len(), 2);
    assert_eq!((first[1].0.len(), first[1].2), (LINE_BYTES_MAX, true));
    lab.restart();
    lab.write("app.log", long.as_bytes());
    lab.write("app.log", b"\nafter\n");
    lab.write("app.log", &long.as_bytes()[..LINE_BYTES_MAX + 1]);
    lab.write("app.log", b"\n");
    let rest = lab.take_all();
    assert_eq!(rest[0].0, "after");
    assert_eq!((rest[1].0.len(), rest[1].2), (LINE_BYTES_MAX, true));
    assert!(lab.feed.details()[0].ends_with("4 lines, 2 too long, 0 lost"));
}

#[test]
fn a_last_line_without_an_end_is_handed_out_when_nobody_finishes_it() {
    let mut lab = Lab::plain();
    lab.write("app.log", b"whole\nhalf");
    assert_eq!(lab.take(), ["whole"]);
    lab.rename("app.log", "app.log.1");
    lab.write("app.log", b"next\n");
    assert_eq!(lab.take(), ["next"]);
    lab.restart();
    lab.at += LINGER;
    let late = lab.take_all();
    assert_eq!(late, [("half".to_owned(), None, true)]);
    lab.at += LINGER;
    assert_eq!(lab.take(), [""; 0]);
    assert!(lab.feed.details()[0].ends_with("3 lines, 1 unfinished, 0 lost, 1 rotation"));
}

#[test]
fn parts_of_a_line_are_joined_over_a_rotation_and_a_restart() {
    let mut lab = Lab::new(|folder| Place::file(folder.join("0.log")).begun_at_start());
    lab.write(
        "0.log",
        b"2026-05-02T08:15:30.1Z stdout F one\n2026-05-02T08:15:30.2Z stdout P ha\n",
    );
    lab.write(
        "0.log",
        b"2026-05-02T08:15:30.3Z stderr F other\n2026-05-02T08:15:30.4Z stdout P l\n",
    );
    assert_eq!(lab.take(), ["one", "other"]);
    lab.restart();
    lab.rename("0.log", "0.log.20260502-081531");
    lab.write("0.log", b"2026-05-02T08:15:31.1Z stdout P f of\n");
    assert_eq!(lab.take(), [""; 0]);
    lab.restart();
    lab.write(
        "0.log",
        b"2026-05-02T08:15:31.2Z stdout F  it\n2026-05-02T08:15:32Z stdout Q\n",
    );
    let at = "2026-05-02T08:15:30.2Z".parse().ok();
    assert_eq!(lab.take_all(), [("half of it".to_owned(), at, false)]);
    assert!(lab.feed.details()[0].ends_with("3 lines, 1 in no known form, 0 lost, 1 rotation"));
}

#[test]
fn a_line_whose_beginning_is_gone_counts_as_lost() {
    let mut lab = Lab::new(|folder| Place::file(folder.join("0.log")).begun_at_start());
    lab.write("0.log", b"2026-05-02T08:15:30.2Z stdout P half\n");
    assert_eq!(lab.take(), [""; 0]);
    fs::remove_file(lab.folder.path().join("0.log")).unwrap();
    lab.restart();
    lab.write(
        "0.log",
        b"2026-05-02T08:15:31Z stdout F  of it\n2026-05-02T08:15:32Z stdout F whole\n",
    );
    assert_eq!(lab.take(), ["whole"]);
    assert!(lab.feed.details()[0].ends_with("1 line, 1 lost, 1 file gone before its end"));
    assert!(
        lab.feed
            .trouble()
            .is_some_and(|text| text.contains("lost lines"))
    );
}

#[test]
fn records_of_docker_are_unwrapped_and_joined() {
    let mut lab = Lab::plain();
    let record = |text: &str| {
        format!(
            "{{\"log\":\"{text}\",\"stream\":\"stderr\",\"time\":\"2026-05-02T08:15:30.5Z\"}}\n"
        )
    };
    let long = "y".repeat(16 * 1024);
    lab.write(
        "app.log",
        record("\\u001b[0;36mINFO\\u001b[0m: \\\"a\\\"\\r\\n").as_bytes(),
    );
    lab.write("app.log", record(&long).as_bytes());
    lab.write("app.log", record("end\\n").as_bytes());
    let lines = lab.take_all();
    assert_eq!(lines[0].0, "INFO: \"a\"");
    assert_eq!(lines[0].1, "2026-05-02T08:15:30.5Z".parse().ok());
    assert_eq!(lines[1].0, format!("{long}end"));
}

#[test]
fn the_advice_of_a_reader_that_refuses_is_told_and_the_log_is_read_on() {
    let mut lab = Lab::plain();
    lab.write("app.log", b"INFO one\nDEBUG body\nthe prompt\n");
    assert_eq!(lab.take(), ["INFO one", "DEBUG body", "the prompt"]);
    assert!(
        lab.feed
            .trouble()
            .is_some_and(|text| text.contains("--debug"))
    );
    lab.write("app.log", b"INFO two\n");
    assert_eq!(lab.take(), ["INFO two"]);
    assert!(lab.feed.details()[1].ends_with("ticks"));
}

#[test]
fn each_log_of_a_pattern_has_a_reader_of_its_own() {
    let mut lab = Lab::new(|folder| Place::file(folder.join("vllm-*.log")));
    assert!(lab.try_take().is_err());
    lab.write("vllm-a.log", b"a1\n");
    lab.write("vllm-b.log", b"b1\n");
    assert_eq!(lab.take(), ["a1", "b1"]);
    lab.rename("vllm-a.log", "vllm-a.log.1");
    lab.write("vllm-a.log", b"a2\n");
    lab.write("vllm-b.log", b"b2\n");
    let mut lines = lab.take();
    lines.sort();
    assert_eq!(lines, ["a2", "b2"]);
    let checkpoint = lab.feed.checkpoint().unwrap();
    assert!(checkpoint.contains("\"a2\"") && checkpoint.contains("\"b2\""));
    fs::remove_file(lab.folder.path().join("vllm-b.log")).unwrap();
    assert_eq!(lab.take(), [""; 0]);
    lab.at += LINGER;
    assert_eq!(lab.take(), [""; 0]);
    assert!(!lab.feed.checkpoint().unwrap().contains("\"b2\""));
}

#[test]
fn a_copy_that_is_older_than_what_was_read_is_not_read_again() {
    for is_down in [false, true] {
        let mut lab = Lab::plain();
        let path = lab.folder.path().join("app.log");
        lab.write(
            "app.log",
            format!("{}\nfirst\n", "banner ".repeat(300)).as_bytes(),
        );
        assert_eq!(lab.take().len(), 2);
        fs::copy(&path, lab.folder.path().join("app.log.1")).unwrap();
        lab.write("app.log", b"after the copy\n");
        assert_eq!(lab.take(), ["after the copy"]);
        if is_down {
            lab.restart();
        }
        fs::write(&path, "after the end\n").unwrap();
        assert_eq!(lab.take(), ["after the end"]);
        assert!(lab.feed.details()[0].ends_with("4 lines, 0 lost, 1 copytruncate"));
    }
}

#[test]
fn files_that_begin_alike_are_all_read() {
    let mut lab = Lab::plain();
    let banner = format!("{}\n", "banner ".repeat(300));
    lab.write("app.log", format!("{banner}one\ntwo\nthree\n").as_bytes());
    assert_eq!(lab.take().len(), 4);
    lab.rename("app.log", "app.log.2");
    lab.write("app.log", format!("{banner}four\n").as_bytes());
    lab.rename("app.log", "app.log.1");
    lab.write("app.log", format!("{banner}five\n").as_bytes());
    let lines = lab.take();
    assert_eq!(
        (lines.len(), &lines[1][..], &lines[3][..]),
        (4, "four", "five")
    );
}

#[test]
fn a_writer_that_goes_on_behind_a_hole_is_read() {
    let mut lab = Lab::plain();
    let path = lab.folder.path().join("app.log");
    let file = fs::File::create(&path).unwrap();
    let first = format!("{}\n", "a".repeat(100_000));
    file.write_all_at(first.as_bytes(), 0).unwrap();
    assert_eq!(lab.take().len(), 1);
    file.set_len(0).unwrap();
    file.write_all_at(b"behind the hole\n", first.len() as u64)
        .unwrap();
    assert_eq!(lab.take(), ["behind the hole"]);
    assert!(lab.feed.details()[0].ends_with("1 emptied without a copy"));
}

#[test]
fn what_is_no_file_is_told() {
    let mut lab = Lab::plain();
    fs::create_dir(lab.folder.path().join("app.log")).unwrap();
    assert!(lab.try_take().unwrap_err().contains("app.log"));
}

/// A log whose first line was read, put aside with a second one while nobody looked.
fn put_aside(packing: Packing) -> (Lab, Vec<u8>, String) {
    let mut lab = Lab::plain();
    lab.write("app.log", b"first\n");
    assert_eq!(lab.take(), ["first"]);
    lab.write("app.log", b"second\nhalf");
    let path = lab.folder.path().join("app.log");
    let (packed, end) = packed(&fs::read(&path).unwrap(), packing);
    fs::remove_file(path).unwrap();
    lab.write("app.log", b"third\n");
    lab.restart();
    (lab, packed, format!("app.log.1{end}"))
}

#[test]
fn what_was_compressed_before_it_was_read_is_read() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let (mut lab, packed, name) = put_aside(packing);
        lab.write(&name, &packed);
        assert_eq!(lab.take(), ["second", "half", "third"]);
        let told = &lab.feed.details()[0];
        assert!(
            told.contains("1 unfinished, 0 lost") && told.ends_with("1 compressed file read"),
            "{told}"
        );
        assert_eq!(lab.feed.trouble(), None);
        lab.restart();
        assert_eq!(lab.take(), [""; 0]);
    }
}

#[test]
fn a_compressed_file_is_waited_for_until_it_is_whole() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let (mut lab, packed, name) = put_aside(packing);
        // All of the lines are there and the end is not.
        let (most, end) = packed.split_at(packed.len() - 2);
        lab.write(&name, most);
        lab.take();
        lab.at += LINGER / 2;
        lab.take();
        lab.write(&name, end);
        lab.take();
        let told = &lab.feed.details()[0];
        assert!(
            told.contains("4 lines") && told.contains(" 0 lost"),
            "{told}"
        );
        assert!(told.ends_with("1 compressed file read"), "{told}");
    }
}

#[test]
fn a_compressed_file_that_is_cut_off_or_damaged_is_told() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        for is_cut_off in [false, true] {
            let (mut lab, mut packed, name) = put_aside(packing);
            if is_cut_off {
                packed.truncate(packed.len() - 2);
            } else {
                *packed.last_mut().unwrap() ^= 1;
                *packed.get_mut(12).unwrap() ^= 0x55;
            }
            lab.write(&name, &packed);
            lab.take();
            lab.at += LINGER;
            lab.take();
            lab.at += LINGER;
            lab.take();
            let trouble = lab.feed.trouble().unwrap();
            assert!(trouble.contains("lost lines"), "{packing:?}: {trouble}");
        }
    }
}

#[test]
fn what_becomes_too_much_costs_a_bounded_amount_at_a_time() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let (mut lab, _, name) = put_aside(packing);
        let mut bomb = b"first\n".to_vec();
        bomb.resize(130 << 20, b'x');
        let (packed, _) = packed(&bomb, packing);
        drop(bomb);
        lab.write(&name, &packed);
        let mut lines = lab.take();
        assert_eq!(lines[..1], ["x".repeat(LINE_BYTES_MAX)]);
        let mut calls = 1;
        while !lines.contains(&"third".to_owned()) {
            lines = lab.take();
            calls += 1;
            assert!(calls < 9, "{packing:?}");
        }
        // Zstandard packs it tighter than any log.
        let is_refused = lab.feed.details()[0].contains("1 compressed file damaged");
        assert_eq!(
            is_refused,
            packing == Packing::Zstd,
            "{:?}",
            lab.feed.details()
        );
        assert!(is_refused || calls >= 3, "{calls}");
    }
}

#[test]
fn compressed_files_that_were_there_at_first_sight_are_old() {
    let mut lab = Lab::plain();
    let (packed, end) = packed(b"old\n", Packing::Zstd);
    lab.write(&format!("app.log.1{end}"), &packed);
    lab.write("app.log", b"first\n");
    assert_eq!(lab.take(), ["first"]);
    lab.write("app.log.9", b"");
    lab.restart();
    assert_eq!(lab.take(), [""; 0]);
}
