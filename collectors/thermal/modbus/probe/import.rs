//! Telegraf's `[[inputs.modbus]]` in our words: its three styles, `register`, `request` and `metric`.
//!
//! Promises: every field becomes a point or a note, and every key that has no counterpart becomes a note; nothing is
//! left out in silence. Refuses: guessing what a value is: Telegraf has no units and no thermal sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toml::{Table, Value};

use super::super::decode::{Order, Type};
use super::super::endpoint::Endpoint;
use super::super::register::{BITS_MAX, Kind, REGISTERS_MAX, Span};
use super::super::words::{toml_text, word};

/// Most points that are taken over; no configuration by hand has more.
const POINTS_MAX: usize = 10_000;

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// Our configuration.
    pub table: String,
    /// What has no counterpart, and what to look at.
    pub notes: Vec<String>,
    /// How many points there are.
    pub points: usize,
}

/// Why a file cannot be taken over at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no TOML.
    #[error(
        "Telegraf's configuration does not read; if it has variables outside of quotes, put values in their place"
    )]
    Toml(#[from] toml::de::Error),
    /// There is nothing to take over.
    #[error("there is no [[inputs.modbus]] in it")]
    Nothing,
}

/// A device that is being taken over.
struct Device<'n> {
    name: String,
    notes: &'n mut Vec<String>,
    names: &'n mut BTreeSet<String>,
    /// Points of each unit.
    units: BTreeMap<i64, Vec<Point>>,
    max_gap: i64,
}

/// A field in our words.
struct Point {
    name: String,
    span: Span,
    means: Type,
    order: Option<Order>,
    scale: Option<Value>,
    comment: String,
}

/// What a field says, whatever the style.
struct Field {
    name: String,
    kind: Kind,
    first: Option<i64>,
    registers: Option<i64>,
    means: Result<Type, String>,
    order: Result<Order, String>,
    scale: Option<Value>,
    comment: String,
}

/// Takes over what is there.
///
/// # Errors
/// When it is no configuration of Telegraf with Modbus in it.
pub fn import(text: &str) -> Result<Import, ImportError> {
    let mut file: Table = text.parse()?;
    let modbus = match file.remove("inputs") {
        Some(Value::Table(mut inputs)) => inputs.remove("modbus"),
        _ => None,
    };
    let Some(Value::Array(modbus)) = modbus else {
        return Err(ImportError::Nothing);
    };
    let (mut import, mut names) = (Import::default(), BTreeSet::new());
    for (number, input) in (1..).zip(modbus) {
        let Value::Table(mut input) = input else {
            continue;
        };
        let name = text_of(&mut input, "name").unwrap_or_else(|| format!("modbus-{number}"));
        let mut device = Device {
            name,
            notes: &mut import.notes,
            names: &mut names,
            units: BTreeMap::new(),
            max_gap: 0,
        };
        let (table, points) = device.take(input);
        import.table += &table;
        import.points += points;
    }
    if import.points >= POINTS_MAX {
        import
            .notes
            .push(format!("only {POINTS_MAX} points are taken over"));
    }
    Ok(import)
}

