//! A day of rounds in virtual time over devices that fail in every way: nothing grows, and no value is ever wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cms_spec::reading::{Readings, Sample, Value as Read};
use cms_spec::windows::Windows;
use cms_spec::{Category, Slot};
use jiff::Timestamp;
use tokio::runtime::Handle;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::thermal::modbus::simulated::{Act, Bench as Field};
use crate::thermal::source::REGISTRATION;
use crate::{Collector, Host};

const SOURCE: &str = "[[source]]\nlocation = 'rack-07'\nequipment_type = 'gpu_cluster'\n\
                      cooling_method = 'liquid'\nheat_utilization = 'none'\n";

const START_S: i64 = 1_767_607_200;

/// Rounds of a day, one every 30 s.
const ROUNDS: i64 = 2_880;

/// Units on one gateway.
const UNITS: u8 = 12;

/// What unit 60 says of itself in watts, on holding register 5.
const WATTS: u64 = 60_005;

fn opened(text: &str, field: &Arc<Field>) -> Box<dyn Collector> {
    let table = DeTable::parse(text).unwrap();
    let table = toml::Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let settings = (REGISTRATION.parse)(ValueDeserializer::from(table)).unwrap();
    let id = "host:0000000000000000".parse().unwrap();
    let host = Host::local(id, "test".to_owned(), Arc::clone(field) as Arc<_>);
    settings.open(&host).unwrap()
}

/// Dice that fall the same way each time (splitmix64).
fn dice(state: &AtomicU64) -> u64 {
    let mixed = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A field in which one answer in eight is a fault, and which is away as a whole for the seventh hour.
fn field(round: &Arc<AtomicU64>) -> Arc<Field> {
    let (round, state) = (Arc::clone(round), AtomicU64::new(7));
    Field::new(false, move |asked| {
        if (840..960).contains(&round.load(Ordering::Relaxed)) {
            return Act::Nothing;
        }
        // An address that never answers, and a unit that is not there.
        if asked.unit == 61 && (asked.first..asked.first + asked.count).contains(&7)
            || asked.unit == 62
        {
            return Act::Nothing;
        }
        match dice(&state) % 64 {
            0 => Act::Nothing,
            1 => Act::Later,
            2 => Act::HangUp,
            3 => Act::AnswerAndHangUp,
            4 => Act::WrongNumber,
            5 => Act::Short,
            6 => Act::Exception(2),
            7 => Act::Exception(6),
            _ => Act::Answer,
        }
    })
}

/// Meters of every kind: a gateway with many units, an energy register that is reset and leaps, and devices that hang,
/// fail and panic for ever.
fn tables() -> String {
    let mut text = format!(
        "[[modbus]]\nname = 'gateway'\nurl = 'tcp://field'\ntimeout = '50ms'\n\
         [[fake]]\nname = 'hangs'\ndoes = 'hang'\n[[fake]]\nname = 'fails'\ndoes = 'fail'\n\
         [[fake]]\nname = 'panics'\ndoes = 'panic'\n[[fake]]\nname = 'register'\n{SOURCE}"
    );
    text += "thermal_output = { modbus = { device = 'gateway', unit = 60, holding = 5, type = 'uint16' }, unit_of_measure = 'W' }\n";
    for device in ["hangs", "fails", "panics"] {
        text += &format!("points.{device} = {{ fake = {{ device = '{device}', say = ['1'] }} }}\n");
    }
    for unit in 61..60 + UNITS {
        for address in 4..10 {
            text += &format!(
                "points.u{unit}_{address} = {{ modbus = {{ device = 'gateway', unit = {unit}, holding = {address}, type = 'uint16' }}, max_step = 1000 }}\n"
            );
        }
    }
    // 1 kWh in each minute is 60 kW; every 400 rounds the meter is exchanged, every 700 it says nothing.
    let say = (0..ROUNDS).map(|round| match (round % 400, round % 700) {
        (_, 699) => "'bad'".to_owned(),
        (since, _) => format!("'{}.{}'", since / 2, 5 * (since % 2)),
    });
    let say = say.collect::<Vec<_>>().join(",");
    text += &format!(
        "[[source]]\nlocation = 'loop'\nequipment_type = 'loop'\ncooling_method = 'liquid'\nheat_utilization = 'none'\n\
         thermal_output = {{ fake = {{ device = 'register', say = [{say}] }}, unit_of_measure = 'kWh' }}\n"
    );
    text
}

/// What must not grow: tasks (devices, and one for each open connection), lines and bytes that are told, bytes that the
/// store would keep, forms of origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    tasks: usize,
    lines: usize,
    told_bytes: usize,
    kept_bytes: usize,
    origins: usize,
}

