//! One run: the world of a seed, its faults one after the other, the healing, and what must hold.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cms_attest::verify::Verdict;
use cms_spec::Category;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::checks::{Watch, covered, delivered, evident};
use super::dashboard::{self, Dashboard};
use super::energy::Energy;
use super::host::AgentHost;
use super::ledger::{self, Agent};
use super::meter::{Meter, agent_now};
use super::network::Network;
use super::plan::{Act, Plan};
use super::random::Random;
use super::sky::Sky;
use super::trace::{Log, Trace};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The service manager starts a failed agent again after this.
const RESTART_AFTER: Duration = Duration::from_secs(30);

/// Everything that waits is accepted this long after the last fault: the longest pause is a quarter of an hour.
const DELIVERED_WITHIN: Duration = Duration::from_secs(3_600);

/// How long a run goes on after the last fault.
const HEALTHY_FOR: Duration = Duration::from_secs(2 * 3_600);

/// Exchanges that fail within an hour: pauses grow to a quarter of an hour, and each success resets them.
const FAILURES_AN_HOUR_MAX: u64 = 150;

/// Looks at the clock within an hour: four wake-ups a minute, each with a few. One that waits for its clock to be
/// set looks thirty times a minute.
const LOOKS_AN_HOUR_MAX: u64 = 8_000;

/// And so many more for each exchange.
const LOOKS_AN_EXCHANGE_MAX: u64 = 40;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) virtual_time: Duration,
    pub(crate) acts: u64,
    pub(crate) deaths: u64,
    pub(crate) exchanges: u64,
    pub(crate) submissions: u64,
    pub(crate) epochs: u64,
    pub(crate) digest: u64,
}

/// A run in which something does not hold.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story)
    }
}

/// Runs a plan to its end.
pub(crate) fn run(plan: &Plan, prints: bool) -> Result<Summary, Failure> {
    let trace = Trace::new(prints);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        in_virtual_time(plan, &trace)
    }));
    let ran = ran.unwrap_or_else(|_| Err("something panicked, see above".to_owned()));
    ran.map_err(|what| Failure {
        seed: plan.seed,
        story: format!("{plan}the end of the story:\n{}!! {what}\n", trace.lines()),
    })
}

fn in_virtual_time(plan: &Plan, trace: &Trace) -> Result<Summary, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut random = Random::of(plan.seed).fork(5);
        let noon = Timestamp::from_second(1_772_366_400).unwrap();
        let sky = Sky::new(noon + Duration::from_millis(random.between(0, 86_400_000)));
        let log = Log {
            trace: trace.clone(),
            sky: sky.clone(),
        };
        let _log = tracing::subscriber::set_default(log);
        let mut run = Run::new(plan, sky, trace.clone());
        run.begin().await?;
        run.suffer().await?;
        run.heal().await
    })
}

struct Run<'a> {
    plan: &'a Plan,
    directory: TempDir,
    sky: Sky,
    trace: Trace,
    network: Network,
    meter: Meter,
    agent: AgentHost,
    random: Random,
    watch: Watch,
    energy: Energy,
    restart_at: Option<Duration>,
    began_at: Timestamp,
    has_put_back: bool,
    hour: Hour,
    summary: Summary,
}

