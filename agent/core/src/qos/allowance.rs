//! How much CPU all best-effort work may use together.
//!
//! **Problem.** Too much harms the next burst, too little wastes the node, and a controller that answers each noise flaps.
//! **Method.** Down fast and by measured harm: a breach leaves half of what was *used* (a limit far above the use would cut
//! nothing), a severe one the floor. Up slowly: only when everything was calm for ten seconds, by a tenth of the node a second,
//! and a tenth of that near the level at which it broke. Between calm and breach nothing moves.
//! What is too much is what [`Own`] says is borne: the target, beside what a task waits by itself.
//! **Bounds.** Floor ≤ allowance ≤ CPUs − headroom − what others use. Not known is neither calm nor a breach: nothing grows,
//! and after ten seconds it is the floor.

use serde::Serialize;

use super::meter::{Measured, Reading};
use super::own::Own;
use super::reason::Reason;
use super::settings::{
    ALIKE, BAND, CALM, CLEAN_MS, CUT, GROWTH, HEADROOM, LEAST_MILLIS, NEAR, NEAR_GROWTH, REMEMBERED_MS,
    SEVERE, SLOW_MS, STALE_MS, Settings,
};

/// A pause between readings after which what was calm before it proves nothing, ms.
const PAUSE_MS: u64 = 2 * SLOW_MS;

/// What best-effort work may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Allowance {
    /// There is no such work.
    #[default]
    Idle,
    /// Nobody is to be protected: only the kernel's own order holds.
    Open,
    /// So much, thousandths of a core.
    Capped {
        /// All of it together.
        millis: u32,
    },
}

/// The allowance and what led to it.
#[derive(Debug, Clone)]
pub struct Cpu {
    settings: Settings,
    cpu_millis: u32,
    allowance: Allowance,
    at_ms: u64,
    clean_since: Option<u64>,
    blind_since: Option<u64>,
    grown_ms: u64,
    broke: Option<Broke>,
    /// More than this was harm when it was tried, thousandths of a core.
    limit: Option<u32>,
    earned: Option<Earned>,
    /// All of it is in the kernel's idle class.
    idle: bool,
    /// What the others use in the mean of the last seconds, if that is known.
    others: Option<u32>,
}

/// Headroom that pauses have shown to be needless.
#[derive(Debug, Clone, Copy)]
struct Earned {
    /// What is left of it, share of the node's CPUs.
    headroom: f64,
    /// What the others used then, thousandths of a core: beside more it is not known.
    others: u32,
}

/// What no harm has led to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Harmless {
    /// The limit of an earlier harm is higher now, thousandths of a core.
    Limit {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// Less headroom is left free, shares of the node's CPUs.
    Headroom {
        /// Before.
        from: f64,
        /// Now.
        to: f64,
    },
}

/// The last breach.
#[derive(Debug, Clone, Copy)]
struct Broke {
    /// What best-effort work used, thousandths of a core.
    level: u32,
    at_ms: u64,
    /// What the others used, if that was known.
    others: Option<u32>,
}

/// The task that suffers most: by which measure, how much of it is borne, and how many times that it is.
struct Worst<'a> {
    reading: &'a Reading,
    by_delay: bool,
    borne: f64,
    ratio: f64,
}

impl Cpu {
    /// For a node with so many CPUs, thousandths.
    #[must_use]
    pub fn new(settings: Settings, cpu_millis: u32) -> Self {
        Self {
            settings,
            cpu_millis,
            allowance: Allowance::Idle,
            at_ms: 0,
            clean_since: None,
            blind_since: None,
            grown_ms: 0,
            broke: None,
            limit: None,
            earned: None,
            idle: false,
            others: None,
        }
    }

    /// What is in force.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// So much is the whole node: no quota is needed for it.
    #[must_use]
    pub fn is_all(&self, millis: u32) -> bool {
        millis >= self.cpu_millis
    }

