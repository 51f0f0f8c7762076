//! What happens on a line when a device misbehaves: never a wrong value, and a reason for each missing one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::endpoint::Endpoint;
use super::fault::Fault;
use super::line::{Line, Manner};
use super::plan::Limits;
use super::register::{Kind, Span};
use super::simulated::{Act, Asked, Bench, crc};
use super::unit::{Outcome, Unit};

const MANNER: Manner = Manner {
    timeout: Duration::from_millis(60),
    pause: Duration::ZERO,
};

fn line(bench: &Arc<Bench>, is_rtu: bool) -> Line {
    let endpoint = if is_rtu {
        "rtu+tcp://bench"
    } else {
        "tcp://bench"
    };
    let endpoint: Endpoint = endpoint.parse().unwrap();
    Line::new(endpoint, None, Arc::clone(bench) as Arc<_>)
}

fn holding(first: u16, count: u16) -> Span {
    Span::new(Kind::Holding, first, count).unwrap()
}

/// Does each of these once, then answers.
fn acts(acts: &[Act]) -> impl Fn(Asked) -> Act + Send + Sync + 'static {
    let (acts, next) = (acts.to_vec(), AtomicUsize::new(0));
    move |_| {
        let at = next.fetch_add(1, Ordering::Relaxed);
        acts.get(at).cloned().unwrap_or(Act::Answer)
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds)
}

fn reasons(outcomes: &[Outcome]) -> Vec<&str> {
    outcomes
        .iter()
        .map(|o| o.as_ref().map_or_else(|why| &*why.reason, |_| "ok"))
        .collect()
}

#[test]
fn the_checksum_of_the_bench_is_that_of_the_protocol() {
    assert_eq!(crc(b"123456789"), 0x4b37);
}

