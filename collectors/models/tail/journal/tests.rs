//! A journal that the tests write themselves, in both forms, and what is read of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;

const UNIT_A: &str = "_SYSTEMD_UNIT=a.service";
const UNIT_B: &str = "_SYSTEMD_UNIT=b.service";

/// Writes the bytes of a file as journald does: objects behind each other, an index for each value.
struct Writer {
    bytes: Vec<u8>,
    is_compact: bool,
    values: BTreeMap<Vec<u8>, Value>,
    fields: BTreeMap<Vec<u8>, usize>,
    number: u64,
}

#[derive(Default)]
struct Value {
    place: usize,
    count: u64,
    /// The last array, its room, and how many of it are used.
    array: (usize, usize, usize),
}

impl Writer {
    fn new(id: u8, is_compact: bool) -> Self {
        let mut bytes = vec![0; 272];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        bytes[12] = 4 | 8 | if is_compact { 16 } else { 0 };
        bytes[24..40].fill(id);
        bytes[88] = 16;
        bytes[89] = 1;
        let mut writer = Self {
            bytes,
            is_compact,
            values: BTreeMap::new(),
            fields: BTreeMap::new(),
            number: 0,
        };
        let table = writer.object(5, 0, &[0; 3 * 16]);
        writer.put(120, (table + 16) as u64);
        writer.put(128, 3 * 16);
        writer
    }

    fn put(&mut self, place: usize, number: u64) {
        self.bytes[place..place + 8].copy_from_slice(&number.to_le_bytes());
    }

    fn get(&self, place: usize) -> u64 {
        u64::from_le_bytes(self.bytes[place..place + 8].try_into().unwrap())
    }

