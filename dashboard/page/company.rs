//! One company's page: tier, scores and why, what the waste amounts to, who reports, and what came last.

use std::sync::Arc;

use cms_spec::Category;
use cms_spec::impact::{BASIS, Equivalents};
use cms_spec::payload::Delivery;
use cms_spec::score::Metric;
use cms_spec::tier::{Tier, TierEvent, TierState};
use jiff::civil::Date;
use maud::{Markup, html};

use super::parts::{PASS, bar, figure, percent, points, span, sparkline, tier, time, unknown};
use super::stored;
use crate::standing::Standing;
use crate::store::{Agent, Day, Event, Receipted, Row};
use crate::view;

/// Events on the page; the API has all.
const EVENTS_SHOWN: usize = 8;
/// Agents on the page; the API has all.
const AGENTS_SHOWN: usize = 100;
/// Warnings of one submission that the table shows.
const WARNINGS_SHOWN: usize = 3;

/// Everything that the page is made from.
pub(super) struct Shown {
    pub(super) standing: Arc<Standing>,
    pub(super) state: TierState,
    pub(super) events: Vec<Event>,
    pub(super) agents: Vec<Agent>,
    pub(super) receipted: Vec<Receipted>,
    pub(super) latest: Vec<Row>,
    pub(super) rows: Vec<Row>,
    pub(super) days: Vec<Day>,
    pub(super) first: Date,
    pub(super) today: Date,
}

impl Shown {
    /// The whole page.
    pub(super) fn markup(&self) -> Markup {
        let company = &self.standing.company;
        html! {
            h1 { (company.name) }
            p.quiet { code { (company.id) } " · as of " (time(Some(self.standing.at))) " UTC" }
            (self.headline())
            (self.metrics())
            div.pair { (self.impact()) (self.coverage()) }
            (stored::ages(&self.standing.merged))
            (self.sources())
            (self.submissions())
            (self.history())
        }
    }

    fn headline(&self) -> Markup {
        let score = &self.standing.score;
        let held = self.state.tier();
        html! {
            section.head {
                div { div.label { "Certification tier" } div.figure { (held.to_string()) } }
                div { div.label { "Composite efficiency" } div.figure { (points(score.composite)) } }
                @if self.days.iter().any(|day| day.composite.is_some()) {
                    div.spark {
                        div.label { "Daily composite since " (self.since()) }
                        (sparkline(&self.days, self.since(), self.today))
                    }
                }
                div { (self.remarks(held)) }
            }
        }
    }

    /// Where the chart begins: a young company's fills it, too.
    fn since(&self) -> Date {
        let scored = self.days.iter().find(|day| day.composite.is_some());
        scored.map_or(self.first, |day| day.day)
    }

    /// What a reader must know beside the tier.
    fn remarks(&self, held: Tier) -> Markup {
        let score = &self.standing.score;
        html! {
            @if !score.missing.is_empty() {
                p.quiet { "No composite: there is no figure for " (titles(&score.missing)) "." }
            }
            @if !score.failing.is_empty() {
                p.bad { "Below " (PASS) ", which means Silver: " (titles(&score.failing)) "." }
            }
            @if let Some(days) = self.state.days_remaining() {
                p.warn {
                    "Today's figures earn " (score.tier.to_string()) ". " (held.to_string())
                    " ends in " (days) @if days == 1 { " day" } @else { " days" } " unless they improve."
                }
            }
        }
    }

    fn metrics(&self) -> Markup {
        html! {
            section.metrics {
                h2 { "Scores" }
                div.scroll role="region" aria-label="Scores" tabindex="0" { table {
                    thead { tr {
                        th scope="col" { "Metric" } th.number scope="col" { "Score" }
                        th scope="col" { "0 to 100, the mark is " (PASS) }
                        th scope="col" { "From" } th scope="col" { "Newest slot ended" }
                    } }
                    tbody { @for category in view::METRICS { (self.metric(category)) } }
                } }
            }
        }
    }

