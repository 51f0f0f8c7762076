//! One line: a sample, a statement about a family, or nothing.

use super::labels::{Label, Labels, Text};

pub(super) const TOO_LONG: &str = "it is longer than 64 KiB";

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// A value.
    Sample(Sample<'a>),
    /// What kind of family it is.
    Type {
        /// The family.
        name: Text<'a>,
        /// Its kind.
        kind: Kind,
    },
    /// What the family is about.
    Help {
        /// The family.
        name: Text<'a>,
        /// The words.
        text: Text<'a>,
    },
    /// The unit of the family.
    Unit {
        /// The family.
        name: Text<'a>,
        /// The unit.
        unit: &'a str,
    },
    /// The end of a page of OpenMetrics.
    Eof,
}

/// One value of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The metric, with its suffix.
    pub name: Text<'a>,
    /// Its labels.
    pub labels: Labels<'a>,
    /// The value; may be infinite or not a number.
    pub value: f64,
    /// The number after the value as it stands: milliseconds in 0.0.4, seconds in OpenMetrics.
    pub timestamp: Option<&'a str>,
    /// What stands after ` # `, checked.
    exemplar: Option<&'a str>,
}

/// An example of what a sample counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// For example the trace.
    pub labels: Labels<'a>,
    /// Its value.
    pub value: f64,
}

/// Kinds of families of both formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets of a distribution, counted.
    Histogram,
    /// Buckets that go up and down.
    GaugeHistogram,
    /// Labels that do not change.
    Info,
    /// One of several states.
    StateSet,
    /// Quantiles.
    Summary,
    /// Not said.
    Unknown,
}

type Fallible<T> = Result<T, &'static str>;

/// Reads a line without its end; nothing for an empty one or a comment.
///
/// `before` is the name of the sample before, which most lines begin with and which is then not
/// looked at again.
pub(super) fn read<'a>(line: &'a str, before: &mut String) -> Fallible<Option<Item<'a>>> {
    let mut cursor = Cursor::new(line);
    cursor.blanks();
    match cursor.peek() {
        None => Ok(None),
        Some(b'#') => statement(cursor),
        Some(_) => sample(cursor, before).map(|sample| Some(Item::Sample(sample))),
    }
}

fn statement(mut cursor: Cursor<'_>) -> Fallible<Option<Item<'_>>> {
    cursor.skip(1);
    cursor.blanks();
    let word = cursor.word();
    if !matches!(word, "EOF" | "HELP" | "TYPE" | "UNIT") {
        return Ok(None);
    }
    cursor.blanks();
    if word == "EOF" {
        return Ok(cursor.is_at_end().then_some(Item::Eof));
    }
    if cursor.is_at_end() {
        return Ok(None);
    }
    let name = match cursor.peek() {
        Some(b'"') => cursor.quoted()?,
        _ => cursor.metric()?.ok_or("a name is missing")?,
    };
    cursor.blanks();
    let rest = cursor.rest();
    Ok(Some(match word {
        "TYPE" => Item::Type {
            name,
            kind: Kind::of(rest.trim_end()).ok_or("there is no such type")?,
        },
        "UNIT" => Item::Unit {
            name,
            unit: rest.trim_end(),
        },
        _ => Item::Help {
            name,
            text: Text::new(rest, rest.contains('\\')),
        },
    }))
}

fn sample<'a>(mut cursor: Cursor<'a>, before: &mut String) -> Fallible<Sample<'a>> {
    let mut name = cursor.metric_again(before);
    if name.is_none() {
        name = cursor.metric()?;
        before.clear();
        before.push_str(name.map_or("", Text::raw));
    }
    cursor.blanks();
    let mut labels = Labels::default();
    if cursor.take(b'{') {
        cursor.blanks();
        if name.is_none() {
            name = cursor.quoted_metric()?;
        }
        labels = cursor.labels()?;
    }
    let name = name.ok_or("it begins with no name")?;
    cursor.blanks();
    let value = number(cursor.word())?;
    cursor.blanks();
    let timestamp = match cursor.peek() {
        None | Some(b'#') => None,
        Some(_) => Some(cursor.timestamp()?),
    };
    cursor.blanks();
    let mut exemplar = None;
    if cursor.take(b'#') {
        exemplar = Some(cursor.rest());
        cursor.exemplar()?;
    }
    if !cursor.is_at_end() {
        return Err("there is more after the timestamp");
    }
    Ok(Sample {
        name,
        labels,
        value,
        timestamp,
        exemplar,
    })
}

fn number(word: &str) -> Fallible<f64> {
    let value: f64 = word.parse().map_err(|_| {
        if word.is_empty() {
            "its value is missing"
        } else {
            "its value is not a number"
        }
    })?;
    // A number that no float can hold is not the infinity that Rust reads.
    if value.is_infinite() && word.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err("its value is beyond all numbers");
    }
    Ok(value)
}

impl<'a> Sample<'a> {
    /// The example of what it counts, where there is one.
    #[must_use]
    pub fn exemplar(&self) -> Option<Exemplar<'a>> {
        Cursor::new(self.exemplar?).exemplar().ok()
    }

    /// The timestamp in milliseconds, when it is finite and within years that have a date.
    ///
    /// A whole number is in milliseconds unless the page is OpenMetrics; a fraction is always in
    /// seconds, because no other format has fractions.
    #[must_use]
    pub fn timestamp_ms(&self, is_open_metrics: bool) -> Option<i64> {
        let word = self.timestamp?;
        if let Ok(whole) = word.parse::<i64>() {
            return if is_open_metrics {
                whole.checked_mul(1_000)
            } else {
                Some(whole)
            };
        }
        let seconds: f64 = word.parse().ok()?;
        cms_spec::units::Fixed::<3>::from_f64(seconds).map(|ms| ms.raw())
    }
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "summary" => Self::Summary,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }
}

