//! What goes wrong in a run, and when: all of it decided by the seed before the run begins.
//!
//! Each seed switches each kind of fault on or off (a swarm): runs in which everything fails at once hide what
//! happens when one thing fails for long.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;

use super::random::Random;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How far a clock may step: what services correct, what people mistype, and what dead batteries do.
const STEPS_S: [u64; 12] = [
    2,
    90,
    20 * 60,
    20 * 60,
    3 * 3_600,
    3 * 3_600,
    12 * 3_600,
    86_400,
    3 * 86_400,
    3 * 86_400,
    40 * 86_400,
    400 * 86_400,
];

/// Steps that are longer lead into the past nine times in ten.
const STEPS_AHEAD_S: u64 = 3 * 86_400;

/// Each kind of fault is in this many of a hundred seeds.
const KIND_PERCENT: u64 = 30;

/// What the network does to exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Connections are refused.
    Refused,
    /// Packets vanish: nothing comes back until the agent gives up.
    Silent,
    /// Up to so many milliseconds each way.
    Slow(u64),
    /// So many percent of requests vanish.
    LosesRequests(u64),
    /// So many percent of replies vanish, after the dashboard has done its work.
    LosesReplies(u64),
    /// So many percent of requests arrive once more, later.
    Duplicates(u64),
    /// So many percent are answered with this status by a proxy, with this `Retry-After`.
    Storm(u16, Option<u64>, u64),
    /// So many percent are answered with something that no dashboard says.
    Odd(u64),
    /// So many percent get the reply to an earlier request.
    Mixed(u64),
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Begins(Weather),
    Ends(Weather),
    /// The process dies after so many steps of its tasks.
    AgentDies(u32),
    /// It dies so many exchanges and steps later: when it has asked, or when the dashboard has answered.
    AgentDiesAt {
        asked: bool,
        exchanges: u32,
        steps: u32,
    },
    AgentStops,
    AgentStarts,
    /// The host starts anew; its clock may begin in 1970.
    Reboots {
        unset: bool,
    },
    ClockIsOffBy(SignedDuration),
    Sleeps(Duration),
    DashboardDies,
    DashboardStarts,
    DashboardIsOffBy(SignedDuration),
    DiskIsFull(bool),
    SourceFails(bool),
    SourceHangs(bool),
    StoreIsCopied,
    /// The process dies and finds the copy in place of its store.
    StoreIsPutBack,
}

/// The faults of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// When the last fault ends.
    pub(crate) heals: Duration,
    /// How often the meter is read.
    pub(crate) tick: Duration,
    /// Whether there is a heat source, which is submitted every five minutes.
    pub(crate) heat: bool,
    pub(crate) acts: Vec<(Duration, Act)>,
    kinds: Vec<&'static str>,
}

impl Plan {
    /// The plan of a seed over this many hours.
    pub(crate) fn of(seed: u64, hours: u64) -> Self {
        let mut random = Random::of(seed).fork(1);
        let mut plan = Self {
            seed,
            heals: HOUR * u32::try_from(hours).unwrap(),
            tick: random.one_of(&[MINUTE * 2, MINUTE * 3, MINUTE * 5]),
            heat: random.percent(20),
            acts: Vec::new(),
            kinds: Vec::new(),
        };
        // Long runs are for long outages and windows that run full, not for more of the same.
        let times_max = if hours > 200 {
            2 + hours / 72
        } else {
            2 + hours / 8
        };
        for (kind, (name, draw)) in (100..).zip(KINDS) {
            let mut random = Random::of(seed).fork(kind);
            if !random.percent(KIND_PERCENT) {
                continue;
            }
            plan.kinds.push(name);
            let times = random.between(1, times_max);
            for _ in 0..times {
                let at = Duration::from_millis(random.between(0, ms(plan.heals)));
                draw(&mut random, at, &mut plan.acts);
            }
        }
        // A fault that would outlast the run ends with it.
        plan.acts.retain(|(at, _)| *at < plan.heals);
        plan.acts.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Whether the agent's clock is ever wrong enough for slots to be closed at another time than their own.
    pub(crate) fn steps_the_clock(&self) -> bool {
        let steps = |act: &Act| matches!(act, Act::ClockIsOffBy(_) | Act::Reboots { unset: true });
        self.acts.iter().any(|(_, act)| steps(act))
    }

    /// Whether replies to one request may be taken for those to another.
    pub(crate) fn mixes(&self) -> bool {
        let mixes = |act: &Act| matches!(act, Act::Begins(Weather::Mixed(_)));
        self.acts.iter().any(|(_, act)| mixes(act))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, faults for {} hours, tick {:?}, heat {}, kinds: {}",
            self.seed,
            self.heals.as_secs() / HOUR.as_secs(),
            self.tick,
            self.heat,
            self.kinds.join(" ")
        )?;
        for (at, act) in &self.acts {
            let seconds = at.as_secs();
            let (days, rest) = (seconds / 86_400, seconds % 86_400);
            let (hours, minutes) = (rest / 3_600, rest % 3_600 / 60);
            writeln!(
                f,
                "  day {days} {hours:02}:{minutes:02}:{:02} {act:?}",
                rest % 60
            )?;
        }
        Ok(())
    }
}