    fn object(&mut self, kind: u8, flags: u8, content: &[u8]) -> usize {
        let place = self.bytes.len();
        self.bytes
            .extend_from_slice(&[kind, flags, 0, 0, 0, 0, 0, 0]);
        let size = 16 + content.len() as u64;
        self.bytes.extend_from_slice(&size.to_le_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let end = self.bytes.len() as u64;
        self.put(96, end - 272);
        place
    }

    fn field(&mut self, name: &[u8]) -> usize {
        if let Some(place) = self.fields.get(name) {
            return *place;
        }
        let place = self.object(2, 0, &[&[0; 24][..], name].concat());
        let table = usize::try_from(self.get(120)).unwrap() + 16 * (name.len() % 3);
        if self.get(table) == 0 {
            self.put(table, place as u64);
        } else {
            let last = usize::try_from(self.get(table + 8)).unwrap();
            self.put(last + 24, place as u64);
        }
        self.put(table + 8, place as u64);
        self.fields.insert(name.to_vec(), place);
        place
    }

    fn value(&mut self, text: &[u8], flags: u8, stored: &[u8]) -> usize {
        if let Some(value) = self.values.get(text) {
            return value.place;
        }
        let name = text.split(|byte| *byte == b'=').next().unwrap();
        let field = self.field(name);
        let head = vec![0; if self.is_compact { 56 } else { 48 }];
        let place = self.object(1, flags, &[&head, stored].concat());
        let before = self.get(field + 32);
        self.put(place + 32, before);
        self.put(field + 32, place as u64);
        let value = Value {
            place,
            ..Value::default()
        };
        self.values.insert(text.to_vec(), value);
        place
    }

    fn items(&self, places: &[usize], hashed: bool) -> Vec<u8> {
        let mut items = Vec::new();
        for place in places {
            if self.is_compact {
                items.extend_from_slice(&u32::try_from(*place).unwrap().to_le_bytes());
            } else {
                items.extend_from_slice(&(*place as u64).to_le_bytes());
                items.extend_from_slice(&[7; 8][..if hashed { 8 } else { 0 }]);
            }
        }
        items
    }

    /// An entry of values, each with its flags and the bytes that are stored.
    fn entry(&mut self, at: u64, values: &[(&[u8], u8, &[u8])]) {
        self.number += 1;
        let places: Vec<usize> = values
            .iter()
            .map(|(text, flags, stored)| self.value(text, *flags, stored))
            .collect();
        let mut content = Vec::new();
        for number in [self.number, at, 0, 0, 0, 0] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        content.extend(self.items(&places, true));
        let entry = self.object(3, 0, &content);
        for (text, ..) in values {
            self.link(text, entry);
        }
        self.put(152, self.number);
        if self.number == 1 {
            self.put(184, at);
        }
    }

    fn link(&mut self, text: &[u8], entry: usize) {
        let mut value = self.values.remove(text).unwrap();
        let item = if self.is_compact { 4 } else { 8 };
        if value.count == 0 {
            self.put(value.place + 40, entry as u64);
        } else {
            let (last, room, used) = value.array;
            if used == room {
                let room = (room * 2).max(4);
                let array = self.object(6, 0, &vec![0; 8 + room * item]);
                let before = if last == 0 {
                    value.place + 48
                } else {
                    last + 16
                };
                self.put(before, array as u64);
                value.array = (array, room, 0);
            }
            let place = value.array.0 + 24 + value.array.2 * item;
            let number = (entry as u64).to_le_bytes();
            self.bytes[place..place + item].copy_from_slice(&number[..item]);
            value.array.2 += 1;
        }
        value.count += 1;
        self.put(value.place + 56, value.count);
        self.values.insert(text.to_vec(), value);
    }

    /// A plain line of a unit.
    fn line(&mut self, unit: &str, text: &str) {
        let message = format!("MESSAGE={text}");
        let (unit, message) = (unit.as_bytes(), message.as_bytes());
        let host = b"_HOSTNAME=h";
        self.entry(
            1_777_709_730_000_000 + self.number,
            &[(host, 0, host), (message, 0, message), (unit, 0, unit)],
        );
    }
}

fn read(bytes: &[u8], unit: &str) -> Vec<String> {
    let mut lines = Vec::new();
    messages(bytes, unit, &mut |_, line| {
        lines.push(String::from_utf8_lossy(line).into_owned());
    });
    lines
}

#[test]
fn the_lines_of_one_unit_are_read_in_both_forms() {
    for is_compact in [false, true] {
        let mut writer = Writer::new(1, is_compact);
        let mut wanted = Vec::new();
        for number in 0..40 {
            let text = format!("line {number}");
            writer.line(if number % 3 == 0 { UNIT_B } else { UNIT_A }, &text);
            if number % 3 > 0 {
                wanted.push(text);
            }
        }
        assert_eq!(
            read(&writer.bytes, "a.service"),
            wanted,
            "compact: {is_compact}"
        );
        assert_eq!(read(&writer.bytes, "b.service").len(), 14);
        assert_eq!(read(&writer.bytes, "c.service"), [""; 0]);
    }
}

#[test]
fn messages_are_unpacked_and_what_cannot_be_is_left_out() {
    let mut writer = Writer::new(1, true);
    let long = format!("MESSAGE={}", "long ".repeat(400));
    let packed = zstd::encode_all(long.as_bytes(), 3).unwrap();
    let unit = UNIT_A.as_bytes();
    writer.entry(1, &[(unit, 0, unit), (long.as_bytes(), 4, &packed)]);
    writer.entry(
        2,
        &[(unit, 0, unit), (b"MESSAGE=2", 2, b"packed otherwise")],
    );
    writer.entry(3, &[(unit, 0, unit), (b"MESSAGE=3", 4, b"no zstd")]);
    writer.entry(4, &[(unit, 0, unit)]);
    let huge = format!("MESSAGE={}", "x".repeat(LINE_BYTES_MAX + 1));
    writer.entry(5, &[(unit, 0, unit), (huge.as_bytes(), 0, huge.as_bytes())]);
    let lines = read(&writer.bytes, "a.service");
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "long ".repeat(400));
    assert_eq!(lines[1].len(), LINE_BYTES_MAX);
}

#[test]
fn damage_anywhere_ends_reading_and_nothing_else() {
    let mut writer = Writer::new(1, true);
    for number in 0..12 {
        writer.line(UNIT_A, &format!("line {number}"));
    }
    for place in 0..writer.bytes.len() {
        for wrong in [0, 1, 0x7f, 0xff] {
            let kept = std::mem::replace(&mut writer.bytes[place], wrong);
            assert!(read(&writer.bytes, "a.service").len() <= 256);
            writer.bytes[place] = kept;
        }
    }
    for end in 0..writer.bytes.len() {
        assert!(read(&writer.bytes[..end], "a.service").len() <= 12);
    }
}