    fn metric(&self, category: Category) -> Markup {
        let standing = &*self.standing;
        let scored = match view::metric(standing, category) {
            Some(Metric::Scored(points)) => Some(*points),
            _ => None,
        };
        let voices = standing.voices(category);
        html! {
            tr {
                th scope="row" { (title(category)) }
                td.number { (points(scored)) }
                td.bar {
                    @if let Some(scored) = scored { (bar(view::shown(scored), title(category))) }
                    @if let Some(why) = view::why(standing, category) { span.quiet { (why) } }
                }
                td { (self.ratio(category)) }
                td {
                    (time(voices.newest))
                    @if voices.silent > 0 {
                        br; span.warn { (voices.silent) " of " (voices.silent + voices.live) " agents silent" }
                    }
                }
            }
        }
    }

    /// The ratio that the score comes from, in words.
    fn ratio(&self, category: Category) -> Markup {
        let merged = &self.standing.merged;
        let (share, of) = match category {
            Category::GhostCompute => {
                let ratio = merged
                    .ghost()
                    .and_then(|g| g.energy_summary.ghost_energy_ratio);
                (
                    ratio.map(|r| percent(Some(r))),
                    "of energy is wasted by ghosts",
                )
            }
            Category::ModelEfficiency => {
                let ratio = merged.model().and_then(|m| m.summary.routine_to_slm_ratio);
                (
                    ratio.map(|r| percent(Some(r))),
                    "of routine tasks go to small models",
                )
            }
            Category::DarkData => {
                let ratio = merged.dark().and_then(|d| d.summary.dark_data_ratio);
                (ratio.map(|r| percent(Some(r))), "of stored data is dark")
            }
            Category::HeatRecovery => {
                let ratio = merged.heat().and_then(|h| h.summary.overall_recovery_ratio);
                (ratio.map(|r| percent(Some(r))), "of heat is recovered")
            }
            Category::CoverageVerification => (None, ""),
        };
        match share {
            Some(share) => html! { (share) " " span.quiet { (of) } },
            None => unknown(),
        }
    }

    fn impact(&self) -> Markup {
        let merged = &self.standing.merged;
        let ghost = merged.ghost().map(|ghost| &ghost.physical_impact);
        let dark = merged.dark().map(|dark| dark.summary.monthly_waste_usd);
        let power = ghost.map(|ghost| ghost.grid_capacity_wasted_mw);
        html! {
            section {
                h2 { "What the waste amounts to" }
                dl {
                    dt { "Idle compute, a month" } dd { (figure(ghost.map(|g| g.monthly_waste_usd), "USD")) }
                    dt { "Dark data, a month" } dd { (figure(dark, "USD")) }
                    dt { "CO₂e, a month" } dd { (figure(ghost.map(|g| g.co2e_kg_monthly), "kg")) }
                    dt { "Water, a month" } dd { (figure(ghost.map(|g| g.water_liters_monthly), "L")) }
                    dt { "Grid capacity" } dd { (figure(power, "MW")) }
                    dt { "As homes" } dd {
                        @match power {
                            Some(power) => { (Equivalents::of_megawatts(power).homes) },
                            None => { (unknown()) },
                        }
                    }
                }
                p.quiet { "Basis: " (BASIS) "." }
            }
        }
    }