    /// What best-effort work keeps whatever happens, with so many tasks.
    #[must_use]
    pub fn floor(&self, tasks: usize) -> u32 {
        let least = LEAST_MILLIS.saturating_mul(u32::try_from(tasks).unwrap_or(u32::MAX));
        least.max((f64::from(self.cpu_millis) * self.settings.floor) as u32)
    }

    /// Whether all best-effort work is in the kernel's idle class.
    pub fn yields(&mut self, idle: bool) {
        self.idle = idle;
    }

    /// Share of the node's CPUs that is left free before pauses have shown anything: what the owner said, otherwise none where any other thread
    /// takes the CPU from best-effort work at once, since there a quota is all that would harm.
    #[must_use]
    pub fn usual_headroom(&self) -> f64 {
        self.settings.headroom.unwrap_or(if self.idle { 0.0 } else { HEADROOM })
    }

    /// Share of the node's CPUs that is left free now.
    #[must_use]
    pub fn headroom(&self) -> f64 {
        let usual = self.usual_headroom();
        let beside = |earned: &Earned| {
            self.others.is_none_or(|now| f64::from(now) * ALIKE <= f64::from(earned.others))
        };
        self.earned.filter(beside).map_or(usual, |earned| earned.headroom.min(usual))
    }

    /// What headroom leaves when others use so much. Without any, all CPUs: what others leave is the kernel's to say, and a quota would only
    /// add its own stops and starts.
    #[must_use]
    pub fn ceiling(&self, tasks: usize, others: u32) -> u32 {
        let headroom = self.headroom();
        if headroom <= 0.0 {
            return self.cpu_millis;
        }
        let all = (f64::from(self.cpu_millis) * (1.0 - headroom)) as u32;
        all.saturating_sub(others).max(self.floor(tasks))
    }

    /// The settings were read again. Headroom that was given up by the old ones is left free again; a limit stays until experiments raise it,
    /// or goes when there are to be none.
    pub fn set(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        (self.clean_since, self.earned) = (None, None);
        self.limit = self.limit.filter(|_| settings.pauses);
    }

    /// Decides on a reading. `tasks` = best-effort tasks, `memory_calm` = nothing is wrong with memory.
    pub fn step(
        &mut self,
        now_ms: u64,
        tasks: usize,
        measured: &Measured,
        own: &Own,
        memory_calm: bool,
    ) -> Reason {
        if now_ms.saturating_sub(self.at_ms) > PAUSE_MS {
            self.clean_since = None;
        }
        self.at_ms = now_ms;
        if tasks == 0 {
            (self.allowance, self.clean_since, self.blind_since) = (Allowance::Idle, None, None);
            // What comes next may be of another kind.
            (self.limit, self.earned) = (None, None);
            return Reason::NoBestEffort;
        }
        if measured.critical.is_empty() {
            (self.clean_since, self.blind_since) = (None, None);
            let was = std::mem::replace(&mut self.allowance, Allowance::Open);
            return if was == Allowance::Open { Reason::NoLatencyCritical } else { Reason::Opened };
        }
        self.others = measured.others_mean_millis.or(self.others);
        let floor = self.floor(tasks);
        let now = measured.others_millis.map(|others| self.ceiling(tasks, others));
        let millis = match self.allowance {
            Allowance::Idle => return self.begin(floor),
            // It ran alone: what headroom leaves is where it begins, if that is known.
            Allowance::Open => return self.begin(now.unwrap_or(floor)),
            Allowance::Capped { millis } => millis.max(floor),
        };
        self.allowance = Allowance::Capped { millis };
        let unknown = measured.critical.iter().find(|reading| reading.wait().is_none());
        let breach = self.worst(&measured.critical, own).filter(|worst| worst.ratio > 1.0);
        let near = self.lately(&measured.critical, own).filter(|(_, ratio)| *ratio > CALM);
        let calm = unknown.is_none() && memory_calm && breach.is_none() && near.is_none();
        let clean_since = if calm { Some(self.clean_since.unwrap_or(now_ms)) } else { None };
        self.clean_since = clean_since;
        self.blind_since = unknown.map(|_| self.blind_since.unwrap_or(now_ms));
        if let Some(worst) = breach {
            return self.breach(now_ms, millis, floor, measured, &worst);
        }
        let band = (f64::from(self.cpu_millis) * self.headroom() * BAND) as u32;
        if let Some(to) = now.filter(|ceiling| millis > *ceiling + band) {
            self.allowance = Allowance::Capped { millis: to };
            return Reason::HeadroomShort { others: measured.others_millis.unwrap_or(0), from: millis, to };
        }
        if let (Some(reading), Some(since)) = (unknown, self.blind_since) {
            return self.blind(&reading.task.to_string(), now_ms - since, floor);
        }
        let Some(since) = clean_since else {
            return match near {
                Some((reading, of_threshold)) => Reason::NotCalm { task: reading.task.clone(), of_threshold },
                None => Reason::MemoryNotCalm,
            };
        };
        self.grow(now_ms, now_ms - since, millis, tasks, measured)
    }

