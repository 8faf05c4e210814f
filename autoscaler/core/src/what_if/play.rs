//! One play: a workload's recorded load, decided round by round.
//!
//! Nothing is decided here: each round asks the kind's wishes, then [`crate::decide`], and carries the answer out on numbers: an order is
//! ready after the measured time, a replica that leaves is gone at once. What one replica carries stays as it was learned, so it is
//! computed once per number of replicas.

use std::collections::{BTreeMap, VecDeque};

use model::id::TaskName;
use model::reason::{Direction, Reason, Signal};
use model::workload::{Policy, Workload, WorkloadKind};

use super::{Outcome, Recorded, Said, Subject};
use crate::assess::Assessment;
use crate::brain::Config;
use crate::controller;
use crate::decide::{Standing, decide};
use crate::event::Time;
use crate::forecast::{Forecast, Settings};
use crate::horizontal::Capacity;
use crate::hpa::{self, Hpa, Pod};
use crate::rails::{self, Seen};
use crate::service;
use crate::signal::Load;
use crate::stabilise::Stabiliser;

const HOUR_MS: f64 = 3_600_000.0;
const GIB: f64 = 1_073_741_824.0;
/// A load that is exactly what the replicas carry is no breach.
const SLACK: f64 = 1e-6;

/// One play.
pub(super) struct Player<'a> {
    workload: &'a Workload,
    subject: &'a Subject,
    capacity: Capacity,
    /// Requests per second that so many replicas carry.
    carried: BTreeMap<u32, f64>,
    forecast: Forecast,
    stabiliser: Stabiliser,
    hpa: Hpa,
    wanted: u32,
    ready: u32,
    /// Ordered and not ready yet: when they are, and how many.
    coming: VecDeque<(Time, u32)>,
    step_ms: u64,
    /// When the forecast saw a level last: one step has one.
    observed_at: Option<Time>,
    replica_ms: f64,
    breach_ms: u64,
    changes: u32,
    most: u32,
}

