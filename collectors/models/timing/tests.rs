//! Lines of every generation, joined to tasks.

use super::*;

fn run(timings: &mut Timings, lines: &str) -> Vec<Done> {
    let mut done = Vec::new();
    for (place, line) in (0..).zip(lines.lines()) {
        if let Some(said) = said(line.as_bytes(), None) {
            done.extend(timings.take(said, None, place));
        }
    }
    done
}

fn row(done: &Done) -> (Option<u64>, Option<u64>, u64) {
    (done.input_tokens, done.output_tokens, done.duration_us)
}

const EVALUATED: &str = "slot print_timing: id  3 | task 9 | prompt eval time =      20.00 ms /    10 tokens (    2.00 ms per token,   500.00 tokens per second)\n";
const GENERATED: &str = "slot print_timing: id  3 | task 9 |        eval time =     480.00 ms /    30 tokens (   16.00 ms per token,    62.50 tokens per second)\n";
const TOTAL: &str =
    "slot print_timing: id  3 | task 9 |       total time =     500.00 ms /    40 tokens\n";
const RELEASED: &str =
    "slot      release: id  3 | task 9 | stop processing: n_tokens = 139, truncated = 0\n";

#[test]
fn the_release_says_what_was_cached() {
    let mut timings = Timings::default();
    let done = run(&mut timings, &[EVALUATED, GENERATED, TOTAL].concat());
    assert_eq!(done, []);
    let done = run(&mut timings, RELEASED);
    assert_eq!(
        done.iter().map(row).collect::<Vec<_>>(),
        [(Some(110), Some(30), 500_000)]
    );
    let truncated = RELEASED.replace("truncated = 0", "truncated = 1");
    let done = run(
        &mut Timings::default(),
        &[EVALUATED, GENERATED, TOTAL, &truncated].concat(),
    );
    assert_eq!(
        done.iter().map(row).collect::<Vec<_>>(),
        [(Some(10), Some(30), 500_000)]
    );
}

#[test]
fn a_release_that_never_comes_is_waited_for_two_ticks() {
    let mut timings = Timings::default();
    run(&mut timings, &[EVALUATED, GENERATED, TOTAL].concat());
    assert_eq!(timings.tick(), []);
    let done = timings.tick();
    assert_eq!(
        done.iter().map(row).collect::<Vec<_>>(),
        [(Some(10), Some(30), 500_000)]
    );
    assert_eq!(timings.tick(), []);
    assert_eq!(run(&mut timings, RELEASED), []);
}

#[test]
fn two_counts_give_the_third() {
    let expected = [(Some(10), Some(30), 500_000)];
    for lines in [[EVALUATED, TOTAL], [GENERATED, TOTAL]] {
        let mut timings = Timings::default();
        run(&mut timings, &lines.concat());
        timings.tick();
        assert_eq!(timings.tick().iter().map(row).collect::<Vec<_>>(), expected);
    }
    let mut timings = Timings::default();
    run(&mut timings, TOTAL);
    timings.tick();
    assert_eq!(
        timings.tick().iter().map(row).collect::<Vec<_>>(),
        [(None, None, 500_000)]
    );
}

#[test]
fn lines_of_two_processes_that_do_not_add_up_give_no_tokens() {
    let mut timings = Timings::default();
    let other = GENERATED.replace("30 tokens", "31 tokens");
    run(&mut timings, &[EVALUATED, &other, TOTAL].concat());
    let done = run(&mut timings, RELEASED);
    assert_eq!(
        done.iter().map(row).collect::<Vec<_>>(),
        [(None, None, 500_000)]
    );
    assert_eq!(timings.counts().confused, 1);
    let slower = GENERATED.replace("480.00", "481.00");
    run(
        &mut timings,
        &[
            EVALUATED,
            &slower,
            &TOTAL.replace("500.00", "500.01"),
            RELEASED,
        ]
        .concat(),
    );
    assert_eq!(timings.counts().confused, 2);
}

#[test]
fn a_copied_log_is_told_once_and_a_new_process_anew() {
    let mut timings = Timings::default();
    let lines = [EVALUATED, GENERATED, TOTAL, RELEASED].concat();
    assert_eq!(run(&mut timings, &lines).len(), 1);
    let kept = serde_json::to_string(&timings).unwrap();
    let mut timings = serde_json::from_str::<Timings>(&kept).unwrap().resumed();
    assert_eq!(run(&mut timings, &lines), []);
    assert_eq!(timings.counts().repeated, 1);
    timings.restarted(Some(1));
    assert_eq!(run(&mut timings, &lines), []);
    timings.restarted(None);
    assert_eq!(run(&mut timings, &lines).len(), 1);
}

#[test]
fn halves_survive_a_restart_of_the_agent_at_any_line() {
    let lines = [EVALUATED, GENERATED, TOTAL, RELEASED];
    for cut in 0..lines.len() {
        let mut timings = Timings::default();
        let mut done = run(&mut timings, &lines[..cut].concat());
        let kept = serde_json::to_string(&timings).unwrap();
        let mut timings = serde_json::from_str::<Timings>(&kept).unwrap().resumed();
        done.extend(run(&mut timings, &lines[cut..].concat()));
        assert_eq!(
            done.iter().map(row).collect::<Vec<_>>(),
            [(Some(110), Some(30), 500_000)],
            "{cut}"
        );
    }
}

#[test]
fn cancelled_tasks_and_answers_beside_the_first_are_no_requests() {
    let mut timings = Timings::default();
    run(&mut timings, EVALUATED);
    run(
        &mut timings,
        "srv          stop: cancel task, id_task = 9\n",
    );
    assert_eq!((timings.pending.len(), timings.counts().cancelled), (0, 1));
    let launched = "slot launch_slot_: id  3 | task 9 | processing task, is_child = 1\n";
    let done = run(
        &mut timings,
        &[launched, EVALUATED, GENERATED, TOTAL, RELEASED].concat(),
    );
    assert!(done[0].is_child);
    let launched = launched.replace('1', "0");
    let done = run(
        &mut timings,
        &[
            &launched,
            EVALUATED,
            GENERATED,
            &TOTAL.replace("500.00", "500.01"),
            RELEASED,
        ]
        .concat(),
    );
    assert!(!done[0].is_child);
}

#[test]
fn halves_do_not_pile_up() {
    let mut timings = Timings::default();
    for task in 0..1_000 {
        run(
            &mut timings,
            &EVALUATED.replace("task 9", &format!("task {task}")),
        );
    }
    assert_eq!(timings.pending.len(), PENDING_MAX);
    assert_eq!(timings.counts().forgotten, 1_000 - PENDING_MAX as u64);
}
