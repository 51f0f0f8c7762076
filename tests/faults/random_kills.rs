//! `kill -9` at random moments, a thousand times: several agents of one dashboard, which dies now and then too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::node::{Held, Node, api_key, start_dashboard};
use crate::scenario::turn;
use crate::site::Site;

/// Kills in the ordinary test run; `CMS_STORY_KILLS` asks for more.
const KILLS: u64 = 1_000;

/// Agents at work at a time.
const AGENTS: u64 = 10;

/// A start, with what it catches up on, takes about so many milliseconds.
const BUSY_MS: u64 = 150;

/// Longest life of an agent and of the dashboard, in milliseconds: an agent sees the end of a slot.
const LIFE_MS: u64 = 1_200;
const DASHBOARD_LIFE_MS: u64 = 6_000;

/// What was found after the kills.
#[derive(Default)]
struct Tally {
    kills: AtomicU64,
    /// Of these, with something enqueued that the dashboard had not confirmed.
    unconfirmed: AtomicU64,
    submissions: AtomicU64,
}

#[test]
fn agents_killed_at_random_lose_nothing_and_repeat_nothing() {
    let _turn = turn();
    let site = Site::new();
    let kills = std::env::var("CMS_STORY_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let (tally, ended) = (Tally::default(), AtomicBool::new(false));
    let mut dashboard_kills = 0;
    thread::scope(|scope| {
        let mut dashboard = start_dashboard(&site);
        let agents: Vec<_> = (0..AGENTS)
            .map(|number| {
                let key = api_key(&site, &format!("agent-{number}"));
                let node = Node::new(&site, &format!("agent-{number}"), &key);
                let (tally, ended) = (&tally, &ended);
                scope.spawn(move || {
                    let before = kill_again_and_again(&node, kills, number, tally);
                    // The last dashboard lives on.
                    while !ended.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(10));
                    }
                    let count = node.settle(&before, "many kills");
                    tally.submissions.fetch_add(count as u64, Ordering::Relaxed);
                })
            })
            .collect();
        let mut random = Random(1);
        while tally.kills.load(Ordering::Relaxed) < kills && !agents.iter().any(|a| a.is_finished())
        {
            thread::sleep(Duration::from_millis(random.below(DASHBOARD_LIFE_MS)));
            dashboard.kill();
            dashboard = start_dashboard(&site);
            dashboard_kills += 1;
        }
        ended.store(true, Ordering::Relaxed);
        for agent in agents {
            agent.join().unwrap();
        }
    });
    println!(
        "{kills} kills of {AGENTS} agents ({} with something unconfirmed), {dashboard_kills} of their dashboard, {} submissions, 0 lost, 0 twice",
        tally.unconfirmed.into_inner(),
        tally.submissions.into_inner()
    );
}

/// Kills an agent until there were enough kills of all. Answers what it held at last.
fn kill_again_and_again(node: &Node, kills: u64, number: u64, tally: &Tally) -> Held {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ number);
    let mut before = Held::default();
    while tally.kills.fetch_add(1, Ordering::Relaxed) < kills {
        let agent = node.start(&[]);
        let most = if random.below(3) == 0 {
            LIFE_MS
        } else {
            BUSY_MS
        };
        thread::sleep(Duration::from_millis(random.below(most)));
        let log = agent.kill();
        assert!(
            !log.contains("panicked") && !log.contains("new epoch"),
            "{log}"
        );
        let now = node.held();
        for place in before.outbox.keys() {
            assert!(
                now.outbox.contains_key(place),
                "{place:?} was enqueued and is gone"
            );
        }
        if now
            .outbox
            .values()
            .any(|(state, _)| state == "pending" || state == "in_flight")
        {
            tally.unconfirmed.fetch_add(1, Ordering::Relaxed);
        }
        before = now;
    }
    before
}

/// Numbers that are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
