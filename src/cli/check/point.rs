//! Commissioning: one point is read and compared with the display of its device.
//!
//! A point whose type, order, scale or unit is wrong still gives numbers; this is how a person finds out. What agrees
//! is noted by the running agent, which alone writes the ledger: a leaf with a digest of the point's name and place.

use std::time::Duration;

use cms_collectors::Shown;
use cms_spec::decimal::Decimal;
use cms_spec::reading::Readings;
use tokio::time::{sleep, timeout};

use super::Finding;
use crate::agent;
use crate::cli::key;
use crate::cli::progress::Progress;
use crate::clock::Clock;
use crate::comparisons::point_digest;
use crate::config::Config;
use crate::control::{self, Answer, Ask};
use crate::status::error_chain;

/// How often a point without a value is read again: a device may need more than one round for its first answer.
const LOOKS: u32 = 5;

/// How long two looks lie apart.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Most names that are told where none fits.
const NAMES_TOLD_MAX: usize = 20;

/// What a person sees on the display.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) expected: Decimal,
    pub(super) within_percent: Decimal,
}

/// Reads the point now, and compares.
pub(super) async fn compare(config: &Config, clock: &Clock, wanted: &Wanted<'_>) -> Finding {
    let reading = read(config, clock, wanted.name);
    let read = Progress::during(&format!("reading {}", wanted.name), reading).await;
    let shown = match read {
        Ok(shown) => shown,
        Err(why) => return Finding::fail(wanted.name, why),
    };
    let number = match &shown.value {
        Ok(number) => *number,
        Err(why) => {
            return Finding::fail(wanted.name, format!("it has no value: {why}"))
                .hint(format!("it is read at {}", shown.place));
        }
    };
    let Some(off) = off_basis_points(number, wanted.expected) else {
        return Finding::fail(wanted.name, format!("it reads {number} {}", shown.unit))
            .hint("what is expected is not comparable with it: give it in the unit of the point");
    };
    let told = format!(
        "reads {} {}, expected {}: {} % off",
        number.rounded(6),
        shown.unit,
        wanted.expected,
        percent(off)
    );
    if Decimal::whole(i64::from(off)) > in_basis_points(wanted.within_percent) {
        let finding = Finding::fail(
            wanted.name,
            format!("{told}, more than {} %", wanted.within_percent),
        );
        let finding = finding.hint(format!("it is read at {}", shown.place));
        return match guess(number, wanted.expected) {
            Some(hint) => finding.hint(hint),
            None => finding.hint("check the register, type, order, scale and unit of the point"),
        };
    }
    let finding = Finding::ok(
        wanted.name,
        format!("{told}, within {} %", wanted.within_percent),
    );
    match note(config, &shown, off) {
        Ok(()) => finding.hint("the agent has noted it in its ledger"),
        Err(why) => Finding::warn(finding.what, finding.detail).hint(why),
    }
}

/// Opens the source that has the point, and waits for its value.
async fn read(config: &Config, clock: &Clock, name: &str) -> Result<Shown, String> {
    let host = agent::local_host(config, clock).map_err(|error| error_chain(&error))?;
    let mut known: Vec<String> = Vec::new();
    for source in &config.sources {
        let Ok(mut collector) = source.settings.open(&host) else {
            continue;
        };
        for look in 0..LOOKS {
            let mut readings = Readings::default();
            let collecting = collector.collect(clock.now(), &mut readings);
            let told = timeout(source.settings.deadline(), collecting).await;
            let shown = collector.shown();
            let found = shown.iter().find(|shown| shown.name == name);
            match found {
                None => {
                    known.extend(shown.into_iter().map(|shown| shown.name));
                    break;
                }
                Some(found) if found.value.is_ok() || look + 1 == LOOKS || told.is_err() => {
                    return Ok(found.clone());
                }
                Some(_) => sleep(BETWEEN_LOOKS).await,
            }
        }
    }
    Err(match known.is_empty() {
        true => "no source that is switched on has points".to_owned(),
        false => {
            known.truncate(NAMES_TOLD_MAX);
            format!("there is no such point; there are: {}", known.join(", "))
        }
    })
}

/// Asks the running agent to note it.
fn note(config: &Config, shown: &Shown, off_basis_points: u32) -> Result<(), String> {
    let ask = Ask::Commissioned {
        point: point_digest(shown),
        off_basis_points,
    };
    let socket = control::socket(&config.status_socket);
    match key::exchange(&socket, &ask) {
        Ok(Answer::Keys(_)) => Ok(()),
        Ok(Answer::Refused(why)) => Err(format!("it is not noted: {why}")),
        Err(error) => Err(format!(
            "it is not noted, because no agent answers at {} ({error}): start it, and compare again as its \
             user or as root",
            socket.display()
        )),
    }
}

/// How far apart the two are, in hundredths of a percent of what is expected, rounded up.
fn off_basis_points(number: Decimal, expected: Decimal) -> Option<u32> {
    let apart = number.checked_sub(expected)?.magnitude();
    if apart == Decimal::ZERO {
        return Some(0);
    }
    let share = apart.checked_div(expected.magnitude())?;
    let basis_points = share
        .checked_mul(Decimal::whole(10_000))?
        .to_milli()?
        .div_ceil(1_000);
    u32::try_from(basis_points).ok()
}

fn in_basis_points(percent: Decimal) -> Decimal {
    percent.checked_mul(Decimal::whole(100)).unwrap_or_default()
}

fn percent(basis_points: u32) -> String {
    format!("{}.{:02}", basis_points / 100, basis_points % 100)
}

/// What a wrong number is, when it is off by a factor that people know.
fn guess(number: Decimal, expected: Decimal) -> Option<String> {
    const FACTORS: [(&str, &str); 9] = [
        ("0.001", "scale = 0.001, or a unit a thousand times smaller"),
        ("0.01", "scale = 0.01"),
        ("0.1", "scale = 0.1"),
        ("10", "scale = 10"),
        ("100", "scale = 100"),
        ("1000", "scale = 1000, or a unit a thousand times larger"),
        (
            "0.277777778",
            "unit_of_measure in GJ or MJ where MWh or kWh stands, or the other way round",
        ),
        (
            "3.6",
            "unit_of_measure in MWh or kWh where GJ or MJ stands, or the other way round",
        ),
        (
            "-1",
            "scale = -1: the direction of the flow is counted the other way round",
        ),
    ];
    let near = |wanted: Decimal| off_basis_points(wanted, expected).is_some_and(|off| off <= 100);
    FACTORS.iter().find_map(|(factor, hint)| {
        let scaled = number.checked_mul(factor.parse().ok()?)?;
        near(scaled).then(|| format!("it would agree with {hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_apart_is_told_in_percent_of_what_is_expected() {
        assert_eq!(off_basis_points(of("42"), of("42")), Some(0));
        assert_eq!(off_basis_points(of("42.21"), of("42")), Some(50));
        assert_eq!(off_basis_points(of("-42.21"), of("-42")), Some(50));
        assert_eq!(off_basis_points(of("42.2101"), of("42")), Some(51));
        assert_eq!(off_basis_points(of("0"), of("0")), Some(0));
        assert_eq!(off_basis_points(of("1"), of("0")), None);
    }

    #[test]
    fn usual_slips_are_guessed() {
        assert!(guess(of("420"), of("42")).unwrap().contains("scale = 0.1"));
        assert!(guess(of("36"), of("10")).unwrap().contains("GJ"));
        assert!(guess(of("-10"), of("10")).unwrap().contains("scale = -1"));
        assert_eq!(guess(of("17"), of("10")), None);
    }
}
