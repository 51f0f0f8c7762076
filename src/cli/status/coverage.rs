//! Coverage for people: what will breach, when, and what to do about it.

use cms_spec::coverage::{Forecast, GATE, Share, Thing};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Things of each list in the text form; `--json` has more.
const SHOWN: usize = 8;

/// The lines of a forecast.
pub(super) fn lines(forecast: &Forecast, inventory: Option<&str>, now: Timestamp) -> Vec<String> {
    let file = inventory.unwrap_or("the inventory");
    let shares: Vec<String> = forecast.shares.iter().map(share).collect();
    let gate = if forecast.passes {
        "passed".to_owned()
    } else {
        let short = forecast.shares.iter().filter(|share| !share.passes());
        let needed: Vec<String> = short
            .map(|share| {
                let needed = share.needed();
                format!("{needed} {} must report", share.kind.plural())
            })
            .collect();
        match needed.is_empty() {
            true => "nothing is documented".to_owned(),
            false => format!("NOT MET: {}", needed.join(", ")),
        }
    };
    let counts = forecast.counts;
    let mut lines = vec![
        format!("coverage   {}; gate {GATE}: {gate}", shares.join(", ")),
        format!(
            "           {file} of {}: {} missing, {} unlisted, {} decommissioned{}",
            forecast.submission_date,
            counts.missing,
            counts.unlisted,
            counts.decommissioned,
            match forecast.overdue {
                0 => String::new(),
                overdue => format!("; {overdue} OVERDUE"),
            }
        ),
    ];
    let missing = format!("bring it back or record its decommission in {file}");
    let unlisted = format!("add it to {file}");
    let mut list = |word: &str, things: &[Thing], all: u64, remedy: &str| {
        for thing in things.iter().take(SHOWN) {
            lines.push(format!("  {word:<9}{}", clock(thing, remedy, now)));
        }
        let shown = u64::try_from(things.len().min(SHOWN)).unwrap_or(u64::MAX);
        if all > shown {
            lines.push(format!("  {word:<9}and {} more", all - shown));
        }
    };
    list("missing", &forecast.missing, counts.missing, &missing);
    list("unlisted", &forecast.unlisted, counts.unlisted, &unlisted);
    for remark in forecast.remarks.iter().take(SHOWN) {
        lines.push(format!("  {:<9}{remark}", "note"));
    }
    lines
}

fn share(share: &Share) -> String {
    let ratio = share
        .ratio()
        .map_or(String::new(), |ratio| format!(" ({ratio})"));
    format!(
        "{} {} of {}{ratio}",
        share.kind.plural(),
        share.reporting,
        share.documented
    )
}

fn clock(thing: &Thing, remedy: &str, now: Timestamp) -> String {
    let since = thing
        .since
        .to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%MZ");
    let breach = match thing.due {
        Some(due) if due < now => format!("in breach for {}", rough(now, due)),
        Some(due) => format!("breaches in {}", rough(due, now)),
        None => "no clock runs".to_owned(),
    };
    format!(
        "{} {} since {since}, {breach}: {remedy}",
        thing.kind.word(),
        thing.what
    )
}

/// A span in the two largest units: nobody plans a day by seconds.
fn rough(later: Timestamp, earlier: Timestamp) -> String {
    let minutes = later.duration_since(earlier).as_mins();
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use cms_spec::coverage::{Counts, Kind};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_will_breach_is_told_with_its_time_and_its_remedy() {
        let thing = |what: &str, due: &str| Thing {
            due: Some(at(due)),
            kind: Kind::Instance,
            what: what.to_owned(),
            since: at("2026-03-01T10:00:00Z"),
            proof: None,
        };
        let forecast = Forecast {
            submission_date: "2026-01-01".parse().unwrap(),
            shares: vec![Share {
                kind: Kind::Instance,
                documented: 35,
                reporting: 33,
            }],
            minimum: None,
            passes: false,
            next_breach: None,
            overdue: 1,
            counts: Counts {
                missing: 12,
                unlisted: 1,
                decommissioned: 0,
            },
            missing: vec![thing("a (web)", "2026-03-08T10:00:00Z")],
            unlisted: vec![thing("b", "2026-03-03T10:00:00Z")],
            decommissioned: Vec::new(),
            remarks: vec!["c left the inventory".to_owned()],
        };
        let text = lines(
            &forecast,
            Some("/etc/inventory.csv"),
            at("2026-03-05T05:30:00Z"),
        )
        .join("\n");
        for words in [
            "instances 33 of 35 (0.943); gate 0.950: NOT MET: 34 instances must report",
            "/etc/inventory.csv of 2026-01-01: 12 missing, 1 unlisted, 0 decommissioned; 1 OVERDUE",
            "  missing  instance a (web) since 2026-03-01 10:00Z, breaches in 3 d 4 h: bring it back or record its \
             decommission in /etc/inventory.csv",
            "  missing  and 11 more",
            "  unlisted instance b since 2026-03-01 10:00Z, in breach for 1 d 19 h: add it to /etc/inventory.csv",
            "  note     c left the inventory",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
    }
}
