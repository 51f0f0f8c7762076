//! Deterministic simulation: the real agent and the real dashboard in virtual time, with everything that goes
//! wrong drawn from a seed.
//!
//! A failing seed prints its plan of faults and the end of its story, and repeats exactly:
//! `CMS_SIM_SEED=17 cargo test -p cms-simulation one_seed -- --nocapture` tells all of it.
//! `CMS_SIM_SEEDS=1000000 cargo test --release -p cms-simulation many_seeds -- --nocapture` looks for more;
//! a seed that once failed goes into `seeds.txt` and is run for ever.

#![expect(
    clippy::disallowed_methods,
    reason = "how long real time takes is measured here, and nothing decided by it"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a run that cannot go on has failed, and is told as a story"
)]

mod checks;
mod dashboard;
mod energy;
mod host;
mod ledger;
mod meter;
mod network;
mod plan;
mod random;
mod run;
mod sky;
mod trace;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::plan::{Plan, outage, put_back};
    use super::run::{Failure, Summary, run};

    /// Seeds of every run of the tests.
    const SEEDS: u64 = 200;

    /// Failures after which no more seeds are tried.
    const FAILURES_MAX: usize = 1000;

    const DAY: Duration = Duration::from_secs(86_400);

    fn number(variable: &str) -> Option<u64> {
        let text = std::env::var(variable).ok()?;
        Some(text.parse().expect("a number"))
    }

    /// Hours of faults where nobody asks for another number: every third run is likely to see the end of a day.
    const HOURS: [u64; 3] = [4, 8, 16];

    fn plan(seed: u64) -> Plan {
        let hours = HOURS[usize::try_from(seed % 3).unwrap()];
        plan_of(seed, number("CMS_SIM_HOURS").unwrap_or(hours))
    }

    fn plan_of(seed: u64, hours: u64) -> Plan {
        let mut plan = Plan::of(seed, hours);
        put_back(&mut plan);
        plan
    }

    /// Runs all plans on all processors, and prints what was done.
    fn run_all(plans: impl Iterator<Item = Plan> + Send) {
        let began = Instant::now();
        let plans = Mutex::new(plans);
        let failures: Mutex<Vec<Failure>> = Mutex::default();
        let totals: Mutex<(u64, Summary)> = Mutex::default();
        let longest = AtomicU64::new(0);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let Some(plan) = plans.lock().unwrap().next() else {
                            return;
                        };
                        let started = Instant::now();
                        let ran = run(&plan, false);
                        let took = u64::try_from(started.elapsed().as_millis()).unwrap();
                        longest.fetch_max(took, Ordering::Relaxed);
                        match ran {
                            Ok(summary) => totals.lock().unwrap().add(&summary),
                            Err(failure) => {
                                println!("\n{failure}");
                                failures.lock().unwrap().push(failure);
                            }
                        }
                        if failures.lock().unwrap().len() >= FAILURES_MAX {
                            return;
                        }
                    }
                });
            }
        });
        let (seeds, total) = *totals.lock().unwrap();
        let took = began.elapsed().as_secs_f64();
        let days = total.virtual_time.as_secs_f64() / DAY.as_secs_f64();
        println!(
            "{seeds} seeds held: {days:.0} days of virtual time in {took:.1} s ({:.1} days a second), {} faults, \
             {} deaths of the agent, {} exchanges, {} submissions accepted, {} epochs; the longest seed took {} ms",
            days / took,
            total.acts,
            total.deaths,
            total.exchanges,
            total.submissions,
            total.epochs,
            longest.load(Ordering::Relaxed)
        );
        let failures = failures.into_inner().unwrap();
        let seeds: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
        assert!(seeds.is_empty(), "seeds that failed: {seeds:?}");
    }

    trait Add {
        fn add(&mut self, summary: &Summary);
    }

    impl Add for (u64, Summary) {
        fn add(&mut self, summary: &Summary) {
            self.0 += 1;
            self.1.virtual_time += summary.virtual_time;
            self.1.acts += summary.acts;
            self.1.deaths += summary.deaths;
            self.1.exchanges += summary.exchanges;
            self.1.submissions += summary.submissions;
            self.1.epochs += summary.epochs;
        }
    }

    #[test]
    fn many_seeds() {
        let first = number("CMS_SIM_FIRST").unwrap_or(1);
        let count = number("CMS_SIM_SEEDS").unwrap_or(SEEDS);
        run_all((first..first + count).map(plan));
    }

    #[test]
    fn seeds_that_once_failed() {
        let lines = include_str!("seeds.txt").lines();
        let seeds = lines.filter(|line| !line.starts_with('#')).map(|line| {
            let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap());
            plan_of(numbers.next().unwrap(), numbers.next().unwrap())
        });
        run_all(seeds);
    }

    #[test]
    fn an_outage_of_thirty_days() {
        run_all(std::iter::once(outage(7, 30)));
    }

    #[test]
    fn one_seed() {
        let Some(seed) = number("CMS_SIM_SEED") else {
            return;
        };
        let plan = plan(seed);
        println!("{plan}");
        let ran = run(&plan, true);
        match ran {
            Ok(summary) => println!("{summary:#?}"),
            Err(failure) => panic!("{failure}"),
        }
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        for seed in [3, 4] {
            let digests: Vec<u64> = (0..2)
                .map(|_| {
                    run(&plan_of(seed, 12), false)
                        .map_or_else(|failure| panic!("{failure}"), |s| s.digest)
                })
                .collect();
            assert_eq!(digests[0], digests[1], "seed {seed}");
        }
    }
}