impl Device<'_> {
    fn note(&mut self, note: impl std::fmt::Display) {
        let note = format!("{}: {note}", self.name);
        self.notes.push(note);
    }

    /// Our tables of it, and how many points they have.
    fn take(&mut self, mut input: Table) -> (String, usize) {
        let url = self.way(&mut input);
        let style =
            text_of(&mut input, "configuration_type").unwrap_or_else(|| "register".to_owned());
        let unit = integer_of(&mut input, "slave_id");
        self.registers(&mut input, unit.unwrap_or(0), style == "register");
        for (key, of_style) in [
            ("request", style == "request"),
            ("metric", style == "metric"),
        ] {
            let gap = gap(&mut input, key == "metric");
            for (number, group) in (1..).zip(tables_of(&mut input, key)) {
                self.group(group, number, key, of_style, gap);
            }
        }
        if !matches!(style.as_str(), "register" | "request" | "metric") {
            self.note(format_args!(
                "the configuration_type {style:?} is unknown; nothing of it is taken over"
            ));
        }
        let limits = self.limits(&mut input);
        self.rest(&input, "");
        self.tables(&url, &limits)
    }

    /// The way to it, as a key of ours.
    fn way(&mut self, input: &mut Table) -> String {
        let controller = text_of(input, "controller").unwrap_or_default();
        let mode = text_of(input, "transmission_mode").unwrap_or_default();
        let serial = [
            (
                "baud",
                integer_of(input, "baud_rate").map(|n| n.to_string()),
            ),
            (
                "data",
                integer_of(input, "data_bits").map(|n| n.to_string()),
            ),
            (
                "stop",
                integer_of(input, "stop_bits").map(|n| n.to_string()),
            ),
            (
                "parity",
                text_of(input, "parity").map(|letter| match letter.as_str() {
                    "E" => "even".to_owned(),
                    "O" => "odd".to_owned(),
                    "N" => "none".to_owned(),
                    _ => letter,
                }),
            ),
        ];
        let settings: Vec<String> = serial
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", value?)))
            .collect();
        let url = match (controller.split_once("://"), mode.as_str()) {
            (Some(("tcp", rest)), "" | "auto" | "TCP") => format!("tcp://{rest}"),
            (Some(("tcp", rest)), "RTUoverTCP") => format!("rtu+tcp://{rest}"),
            (Some(("file", rest)), "" | "auto" | "RTU") => {
                format!("rtu://{rest}?{}", settings.join("&"))
            }
            _ => {
                self.note(format_args!(
                    "the controller {controller:?} with transmission_mode {mode:?} has no counterpart (ASCII and Windows \
                     ports are not read); put the url in yourself"
                ));
                return String::new();
            }
        };
        match url.parse::<Endpoint>() {
            Ok(endpoint) => endpoint.to_string(),
            Err(error) => {
                self.note(format_args!("{error}; put the url in yourself"));
                String::new()
            }
        }
    }

    /// The style `register`: four lists of one unit.
    fn registers(&mut self, input: &mut Table, unit: i64, of_style: bool) {
        for (key, kind) in [
            ("coils", Kind::Coil),
            ("discrete_inputs", Kind::Discrete),
            ("holding_registers", Kind::Holding),
            ("input_registers", Kind::Input),
        ] {
            for mut field in tables_of(input, key) {
                let name = field_name(&mut field, "");
                let addresses = field.remove("address");
                let addresses: Vec<i64> = match &addresses {
                    Some(Value::Array(list)) => list.iter().filter_map(Value::as_integer).collect(),
                    _ => Vec::new(),
                };
                let is_row = addresses
                    .windows(2)
                    .all(|pair| matches!(pair, [a, b] if a.checked_add(1) == Some(*b)));
                let count = i64::try_from(addresses.len()).unwrap_or(i64::MAX);
                let written = text_of(&mut field, "data_type").unwrap_or_default();
                let bit = integer_of(&mut field, "bit");
                let order = text_of(&mut field, "byte_order");
                let mut comment = String::new();
                if written == "FLOAT32" {
                    comment = "FLOAT32 was an unsigned number in older versions of Telegraf: check"
                        .to_owned();
                }
                let taken = Field {
                    name,
                    kind,
                    first: addresses.first().copied().filter(|_| is_row),
                    registers: Some(count),
                    means: means(kind, &written, Some(count), bit),
                    order: self::order(order.as_deref()),
                    scale: field.remove("scale"),
                    comment,
                };
                self.field(unit, taken, field, of_style);
            }
        }
    }

    /// One table of the styles `request` and `metric`.
    fn group(&mut self, mut group: Table, number: usize, style: &str, of_style: bool, gap: i64) {
        let unit = integer_of(&mut group, "slave_id").unwrap_or(0);
        let order = text_of(&mut group, "byte_order");
        let of_group = text_of(&mut group, "register");
        let measurement = text_of(&mut group, "measurement").unwrap_or_default();
        self.max_gap = self.max_gap.max(gap).max(self::gap(&mut group, true));
        for mut field in tables_of(&mut group, "fields") {
            let name = field_name(&mut field, &measurement);
            let register = text_of(&mut field, "register").or_else(|| of_group.clone());
            let register = register.unwrap_or_else(|| "holding".to_owned());
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.word() == register) else {
                self.note(format_args!(
                    "{name}: the register {register:?} is unknown; left out"
                ));
                continue;
            };
            if field.remove("omit") == Some(Value::Boolean(true)) {
                self.note(format_args!(
                    "{name}: an omitted field; gaps are not read unless `max_gap` allows it, so it is left out"
                ));
                continue;
            }
            let length = integer_of(&mut field, "length");
            let bit = integer_of(&mut field, "bit");
            let written = text_of(&mut field, "type").unwrap_or_default();
            let taken = Field {
                name,
                kind,
                first: integer_of(&mut field, "address"),
                registers: None,
                means: means(kind, &written, length, bit),
                order: self::order(order.as_deref()),
                scale: field.remove("scale"),
                comment: String::new(),
            };
            self.field(unit, taken, field, of_style);
        }
        if let Some(tags) = group.remove("tags") {
            self.note(format_args!(
                "{style} {number}: the tags {tags} have no counterpart"
            ));
        }
        self.rest(&group, &format!("{style} {number}: "));
    }

    /// One field becomes a point or a note.
    fn field(&mut self, unit: i64, field: Field, mut rest: Table, of_style: bool) {
        // What they say about the output has no meaning here: a number is exact until it is sent.
        let _output = rest.remove("output");
        let name = field.name.clone();
        self.rest(&rest, &format!("{name}: "));
        if self.units.values().map(Vec::len).sum::<usize>() >= POINTS_MAX {
            return;
        }
        if !of_style {
            self.note(format_args!(
                "{name}: it belongs to another configuration_type; left out"
            ));
            return;
        }
        match self.point(field) {
            Ok(point) => self.units.entry(unit).or_default().push(point),
            Err(why) => self.note(format_args!("{name}: {why}; left out")),
        }
    }

    fn point(&mut self, field: Field) -> Result<Point, String> {
        let means = field.means?;
        let order = field.order?;
        let first = field
            .first
            .ok_or("it has no address, or several that do not follow each other")?;
        let first = u16::try_from(first).map_err(|_| format!("{first} is no address"))?;
        if field
            .registers
            .is_some_and(|count| count != i64::from(means.registers()))
        {
            return Err(format!(
                "{} has another number of registers than the addresses",
                means.word()
            ));
        }
        let span =
            Span::new(field.kind, first, means.registers()).map_err(|error| error.to_string())?;
        let has_order = !field.kind.is_bit() && order != Order::Abcd;
        let is_plain = |scale: &Value| matches!(number(scale), Some(n) if n == 1.0 || n == 0.0);
        let scale = field.scale.filter(|scale| !is_plain(scale));
        if let Some(scale) = scale.as_ref().filter(|scale| number(scale).is_none()) {
            return Err(format!("the scale {scale} is no number"));
        }
        Ok(Point {
            name: self.unused(&field.name),
            span,
            means,
            order: has_order.then_some(order),
            scale,
            comment: field.comment,
        })
    }

    fn limits(&mut self, input: &mut Table) -> String {
        let mut lines = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _infallible = writeln!(lines, "{key} = {value}");
        };
        if let Some(timeout) = input.remove("timeout") {
            match timeout {
                Value::String(text) => line("timeout", &toml_text(&text)),
                other => line("timeout", &format!("\"{other}s\"")),
            }
        }
        if self.max_gap > 0 {
            line("max_gap", &self.max_gap.min(i64::from(REGISTERS_MAX)));
        }
        let Some(Value::Table(mut workarounds)) = input.remove("workarounds") else {
            return lines;
        };
        if let Some(pause) = text_of(&mut workarounds, "pause_between_requests") {
            line("pause", &toml_text(&pause));
        }
        for (key, ours, most) in [
            (
                "max_word_registers_per_request",
                "max_registers",
                REGISTERS_MAX,
            ),
            ("max_bit_registers_per_request", "max_bits", BITS_MAX),
        ] {
            if let Some(count) = integer_of(&mut workarounds, key).filter(|count| *count > 0) {
                line(ours, &count.min(most.into()));
            }
        }
        let single = workarounds.remove("one_request_per_field") == Some(Value::Boolean(true));
        if single {
            self.note("one_request_per_field has no counterpart: lower `max_registers`; a refused request is cut by itself");
        }
        if workarounds.remove("close_connection_after_gather") == Some(Value::Boolean(true)) {
            self.note("close_connection_after_gather has no counterpart: a device that closes is found out");
        }
        self.rest(&workarounds, "workarounds: ");
        lines
    }

    /// Notes what nobody took.
    fn rest(&mut self, table: &Table, place: &str) {
        for (key, value) in table {
            let why = match key.as_str() {
                "interval" => "set `[thermal] interval`",
                "busy_retries" | "busy_retries_wait" => {
                    "a busy device is asked once more, half a second later"
                }
                "debug_connection" | "log_level" => "`probe modbus` shows what a device says",
                "rs485" => {
                    "the direction of an RS-485 line is the adapter's or the kernel's affair"
                }
                _ => "it has no counterpart",
            };
            self.note(format_args!(
                "{place}`{key} = {value}` is not taken over: {why}"
            ));
        }
    }

    /// A name that no other point has.
    fn unused(&mut self, name: &str) -> String {
        let plain = word(name);
        let numbered = (2_u32..).map(|number| format!("{plain}_{number}"));
        let free = std::iter::once(plain.clone())
            .chain(numbered)
            .find(|name| !self.names.contains(name));
        let free = free.unwrap_or(plain);
        self.names.insert(free.clone());
        free
    }

    fn tables(&self, url: &str, limits: &str) -> (String, usize) {
        let (mut text, mut points) = (String::new(), 0);
        let is_one = self.units.len() == 1;
        for (unit, all) in &self.units {
            let device = if is_one {
                self.name.clone()
            } else {
                format!("{} unit {unit}", self.name)
            };
            let device = toml_text(&device);
            let _infallible = write!(
                text,
                "[[thermal.modbus]]\nname = {device}\nurl = {}\nunit = {unit}\n{limits}\n",
                toml_text(url)
            );
            for point in all {
                text += &point.table(&device);
                points += 1;
            }
        }
        (text, points)
    }
}