    fn coverage(&self) -> Markup {
        let coverage = self.standing.merged.coverage();
        let ratios = coverage.map(|coverage| &coverage.coverage_ratios);
        html! {
            section {
                h2 { "Coverage" }
                @if coverage.is_none() {
                    p.quiet {
                        @match self.standing.voices(Category::CoverageVerification).word() {
                            "stale" => "The last submission is too old; the figures are withheld.",
                            _ => "No agent has reported coverage against an inventory yet.",
                        }
                    }
                } @else {
                    dl {
                        dt { "Instances" } dd { (percent(ratios.and_then(|r| r.instance_coverage))) }
                        dt { "Storage" } dd { (percent(ratios.and_then(|r| r.storage_coverage))) }
                        dt { "Model endpoints" } dd { (percent(ratios.and_then(|r| r.model_coverage))) }
                        dt { "Overall" } dd { (percent(ratios.and_then(|r| r.overall_coverage))) }
                        dt { "Missing instances" } dd { (coverage.map_or(0, |c| c.missing_instances.len())) }
                        dt { "Decommissioned with evidence" }
                        dd { (self.standing.merged.clocks().decommissioned.len()) }
                    }
                    (self.clocks())
                    @match self.standing.score.coverage_gate() {
                        Some(false) => p.bad { "Below the 95 % that each category must reach." },
                        _ => p.quiet { "Each category must reach 95 %." },
                    }
                }
            }
        }
    }

    /// What waits for somebody, and until when. No names: the page is public.
    fn clocks(&self) -> Markup {
        let (clocks, now) = (self.standing.merged.clocks(), self.standing.at);
        let lists = [
            ("Missing", view::clocks(&clocks.missing, now)),
            ("Unlisted", view::clocks(&clocks.unlisted, now)),
        ];
        html! {
            @if lists.iter().any(|(_, clocks)| !clocks.is_empty()) {
                div.scroll role="region" aria-label="Clocks of coverage" tabindex="0" { table {
                    thead { tr {
                        th scope="col" { "State" } th scope="col" { "What" }
                        th.number scope="col" { "Count" } th.number scope="col" { "Overdue" }
                        th scope="col" { "Next is due (UTC)" }
                    } }
                    tbody { @for (word, clocks) in &lists { @for clock in clocks {
                        tr {
                            th scope="row" { (word) }
                            td { (clock.kind.plural()) }
                            td.number { (clock.count) }
                            td.number { @if clock.overdue > 0 { span.bad { (clock.overdue) } } @else { "0" } }
                            td { (time(clock.next_due)) }
                        }
                    } } }
                } }
                p.quiet {
                    "What is missing has 7 days to return or to be shown as decommissioned; what is new has 48 hours to
                    enter the inventory."
                }
            }
        }
    }

    fn sources(&self) -> Markup {
        html! {
            section {
                h2 { "Sources" }
                @if self.agents.is_empty() {
                    p.quiet { "No agent is enrolled yet." }
                } @else {
                    div.scroll role="region" aria-label="Sources" tabindex="0" { table {
                        thead { tr {
                            th scope="col" { "Agent" } th scope="col" { "Site" } th scope="col" { "Version" }
                            th scope="col" { "Last seen (UTC)" } th scope="col" { "Receipted (UTC)" }
                            th scope="col" { "Reports" }
                        } }
                        tbody { @for agent in self.agents.iter().take(AGENTS_SHOWN) {
                            (self.source(agent))
                        } }
                    } }
                    @if self.agents.len() > AGENTS_SHOWN {
                        p.quiet { (self.agents.len() - AGENTS_SHOWN) " more agents are not shown." }
                    }
                    (self.conflicts())
                }
            }
        }
    }

    fn conflicts(&self) -> Markup {
        let conflicts = self.standing.merged.conflicts().len();
        html! {
            @if conflicts > 0 {
                p.warn {
                    "Reported by two agents at once: " (conflicts)
                    @if conflicts == 1 { " thing" } @else { " things" }
                    ". The newest statement counts."
                }
            }
        }
    }

    fn source(&self, agent: &Agent) -> Markup {
        let own: Vec<&Row> = self
            .latest
            .iter()
            .filter(|row| row.agent == agent.id)
            .collect();
        html! {
            tr {
                td { code.nowrap { (agent.id) } @if agent.revoked_at.is_some() { " " span.bad { "revoked" } } }
                td.nowrap { @match &agent.site { Some(site) => { (site) }, None => { (unknown()) } } }
                td { (agent.version) }
                td { (time(own.iter().map(|row| row.received_at).max())) }
                td { (self.receipted(agent)) }
                td {
                    @if own.is_empty() { span.quiet { "nothing yet" } }
                    @for (place, row) in own.iter().enumerate() {
                        @if place > 0 { ", " }
                        (title(row.category))
                    }
                }
            }
        }
    }

