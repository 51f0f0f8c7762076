//! The outbox in states that nobody planned.

use super::*;
use crate::seal::tests::key;

const NOW: i64 = 1_772_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// A store with one submission for each of these slot ends, as seconds before now.
async fn store_with(directory: &std::path::Path, ends: &'static [i64]) -> Store {
    let store = Store::open(directory, &key(1)).await.unwrap();
    store
        .call(move |inner| {
            let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
                inner.connection.execute(sql, values).unwrap();
            };
            let origin = "carbonmirror/acme-corp/0190c9a5-0000-7000-8000-000000000000/1";
            run("INSERT INTO epoch VALUES (1, ?1)", &[&origin]);
            for (index, before) in ends.iter().enumerate() {
                let (index, end) = (i64::try_from(index).unwrap(), at(-before).as_millisecond());
                run(
                    "INSERT INTO leaf VALUES (1, ?1, 'submission', 'ghost-compute', ?2 - 900000, ?2, '', zeroblob(32))",
                    &[&index, &end],
                );
                let record = Record::Body { epoch: 1, index };
                let body = inner.sealer.seal(record, b"body").unwrap();
                run("INSERT INTO body VALUES (1, ?1, ?2)", &[&index, &body]);
                run(
                    "INSERT INTO outbox(epoch, idx, category, slot_start, slot_end, state, updated_at)
                     VALUES (1, ?1, 'ghost-compute', ?2 - 900000, ?2, 'pending', 0)",
                    &[&index, &end],
                );
            }
            Ok(())
        })
        .await
        .unwrap();
    store
}

async fn take(store: &Store, backlog_first: bool) -> Option<Submission> {
    store.take_next(at(0), backlog_first).await.unwrap()
}

#[tokio::test]
async fn what_was_left_in_flight_is_sent_again_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with(directory.path(), &[60]).await;
    let first = take(&store, false).await.unwrap();
    assert_eq!(take(&store, false).await, Some(first.clone()));
    store
        .mark_accepted(&first, at(1), "accepted".to_owned())
        .await
        .unwrap();
    assert_eq!(take(&store, false).await, None);
}

#[tokio::test]
async fn a_submission_that_nobody_takes_holds_up_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with(directory.path(), &[9_000, 8_000, 7_000, 60, 120]).await;
    let mut tried = Vec::new();
    for turn in 0..5 {
        let taken = take(&store, turn % 2 == 0).await.unwrap();
        store
            .mark_deferred(&taken, at(1), "no".to_owned())
            .await
            .unwrap();
        tried.push(taken.index());
    }
    // The backlog oldest first, what is live newest first, and each once before any is tried again.
    assert_eq!(tried, [0, 3, 1, 4, 2]);
}

#[tokio::test]
async fn what_a_clock_ahead_has_closed_waits_for_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with(directory.path(), &[60, 0, -7_200]).await;
    for expected in [Some(1), Some(0), None] {
        let taken = take(&store, false).await;
        assert_eq!(taken.as_ref().map(Submission::index), expected);
        if let Some(taken) = taken {
            let accepted = "accepted".to_owned();
            store.mark_accepted(&taken, at(0), accepted).await.unwrap();
        }
    }
    let later = store.take_next(at(7_200), false).await.unwrap();
    assert_eq!(later.map(|taken| taken.index()), Some(2));
}

#[tokio::test]
async fn a_damaged_submission_is_set_aside_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with(directory.path(), &[300, 200, 100]).await;
    store
        .call(|inner| {
            let damage =
                "UPDATE body SET bytes = x'00' WHERE idx = 2; DELETE FROM body WHERE idx = 1";
            inner.connection.execute_batch(damage).unwrap();
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(
        take(&store, false).await.map(|taken| taken.index()),
        Some(0)
    );
    let counts = store.outbox_counts().await.unwrap();
    assert_eq!((counts.pending, counts.rejected), (1, 2));
    let rows = store.recent_submissions(3).await.unwrap();
    let answers: Vec<_> = rows
        .iter()
        .filter_map(|row| row.answer.as_deref())
        .collect();
    assert!(
        answers
            .iter()
            .all(|answer| answer.starts_with("damaged in the store: ")),
        "{answers:?}"
    );
}

#[tokio::test]
async fn the_next_of_a_long_backlog_is_found_without_sorting_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with(directory.path(), &[]).await;
    let plan = format!("EXPLAIN QUERY PLAN {BACKLOG}");
    let steps = store
        .call(move |inner| {
            let mut select = inner.connection.prepare(&plan).unwrap();
            let steps = select
                .query_map([1], |row| row.get::<_, String>(3))
                .unwrap();
            Ok(steps.map(Result::unwrap).collect::<Vec<_>>())
        })
        .await
        .unwrap();
    assert_eq!(steps.len(), 1, "{steps:?}");
}

#[tokio::test]
async fn what_a_newer_one_covers_is_superseded_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_with(directory.path(), &[7_000, 60]).await;
    let newest = take(&store, false).await.unwrap();
    assert!(!store.newer_is_accepted(&newest).await.unwrap());
    let answer = || "said".to_owned();
    store.mark_deferred(&newest, at(1), answer()).await.unwrap();
    let late = take(&store, true).await.unwrap();
    assert_eq!((newest.index(), late.index()), (1, 0));
    assert!(!store.newer_is_accepted(&late).await.unwrap());
    store.mark_accepted(&newest, at(2), answer()).await.unwrap();
    assert!(store.newer_is_accepted(&late).await.unwrap());
    assert!(!store.newer_is_accepted(&newest).await.unwrap());
    store.mark_superseded(&late, at(3), answer()).await.unwrap();
    assert_eq!(take(&store, false).await, None, "it is not sent again");
    let counts = store.outbox_counts().await.unwrap();
    assert_eq!((counts.superseded, counts.accepted), (1, 1));
    assert_eq!((counts.pending, counts.rejected), (0, 0));
    assert_eq!(store.count("SELECT count(*) FROM body").await, 2);
}
