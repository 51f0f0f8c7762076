//! The machine that the agent runs on, or the container where that is the instance.
//!
//! Owns: processor time, memory, traffic, disk operations and energy of one instance, from `/proc`,
//! `/sys` and its control group. Promises: counters as the kernel counts them, each byte and
//! operation once; a value that this machine does not have is absent. Refuses: utilisation computed
//! from two looks of its own; windows do that.

mod cgroup;
mod disks;
mod machine;
mod memory;
mod network;
mod settings;
mod stat;

use std::path::PathBuf;

use async_trait::async_trait;
use cms_spec::Subject;
use cms_spec::ghost::InstanceFacts;
use cms_spec::provenance::{Confidence, Origin};
use cms_spec::reading::{Quantity, Readings, Snapshot, Value};
use cms_spec::units::{Bytes, Fixed, MilliPercent, Millis};
use jiff::{SignedDuration, Timestamp};

use self::cgroup::{Group, Usage};
use self::machine::Machine;
use self::stat::Stat;
use super::power::{self, Instance, Ladder, Span};
use crate::host::read_text;
use crate::{CollectError, Collector, Host};

pub use self::settings::REGISTRATION;

/// Facts are repeated this often, so that one lost sample does not leave an instance without them.
const FACTS_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// The kernel computes the boot time anew from a clock that is being set; less than this is no
/// other boot time.
const BOOT_TIME_JITTER_S: u64 = 5;

/// A span of more than this many intervals is a gap: the machine slept, or the agent did.
const SPAN_INTERVALS_MAX: u64 = 3;

/// What a tick takes from the instance, whole.
#[derive(Clone, Copy, Debug)]
struct Taken {
    uptime: Millis,
    busy: Millis,
    capacity: Millis,
    memory_used: Bytes,
    memory_total: Bytes,
    network: Option<Bytes>,
    disk_operations: Option<u64>,
    cpus_milli: u64,
    launched_s: i64,
}

struct HostCollector {
    host: Host,
    instance: Subject,
    region: String,
    configured_type: Option<Subject>,
    monthly_cost_usd: Option<Fixed<2>>,
    interval_ms: u64,
    ticks_per_s: u64,
    machine: Machine,
    group: Option<Group>,
    ladder: Ladder,
    before: Option<Taken>,
    facts: Option<(InstanceFacts, Timestamp)>,
}

impl HostCollector {
    fn open(settings: &settings::Config, host: &Host) -> Result<Self, CollectError> {
        let machine = Machine::read(host);
        let group = match settings.scope {
            settings::Scope::Cgroup => Some(Group::find(host)?),
            settings::Scope::Host => None,
        };
        let mut opened = Self {
            host: host.clone(),
            instance: settings
                .instance_id
                .clone()
                .unwrap_or_else(|| host.instance.clone()),
            region: settings
                .region
                .as_ref()
                .map_or(&*host.region, Subject::as_str)
                .to_owned(),
            configured_type: settings.instance_type.clone(),
            monthly_cost_usd: settings.monthly_cost_usd.map(|d| d.0),
            interval_ms: settings.interval.millis(),
            ticks_per_s: rustix::param::clock_ticks_per_second(),
            ladder: Ladder::default(),
            machine,
            group,
            before: None,
            facts: None,
        };
        let cpus_milli = opened.take()?.cpus_milli;
        let is_virtual = match settings.hardware {
            settings::Hardware::Detected => opened.machine.is_virtual,
            settings::Hardware::Physical => false,
            settings::Hardware::Virtual => true,
        };
        let instance = match (&opened.group, is_virtual) {
            (Some(_), _) => Instance::Container { cpus_milli },
            (None, true) => Instance::Virtual { cpus_milli },
            (None, false) => Instance::Physical,
        };
        opened.ladder = Ladder::new(
            &settings.power,
            host,
            &power_machine(&opened.machine, instance),
        );
        Ok(opened)
    }