    /// How much of its ledger an agent cannot take back.
    fn receipted(&self, agent: &Agent) -> Markup {
        let last = self.receipted.iter().find(|last| last.agent == agent.id);
        html! {
            @match last {
                Some(last) => {
                    (time(Some(last.at))) br; span.quiet.nowrap { "size " (last.size) }
                    @if last.forks > 0 { " " span.bad { "forked" } }
                },
                None => { (unknown()) },
            }
        }
    }

    fn submissions(&self) -> Markup {
        html! {
            section {
                h2 { "Last submissions" }
                @if self.rows.is_empty() {
                    p.quiet { "Nothing has been accepted yet." }
                } @else {
                    div.scroll role="region" aria-label="Last submissions" tabindex="0" { table {
                        thead { tr {
                            th scope="col" { "Accepted (UTC)" } th scope="col" { "Category" }
                            th scope="col" { "Slot (UTC)" } th.number scope="col" { "Index" }
                            th scope="col" { "Agent" } th scope="col" { "Status" }
                        } }
                        tbody { @for row in &self.rows { (submission(row)) } }
                    } }
                }
            }
        }
    }

    fn history(&self) -> Markup {
        html! {
            @if !self.events.is_empty() {
                section {
                    h2 { "What happened to the tier" }
                    ul { @for event in self.events.iter().take(EVENTS_SHOWN) {
                        li { (time(Some(event.at))) " " (happened(event)) }
                    } }
                }
            }
        }
    }
}

fn submission(row: &Row) -> Markup {
    let id = row.agent.as_str();
    // The last group of a UUID of version 7 is random; the first ones are a time and look alike.
    let short = id.rsplit('-').next().unwrap_or(id);
    let left_out = row.warnings.len().saturating_sub(WARNINGS_SHOWN);
    html! {
        tr {
            td { (time(Some(row.received_at))) }
            td.nowrap { (title(row.category)) }
            td { (span(row.slot.start, row.slot.end)) }
            td.number { (row.index) }
            td { code title=(id) { "…" (short) } }
            td {
                span.tag.good { "accepted" }
                @if row.delivery == Delivery::Backfill { " " span.tag { "backfill" } }
                @else if !row.counted { " " span.tag { "test key" } }
                @for warning in row.warnings.iter().take(WARNINGS_SHOWN) { br; span.warn { (warning) } }
                @if left_out > 0 { br; span.quiet { (left_out) " more warnings" } }
            }
        }
    }
}

fn happened(event: &Event) -> Markup {
    match serde_json::from_str(&event.event) {
        Ok(TierEvent::Promoted {
            from,
            to,
            composite,
        }) => html! {
            "rose from " (from.to_string()) " to " (tier(to)) " with " (points(composite))
        },
        Ok(TierEvent::Revoked {
            from,
            to,
            composite,
        }) => html! {
            "fell from " (from.to_string()) " to " (tier(to)) " with " (points(composite))
        },
        Ok(TierEvent::Warning {
            tier,
            to,
            days_remaining,
        }) => html! {
            span.warn {
                (tier.to_string()) " falls to " (to.to_string()) " in " (days_remaining) " days"
            }
        },
        Err(_) => html! { span.quiet { "an event of another version" } },
    }
}

fn titles(categories: &[Category]) -> String {
    let titles: Vec<&str> = categories.iter().map(|category| title(*category)).collect();
    titles.join(", ").to_lowercase()
}

/// A category as a heading.
const fn title(category: Category) -> &'static str {
    match category {
        Category::GhostCompute => "Ghost compute",
        Category::ModelEfficiency => "Model efficiency",
        Category::DarkData => "Dark data",
        Category::HeatRecovery => "Heat recovery",
        Category::CoverageVerification => "Coverage",
    }
}
