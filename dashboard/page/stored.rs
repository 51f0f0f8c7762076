//! What is stored, by the age of its last access.

use cms_spec::dark::{AgeBand, DARK_AFTER_DAYS};
use cms_spec::merge::Merged;
use cms_spec::units::Fixed;
use maud::{Markup, html};

use super::parts::{figure, grouped, percent};

const DAYS_PER_YEAR: i64 = 365;

/// A row for each age, with its share of all that is stored; nothing where no agent tells of ages.
pub(super) fn ages(merged: &Merged) -> Markup {
    let bands = merged.ages();
    let known: Fixed<9> = bands.iter().map(|band| band.total_size_gb).sum();
    if known == Fixed::ZERO {
        return html! {};
    }
    let total = merged.dark().map(|dark| dark.summary.total_storage_gb);
    html! {
        section {
            h2 { "Stored data by last access" }
            div.scroll role="region" aria-label="Stored data by last access" tabindex="0" { table {
                thead { tr {
                    th scope="col" { "Last access" } th.number scope="col" { "Size" }
                    th scope="col" { "Share" } th.number scope="col" { "Objects" }
                } }
                tbody { @for band in bands { (row(band, known)) } }
            } }
            @if total.is_some_and(|total| total != known) {
                p.quiet {
                    "The ages are of " (figure(Some(known.rescale::<3>()), "GB")) ", and stored are "
                    (figure(total.map(|total| total.rescale::<3>()), "GB"))
                    ": an agent tells of no ages, or two agents tell of one unit."
                }
            }
        }
    }
}

fn row(band: &AgeBand, known: Fixed<9>) -> Markup {
    let share = Fixed::<4>::ratio(band.total_size_gb.magnitude(), known.magnitude());
    let of_hundred = share.unwrap_or_default().to_f64() * 100.0;
    let class = if band.from_days >= DARK_AFTER_DAYS {
        "below"
    } else {
        "fill"
    };
    let label = format!("{}: {of_hundred:.1} %", age(band));
    html! {
        tr {
            th scope="row" { (age(band)) }
            td.number { (figure(Some(band.total_size_gb.rescale::<3>()), "GB")) }
            td.bar {
                svg viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label=(label) {
                    rect.track y="2" width="100" height="8" {}
                    rect class=(class) y="2" width=(format!("{of_hundred:.2}")) height="8" {}
                }
                (percent(share))
            }
            td.number { (grouped(&band.object_count.to_string())) }
        }
    }
}

/// An age in words, for example `1 to 2 years ago`.
fn age(band: &AgeBand) -> String {
    let is_years = |days: i64| days > 0 && days % DAYS_PER_YEAR == 0;
    let words = |days: i64| match days / DAYS_PER_YEAR {
        1 if is_years(days) => "1 year".to_owned(),
        years if is_years(days) => format!("{years} years"),
        _ => format!("{days} days"),
    };
    match (band.from_days, band.to_days) {
        (0, Some(to)) => format!("up to {} ago", words(to)),
        (from, Some(to)) if is_years(from) && is_years(to) => {
            format!("{} to {} ago", from / DAYS_PER_YEAR, words(to))
        }
        (from, Some(to)) if !is_years(from) && !is_years(to) => format!("{from} to {to} days ago"),
        (from, Some(to)) => format!("{} to {} ago", words(from), words(to)),
        (from, None) => format!("over {} ago", words(from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::dark::{AGES_FIGURE, Ages};
    use serde_json::json;

    /// A unit of 900 GB that are active and 100 GB that are dark.
    fn unit(name: &str) -> serde_json::Value {
        let row = |name: String, gb: u32, class: &str| {
            json!({
                "bucket_name": name, "region": "fra-1", "total_size_gb": gb, "object_count": 10,
                "last_accessed_oldest": "2026-01-01T00:00:00Z", "days_since_access": 15,
                "classification": class, "monthly_cost_usd": 0, "storage_class": "standard",
            })
        };
        json!({ "dark_data": {
            "storage_inventory": [
                row(name.to_owned(), 900, "active"), row(format!("{name}:dark"), 100, "dark"),
            ],
            "summary": {
                "total_storage_gb": 1000, "dark_data_gb": 100, "dark_data_ratio": 0.1,
                "monthly_waste_usd": 0, "recommended_action": "none",
            },
        }})
    }

    fn merged(of: &[(&str, i64)]) -> Merged {
        let mut merged = Merged::new();
        for (agent, gb) in of {
            let band = |from, to: Option<i64>, gb: i64| json!({ "from_days": from, "to_days": to, "total_size_gb": gb, "object_count": 1234 });
            let envelope = json!({
                "company_id": "acme-corp", "timestamp": "2026-01-16T12:00:00Z",
                "data": unit(agent),
                "provenance": [{
                    "figure": AGES_FIGURE, "source": "s3", "method": "s3-listing/1", "quality": "estimated",
                    "confidence": "D", "ages": [band(0, Some(30), *gb), band(180, Some(365), 100)],
                }],
            });
            merged.add(agent, &serde_json::from_value(envelope).unwrap());
        }
        merged
    }

    #[test]
    fn the_ages_of_all_agents_are_added_up() {
        let page = ages(&merged(&[("a", 900), ("b", 900)])).into_string();
        for shown in [
            "up to 30 days ago",
            "1\u{202f}800.000 GB",
            "90.0 %",
            "2\u{202f}468",
        ] {
            assert!(page.contains(shown), "{shown} is not in {page}");
        }
        assert!(
            page.contains("class=\"below\"") && !page.contains("The ages are of"),
            "{page}"
        );
    }

    #[test]
    fn what_the_ages_leave_out_is_said() {
        let page = ages(&merged(&[("a", 400)])).into_string();
        assert!(
            page.contains("The ages are of 500.000 GB, and stored are 1\u{202f}000.000 GB"),
            "{page}"
        );
        assert_eq!(ages(&Merged::new()).into_string(), "");
    }

    #[test]
    fn ages_are_told_as_people_say_them() {
        let told: Vec<String> = Ages::default().bands().map(|band| age(&band)).collect();
        assert_eq!(
            told,
            [
                "up to 30 days ago",
                "30 to 90 days ago",
                "90 to 180 days ago",
                "180 days to 1 year ago",
                "1 to 2 years ago",
                "2 to 5 years ago",
                "over 5 years ago",
            ]
        );
    }
}