    fn read<T>(
        &self,
        path: &str,
        parse: impl FnOnce(&std::path::Path, &str) -> Result<T, CollectError>,
    ) -> Result<T, CollectError> {
        let path = self.host.proc(path);
        parse(&path, &read_text(&path)?)
    }

    /// Reads everything that can fail before anything is remembered.
    fn take(&self) -> Result<Taken, CollectError> {
        let uptime = self.read("uptime", stat::parse_uptime)?;
        let stat = self.read("stat", |p, t| stat::parse(p, t, self.ticks_per_s))?;
        let memory = self.read("meminfo", memory::parse)?;
        let network = self.network()?;
        match &self.group {
            Some(group) => {
                let usage = group.read()?;
                self.of_group(uptime, &stat, memory.total, network, &usage)
            }
            None => Ok(Taken {
                uptime,
                busy: stat.time.busy,
                capacity: stat.time.capacity,
                memory_used: memory.used(),
                memory_total: memory.total,
                network,
                disk_operations: self.disk_operations()?,
                cpus_milli: stat.cpus.saturating_mul(1000),
                launched_s: stat.boot_s,
            }),
        }
    }

    fn of_group(
        &self,
        uptime: Millis,
        stat: &Stat,
        memory_total: Bytes,
        network: Option<Bytes>,
        usage: &Usage,
    ) -> Result<Taken, CollectError> {
        let online_milli = stat.cpus.saturating_mul(1000);
        let cpus_milli = usage.cpus_milli.unwrap_or(online_milli).min(online_milli);
        let started = self.read("1/stat", |p, t| stat::parse_start(p, t, self.ticks_per_s))?;
        let started_s = i64::try_from(started.0 / 1000).unwrap_or(i64::MAX);
        let memory_limit = usage.memory_limit.unwrap_or(memory_total).min(memory_total);
        Ok(Taken {
            uptime,
            busy: usage.busy,
            capacity: self.quota_since(uptime, cpus_milli),
            memory_used: usage.memory_used.min(memory_limit),
            memory_total: memory_limit,
            network,
            disk_operations: usage.disk_operations,
            cpus_milli,
            launched_s: stat.boot_s.saturating_add(started_s),
        })
    }

    /// Quota times time, counted from this start of the agent, because a quota can change at any
    /// time.
    ///
    /// After a gap it starts again, which windows read as the reset that it is.
    fn quota_since(&self, uptime: Millis, cpus_milli: u64) -> Millis {
        let Some(before) = self.before.filter(|b| self.is_span(b.uptime, uptime)) else {
            return Millis::ZERO;
        };
        let grown = (uptime - before.uptime).0.saturating_mul(cpus_milli) / 1000;
        before.capacity + Millis(grown)
    }

    fn is_span(&self, from: Millis, to: Millis) -> bool {
        from < to && (to - from).0 <= self.interval_ms.saturating_mul(SPAN_INTERVALS_MAX)
    }

    /// The traffic that the first process sees; with the machine's own `/proc` mounted into a
    /// container this is the machine's and not the container's.
    fn network(&self) -> Result<Option<Bytes>, CollectError> {
        let sys = self.host.sys("class/net");
        for path in ["1/net/dev", "net/dev"] {
            match self.read(path, |p, t| network::parse(p, t, &sys)) {
                Err(CollectError::Vanished { .. } | CollectError::Denied { .. }) => {}
                answer => return answer,
            }
        }
        Ok(None)
    }

    fn disk_operations(&self) -> Result<Option<u64>, CollectError> {
        let sys: PathBuf = self.host.sys("block");
        match self.read("diskstats", |p, t| disks::parse(p, t, &sys)) {
            Err(CollectError::Vanished { .. }) => Ok(None),
            answer => answer,
        }
    }