/// What had happened when the hour began.
struct Hour {
    began: Instant,
    exchanges: u64,
    successes: u64,
    looks: u64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, sky: Sky, trace: Trace) -> Self {
        let memory = Path::new("/dev/shm");
        let mut named = tempfile::Builder::new();
        let named = named.prefix("cms-simulation-");
        // The process dies here, not the power: nothing has to reach a disk.
        let directory = if memory.is_dir() {
            named.tempdir_in(memory)
        } else {
            named.tempdir()
        };
        let directory = directory.unwrap();
        let random = Random::of(plan.seed);
        let network = Network::new(sky.clone(), trace.clone(), random.fork(6));
        let meter = Meter::new(sky.clone(), random.fork(7));
        let api_key = dashboard::found(&directory.path().join("dashboard"), sky.true_now());
        let host = directory.path();
        let agent = AgentHost::new(host, plan, &api_key, &sky, &network, &meter);
        Self {
            plan,
            trace,
            network,
            meter,
            agent,
            random: random.fork(8),
            watch: Watch::default(),
            energy: Energy::default(),
            restart_at: None,
            began_at: sky.true_now(),
            has_put_back: false,
            hour: Hour {
                began: Instant::now(),
                exchanges: 0,
                successes: 0,
                looks: 0,
            },
            summary: Summary::default(),
            directory,
            sky,
        }
    }

    async fn begin(&mut self) -> Result<(), String> {
        self.start_dashboard();
        self.start().await
    }

    async fn suffer(&mut self) -> Result<(), String> {
        for (at, act) in &self.plan.acts {
            self.wait_until(*at).await?;
            self.act(*act).await?;
        }
        self.wait_until(self.plan.heals).await
    }

    async fn act(&mut self, act: Act) -> Result<(), String> {
        self.say(&format!("** {act:?}"));
        self.summary.acts += 1;
        match act {
            Act::Begins(weather) => self.network.begin(weather),
            Act::Ends(weather) => self.network.end(weather),
            Act::AgentDies(steps) => self.die(steps).await?,
            Act::AgentDiesAt {
                asked, exchanges, ..
            } => self.network.arm(asked, exchanges),
            Act::AgentStops => {
                self.restart_at = None;
                self.agent.stop().await?;
                self.look_at_the_stopped()?;
            }
            Act::AgentStarts => self.start().await?,
            Act::Reboots { unset } => {
                self.die(0).await?;
                self.sky.reboot();
                if unset {
                    self.sky.unset_agent();
                }
            }
            Act::ClockIsOffBy(off_by) => self.sky.set_agent_off_by(off_by),
            Act::Sleeps(span) => self.sky.sleep(span),
            Act::DashboardDies => self.network.set_dashboard(None),
            Act::DashboardStarts => self.start_dashboard(),
            Act::DashboardIsOffBy(off_by) => self.sky.set_dashboard_off_by(off_by),
            Act::DiskIsFull(is_full) => self.agent.disk.fill(is_full),
            Act::SourceFails(fails) => self.meter.fail(fails),
            Act::SourceHangs(hangs) => self.meter.hang(hangs),
            Act::StoreIsCopied => self.agent.copy_store(&self.copy()),
            Act::StoreIsPutBack => {
                self.die(0).await?;
                self.agent.put_back(&self.copy());
                self.has_put_back = true;
                self.energy.begin_from(&self.agent.config()?.store)?;
                self.start().await?;
            }
        }
        Ok(())
    }

    /// Ends all faults, waits until everything is delivered, and looks at everything.
    async fn heal(mut self) -> Result<Summary, String> {
        self.say("** all is well from now on");
        self.network.heal();
        self.sky.set_agent_off_by(SignedDuration::ZERO);
        self.sky.set_dashboard_off_by(SignedDuration::ZERO);
        self.agent.disk.fill(false);
        self.meter.fail(false);
        self.meter.hang(false);
        self.start_dashboard();
        self.start().await?;
        let healed = self.sky.passed();
        let healed_at = self.sky.true_now();
        let mut delivered_after = None;
        while self.sky.passed() < healed + HEALTHY_FOR {
            self.wait_until(self.sky.passed() + 5 * MINUTE).await?;
            if ledger::waiting(&self.agent.store(), self.sky.true_now()) == 0 {
                delivered_after.get_or_insert(self.sky.passed() - healed);
            }
            if delivered_after.is_none() && self.sky.passed() > healed + DELIVERED_WITHIN {
                let waiting = ledger::waiting(&self.agent.store(), self.sky.true_now());
                return Err(format!(
                    "{waiting} submissions still wait {DELIVERED_WITHIN:?} after the last fault"
                ));
            }
        }
        self.say("** the end");
        let stopped_at = self.sky.true_now();
        self.agent.stop().await?;
        self.look_at_the_stopped()?;
        self.judge(healed_at, stopped_at)?;
        let seen = self.network.seen();
        Ok(Summary {
            virtual_time: self.sky.passed(),
            exchanges: seen.exchanges,
            submissions: seen.accepted.len() as u64,
            digest: self.trace.digest(),
            ..self.summary
        })
    }

    /// What must hold in the end.
    fn judge(&mut self, healed_at: Timestamp, stopped_at: Timestamp) -> Result<(), String> {
        let agent = Agent::read(&self.agent.store());
        let seen = self.network.seen();
        let dashboard = self.directory.path().join("dashboard");
        let taken = self
            .watch
            .look(&agent, &dashboard, &seen.heads, self.has_put_back)?;
        self.summary.epochs = agent
            .leaves
            .keys()
            .map(|(epoch, _)| epoch)
            .collect::<std::collections::BTreeSet<_>>()
            .len() as u64;
        let mixes = self.plan.mixes();
        delivered(&agent, &taken, stopped_at, self.has_put_back, mixes)?;
        let mut categories = vec![Category::GhostCompute, Category::CoverageVerification];
        if self.plan.heat {
            categories.push(Category::HeatRecovery);
        }
        // The newest slot may not have had its turn.
        let until = stopped_at - SignedDuration::from_mins(2);
        let is_plain = !self.plan.steps_the_clock() && !self.has_put_back;
        covered(&agent, &categories, (self.began_at, until), is_plain)?;
        // What ended after the healing was not kept waiting by what had to be sent again.
        let calm = healed_at + 20 * MINUTE;
        for (place, end) in &agent.ends {
            let end = Timestamp::from_millisecond(*end).unwrap();
            let accepted = seen.accepted.get(place);
            let late =
                accepted.is_some_and(|at| at.duration_since(end) > SignedDuration::from_mins(5));
            if end > calm && late {
                return Err(format!(
                    "the live submission {place:?} had to wait until {accepted:?}"
                ));
            }
        }
        let keys = self.network.ask("/api/v1/keys").unwrap();
        let cosigner = String::from_utf8(keys.body).unwrap();
        let period = (
            self.began_at - SignedDuration::from_hours(24),
            stopped_at + SignedDuration::from_hours(1),
        );
        let output = self.directory.path().join("evidence");
        let verdict = evident(&self.agent.config()?.store, &output, period, &cosigner)?;
        if is_plain && verdict != Verdict::Ok {
            return Err(format!("the evidence is {verdict:?}"));
        }
        Ok(())
    }

    /// The invariants that hold whenever the agent does not run.
    fn look_at_the_stopped(&mut self) -> Result<(), String> {
        if let Some(panic) = self.trace.panicked() {
            return Err(panic);
        }
        let store = self.agent.config()?.store;
        let is_exact = !self.plan.steps_the_clock() && self.sky.passed() < HOUR * 24 * 28;
        self.energy
            .settle(&store, self.meter.take_looks(), is_exact)?;
        self.look()
    }

    /// The invariants that hold always.
    fn look(&mut self) -> Result<(), String> {
        let agent = Agent::read(&self.agent.store());
        let seen = self.network.seen();
        let dashboard = self.directory.path().join("dashboard");
        self.watch
            .look(&agent, &dashboard, &seen.heads, self.has_put_back)?;
        Ok(())
    }

    async fn die(&mut self, steps: u32) -> Result<(), String> {
        for _ in 0..steps {
            yield_now().await;
        }
        self.restart_at = None;
        if !self.agent.is_running() {
            return Ok(());
        }
        self.summary.deaths += 1;
        self.agent.die().await?;
        self.look_at_the_stopped()
    }

    async fn start(&mut self) -> Result<(), String> {
        self.restart_at = None;
        match self.agent.start().await {
            Ok(()) => Ok(()),
            Err(error) => self.failed_to_start(&error),
        }
    }

    /// A full disk is the one reason not to begin.
    fn failed_to_start(&mut self, error: &str) -> Result<(), String> {
        self.say(&format!("** the agent cannot begin: {error}"));
        if !self.agent.disk.is_full() {
            return Err(format!("the agent does not begin: {error}"));
        }
        self.restart_at = Some(self.sky.passed() + RESTART_AFTER);
        Ok(())
    }

    fn start_dashboard(&self) {
        if !self.network.has_dashboard() {
            let dashboard = Dashboard::start(&self.directory.path().join("dashboard"));
            self.network.set_dashboard(Some(dashboard));
        }
    }

    /// Lets time pass, with what happens by itself.
    async fn wait_until(&mut self, at: Duration) -> Result<(), String> {
        while self.sky.passed() < at {
            let next = self.restart_at.map_or(at, |restart| restart.min(at));
            let span = next.saturating_sub(self.sky.passed()).min(HOUR);
            tokio::select! {
                () = sleep(span) => {}
                () = self.network.now_dies() => {
                    self.say("** the agent dies in the middle of an exchange");
                    let steps = u32::try_from(self.random.between(0, 12)).unwrap();
                    self.die(steps).await?;
                    let after = self.random.span(Duration::from_secs(1), HOUR);
                    self.restart_at = Some(self.sky.passed() + after);
                }
                ended = self.agent.ended() => match ended {
                    Ok(Ok(())) => return Err("the agent ended unasked".to_owned()),
                    Ok(Err(error)) => {
                        let error = cms_telemetry_agent::status::error_chain(&error);
                        self.failed_to_start(&error)?;
                    }
                    Err(error) => return Err(format!("the agent panicked: {error}")),
                },
            }
            if self
                .restart_at
                .is_some_and(|restart| restart <= self.sky.passed())
            {
                self.start().await?;
            }
            self.count_the_hour()?;
        }
        Ok(())
    }

    /// Nothing spins: neither on the wire nor on the clock.
    fn count_the_hour(&mut self) -> Result<(), String> {
        if self.hour.began.elapsed() < HOUR {
            return Ok(());
        }
        let (exchanges, successes) = self.network.counts();
        let looks = self.sky.looks();
        let began = std::mem::replace(
            &mut self.hour,
            Hour {
                began: Instant::now(),
                exchanges,
                successes,
                looks,
            },
        );
        let hours = (Instant::now() - began.began).as_secs().div_ceil(3_600);
        let (tried, taken) = (exchanges - began.exchanges, successes - began.successes);
        let failed = tried - taken;
        if failed > FAILURES_AN_HOUR_MAX * hours + 2 * taken {
            return Err(format!(
                "{failed} exchanges failed within {hours} h, {taken} did not"
            ));
        }
        let looked = looks - began.looks;
        if looked > LOOKS_AN_HOUR_MAX * hours + LOOKS_AN_EXCHANGE_MAX * tried {
            return Err(format!(
                "{looked} looks at the clock within {hours} h, with {tried} exchanges"
            ));
        }
        if let Some(panic) = self.trace.panicked() {
            return Err(panic);
        }
        Ok(())
    }

    fn copy(&self) -> PathBuf {
        self.directory.path().join("copy")
    }

    fn say(&self, text: &str) {
        let off = agent_now(&self.sky).duration_since(self.sky.true_now());
        let shown = if off.is_zero() {
            text.to_owned()
        } else {
            format!("{text} [agent's clock {off:#}]")
        };
        self.trace.say(self.sky.true_now(), &shown);
    }
}