impl<'a> Player<'a> {
    /// Begins with as many replicas as were recorded first, within the bounds.
    pub(super) fn new(
        workload: &'a Workload,
        subject: &'a Subject,
        recorded: &Recorded,
        config: &Config,
    ) -> Self {
        let mut capacity = Capacity::new(controller::threads(workload), controller::cores(workload));
        capacity.efficiency = subject.capacity.efficiency;
        let ready_ms = subject.ready_ms;
        let settings = Settings {
            step_ms: recorded.step_ms,
            ahead_ms: ready_ms,
            smooth_ms: controller::smooth_ms(workload, config).max(recorded.step_ms),
            budget: controller::budget(config, ready_ms as f64),
            offset: 0.5 * controller::one(workload, &capacity, subject.work),
        };
        let bounds = workload.spec.replicas;
        let first = recorded.replicas.iter().flatten().next().copied();
        let wanted = first.unwrap_or(bounds.min).clamp(bounds.min, bounds.max);
        Self {
            workload,
            subject,
            capacity,
            carried: BTreeMap::new(),
            forecast: Forecast::new(settings),
            stabiliser: Stabiliser::default(),
            hpa: Hpa::default(),
            wanted,
            ready: wanted,
            coming: VecDeque::new(),
            step_ms: recorded.step_ms,
            observed_at: None,
            replica_ms: 0.0,
            breach_ms: 0,
            changes: 0,
            most: wanted,
        }
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Nothing was recorded until `now`: what was seen before is no proof, and nobody knows the load.
    pub(super) fn blind(&mut self, now: Time) {
        self.arrive(now);
        let missing = Reason::Missing { signal: Signal::Samples };
        self.decide(&Assessment::blind(self.wanted, vec![missing]), None, now);
    }

    /// One round that ends at `now`, with this load of all replicas in cores.
    pub(super) fn round(&mut self, cores: f64, now: Time, round_ms: u64) -> Said {
        self.arrive(now);
        if self.full(cores) > 1.0 + SLACK {
            self.breach_ms += round_ms;
        }
        if self.observed_at.is_none_or(|at| now.since(at) >= self.step_ms) {
            self.forecast.observe(now.0, self.load_of(cores));
            self.observed_at = Some(now);
        }
        let said = self.assess(cores);
        let said = self.decide(&said, Some(cores), now);
        self.replica_ms += f64::from(self.wanted) * round_ms as f64;
        said
    }

    pub(super) fn outcome(&self) -> Outcome {
        let spec = &self.workload.spec;
        let hours = self.replica_ms / HOUR_MS;
        let memory = spec.size.memory.map(|memory| memory.0);
        Outcome {
            replica_hours: hours,
            core_hours: hours * service::cores(spec),
            gib_hours: memory.map(|bytes| hours * bytes as f64 / GIB),
            breach_ms: self.breach_ms,
            changes: self.changes,
            most: self.most,
            cpu_millis: (service::cores(spec) * 1e3) as u64,
            memory_bytes: memory,
        }
    }

    /// The load in the unit of its kind: requests per second, or cores.
    pub(super) fn load_of(&self, cores: f64) -> f64 {
        match (self.workload.spec.kind, self.subject.work.cpu_ms) {
            (WorkloadKind::Rails, Some(cpu_ms)) => cores * 1e3 / cpu_ms,
            _ => cores,
        }
    }

    fn arrive(&mut self, now: Time) {
        while self.coming.front().is_some_and(|(at, _)| *at <= now) {
            self.ready += self.coming.pop_front().map_or(0, |(_, many)| many);
        }
    }

    /// Share of what the ready replicas carry at their target; the tighter of the targets counts.
    fn full(&mut self, cores: f64) -> f64 {
        let spec = &self.workload.spec;
        let given = service::cores(spec) * f64::from(self.ready.max(1));
        let of_cpu = |target: f64| cores / (given * target).max(1e-9);
        if spec.kind != WorkloadKind::Rails {
            return of_cpu(spec.target.cpu.map_or(service::TARGET, |share| share.0));
        }
        let cpu = spec.target.cpu.map_or(0.0, |share| of_cpu(share.0));
        let rate = self.load_of(cores);
        cpu.max(rate / self.carries(self.ready.max(1)).max(1e-9))
    }

    fn carries(&mut self, replicas: u32) -> f64 {
        let target = rails::target_ms(&self.workload.spec);
        let (capacity, work) = (self.capacity, self.subject.work);
        *self.carried.entry(replicas).or_insert_with(|| capacity.carries(replicas, work, target))
    }

    fn assess(&mut self, cores: f64) -> Assessment {
        let spec = &self.workload.spec;
        let ahead = self.forecast.upper().map(|upper| (upper, self.subject.ready_ms));
        let threads = u64::from(self.ready) * u64::from(self.capacity.threads);
        let load = Load::said(self.load_of(cores), self.subject.work, cores, threads);
        if spec.kind != WorkloadKind::Rails {
            return service::wishes(spec, &load, ahead, self.ready, self.wanted, Vec::new());
        }
        let (serving, wanted, capacity) = (self.ready, self.wanted, self.capacity);
        let seen = Seen { spec, load: &load, capacity: &capacity, ahead, serving, wanted };
        rails::wishes(&seen, |replicas| self.carries(replicas), Vec::new())
    }

    fn decide(&mut self, said: &Assessment, cores: Option<f64>, now: Time) -> Said {
        let spec = &self.workload.spec;
        let ceiling = spec
            .rails
            .as_ref()
            .and_then(|rails| rails::ceiling(rails).zip(rails::ceiling_reason(rails, self.wanted)));
        let standing = Standing {
            spec,
            wanted: self.wanted,
            serving: self.ready,
            ceiling,
            changing: self.changing(),
            held: None,
            hpa: (spec.policy == Policy::Hpa).then(|| self.desired(cores)),
        };
        let decided = decide(&standing, said, &mut self.stabiliser, &mut self.hpa, now);
        let before = self.wanted;
        if decided.act {
            self.carry_out(decided.to.clamp(spec.replicas.min, spec.replicas.max), now);
        }
        Said { before, after: self.wanted, reasons: decided.reasons }
    }

    /// A replica on its way, by the name of none.
    fn changing(&self) -> Option<(TaskName, String)> {
        self.coming.front()?;
        let name = TaskName::new(format!("{}-n", self.workload.name)).or_else(|_| TaskName::new("replica"));
        Some((name.ok()?, "starting".to_owned()))
    }

    /// What the HPA's rule desires, of replicas that share the load evenly.
    fn desired(&self, cores: Option<f64>) -> u32 {
        let spec = &self.workload.spec;
        let (Some(target), Some(cores)) = (spec.target.cpu, cores) else { return self.wanted };
        let request = service::cores(spec);
        let usage = Some(cores / f64::from(self.ready.max(1)));
        let ready = (0..self.ready).map(|_| Pod { usage, request, ready: true });
        let coming = (self.ready..self.wanted).map(|_| Pod { usage: None, request, ready: false });
        hpa::by_resource(&ready.chain(coming).collect::<Vec<_>>(), self.wanted, target.0)
    }

    fn carry_out(&mut self, to: u32, now: Time) {
        match to.checked_sub(self.wanted) {
            Some(0) => return,
            Some(more) => {
                self.coming.push_back((now.after(self.subject.ready_ms), more));
                self.stabiliser.changed(Direction::Grow, now);
            }
            None => {
                self.ready = self.ready.saturating_sub(self.wanted - to);
                self.stabiliser.changed(Direction::Shrink, now);
            }
        }
        self.wanted = to;
        self.most = self.most.max(to);
        self.changes = self.changes.saturating_add(1);
    }
}