type Draw = fn(&mut Random, Duration, &mut Vec<(Duration, Act)>);

/// All kinds of faults. A new one goes to the end, so that older seeds keep their meaning.
const KINDS: [(&str, Draw); 20] = [
    ("refused", |r, at, acts| {
        span(r, at, acts, Weather::Refused, DAY)
    }),
    ("silent", |r, at, acts| {
        span(r, at, acts, Weather::Silent, DAY)
    }),
    ("slow", |r, at, acts| {
        let weather = Weather::Slow(r.one_of(&[500, 5_000, 25_000, 60_000]));
        span(r, at, acts, weather, HOUR * 6);
    }),
    ("loses-requests", |r, at, acts| {
        let weather = Weather::LosesRequests(r.one_of(&[5, 30, 80]));
        span(r, at, acts, weather, HOUR * 12);
    }),
    ("loses-replies", |r, at, acts| {
        let weather = Weather::LosesReplies(r.one_of(&[5, 30, 80]));
        span(r, at, acts, weather, HOUR * 12);
    }),
    ("duplicates", |r, at, acts| {
        let weather = Weather::Duplicates(r.one_of(&[5, 30, 100]));
        span(r, at, acts, weather, HOUR * 12);
    }),
    ("storm", |r, at, acts| {
        let retry_after = r.one_of(&[
            None,
            Some(0),
            Some(1),
            Some(120),
            Some(3_600),
            Some(u64::MAX),
        ]);
        let status = r.one_of(&[408, 429, 500, 502, 503, 504]);
        let weather = Weather::Storm(status, retry_after, r.one_of(&[10, 50, 100]));
        span(r, at, acts, weather, HOUR * 12);
    }),
    ("odd", |r, at, acts| {
        let weather = Weather::Odd(r.one_of(&[5, 30, 100]));
        span(r, at, acts, weather, HOUR * 4);
    }),
    ("mixed", |r, at, acts| {
        let weather = Weather::Mixed(r.one_of(&[5, 30, 100]));
        span(r, at, acts, weather, HOUR * 4);
    }),
    ("dies", |r, at, acts| {
        acts.push((at, Act::AgentDies(steps(r))));
        acts.push((at + r.span(SECOND, HOUR * 6), Act::AgentStarts));
    }),
    ("dies-in-exchange", |r, at, acts| {
        let act = Act::AgentDiesAt {
            asked: r.percent(50),
            exchanges: u32::try_from(r.between(0, 6)).unwrap(),
            steps: steps(r),
        };
        acts.push((at, act));
    }),
    ("stops", |r, at, acts| {
        acts.push((at, Act::AgentStops));
        acts.push((at + r.span(SECOND, DAY), Act::AgentStarts));
    }),
    ("reboots", |r, at, acts| {
        acts.push((at, Act::Reboots { unset: false }));
        acts.push((at + r.span(SECOND * 20, HOUR), Act::AgentStarts));
    }),
    ("boots-in-1970", |r, at, acts| {
        acts.push((at, Act::Reboots { unset: true }));
        acts.push((at + r.span(SECOND, MINUTE), Act::AgentStarts));
        let set = at + r.span(SECOND * 10, HOUR * 3);
        acts.push((set, Act::ClockIsOffBy(SignedDuration::ZERO)));
    }),
    ("steps", |r, at, acts| {
        let size = r.one_of(&STEPS_S);
        let seconds = i64::try_from(r.between(1, size)).unwrap();
        // Each slot up to a time far ahead gets its leaf: tens of thousands, which a few seeds may write.
        let ahead = r.percent(if size > STEPS_AHEAD_S { 10 } else { 50 });
        let off_by = SignedDuration::from_secs(if ahead { seconds } else { -seconds });
        acts.push((at, Act::ClockIsOffBy(off_by)));
        let right = at + r.span(SECOND * 10, HOUR * 12);
        acts.push((right, Act::ClockIsOffBy(SignedDuration::ZERO)));
    }),
    ("sleeps", |r, at, acts| {
        acts.push((at, Act::Sleeps(r.span(SECOND * 10, HOUR * 12))));
    }),
    ("dashboard-dies", |r, at, acts| {
        acts.push((at, Act::DashboardDies));
        acts.push((at + r.span(SECOND, HOUR * 12), Act::DashboardStarts));
    }),
    ("dashboard-skews", |r, at, acts| {
        let size = r.one_of(&[120, 20 * 60, 3 * 3_600, 3 * 86_400]);
        let seconds = i64::try_from(r.between(1, size)).unwrap();
        let off_by = SignedDuration::from_secs(if r.percent(50) { seconds } else { -seconds });
        acts.push((at, Act::DashboardIsOffBy(off_by)));
        let right = at + r.span(MINUTE, HOUR * 12);
        acts.push((right, Act::DashboardIsOffBy(SignedDuration::ZERO)));
    }),
    ("disk-full", |r, at, acts| {
        acts.push((at, Act::DiskIsFull(true)));
        acts.push((at + r.span(MINUTE, HOUR * 12), Act::DiskIsFull(false)));
    }),
    ("source", |r, at, acts| {
        let act = r.one_of(&[Act::SourceFails as fn(bool) -> Act, Act::SourceHangs]);
        acts.push((at, act(true)));
        acts.push((at + r.span(MINUTE, HOUR * 6), act(false)));
    }),
];

