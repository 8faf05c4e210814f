//! How many NodeManagers a YARN cluster needs.
//!
//! Problem: what is allocated is what applications asked for, not what they use, and what waits comes in waves: a job asks for all its maps at
//! once. Method: means over two minutes of what waits and of what is free, and half of the difference at a time, as Dataproc does (its
//! `scaleUpFactor` and `scaleDownFactor`): half of a wave is gone before the other half would be there. Bounds: nodes that run and can be
//! used count, by what they advertise; the larger of memory and virtual cores decides.

use model::reason::{Reason, Signal};
use model::yarn::{Resources, YarnReport, YarnState};

use crate::assess::Assessment;
use crate::event::Time;

/// Half of a mean is of so many ms: most of it of the last two minutes (workloads.md start values).
pub const HALF_MS: f64 = 40_000.0;
/// Share of the difference between what waits and what is free that a step makes up for, both ways (workloads.md start values).
pub const FACTOR: f64 = 0.5;

/// So many nodes must be free for one to be given up: half of one would never let the last spare one go.
pub const ONE_SPARE: f64 = 1.25;

/// An amount of both resources.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Amount {
    memory_mib: f64,
    vcores: f64,
}

impl From<Resources> for Amount {
    fn from(r: Resources) -> Self {
        Self { memory_mib: r.memory_mib as f64, vcores: f64::from(r.vcores) }
    }
}

impl Amount {
    fn toward(self, to: Self, share: f64) -> Self {
        Self {
            memory_mib: self.memory_mib + (to.memory_mib - self.memory_mib) * share,
            vcores: self.vcores + (to.vcores - self.vcores) * share,
        }
    }

    /// How many times `node` is in it, by the resource of which it is most.
    fn nodes_most(self, node: Self) -> f64 {
        (self.memory_mib / node.memory_mib.max(1.0)).max(self.vcores / node.vcores.max(1.0))
    }

    /// The same, by the resource of which it is least.
    fn nodes_least(self, node: Self) -> f64 {
        (self.memory_mib / node.memory_mib.max(1.0)).min(self.vcores / node.vcores.max(1.0))
    }
}

/// What waits and what is free, smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Means {
    at: Option<Time>,
    /// Since when containers have waited without a pause.
    waiting_since: Option<Time>,
    pending: Amount,
    free: Amount,
}

impl Means {
    /// Takes a new report in.
    pub fn observe(&mut self, report: &YarnReport, now: Time) {
        let (pending, free) = (report.pending.into(), free(report).into());
        // The first one is all that is known.
        let share = self.at.map_or(1.0, |at| 1.0 - 0.5_f64.powf(now.since(at) as f64 / HALF_MS));
        self.pending = self.pending.toward(pending, share);
        self.free = self.free.toward(free, share);
        self.at = Some(now);
        self.waiting_since = (report.containers_pending > 0).then(|| self.waiting_since.unwrap_or(now));
    }

    /// For how long containers have waited without a pause, ms: none of those that wait now has waited longer.
    #[must_use]
    pub fn waited_ms(&self) -> u64 {
        self.waiting_since.zip(self.at).map_or(0, |(since, at)| at.since(since))
    }
}

fn running(report: &YarnReport) -> impl Iterator<Item = &model::yarn::YarnNode> {
    report.nodes.iter().filter(|node| node.state == YarnState::Running)
}

fn free(report: &YarnReport) -> Resources {
    running(report).map(|node| node.total.without(node.used)).sum()
}

