//! Rules of a value, each with what breaks it.

use super::*;

const TEMPERATURES: &[Dimension] = &[Dimension::Temperature];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_607_200 + second).unwrap()
}

fn seen(raw: &str, second: i64) -> Observation {
    Observation::polled(raw.parse().unwrap(), at(second))
}

fn judge(change: impl FnOnce(&mut Rules)) -> Judge {
    let written = Written {
        unit: Some(Spanned::new(0..0, Unit::C)),
        ..Written::default()
    };
    let mut rules = written.checked(TEMPERATURES).unwrap();
    change(&mut rules);
    Judge::new(rules)
}

fn all(judge: &mut Judge, script: &[(&str, i64)]) -> Vec<Result<String, String>> {
    let value = |(raw, second): &(&str, i64)| {
        let value = judge.value(&seen(raw, *second));
        value
            .map(|v| v.number.to_string())
            .map_err(|e| e.to_string())
    };
    script.iter().map(value).collect()
}

#[test]
fn raw_then_scale_then_offset_then_unit() {
    let mut judge = judge(|rules| {
        rules.scale = "0.1".parse().unwrap();
        rules.offset = Decimal::whole(-10);
    });
    let value = judge.value(&seen("415", 0)).unwrap();
    assert_eq!(
        (value.number.to_string(), value.own.to_string()),
        ("31.5".to_owned(), "304.65".to_owned())
    );
}

#[test]
fn what_breaks_a_rule_is_missing() {
    let mut bounded = judge(|rules| {
        rules.invalid = vec![Decimal::whole(32_767)];
        (rules.min, rules.max) = (Some(Decimal::whole(5)), Some(Decimal::whole(90)));
    });
    let taken = all(
        &mut bounded,
        &[
            ("32767", 0),
            ("4.9", 30),
            ("90.1", 60),
            ("90", 90),
            ("5", 120),
        ],
    );
    assert!(
        taken[0].as_ref().is_err_and(|e| e.contains("invalid")),
        "{taken:?}"
    );
    assert!(
        taken[1]
            .as_ref()
            .is_err_and(|e| e.contains("outside of 5 to 90")),
        "{taken:?}"
    );
    assert!(
        taken[2].is_err() && taken[3].is_ok() && taken[4].is_ok(),
        "{taken:?}"
    );
    let taken = all(&mut judge(|_| {}), &[("3276.7", 0), ("-60", 30)]);
    assert!(
        taken
            .iter()
            .all(|t| t.as_ref().is_err_and(|e| e.contains("no temperature"))),
        "{taken:?}"
    );
}

#[test]
fn a_leap_is_believed_when_it_stays() {
    let mut judge = judge(|rules| rules.max_step = Some(Decimal::whole(5)));
    let taken = all(
        &mut judge,
        &[
            ("20", 0),
            ("60", 30),
            ("21", 60),
            ("60", 90),
            ("61", 120),
            ("62", 150),
            ("63", 180),
        ],
    );
    let good: Vec<bool> = taken.iter().map(Result::is_ok).collect();
    assert_eq!(
        good,
        [true, false, true, false, false, true, true],
        "{taken:?}"
    );
}

#[test]
fn a_pace_allows_more_after_longer() {
    let mut judge = judge(|rules| rules.max_step_per_s = Some("0.1".parse().unwrap()));
    let taken = all(&mut judge, &[("20", 0), ("24", 30), ("24", 60)]);
    let good: Vec<bool> = taken.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, true], "{taken:?}");
}

#[test]
fn the_unit_of_a_device_must_agree() {
    let told = |rules: &Rules, unit| rules.unit(Some(unit)).map_err(|error| error.to_string());
    let own = judge(|_| {});
    assert_eq!(told(own.rules(), Unit::C), Ok(Unit::C));
    assert!(
        told(own.rules(), Unit::F)
            .unwrap_err()
            .contains("the device says F")
    );
    let none = judge(|rules| rules.unit = None);
    assert_eq!(told(none.rules(), Unit::F), Ok(Unit::F));
    assert!(
        told(none.rules(), Unit::Kilowatt)
            .unwrap_err()
            .contains("no place here")
    );
    assert!(none.rules().unit(None).is_err());
}

#[test]
fn an_old_value_is_stale() {
    let mut judge = judge(|_| {});
    let value = judge.value(&seen("20", 0)).unwrap();
    assert!(judge.rules().age(&value, at(300)).is_ok());
    let error = judge.rules().age(&value, at(301)).unwrap_err().to_string();
    assert!(
        error.starts_with("the newest value is 301 s old"),
        "{error}"
    );
}
