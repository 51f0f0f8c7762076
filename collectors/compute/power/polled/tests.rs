//! A device that answers by a script, in virtual time.

use super::*;
use cms_spec::provenance::Confidence;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

type Answer = Result<Measured, CollectError>;

/// Answers by the seconds since it was made.
struct Fake<F> {
    begun: Instant,
    answer: F,
    asked: Arc<AtomicU32>,
}

#[async_trait]
impl<F: FnMut(u64) -> Answer + Send + 'static> Meter for Fake<F> {
    async fn poll(&mut self) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        (self.answer)(self.begun.elapsed().as_secs())
    }
}

/// A rung that is read every 15 s, and how often its meter was asked.
struct Rig(Polled, Arc<AtomicU32>);

impl Rig {
    fn new(answer: impl FnMut(u64) -> Answer + Send + 'static) -> Self {
        Self::with_nameplate(None, answer)
    }

    fn with_nameplate(
        nameplate: Option<Nameplate>,
        answer: impl FnMut(u64) -> Answer + Send + 'static,
    ) -> Self {
        let asked = Arc::new(AtomicU32::new(0));
        let meter = Fake {
            begun: Instant::now(),
            answer,
            asked: Arc::clone(&asked),
        };
        Self(Polled::new("fake", POLL_EVERY, nameplate, meter), asked)
    }

    async fn tick(&mut self) -> Verdict {
        sleep(Duration::from_secs(15)).await;
        let span = Span {
            over: Millis(15_000),
            busy: Millis(0),
            capacity: Millis(30_000),
        };
        self.0.read(Some(&span))
    }

    async fn sum(&mut self, ticks: u32) -> (u64, u64) {
        let mut sum = (0, 0);
        for _ in 0..ticks {
            if let Verdict::Energy { energy, over } = self.tick().await {
                sum = (sum.0 + energy.0, sum.1 + over.0);
            }
        }
        sum
    }
}

fn measured(watts: Option<u64>, counter: Option<(u64, u64)>) -> Measured {
    Measured {
        origin: Origin::measured("fake", "fake/1 psu_ac", Confidence::A),
        power: watts.map(|watts| Milliwatts(watts * 1000)),
        counter: counter.map(|(total, step)| Counter {
            total: Microjoules(total),
            step: Microjoules(step),
        }),
        source_time: None,
    }
}