impl Held {
    fn of(collector: &dyn Collector, sample: Option<&Sample>, windows: &Windows) -> Self {
        let details = collector.details();
        let trouble = collector.trouble().unwrap_or_default();
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            lines: details.len(),
            told_bytes: details.iter().map(String::len).sum::<usize>() + trouble.len(),
            kept_bytes: serde_json::to_string(&windows.carry()).unwrap().len(),
            origins: sample.map_or(0, |sample| sample.origins.len()),
        }
    }

    /// The most of each.
    fn most(self, other: Self) -> Self {
        Self {
            tasks: self.tasks.max(other.tasks),
            lines: self.lines.max(other.lines),
            told_bytes: self.told_bytes.max(other.told_bytes),
            kept_bytes: self.kept_bytes.max(other.kept_bytes),
            origins: self.origins.max(other.origins),
        }
    }

    /// Whether it is no more than the other one, with room for longer numbers.
    fn is_within(self, other: Self) -> bool {
        let room = |bytes: usize| bytes + bytes / 4;
        self.tasks <= other.tasks + 2
            && self.lines == other.lines
            && self.told_bytes <= room(other.told_bytes)
            && self.kept_bytes <= room(other.kept_bytes)
            && self.origins <= other.origins
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_faults_leaves_nothing_behind_and_no_wrong_value() {
    let round = Arc::new(AtomicU64::new(0));
    let field = field(&round);
    let mut collector = opened(&tables(), &field);
    let mut windows = Windows::new();
    let mut most = [Held::default(); 4];
    let (mut good, mut lacking) = (0, 0);
    for number in 0..ROUNDS {
        round.store(number.unsigned_abs(), Ordering::Relaxed);
        let at = Timestamp::from_second(START_S + number * 30).unwrap();
        let mut out = Readings::default();
        let collected = collector.collect(at, &mut out).await;
        let sample = collected
            .ok()
            .map(|()| out.stamp("thermal/source", at, "boot"));
        for reading in sample.iter().flat_map(|sample| &sample.readings) {
            if reading.subject.as_str() == "rack-07" {
                assert_eq!(reading.value, Read::Gauge(WATTS * 1_000), "round {number}");
                good += 1;
            }
        }
        match &sample {
            Some(sample) => drop(windows.observe(sample)),
            None => lacking += 1,
        }
        // The first hour is for connecting, learning and the first of each fault.
        let quarter = usize::try_from(number * 4 / ROUNDS).unwrap();
        if number >= 120 && number % 7 == 0 {
            let now = Held::of(collector.as_ref(), sample.as_ref(), &windows);
            most[quarter] = most[quarter].most(now);
        }
    }
    assert!(most[3].is_within(most[0].most(most[1])), "{most:#?}");
    assert!(most[3].tasks < 16, "{most:#?}");
    // The register's device never failed as a whole, so that every tick had something to say.
    assert_eq!(lacking, 0);
    assert!(good > ROUNDS * 7 / 10, "{good}");
    assert!(
        field.opened() > 100,
        "it connected {} times",
        field.opened()
    );

    let end = Timestamp::from_second(START_S + ROUNDS * 30).unwrap();
    let start = Timestamp::from_second(START_S).unwrap();
    let closed = windows
        .close(Category::HeatRecovery, Slot { start, end })
        .unwrap();
    let context = cms_spec::payload::build::Context::default();
    let payload = cms_spec::payload::build::Payload::build(closed, &context);
    let cms_spec::payload::Data::HeatRecovery(heat) = payload.data().clone() else {
        panic!("another category")
    };
    let kw = |name: &str| {
        let row = heat.thermal_sources.iter().find(|row| row.location == name);
        row.and_then(|row| row.thermal_output_kw)
            .map(|kw| kw.to_string())
    };
    assert_eq!(kw("rack-07").as_deref(), Some("60.0"));
    assert_eq!(kw("loop").as_deref(), Some("60.0"));
}