#[tokio::test(start_paused = true)]
async fn all_four_kinds_are_read() {
    for is_rtu in [false, true] {
        let bench = Bench::new(is_rtu, |_| Act::Answer);
        let mut line = line(&bench, is_rtu);
        for kind in Kind::ALL {
            let span = Span::new(kind, 10, 11).unwrap();
            let read = line.ask(2, span, MANNER).await.unwrap();
            let expected: Vec<u16> = (2010..2021)
                .map(|n| if kind.is_bit() { n % 2 } else { n })
                .collect();
            assert_eq!(read, expected, "{kind}");
        }
        let functions: Vec<u8> = bench.seen().iter().map(|asked| asked.function).collect();
        assert_eq!((functions, bench.opened()), (vec![1, 2, 3, 4], 1));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_stumbles_is_asked_once_more_on_a_new_connection() {
    use Act::*;
    for (act, is_rtu) in [
        (WrongNumber, false),
        (WrongUnit, false),
        (WrongUnit, true),
        (Short, false),
        (Short, true),
        (HangUp, false),
        (HangUp, true),
        (Garbage, true),
        (Damaged, true),
    ] {
        let bench = Bench::new(is_rtu, acts(std::slice::from_ref(&act)));
        let mut line = line(&bench, is_rtu);
        let read = line.ask(1, holding(5, 3), MANNER).await;
        assert_eq!(read.unwrap(), [1005, 1006, 1007], "{act:?}");
        assert_eq!(bench.opened(), 2, "{act:?}");
        // Twice in a row is a fault with a reason.
        let bench = Bench::new(is_rtu, move |_| act.clone());
        let mut line = self::line(&bench, is_rtu);
        let fault = line.ask(1, holding(5, 3), MANNER).await.unwrap_err();
        assert!(
            fault.is_of_unit() && !fault.reason().is_empty(),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_unit_is_asked_once_only() {
    let bench = Bench::new(false, |_| Act::Nothing);
    let mut line = line(&bench, false);
    let fault = line.ask(9, holding(0, 1), MANNER).await.unwrap_err();
    assert_eq!(
        fault.reason(),
        "unit 9 did not answer within 60ms: check its number, power and wiring, or raise `timeout` if it is slow"
    );
    assert_eq!(bench.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_gets_a_moment() {
    let bench = Bench::new(false, acts(&[Act::Exception(6)]));
    let read = line(&bench, false).ask(1, holding(0, 1), MANNER).await;
    assert_eq!((read.unwrap(), bench.opened()), (vec![1000], 1));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_hangs_up_after_each_reply_costs_one_connection_for_each() {
    let bench = Bench::new(false, |_| Act::AnswerAndHangUp);
    let mut line = line(&bench, false);
    for first in 0..5 {
        let read = line.ask(1, holding(first, 1), MANNER).await;
        assert_eq!(read.unwrap(), [1000 + first]);
    }
    assert_eq!(bench.opened(), 5, "the second one found it out");
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_is_never_the_reply_to_another_question() {
    for is_rtu in [false, true] {
        // All questions are of one length, so that nothing but our care tells the replies apart.
        let bench = Bench::new(
            is_rtu,
            acts(&[Act::Later, Act::Answer, Act::Later, Act::Later]),
        );
        let mut line = line(&bench, is_rtu);
        let mut late = 0;
        for first in (0..40).step_by(2) {
            match line.ask(1, holding(first, 2), MANNER).await {
                Ok(read) => assert_eq!(read, [1000 + first, 1001 + first]),
                Err(_) => late += 1,
            }
        }
        assert!((1..=3).contains(&late), "{late}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_any_more_is_given_up_too() {
    for is_rtu in [false, true] {
        let bench = Bench::new(is_rtu, acts(&[Act::Later]));
        let mut line = line(&bench, is_rtu);
        let patient = Manner {
            timeout: Duration::from_secs(10),
            ..MANNER
        };
        let asked = line.ask(1, holding(5, 1), patient);
        let dropped = tokio::time::timeout(Duration::from_millis(100), asked).await;
        assert!(dropped.is_err());
        assert_eq!(line.ask(1, holding(9, 1), MANNER).await.unwrap(), [1009]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_always_one_reply_behind_is_found_out() {
    // It answers each question only when the next one comes: for ever one behind.
    let bench = Bench::new(true, |_| Act::Later);
    let mut line = line(&bench, true);
    for first in 0..6 {
        assert!(line.ask(1, holding(first, 1), MANNER).await.is_err());
    }
    let behind = Bench::new(true, {
        let count = AtomicUsize::new(0);
        move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Act::Later,
            _ => Act::Answer,
        }
    });
    let mut line = self::line(&behind, true);
    let first = line.ask(1, holding(11, 1), MANNER).await.unwrap_err();
    assert!(matches!(first, Fault::Silent { .. }));
    // The late reply comes in front of the reply to the check; the question is asked anew and answered rightly.
    assert_eq!(line.ask(1, holding(22, 1), MANNER).await.unwrap(), [1022]);
    let counts: Vec<u16> = behind.seen().iter().map(|asked| asked.count).collect();
    assert_eq!(counts, [1, 2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_unit_costs_itself_and_is_left_alone_for_a_while() {
    let bench = Bench::new(false, |asked| {
        if asked.unit == 2 {
            Act::Nothing
        } else {
            Act::Answer
        }
    });
    let mut line = line(&bench, false);
    let values: Vec<Span> = (0..5).map(|at| holding(at * 10, 2)).collect();
    let unit = |number| Unit::new(number, values.clone(), Limits::default(), MANNER);
    let (mut good, mut silent) = (unit(1), unit(2));
    let (outcomes, cost, fault) = silent.round(&mut line, at(0)).await;
    assert!(
        reasons(&outcomes)
            .iter()
            .all(|reason| reason.starts_with("unit 2 did not answer"))
    );
    assert_eq!(
        (cost.requests, fault.is_some(), silent.is_failing()),
        (1, true, true)
    );
    let (outcomes, cost, _) = good.round(&mut line, at(0)).await;
    assert_eq!((reasons(&outcomes), cost.requests), (vec!["ok"; 5], 5));
    assert_eq!(outcomes[3], Ok(vec![1030, 1031]));
    // Held for up to ten seconds, then asked again, then held for longer.
    let (outcomes, cost, _) = silent.round(&mut line, at(1)).await;
    assert_eq!(cost.requests, 0);
    assert!(
        reasons(&outcomes)[0].contains("; asked again in "),
        "{outcomes:?}"
    );
    assert_eq!(silent.round(&mut line, at(10)).await.1.requests, 1);
    assert_eq!(silent.round(&mut line, at(20)).await.1.requests, 0);
    assert_eq!(silent.round(&mut line, at(30)).await.1.requests, 1);
}

#[tokio::test(start_paused = true)]
async fn a_bad_address_costs_one_value() {
    let missing: BTreeSet<u16> = [7, 8].into();
    let bench = Bench::new(false, move |asked| {
        let range = asked.first..asked.first + asked.count;
        let is_bad = missing.iter().any(|address| range.contains(address));
        if is_bad {
            Act::Exception(2)
        } else {
            Act::Answer
        }
    });
    let mut line = line(&bench, false);
    let values: Vec<Span> = (0..10).map(|at| holding(at * 2, 2)).collect();
    let mut unit = Unit::new(1, values, Limits::default(), MANNER);
    let (outcomes, _, fault) = unit.round(&mut line, at(0)).await;
    assert!(fault.is_none());
    let wrong: Vec<usize> = (0..10).filter(|at| outcomes[*at].is_err()).collect();
    assert_eq!(wrong, [3, 4]);
    assert_eq!(
        reasons(&outcomes)[3],
        "unit 1, holding 6 to 7: exception 2, it has no such address"
    );
    assert_eq!(outcomes[9], Ok(vec![1018, 1019]));
    let (_, cost, _) = unit.round(&mut line, at(300)).await;
    assert_eq!((cost.requests, bench.opened()), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_costs_its_own_values_where_others_are_answered() {
    let bench = Bench::new(false, |asked| {
        if asked.first == 0 {
            Act::Nothing
        } else {
            Act::Answer
        }
    });
    let mut line = line(&bench, false);
    let values: Vec<Span> = (0..3).map(|at| holding(at * 10, 2)).collect();
    let mut unit = Unit::new(1, values, Limits::default(), MANNER);
    // Nobody knows the device yet: it is taken for silent.
    assert_eq!(
        reasons(&unit.round(&mut line, at(0)).await.0)
            .iter()
            .filter(|r| **r == "ok")
            .count(),
        0
    );
    for seconds in [30, 60] {
        let (outcomes, _, _) = unit.round(&mut line, at(seconds)).await;
        assert_eq!(reasons(&outcomes)[1..], ["ok", "ok"]);
        assert!(outcomes[0].is_err());
    }
}

/// A device that says nothing to whatever runs over one of these addresses.
fn mute_at(missing: &[u16]) -> Arc<Bench> {
    let missing: BTreeSet<u16> = missing.iter().copied().collect();
    Bench::new(false, move |asked| {
        let range = asked.first..asked.first + asked.count;
        match missing.iter().any(|address| range.contains(address)) {
            true => Act::Nothing,
            false => Act::Answer,
        }
    })
}

#[tokio::test(start_paused = true)]
async fn an_address_that_gets_no_answer_costs_one_value_in_the_end() {
    for missing in [&[5][..], &[0], &[9, 30], &[3, 4, 5, 17]] {
        let bench = mute_at(missing);
        let mut line = line(&bench, false);
        let values: Vec<Span> = (0..40).map(|at| holding(at, 1)).collect();
        let mut unit = Unit::new(1, values, Limits::default(), MANNER);
        let (mut good_rounds, mut asked) = (0, 0);
        for round in 0..60 {
            let before = bench.seen().len();
            let (outcomes, _, _) = unit.round(&mut line, at(round * 300)).await;
            asked = bench.seen().len() - before;
            let wrong: Vec<u16> = (0..40_u16)
                .filter(|at| outcomes[usize::from(*at)].is_err())
                .collect();
            good_rounds = if wrong == missing { good_rounds + 1 } else { 0 };
            for (at, outcome) in outcomes.iter().enumerate() {
                if let Ok(read) = outcome {
                    assert_eq!(usize::from(read[0]), 1000 + at, "{missing:?}");
                }
            }
        }
        assert!(good_rounds > 30, "{missing:?}: {good_rounds}");
        // What is good in few requests, one that is in vain, and one to find out that its reply does not come late.
        assert!(asked <= missing.len() + 3, "{missing:?}: {asked} requests");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_gets_no_answer_is_left_out() {
    let bench = mute_at(&[5]);
    let mut line = line(&bench, false);
    let limits = Limits {
        gap_max: 4,
        ..Limits::default()
    };
    let values: Vec<Span> = [0, 2, 6, 8].map(|at| holding(at, 2)).into();
    let mut unit = Unit::new(1, values, limits, MANNER);
    let mut last = Vec::new();
    for round in 0..20 {
        last = unit.round(&mut line, at(round * 300)).await.0;
    }
    assert_eq!(reasons(&last), ["ok"; 4]);
    assert_eq!(unit.round(&mut line, at(9_000)).await.1.requests, 2);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_away_is_asked_as_before_when_it_is_back() {
    let is_away = Arc::new(AtomicUsize::new(1));
    let bench = Bench::new(false, {
        let is_away = Arc::clone(&is_away);
        move |_| match is_away.load(Ordering::Relaxed) {
            0 => Act::Answer,
            _ => Act::Nothing,
        }
    });
    let mut line = line(&bench, false);
    let values: Vec<Span> = (0..40).map(|at| holding(at, 1)).collect();
    let mut unit = Unit::new(1, values, Limits::default(), MANNER);
    for round in 0..100 {
        assert_eq!(unit.round(&mut line, at(round * 300)).await.1.requests, 1);
    }
    is_away.store(0, Ordering::Relaxed);
    let (outcomes, _, _) = unit.round(&mut line, at(100 * 300)).await;
    assert_eq!(reasons(&outcomes), ["ok"; 40]);
    for round in 101..103 {
        assert_eq!(unit.round(&mut line, at(round * 300)).await.1.requests, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_speaks_for_its_units() {
    let bench = Bench::new(false, |asked| match asked.unit {
        5 => Act::Exception(11),
        _ => Act::Answer,
    });
    let mut line = line(&bench, false);
    let values: Vec<Span> = (0..5).map(|at| holding(at * 10, 2)).collect();
    let mut unit = Unit::new(5, values, Limits::default(), MANNER);
    let (outcomes, cost, _) = unit.round(&mut line, at(0)).await;
    assert_eq!(cost.requests, 1);
    assert!(reasons(&outcomes)[4].contains("the gateway got no answer from it"));
    assert_eq!(bench.opened(), 1, "the gateway itself is well");
}