impl Point {
    fn table(&self, device: &str) -> String {
        let mut inside = format!(
            "device = {device}, {} = {}",
            self.span.kind(),
            self.span.first()
        );
        if !self.span.kind().is_bit() {
            let _infallible = write!(inside, ", type = \"{}\"", self.means.word());
        }
        if let Type::Bits { first, width } = self.means {
            let _infallible = write!(inside, ", bit = {first}, width = {width}");
        }
        if let Some(order) = self.order {
            let _infallible = write!(inside, ", order = \"{order}\"");
        }
        let mut text = format!("[thermal.points.{}]\nmodbus = {{ {inside} }}\n", self.name);
        if let Some(scale) = &self.scale {
            let _infallible = writeln!(text, "scale = {scale}");
        }
        let comment = if self.comment.is_empty() {
            "Telegraf does not say it"
        } else {
            &self.comment
        };
        let _infallible = writeln!(text, "# unit_of_measure = \"\"  # {comment}\n");
        text
    }
}

/// The type that a word of theirs means.
fn means(kind: Kind, written: &str, length: Option<i64>, bit: Option<i64>) -> Result<Type, String> {
    if kind.is_bit() {
        return Ok(Type::Bool);
    }
    let bits = |first, width| Ok(Type::Bits { first, width });
    match (written, length) {
        ("INT16", _) | ("FIXED", Some(1)) => Ok(Type::Int16),
        ("UINT16", _) | ("UFIXED", Some(1)) => Ok(Type::Uint16),
        ("INT32", _) | ("FIXED", Some(2)) => Ok(Type::Int32),
        ("UINT32", _) | ("UFIXED", Some(2)) => Ok(Type::Uint32),
        ("INT64", _) | ("FIXED", Some(4)) => Ok(Type::Int64),
        ("UINT64", _) | ("UFIXED", Some(4)) => Ok(Type::Uint64),
        ("FLOAT32" | "FLOAT32-IEEE", _) => Ok(Type::Float32),
        ("FLOAT64" | "FLOAT64-IEEE", _) => Ok(Type::Float64),
        ("UINT8L", _) => bits(0, 8),
        ("UINT8H", _) => bits(8, 8),
        ("BIT", _) => match u8::try_from(bit.unwrap_or(0)) {
            Ok(first @ 0..=15) => bits(first, 1),
            _ => Err(format!("bit {} is not within 0 to 15", bit.unwrap_or(0))),
        },
        ("STRING", _) => Err("a text is no point; `probe modbus` shows texts".to_owned()),
        ("INT8L" | "INT8H", _) => Err("signed numbers of 8 bits have no counterpart".to_owned()),
        ("FLOAT16" | "FLOAT16-IEEE", _) => {
            Err("numbers of 16 bits with a point have no counterpart".to_owned())
        }
        ("", _) => Err("it has no type".to_owned()),
        _ => Err(format!("the type {written:?} is unknown")),
    }
}