/// A network that is gone for so many days, and an agent that dies now and then meanwhile.
pub(crate) fn outage(seed: u64, days: u32) -> Plan {
    let mut random = Random::of(seed).fork(9);
    let mut plan = Plan::of(seed, 0);
    plan.heals = DAY * (days + 2);
    plan.kinds = vec!["outage", "dies"];
    plan.acts = vec![
        (DAY, Act::Begins(Weather::Refused)),
        (DAY * (days + 1), Act::Ends(Weather::Refused)),
    ];
    for _ in 0..days {
        let at = Duration::from_millis(random.between(0, ms(plan.heals)));
        plan.acts.push((at, Act::AgentDies(steps(&mut random))));
        let back = at + random.span(SECOND, HOUR);
        plan.acts.push((back.min(plan.heals), Act::AgentStarts));
    }
    plan.acts.sort_by_key(|(at, _)| *at);
    plan
}

/// Not in [`KINDS`], because it contradicts what holds without it; added to the plan of some seeds.
pub(crate) fn put_back(plan: &mut Plan) {
    let mut random = Random::of(plan.seed).fork(2);
    if !random.percent(15) {
        return;
    }
    plan.kinds.push("puts-back");
    let heals = ms(plan.heals);
    let copied = random.between(0, heals * 9 / 10);
    let back = random.between(copied, heals);
    let [copied, back] = [copied, back].map(Duration::from_millis);
    plan.acts.push((copied, Act::StoreIsCopied));
    plan.acts.push((back, Act::StoreIsPutBack));
    plan.acts.sort_by_key(|(at, _)| *at);
}

fn span(
    random: &mut Random,
    at: Duration,
    acts: &mut Vec<(Duration, Act)>,
    weather: Weather,
    longest: Duration,
) {
    acts.push((at, Act::Begins(weather)));
    acts.push((at + random.span(SECOND * 10, longest), Act::Ends(weather)));
}

fn steps(random: &mut Random) -> u32 {
    u32::try_from(random.between(0, 40)).unwrap()
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}