    /// No reading came at all for as long as since the last step.
    pub fn silent(&mut self, now_ms: u64, tasks: usize) -> Option<Reason> {
        let for_ms = now_ms.saturating_sub(self.at_ms);
        let capped = matches!(self.allowance, Allowance::Capped { .. });
        (capped && for_ms >= STALE_MS).then(|| {
            self.clean_since = None;
            self.blind("the node", for_ms, self.floor(tasks))
        })
    }

    /// When [`Self::silent`] has something to say, ms; `None` while there is no limit to lower.
    #[must_use]
    pub fn silent_at_ms(&self, tasks: usize) -> Option<u64> {
        match self.allowance {
            Allowance::Capped { millis } if millis > self.floor(tasks) => Some(self.at_ms + STALE_MS),
            _ => None,
        }
    }

    fn begin(&mut self, millis: u32) -> Reason {
        self.allowance = Allowance::Capped { millis };
        (self.clean_since, self.blind_since) = (None, None);
        Reason::Began { millis }
    }

    /// Counted waits are the finer measure: where there are some, stalled time is not looked at.
    fn worst<'a>(&self, critical: &'a [Reading], own: &Own) -> Option<Worst<'a>> {
        let worst = critical.iter().filter_map(|reading| {
            let (by_delay, is) = reading.wait()?;
            let borne = own.borne(&reading.task, by_delay, &self.settings);
            Some(Worst { reading, by_delay, borne, ratio: is / borne })
        });
        worst.max_by(|a, b| a.ratio.total_cmp(&b.ratio))
    }

    /// The task that was nearest to what is borne in the last seconds: one reading shows a breach, and not that it is calm.
    fn lately<'a>(&self, critical: &'a [Reading], own: &Own) -> Option<(&'a Reading, f64)> {
        let ratios = critical.iter().filter_map(|reading| {
            let (by_delay, is) = reading.wait()?;
            let lately = own.lately(&reading.task, by_delay).unwrap_or(is);
            Some((reading, lately / own.borne(&reading.task, by_delay, &self.settings)))
        });
        ratios.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn breach(
        &mut self,
        now_ms: u64,
        millis: u32,
        floor: u32,
        measured: &Measured,
        worst: &Worst<'_>,
    ) -> Reason {
        let task = worst.reading.task.clone();
        if millis <= floor {
            if let Some(broke) = &mut self.broke {
                broke.others = broke.others.max(measured.others_millis);
            }
            return Reason::AtFloor { task, millis };
        }
        let severe = worst.by_delay && worst.ratio >= SEVERE;
        let to = self.cut(now_ms, millis, floor, measured, severe);
        let reading = worst.reading;
        if worst.by_delay {
            let (delay_ns, target_ns) = (reading.delay_ns.unwrap_or(0), worst.borne as u64);
            Reason::DelayAbove { task, delay_ns, target_ns, from: millis, to }
        } else {
            let (share, threshold) = (reading.cpu_stall.unwrap_or(0.0), worst.borne);
            Reason::CpuStallAbove { task, share, threshold, from: millis, to }
        }
    }

    fn cut(&mut self, now_ms: u64, millis: u32, floor: u32, measured: &Measured, severe: bool) -> u32 {
        // A limit that was not used does no harm, and lowering it does no good.
        let used = measured.best_millis.unwrap_or(millis).clamp(floor, millis);
        let to = if severe { floor } else { ((f64::from(used) * CUT) as u32).max(floor) };
        self.allowance = Allowance::Capped { millis: to };
        // A breach of several readings broke at the level of the first.
        let before = self.broke.filter(|broke| now_ms.saturating_sub(broke.at_ms) < CLEAN_MS);
        let level = before.map_or(used, |broke| broke.level.max(used));
        let others = before.and_then(|broke| broke.others).max(measured.others_millis);
        self.broke = Some(Broke { level, at_ms: now_ms, others });
        to
    }

    /// The experiment found harm: gives way as for a breach, and stays there. `None` when there is nothing left to give.
    pub fn harmed(&mut self, now_ms: u64, tasks: usize, measured: &Measured) -> Option<(u32, u32)> {
        let floor = self.floor(tasks);
        let Allowance::Capped { millis } = self.allowance else { return None };
        if millis <= floor {
            return None;
        }
        self.clean_since = None;
        let to = self.cut(now_ms, millis, floor, measured, false);
        (self.limit, self.earned) = (Some(to), None);
        Some((millis, to))
    }

    /// The experiment found none near the limit that it has set before, or near the ceiling: a step more may be tried. `None` when it was
    /// not near it, or nothing is left to try.
    pub fn harmless(&mut self, tasks: usize, measured: &Measured) -> Option<Harmless> {
        let Allowance::Capped { millis } = self.allowance else { return None };
        let near = |level: u32| f64::from(millis) >= f64::from(level) * NEAR;
        if let Some(from) = self.limit {
            let to = from + (f64::from(self.cpu_millis) * GROWTH) as u32;
            return near(from).then(|| {
                self.limit = Some(to).filter(|to| !self.is_all(*to));
                Harmless::Limit { from, to }
            });
        }
        let others = measured.others_mean_millis?;
        let from = self.headroom();
        if !near(self.ceiling(tasks, others)) {
            return None;
        }
        let to = if from > GROWTH { from - GROWTH } else { 0.0 };
        self.earned = Some(Earned { headroom: to, others });
        (from > 0.0).then_some(Harmless::Headroom { from, to })
    }

    /// What the experiment allows at most, thousandths of a core.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        self.limit
    }

    fn blind(&mut self, what: &str, for_ms: u64, floor: u32) -> Reason {
        match self.allowance {
            Allowance::Capped { millis } if for_ms >= STALE_MS && millis > floor => {
                self.allowance = Allowance::Capped { millis: floor };
                Reason::BlindTooLong { for_ms, from: millis, to: floor }
            }
            _ => Reason::NoData { what: what.to_owned(), for_ms },
        }
    }

    fn grow(&mut self, now_ms: u64, clean_ms: u64, from: u32, tasks: usize, measured: &Measured) -> Reason {
        if clean_ms < CLEAN_MS {
            return Reason::NotLongEnough { left_ms: CLEAN_MS - clean_ms };
        }
        // Not the ups and downs of single seconds; but what has begun is not over.
        let Some(others) = measured.others_mean_millis.max(measured.others_millis) else {
            return Reason::NoData { what: "the node's use".to_owned(), for_ms: 0 };
        };
        let ceiling = self.ceiling(tasks, others);
        if from >= ceiling {
            return Reason::AtCeiling { millis: from };
        }
        if let Some(limit) = self.limit.filter(|limit| from >= *limit) {
            return Reason::AtLimit { millis: limit };
        }
        let waited_ms = now_ms.saturating_sub(self.grown_ms);
        if waited_ms < SLOW_MS {
            return Reason::Paced { left_ms: SLOW_MS - waited_ms };
        }
        let step = (f64::from(self.cpu_millis) * GROWTH) as u32;
        // What was too much beside a busier service says nothing about now.
        let alike = |broke: &Broke| {
            let then = broke.others.unwrap_or(0);
            now_ms.saturating_sub(broke.at_ms) < REMEMBERED_MS && f64::from(others) >= f64::from(then) * ALIKE
        };
        let near = self.broke.filter(alike).map(|broke| (f64::from(broke.level) * NEAR) as u32);
        let to = match near {
            Some(near) if from >= near => from + ((f64::from(step) * NEAR_GROWTH) as u32).max(1),
            Some(near) => (from + step).min(near),
            None => from + step,
        };
        let to = to.min(ceiling).min(self.limit.unwrap_or(u32::MAX));
        (self.allowance, self.grown_ms) = (Allowance::Capped { millis: to }, now_ms);
        Reason::Grown { from, to, clean_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, Cpu, Harmless, Settings};
    use crate::qos::meter::Measured;

    fn capped(millis: u32) -> Cpu {
        let mut cpu = Cpu::new(Settings::default(), 8_000);
        cpu.allowance = Allowance::Capped { millis };
        cpu
    }

    fn measured(best: u32, others: u32) -> Measured {
        Measured { best_millis: Some(best), others_mean_millis: Some(others), ..Measured::default() }
    }

    #[test]
    fn headroom_that_was_given_up_comes_back_with_other_settings() {
        let mut cpu = capped(4_400);
        let given = cpu.harmless(1, &measured(4_400, 2_000));
        assert!(
            matches!(given, Some(Harmless::Headroom { from, to }) if from == 0.2 && to < 0.11),
            "{given:?}"
        );
        let up = cpu.headroom();
        cpu.set(Settings::default());
        assert!((cpu.headroom() - up).abs() < 1e-9, "the same settings again change nothing");
        cpu.set(Settings { harm: 0.05, ..Settings::default() });
        assert!((cpu.headroom() - 0.2).abs() < 1e-9);
    }

    /// Measured: idle groups harmed no service, and the stops and starts of a quota did (docs/colocation.md).
    #[test]
    fn where_the_kernel_lets_it_yield_at_once_nothing_is_left_free_unless_the_owner_says_so() {
        let mut cpu = capped(8_000);
        assert_eq!(cpu.ceiling(1, 3_000), 3_400);
        cpu.yields(true);
        assert_eq!((cpu.ceiling(1, 3_000), cpu.headroom()), (8_000, 0.0));
        assert!(cpu.is_all(cpu.ceiling(1, 3_000)), "no quota at all");
        cpu.set(Settings { headroom: Some(0.1), ..Settings::default() });
        assert_eq!(cpu.ceiling(1, 3_000), 4_200);
        // Harm that was found is a limit of its own.
        cpu.set(Settings::default());
        cpu.harmed(0, 1, &measured(4_000, 3_000));
        assert_eq!((cpu.limit(), cpu.ceiling(1, 3_000)), (Some(2_000), 8_000));
    }

    #[test]
    fn a_limit_outlives_other_settings_while_experiments_can_raise_it() {
        let mut cpu = capped(4_000);
        assert_eq!(cpu.harmed(0, 1, &measured(4_000, 2_000)), Some((4_000, 2_000)));
        cpu.set(Settings { harm: 0.2, ..Settings::default() });
        assert_eq!(cpu.limit(), Some(2_000));
        cpu.set(Settings { pauses: false, ..Settings::default() });
        assert_eq!(cpu.limit(), None);
    }
}
