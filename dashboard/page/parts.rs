//! The small pieces that several parts of a page are made of.

use cms_spec::score::Points;
use cms_spec::tier::Tier;
use cms_spec::units::Fixed;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use maud::{Markup, PreEscaped, html};

use crate::store::Day;

/// The score that every metric must reach.
pub(super) const PASS: u32 = 75;

/// A tier as a badge.
pub(super) fn tier(tier: Tier) -> Markup {
    let class = if tier == Tier::Silver {
        "tag"
    } else {
        "tag good"
    };
    html! { span class=(class) { (tier.to_string()) } }
}

/// A score with two digits, or a dash that says that there is none.
pub(super) fn points(points: Option<Points>) -> Markup {
    match points {
        Some(points) => html! { (format!("{:.2}", crate::view::shown(points))) },
        None => unknown(),
    }
}

/// What stands where a figure is not known.
pub(super) fn unknown() -> Markup {
    html! { span.quiet title="not known" { "—" } }
}

/// A figure with its unit, or a dash.
pub(super) fn figure<const DIGITS: u32>(value: Option<Fixed<DIGITS>>, unit: &str) -> Markup {
    match value {
        Some(value) => html! { (grouped(&value.to_string())) " " (unit) },
        None => unknown(),
    }
}

/// A share as percent, or a dash.
pub(super) fn percent<const DIGITS: u32>(share: Option<Fixed<DIGITS>>) -> Markup {
    match share {
        Some(share) => html! { (format!("{:.1} %", share.to_f64() * 100.0)) },
        None => unknown(),
    }
}

/// A time to the second, in UTC, readable by machines.
pub(super) fn time(at: Option<Timestamp>) -> Markup {
    let Some(at) = at else {
        return unknown();
    };
    let text = at
        .to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string();
    html! { time.nowrap datetime=(at) { (text) } }
}

/// A span of two times on one day, or on two.
pub(super) fn span(start: Timestamp, end: Timestamp) -> Markup {
    let (start, end) = (start.to_zoned(TimeZone::UTC), end.to_zoned(TimeZone::UTC));
    let format = if start.date() == end.date() {
        "%H:%M:%S"
    } else {
        "%m-%d %H:%M"
    };
    html! {
        span.nowrap { (start.strftime(format).to_string()) "–" (end.strftime(format).to_string()) }
    }
}

/// A bar of 0 to 100 with a mark at the score that must be reached.
pub(super) fn bar(score: f64, name: &str) -> Markup {
    let score = score.clamp(0.0, 100.0);
    let class = if score < f64::from(PASS) {
        "below"
    } else {
        "fill"
    };
    let label = format!("{name}: {score:.2} of 100");
    html! {
        svg viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label=(label) {
            rect.track y="2" width="100" height="8" {}
            rect class=(class) y="2" width=(format!("{score:.2}")) height="8" {}
            line.mark x1=(PASS) x2=(PASS) y1="0" y2="12" vector-effect="non-scaling-stroke" {}
        }
    }
}

/// The composite of each day as a line; a day without one is a hole in it.
pub(super) fn sparkline(days: &[Day], first: Date, today: Date) -> Markup {
    let span = whole_days(first, today).max(1.0);
    let known: Vec<f64> = days.iter().filter_map(|day| day.composite).collect();
    let (Some(low), Some(high)) = (
        known.iter().copied().reduce(f64::min),
        known.iter().copied().reduce(f64::max),
    ) else {
        return html! {};
    };
    // A flat line belongs in the middle, and noise of a tenth of a point is not a mountain.
    let (low, high) = (low - 1.0, high + 1.0);
    let place = |day: &Day, score: f64| {
        let x = whole_days(first, day.day) / span * 300.0;
        (x, 60.0 - (score - low) / (high - low) * 60.0)
    };
    let mut path = String::new();
    let mut before: Option<Date> = None;
    for day in days {
        let Some(score) = day.composite else {
            before = None;
            continue;
        };
        let joined = before.is_some_and(|before| before.tomorrow().ok() == Some(day.day));
        let (x, y) = place(day, score);
        let step = if joined { 'L' } else { 'M' };
        // A lone day is a line of no length, which a round cap makes visible.
        path.push_str(&format!("{step}{x:.1} {y:.1}L{x:.1} {y:.1}"));
        before = Some(day.day);
    }
    let label = format!(
        "Daily composite from {first} to {today}, between {:.2} and {:.2}",
        low + 1.0,
        high - 1.0
    );
    html! {
        svg viewBox="-3 -3 306 66" preserveAspectRatio="none" role="img" aria-label=(label) {
            path.line stroke-linecap="round" stroke-linejoin="round" d=(PreEscaped(path)) {}
        }
    }
}

fn whole_days(first: Date, last: Date) -> f64 {
    first
        .until(last)
        .map_or(0.0, |span| f64::from(span.get_days()))
}

/// Thousands apart by thin spaces: 43 633.
pub(super) fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let digits = whole.trim_start_matches('-');
    let mut text = String::from(if digits.len() < whole.len() {
        "−"
    } else {
        ""
    });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped("43633"), "43\u{202f}633");
        assert_eq!(grouped("-1234567.5"), "−1\u{202f}234\u{202f}567.5");
        assert_eq!(grouped("120"), "120");
    }

    #[test]
    fn a_missing_day_is_a_hole() {
        let day = |text: &str, composite| Day {
            day: text.parse().unwrap(),
            composite,
            tier: "Silver".to_owned(),
            metrics: "{}".to_owned(),
        };
        let days = [
            day("2026-01-01", Some(80.0)),
            day("2026-01-02", Some(81.0)),
            day("2026-01-04", Some(82.0)),
        ];
        let first = days[0].day;
        let drawn = sparkline(&days, first, days[2].day).into_string();
        assert_eq!(drawn.matches('M').count(), 2, "{drawn}");
        let none = [day("2026-01-01", None)];
        assert_eq!(sparkline(&none, first, first).into_string(), "");
    }
}