#[derive(Default)]
struct Kept(Vec<(String, Option<Timestamp>)>, Vec<u64>);

impl Taker<()> for Kept {
    fn begin(&mut self, (): &mut ()) {}

    fn line(&mut self, (): &mut (), line: Line<'_>) {
        let text = String::from_utf8(line.text.to_vec()).unwrap();
        self.0.push((text, line.at));
        self.1.push(line.place);
    }
}

fn journal(folder: &Path, begin: Begin) -> Journal<()> {
    Journal::new("a.service".to_owned(), vec![folder.to_owned()], begin, ())
}

#[test]
fn a_journal_is_read_on_through_rotation_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let machine = folder.path().join("0123456789abcdef0123456789abcdef");
    fs::create_dir(&machine).unwrap();
    let current = machine.join("system.journal");
    let mut reader = journal(folder.path(), Begin::End);
    assert!(reader.take(&mut Kept::default()).is_err());
    let mut reader = journal(folder.path(), Begin::End);
    let mut writer = Writer::new(1, true);
    writer.line(UNIT_A, "old");
    fs::write(&current, &writer.bytes).unwrap();
    let mut places = Vec::new();
    let mut take = |reader: &mut Journal<()>| {
        let mut kept = Kept::default();
        reader.take(&mut kept).unwrap();
        places.extend(kept.1);
        kept.0.into_iter().map(|(text, _)| text).collect::<Vec<_>>()
    };
    assert_eq!(take(&mut reader), [""; 0]);
    writer.line(UNIT_A, "\u{1b}[1mnew\u{1b}[0m\r");
    writer.line(UNIT_B, "another's");
    fs::write(&current, &writer.bytes).unwrap();
    assert_eq!(take(&mut reader), ["new"]);
    // Put aside while nobody looks, with a line that was not read.
    let saved = reader.checkpoint(|()| None).unwrap();
    writer.line(UNIT_A, "last of the first");
    fs::write(&current, &writer.bytes).unwrap();
    fs::rename(&current, machine.join("system@1-2.journal")).unwrap();
    let mut second = Writer::new(2, false);
    second.line(UNIT_A, "first of the second\nand more");
    second.put(184, u64::MAX);
    fs::write(&current, &second.bytes).unwrap();
    let mut reader = journal(folder.path(), Begin::End);
    reader.resume(&saved, |(), _| {});
    assert_eq!(
        take(&mut reader),
        ["last of the first", "first of the second"]
    );
    // Put aside under a running reader.
    fs::rename(&current, machine.join("system@2-4.journal~")).unwrap();
    let mut third = Writer::new(3, true);
    third.line(UNIT_A, "third");
    third.put(184, u64::MAX);
    fs::write(&current, &third.bytes).unwrap();
    assert_eq!(take(&mut reader), ["third"]);
    assert_eq!(take(&mut reader), [""; 0]);
    fs::remove_file(machine.join("system@1-2.journal")).unwrap();
    assert_eq!(take(&mut reader), [""; 0]);
    assert_eq!(reader.counts().lines, 4);
    let mut unique = places.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), places.len());
}

#[test]
fn the_fuzzers_corpus_is_what_the_writer_makes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/log_journal");
    for (name, is_compact) in [("regular", false), ("compact", true)] {
        let mut writer = Writer::new(1, is_compact);
        for number in 0..7 {
            writer.line(
                if number == 3 { UNIT_B } else { UNIT_A },
                &format!("line {number}"),
            );
        }
        let path = corpus.join(name);
        if std::env::var_os("CMS_BLESS").is_some() {
            fs::create_dir_all(&corpus).unwrap();
            fs::write(&path, &writer.bytes).unwrap();
        }
        assert!(
            fs::read(&path).is_ok_and(|kept| kept == writer.bytes),
            "CMS_BLESS=1 writes it"
        );
    }
}