/// What the signals say. `wanted` = nodes wanted so far, `target_ms` = how long containers may wait.
#[must_use]
pub fn assess(report: Option<&YarnReport>, means: &Means, wanted: u32, target_ms: u64) -> Assessment {
    let Some(report) = report else { return Assessment::blind(wanted, Vec::new()) };
    let there = u32::try_from(running(report).count()).unwrap_or(u32::MAX);
    let total: Resources = running(report).map(|node| node.total).sum();
    let used: Resources = running(report).map(|node| node.used).sum();
    if there == 0 || total == Resources::default() {
        // Nothing runs, so nothing is known of what a node could be.
        return Assessment::blind(wanted.max(u32::from(report.containers_pending > 0)), Vec::new());
    }
    let count = f64::from(there);
    let node =
        Amount { memory_mib: total.memory_mib as f64 / count, vcores: f64::from(total.vcores) / count };
    let (waits, spare) = (means.pending.nodes_most(node), means.free.nodes_least(node));
    let lacking = waits - spare;
    let mut said = Assessment::blind(1, Vec::new());
    let busy = Amount::from(used).nodes_most(node);
    (said.utilisation, said.load) = (busy / count, busy + waits);
    said.ahead = said.load;
    let waited_ms = means.waited_ms();
    let wish = if lacking > 0.0 && waited_ms < target_ms {
        there
    } else if lacking > 0.0 {
        there.saturating_add((FACTOR * lacking).ceil() as u32)
    } else {
        // What a node would leave free is not what a shrink may count on: whole ones only, and the last one with something to spare.
        let one = u32::from(-lacking >= ONE_SPARE);
        there.saturating_sub(((FACTOR * -lacking).floor() as u32).max(one)).max(1)
    };
    let detail = format!(
        "containers for {} wait ({waits:.1} nodes' worth) for {} s, {spare:.1} nodes' worth is free on {there}",
        report.pending,
        waited_ms / 1_000
    );
    said.wish(Signal::Containers, wish, detail);
    if wish > wanted {
        let pending = report.containers_pending;
        said.grow.push(Reason::ContainersWait { waited_ms, target_ms, pending });
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::yarn::YarnNode;

    fn resources(memory_mib: u64, vcores: u32) -> Resources {
        Resources { memory_mib, vcores }
    }

    /// So many nodes of 1 GiB and 4 cores, each with so much in use, and so much that waits.
    fn report(nodes: u32, used: Resources, pending: Resources) -> YarnReport {
        let node = |n: u32| YarnNode {
            host: format!("w{n}"),
            port: Some(8041),
            state: YarnState::Running,
            total: resources(1_024, 4),
            used,
            containers: 1,
            masters: 0,
            health: String::new(),
        };
        YarnReport {
            cluster: "batch".into(),
            started_ms: 1,
            labels: false,
            pending,
            containers_pending: u32::from(pending.memory_mib > 0),
            apps_running: 1,
            apps_pending: 0,
            excluded: None,
            nodes: (1..=nodes).map(node).collect(),
        }
    }

    fn need(report: &YarnReport, wanted: u32) -> Assessment {
        let mut means = Means::default();
        for second in 0..60 {
            means.observe(report, Time(second * 5_000));
        }
        assess(Some(report), &means, wanted, 30_000)
    }

    #[test]
    fn half_of_what_waits_beyond_what_is_free_is_asked_for() {
        let full = report(3, resources(1_024, 4), resources(4_096, 4));
        let said = need(&full, 3);
        assert_eq!((said.need, said.grow.len()), (5, 1), "four nodes' worth waits: {said:?}");
        let some = report(3, resources(512, 2), resources(1_024, 2));
        assert_eq!(need(&some, 3).need, 3, "what waits has room");
    }

    #[test]
    fn the_resource_of_which_there_is_least_decides() {
        let cores = report(2, resources(128, 4), resources(128, 4));
        assert_eq!(need(&cores, 2).need, 3, "no core is free, however much memory is");
    }

    #[test]
    fn whole_nodes_that_are_free_are_given_up_half_by_half() {
        let idle = report(6, Resources::default(), Resources::default());
        assert_eq!(need(&idle, 6).need, 3);
        let half = report(2, resources(512, 2), Resources::default());
        assert_eq!(need(&half, 2).need, 2, "one node is free, and nothing beside it");
        let three = report(3, resources(512, 2), Resources::default());
        assert_eq!(need(&three, 3).need, 2, "one and a half are");
        let one = report(1, Resources::default(), Resources::default());
        assert_eq!(need(&one, 1).need, 1);
    }

    #[test]
    fn a_wave_that_is_over_soon_is_not_chased() {
        let calm = report(4, resources(1_024, 4), Resources::default());
        let wave = report(4, resources(1_024, 4), resources(8_192, 32));
        let mut means = Means::default();
        for round in 0..60 {
            means.observe(&calm, Time(round * 5_000));
        }
        means.observe(&wave, Time(300_000));
        let said = assess(Some(&wave), &means, 4, 0);
        assert_eq!(said.need, 5, "one report of a wave of eight nodes' worth: {said:?}");
    }

    #[test]
    fn what_waits_within_the_target_asks_for_nothing() {
        let (full, calm) = (
            report(2, resources(1_024, 4), resources(4_096, 4)),
            report(2, resources(1_024, 4), Resources::default()),
        );
        let mut means = Means::default();
        for (seconds, report, need) in
            [(0, &full, 2), (25, &full, 2), (30, &full, 4), (35, &calm, 2), (40, &full, 2)]
        {
            means.observe(report, Time(seconds * 1_000));
            assert_eq!(assess(Some(report), &means, 2, 30_000).need, need, "after {seconds} s");
        }
    }

    #[test]
    fn missing_reports_say_nothing_and_a_cluster_without_nodes_needs_one() {
        let means = Means::default();
        assert_eq!(assess(None, &means, 3, 0).need, 3);
        let none = report(0, Resources::default(), resources(256, 1));
        assert_eq!(assess(Some(&none), &means, 0, 0).need, 1);
    }
}