/// The order that a word of theirs means.
fn order(written: Option<&str>) -> Result<Order, String> {
    match written {
        None | Some("" | "MSW-BE" | "MSW") => Ok(Order::Abcd),
        Some("MSW-LE") => Ok(Order::Badc),
        Some("LSW-BE") => Ok(Order::Cdab),
        Some("LSW-LE" | "LSW") => Ok(Order::Dcba),
        Some(letters) => letters.parse(),
    }
}

/// How many registers they read for nothing, where they were told to.
fn gap(table: &mut Table, is_there: bool) -> i64 {
    if !is_there {
        return 0;
    }
    let optimization = text_of(table, "optimization").unwrap_or_default();
    let fill = integer_of(table, "optimization_max_register_fill").unwrap_or(50);
    if optimization == "max_insert" {
        fill
    } else {
        0
    }
}

/// The name of a field, with that of its measurement where it has one.
fn field_name(field: &mut Table, measurement: &str) -> String {
    let name = text_of(field, "name").unwrap_or_else(|| "field".to_owned());
    let measurement = text_of(field, "measurement").unwrap_or_else(|| measurement.to_owned());
    if measurement.is_empty() {
        name
    } else {
        format!("{measurement}_{name}")
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) if number.is_finite() => Some(*number),
        Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        _ => None,
    }
}

fn text_of(table: &mut Table, key: &str) -> Option<String> {
    match table.get(key) {
        Some(Value::String(_)) => match table.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn integer_of(table: &mut Table, key: &str) -> Option<i64> {
    let number = table.get(key)?.as_integer()?;
    table.remove(key);
    Some(number)
}

fn tables_of(table: &mut Table, key: &str) -> Vec<Table> {
    let is_list = table.get(key).is_some_and(Value::is_array);
    match if is_list { table.remove(key) } else { None } {
        Some(Value::Array(list)) => list
            .into_iter()
            .filter_map(|one| match one {
                Value::Table(one) => Some(one),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