fn timeout_error() -> CollectError {
    CollectError::Timeout {
        what: "https://bmc".to_owned(),
        after: POLL_WITHIN,
    }
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Verdict::Invalid(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn power_stands_for_the_time_since_the_answer_before() {
    let mut rig = Rig::new(|_| Ok(measured(Some(200), None)));
    assert_eq!(rig.0.read(None), Verdict::Baseline);
    let (energy, over) = rig.sum(240).await;
    assert_eq!(energy, 200_000 * over);
    assert!((3_580_000..=3_600_000).contains(&over), "{over}");
    assert_eq!(rig.0.origin().method, "fake/1 psu_ac power");
}

#[tokio::test(start_paused = true)]
async fn a_counter_is_believed_before_the_power() {
    // 100 W by the counter; the power lies.
    let mut rig = Rig::new(|s| Ok(measured(Some(300), Some((s * 100_000_000, 1_000)))));
    let (energy, over) = rig.sum(240).await;
    assert!(
        energy.abs_diff(100_000 * over) <= 200_000_000,
        "{energy} {over}"
    );
    let origin = rig.0.origin();
    assert_eq!(origin.method, "fake/1 psu_ac energy");
    assert_eq!(origin.confidence, Confidence::C, "{origin:?}");
    assert!(origin.note.unwrap().contains("20 %"));
}

#[tokio::test(start_paused = true)]
async fn a_coarse_counter_speaks_when_it_moves_and_never_says_zero() {
    // 100 W, and a step of 36 kJ every six minutes.
    let step = 36_000_000_000;
    let counted = move |s: u64| s * 100_000_000 / step * step;
    let mut rig = Rig::new(move |s| Ok(measured(None, Some((counted(s), step)))));
    let mut moves = Vec::new();
    for _ in 0..240 {
        match rig.tick().await {
            Verdict::Energy { energy, over } => moves.push((energy.0, over.0)),
            verdict => assert_eq!(verdict, Verdict::Baseline),
        }
    }
    assert_eq!(moves.len(), 9, "{moves:?}");
    assert!(
        moves
            .iter()
            .skip(1)
            .all(|(energy, over)| { *energy == step && over.abs_diff(360_000) <= 15_000 })
    );
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_stands_still_while_power_is_drawn_is_left() {
    let mut rig = Rig::new(|_| Ok(measured(Some(35), Some((16_430_000, 1_000)))));
    let (energy, over) = rig.sum(60).await;
    assert_eq!(energy, 35_000 * over);
    assert!(over >= 500_000, "{over}");
    assert!(rig.0.origin().note.unwrap().contains("does not move"));
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_fell_makes_a_gap_and_no_energy() {
    let mut rig = Rig::new(|s| Ok(measured(None, Some((s % 100 * 100_000_000, 1_000)))));
    let (energy, over) = rig.sum(40).await;
    assert!((450_000..600_000).contains(&over), "{over}");
    assert!(
        energy.abs_diff(100_000 * over) <= 1_300_000_000,
        "{energy} {over}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_bridged_and_an_outage_is_not() {
    let mut rig = Rig::new(|s| match s {
        60..=70 | 200..=500 => Err(timeout_error()),
        _ => Ok(measured(Some(100), None)),
    });
    let mut invalid = 0;
    let mut covered = 0;
    for _ in 0..60 {
        match rig.tick().await {
            Verdict::Energy { energy, over } => {
                assert_eq!(energy.0, 100_000 * over.0);
                assert!(over.0 <= 45_000, "{over:?}");
                covered += over.0;
            }
            Verdict::Invalid(why) => {
                assert!(why.contains("https://bmc did not answer"), "{why}");
                invalid += 1;
            }
            verdict => assert_eq!(verdict, Verdict::Baseline),
        }
    }
    assert!((17..=21).contains(&invalid), "{invalid}");
    assert!(covered <= 900_000 - 300_000, "{covered}");
}

#[tokio::test(start_paused = true)]
async fn a_time_that_does_not_move_is_refused() {
    let mut rig = Rig::new(|s| {
        let mut answer = measured(Some(100), None);
        let frozen = if s < 60 { s } else { 60 };
        answer.source_time = Timestamp::from_second(frozen as i64).ok();
        Ok(answer)
    });
    assert!(rig.sum(3).await.1 > 0);
    let mut last = Verdict::Baseline;
    for _ in 0..10 {
        last = rig.tick().await;
    }
    assert!(why(last).contains("has not moved"));
}

#[tokio::test(start_paused = true)]
async fn nothing_and_too_much_are_refused() {
    for (watts, words) in [(0, "0 W"), (100_001, "more than one machine")] {
        let mut rig = Rig::new(move |_| Ok(measured(Some(watts), None)));
        assert!(why(rig.tick().await).contains(words));
    }
    let mut rig = Rig::new(|_| Ok(measured(None, None)));
    assert!(why(rig.tick().await).contains("neither"));
}

#[tokio::test(start_paused = true)]
async fn an_account_is_not_locked_out() {
    let denied = || CollectError::Denied {
        path: "https://bmc".into(),
        hint: "check the password".to_owned(),
        source: std::io::ErrorKind::PermissionDenied.into(),
    };
    let mut rig = Rig::new(move |_| Err(denied()));
    assert!(why(rig.tick().await).contains("check the password"));
    rig.sum(240).await;
    let asked = rig.1.load(Ordering::Relaxed);
    assert!((5..=12).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_when_the_rung_is_gone() {
    let mut rig = Rig::new(|_| Ok(measured(Some(100), None)));
    rig.sum(2).await;
    let asked = Arc::clone(&rig.1);
    drop(rig);
    let before = asked.load(Ordering::Relaxed);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(asked.load(Ordering::Relaxed), before);
}

proptest! {
    #[test]
    fn what_is_told_is_what_was_counted_over_just_that_time(
        polls in prop::collection::vec((1..40_000_u64, 1..1_000_000_u64, any::<bool>()), 1..60),
    ) {
        let fresh = Duration::from_secs(45);
        let span = Span { over: Millis(15_000), busy: Millis(0), capacity: Millis(0) };
        let (mut tally, mut now, mut total) = (Tally::default(), Instant::now(), 0);
        tally.take(Ok(measured(None, Some((0, 1)))), fresh, now);
        let (mut told, mut covered) = (0, 0);
        let mut passed = 0;
        for (pause_ms, joules, ticks) in polls {
            now += Duration::from_millis(pause_ms);
            passed += pause_ms;
            let used = joules.min(pause_ms * 90);
            total += used * 1_000;
            tally.take(Ok(measured(None, Some((total, 1)))), fresh, now);
            if ticks && let Verdict::Energy { energy, over } = tally.read(Some(&span), fresh, now) {
                told += energy.0;
                covered += over.0;
            }
        }
        if let Verdict::Energy { energy, over } = tally.read(Some(&span), fresh, now) {
            told += energy.0;
            covered += over.0;
        }
        prop_assert_eq!((told, covered), (total, passed));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_nameplate_excludes_is_told_and_never_counted() {
    let nameplate = Some(Nameplate::configured(Watts(800)));
    for (watts, words) in [
        (
            15,
            Some("it says 15.0 W, less than 2 % of nameplate_watts = 800"),
        ),
        (16, None),
        (1_040, None),
        (1_041, Some("it says 1041.0 W, more than 130 %")),
    ] {
        let mut rig = Rig::with_nameplate(nameplate, move |_| Ok(measured(Some(watts), None)));
        match (words, rig.tick().await) {
            (Some(words), Verdict::Invalid(why)) => assert!(why.contains(words), "{why}"),
            (None, Verdict::Energy { .. }) => {}
            (_, other) => panic!("{watts} W: {other:?}"),
        }
    }
    // A slip of scale after a good start: what was measured before is told, then the reason.
    let mut rig = Rig::with_nameplate(nameplate, |s| {
        let watts = if s < 60 { 200 } else { 200_000 / 4 };
        Ok(measured(Some(watts), None))
    });
    let (energy, over) = rig.sum(4).await;
    assert_eq!(energy, over * 200_000);
    assert_eq!(rig.sum(2).await, (0, 0));
    let Verdict::Invalid(why) = rig.tick().await else {
        panic!("three polls later it is not used");
    };
    assert!(why.contains("it says 50000.0 W"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_counter_alone_is_held_to_the_nameplate_too() {
    let nameplate = Some(Nameplate::configured(Watts(800)));
    let counting =
        |watts: u64| move |s: u64| Ok(measured(None, Some((1 + s * watts * 1_000_000, 1))));
    assert!(
        Rig::with_nameplate(nameplate, counting(1_000))
            .sum(4)
            .await
            .0
            > 0
    );
    let mut rig = Rig::with_nameplate(nameplate, counting(1_100));
    assert_eq!(rig.sum(3).await, (0, 0));
    let Verdict::Invalid(why) = rig.tick().await else {
        panic!("three polls later it is not used");
    };
    assert!(
        why.starts_with("its counter says 10") && why.contains("more than 130 %"),
        "{why}"
    );
}