    fn facts(&self, taken: &Taken) -> Result<InstanceFacts, CollectError> {
        let launched = Timestamp::from_second(taken.launched_s);
        let launched = launched.map_err(|_| {
            CollectError::malformed(&self.host.proc("stat"), "its boot time is out of range")
        })?;
        let earlier = self.facts.as_ref().map(|(facts, _)| facts.launch_time);
        let is_jitter = |earlier: &Timestamp| {
            earlier.as_second().abs_diff(taken.launched_s) <= BOOT_TIME_JITTER_S
        };
        let told = || {
            self.machine
                .instance_type(taken.cpus_milli, taken.memory_total)
        };
        Ok(InstanceFacts {
            instance: self.instance.clone(),
            instance_type: self
                .configured_type
                .as_ref()
                .map_or_else(told, |t| t.as_str().to_owned()),
            region: self.region.clone(),
            launch_time: earlier.filter(is_jitter).unwrap_or(launched),
            monthly_cost_usd: self.monthly_cost_usd,
        })
    }

    fn push_values(&self, taken: &Taken, out: &mut Readings) {
        let method = self.group.as_ref().map_or("procfs/1", Group::method);
        let source = if self.group.is_some() {
            "cgroup"
        } else {
            "procfs"
        };
        let kernel = out.origin(Origin::measured(source, method, Confidence::B));
        let mut push = |quantity, value| out.push(&self.instance, quantity, value, kernel);
        push(Quantity::CpuBusyMs, Value::Counter(taken.busy.0));
        push(Quantity::CpuCapacityMs, Value::Counter(taken.capacity.0));
        if let Some(share) = MilliPercent::of(taken.memory_used.0, taken.memory_total.0) {
            push(Quantity::MemoryUsedMilliPercent, Value::Gauge(share.0));
        }
        if let Some(bytes) = taken.network {
            push(Quantity::NetworkBytes, Value::Counter(bytes.0));
        }
        if let Some(operations) = taken.disk_operations {
            push(Quantity::DiskOperations, Value::Counter(operations));
        }
    }

    /// What passed since the tick before; nothing after a gap, or when a counter fell.
    fn span(&self, taken: &Taken) -> Option<Span> {
        let before = self
            .before
            .filter(|b| self.is_span(b.uptime, taken.uptime))?;
        Some(Span {
            over: taken.uptime - before.uptime,
            busy: Millis(taken.busy.0.checked_sub(before.busy.0)?),
            capacity: Millis(taken.capacity.0.checked_sub(before.capacity.0)?),
        })
    }
}

#[async_trait]
impl Collector for HostCollector {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        let taken = self.take()?;
        let facts = self.facts(&taken)?;
        let is_told = |(told, when): &(InstanceFacts, Timestamp)| {
            *told == facts && at.duration_since(*when).abs() < FACTS_EVERY
        };
        if !self.facts.as_ref().is_some_and(is_told) {
            out.snapshot(Snapshot::Instance(facts.clone()));
            self.facts = Some((facts, at));
        }
        self.push_values(&taken, out);
        let span = self.span(&taken);
        if let Some(spoken) = self.ladder.read(at, span.as_ref()) {
            let origin = out.origin(spoken.origin);
            let value = Value::Amount {
                amount: spoken.energy.0,
                over_ms: spoken.over.0,
            };
            out.push(&self.instance, Quantity::EnergyUj, value, origin);
        }
        if let Some(checks) = self.ladder.cross_checks(&self.instance) {
            out.snapshot(Snapshot::CrossChecks(checks));
        }
        self.before = Some(taken);
        Ok(())
    }

    fn details(&self) -> Vec<String> {
        self.ladder.lines()
    }

    fn is_waiting(&self) -> bool {
        self.ladder.is_waiting()
    }
}

fn power_machine(machine: &Machine, instance: Instance) -> power::Machine {
    power::Machine {
        processor: machine.processor.clone(),
        chips: machine.chips,
        instance,
    }
}