/// A place in a line. Its place is always between two characters, because it only passes ASCII.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next label; nothing at the end of the set.
    #[inline]
    pub(super) fn label(&mut self) -> Fallible<Option<Label<'a>>> {
        self.blanks();
        let name = match self.peek() {
            None | Some(b'}') => return Ok(None),
            Some(b'"') => self.quoted()?,
            Some(_) => self.name().ok_or("a label has a name that none can have")?,
        };
        self.blanks();
        if !self.take(b'=') {
            return Err("a label has no value");
        }
        self.blanks();
        let value = self.quoted()?;
        self.blanks();
        if !self.take(b',') && !matches!(self.peek(), None | Some(b'}')) {
            return Err("there is no comma between two labels");
        }
        Ok(Some(Label { name, value }))
    }

    /// The labels up to and with the closing brace.
    fn labels(&mut self) -> Fallible<Labels<'a>> {
        let labels = Labels::read(self)?;
        if !self.take(b'}') {
            return Err("its labels do not end");
        }
        Ok(labels)
    }

    /// A metric's name that stands among the labels, because it has characters of its own.
    fn quoted_metric(&mut self) -> Fallible<Option<Text<'a>>> {
        if self.peek() != Some(b'"') {
            return Ok(None);
        }
        let name = self.quoted()?;
        self.blanks();
        if self.take(b',') || self.peek() == Some(b'}') {
            return Ok(Some(name));
        }
        Err("it begins with no name")
    }

    fn exemplar(&mut self) -> Fallible<Exemplar<'a>> {
        self.blanks();
        if !self.take(b'{') {
            return Err("its exemplar has no labels");
        }
        let labels = self.labels()?;
        self.blanks();
        let value = number(self.word())?;
        self.blanks();
        if !self.is_at_end() {
            self.timestamp()?;
            self.blanks();
        }
        Ok(Exemplar { labels, value })
    }

    fn timestamp(&mut self) -> Fallible<&'a str> {
        let word = self.word();
        let is_number = word.parse::<f64>().is_ok_and(f64::is_finite);
        is_number
            .then_some(word)
            .ok_or("its timestamp is not a number")
    }

    #[inline]
    fn quoted(&mut self) -> Fallible<Text<'a>> {
        if !self.take(b'"') {
            return Err("a quote is missing");
        }
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut has_escapes = false;
        let mut end = 0;
        // Most values are a few bytes long: looking at each is faster than any clever search.
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    end += 2;
                }
                Some(_) => end += 1,
                None => return Err("a quote does not end"),
            }
        }
        self.at += end + 1;
        let raw = rest.get(..end).ok_or("a quote does not end")?;
        Ok(Text::new(raw, has_escapes))
    }

    /// The metric's name of the line before, if this line begins with it too.
    #[inline]
    fn metric_again(&mut self, before: &str) -> Option<Text<'a>> {
        let rest = self.rest();
        let after = rest.strip_prefix(before).filter(|_| !before.is_empty())?;
        if !matches!(after.as_bytes().first(), Some(b'{' | b' ' | b'\t')) {
            return None;
        }
        self.at += before.len();
        rest.get(..before.len()).map(|raw| Text::new(raw, false))
    }

    /// A metric's name without quotes.
    #[inline]
    fn metric(&mut self) -> Fallible<Option<Text<'a>>> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let length = memchr::memchr3(b'{', b' ', b'\t', bytes).unwrap_or(bytes.len());
        if length == 0 {
            return Ok(None);
        }
        let name = rest.get(..length).unwrap_or_default();
        let is_name = name.bytes().all(|byte| is_of_name(byte) || byte == b':');
        if !is_name || bytes.first().is_some_and(u8::is_ascii_digit) {
            return Err("its name has a character that a name cannot have");
        }
        self.at += length;
        Ok(Some(Text::new(name, false)))
    }

    /// A label's name without quotes.
    #[inline]
    fn name(&mut self) -> Option<Text<'a>> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let length = bytes
            .iter()
            .position(|byte| !is_of_name(*byte))
            .unwrap_or(bytes.len());
        if length == 0 || bytes.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        self.at += length;
        rest.get(..length).map(|raw| Text::new(raw, false))
    }

    /// Up to the next blank.
    #[inline]
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let length = rest
            .bytes()
            .position(|byte| matches!(byte, b' ' | b'\t'))
            .unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    #[inline]
    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }
}

/// Whether a byte can be part of a label's name: a look-up costs less than comparisons.
#[inline]
pub(super) fn is_of_name(byte: u8) -> bool {
    static NAMES: [bool; 256] = {
        let mut names = [false; 256];
        let mut at = 0;
        while at < 128 {
            #[expect(clippy::cast_possible_truncation, reason = "it is below 128")]
            let byte = at as u8;
            names[at] = byte.is_ascii_alphanumeric() || byte == b'_';
            at += 1;
        }
        names
    };
    NAMES[usize::from(byte)]
}
