//! How long the tasks of a node wait.

use autoscaler_core::fleet::{NodeView, WaitView};
use model::gap::Unavailable;
use model::histogram::{BUCKETS, DelayHistogram, bounds};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Buckets of the layout that are told as one: each is twice as long as the one before.
const TOGETHER: usize = 8;

/// How long tasks of a node waited, over about the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// Length of that time, s.
    pub seconds: f64,
    /// Mean run-queue delay (ready to run, waiting for a CPU) of all tasks, s; null when it is not counted there.
    pub run_delay_mean_seconds: Option<f64>,
    /// 99 % of the waits were at most so long, s, within 6.25 %; null when it is not counted there, or nothing ran.
    pub run_delay_p99_seconds: Option<f64>,
    /// Share of the time in which some task waited for a CPU, 0 to 1; null when the node tells no stalls.
    pub cpu_stall_ratio: Option<f64>,
    /// Share of the time in which all tasks waited for memory, likewise.
    pub memory_stall_ratio: Option<f64>,
    /// Share of the time in which some task waited for IO, likewise.
    pub io_stall_ratio: Option<f64>,
}

impl From<WaitView> for Waits {
    fn from(view: WaitView) -> Self {
        Self {
            seconds: view.seconds,
            run_delay_mean_seconds: view.run_delay_mean_seconds,
            run_delay_p99_seconds: view.run_delay_p99_seconds,
            cpu_stall_ratio: view.cpu_stall_ratio,
            memory_stall_ratio: view.memory_stall_ratio,
            io_stall_ratio: view.io_stall_ratio,
        }
    }
}

/// Run-queue delays of all tasks of a node over about the last minute, by length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delays {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The node.
    pub node: String,
    /// How many waits.
    pub count: u64,
    /// Half of them were at most so long, s; null when there were none.
    pub p50_seconds: Option<f64>,
    /// 90 % of them.
    pub p90_seconds: Option<f64>,
    /// 99 % of them.
    pub p99_seconds: Option<f64>,
    /// From the shortest to the longest.
    pub buckets: Vec<DelayBucket>,
    /// Why there are none, when they are not counted.
    pub unknown: Option<String>,
}

/// Waits of about one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DelayBucket {
    /// At least so long, s.
    pub from_seconds: f64,
    /// Shorter than this, s.
    pub to_seconds: f64,
    /// How many.
    pub count: u64,
}

impl Delays {
    /// What is known of a node.
    #[must_use]
    pub fn of(view: &NodeView, histogram: &DelayHistogram) -> Self {
        let quantile = |share| histogram.quantile_ns(share).map(|ns| ns as f64 / 1e9);
        let count = histogram.count();
        Self {
            api_version: super::API_VERSION.to_owned(),
            node: view.node.to_string(),
            count,
            p50_seconds: quantile(0.5),
            p90_seconds: quantile(0.9),
            p99_seconds: quantile(0.99),
            buckets: buckets(histogram),
            unknown: (count == 0).then(|| run_delay_unknown(view)).flatten(),
        }
    }
}

fn buckets(histogram: &DelayHistogram) -> Vec<DelayBucket> {
    let mut counts = [0u64; BUCKETS / TOGETHER];
    for (bucket, count) in histogram.iter() {
        if let Some(sum) = counts.get_mut(usize::from(bucket) / TOGETHER) {
            *sum = sum.saturating_add(count);
        }
    }
    let known = || counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(at, _)| at);
    let Some((first, last)) = known().next().zip(known().next_back()) else { return Vec::new() };
    let all = (first..=last).filter_map(|at| {
        let (from, _) = bounds(at * TOGETHER)?;
        let (_, to) = bounds(at * TOGETHER + TOGETHER - 1)?;
        Some(DelayBucket {
            from_seconds: from as f64 / 1e9,
            to_seconds: to as f64 / 1e9,
            count: *counts.get(at)?,
        })
    });
    all.collect()
}

/// It takes some seconds until anything is known.
const SOON: &str = "it is known ten seconds after its agent has connected";

/// Why nothing is known of waits for a CPU, if so.
pub(super) fn run_delay_unknown(view: &NodeView) -> Option<String> {
    let Some(waits) = &view.waits else { return Some(SOON.to_owned()) };
    let why = || lacking(&view.inventory.unavailable, &["run-queue delay", "ebpf", "run_queue_delay"]);
    waits.run_delay_mean_seconds.is_none().then(|| why().unwrap_or("its agent tells of no waits").to_owned())
}

/// The same of stalls.
pub(super) fn stalls_unknown(view: &NodeView) -> Option<String> {
    let Some(waits) = &view.waits else { return Some(SOON.to_owned()) };
    let why = || lacking(&view.inventory.unavailable, &["pressure"]);
    waits
        .cpu_stall_ratio
        .is_none()
        .then(|| why().unwrap_or("its agent tells of no stalls of the whole node").to_owned())
}

/// The same of the network.
pub(super) fn network_unknown(view: &NodeView) -> Option<String> {
    let why = || lacking(&view.inventory.unavailable, &["network"]);
    view.network.is_none().then(|| why().unwrap_or("its agent has not told it twice yet").to_owned())
}

fn lacking<'a>(all: &'a [Unavailable], names: &[&str]) -> Option<&'a str> {
    all.iter().find(|one| names.contains(&one.what.as_str())).map(|one| one.why.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoscaler_core::event::Time;
    use autoscaler_core::fleet::Fleet;
    use model::id::{AgentEpoch, BootId, NodeId};
    use model::node::{Incarnation, Inventory, Tier};

    fn view(unavailable: &[(&str, &str)]) -> NodeView {
        let mut fleet = Fleet::new();
        let node = NodeId::new("a").unwrap();
        let one = |(what, why): &(&str, &str)| Unavailable { what: (*what).into(), why: (*why).into() };
        let unavailable = unavailable.iter().map(one).collect();
        let inventory = Inventory { unavailable, ..Inventory::new(2, 1 << 30, Tier::C) };
        let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(1) };
        fleet.node_up(node.clone(), incarnation, inventory, Time(0));
        fleet.view(&node, Time(0)).unwrap()
    }

    #[test]
    fn buckets_double_and_lose_nothing() {
        let mut histogram = DelayHistogram::default();
        for ns in [0, 900, 1_500, 100_000, 100_000, 5_000_000] {
            histogram.record_ns(ns);
        }
        let delays = Delays::of(&view(&[]), &histogram);
        assert_eq!((delays.count, delays.unknown.as_deref()), (6, None));
        assert_eq!(delays.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 6);
        assert_eq!((delays.buckets[0].from_seconds, delays.buckets[0].count), (0.0, 2));
        for pair in delays.buckets.windows(2) {
            assert_eq!(pair[0].to_seconds, pair[1].from_seconds);
            assert!(pair[0].from_seconds == 0.0 || pair[1].to_seconds == 2.0 * pair[0].to_seconds);
        }
        let last = delays.buckets.last().unwrap();
        assert!(last.from_seconds <= 0.005 && 0.005 < last.to_seconds && last.count == 1);
        assert_eq!(Delays::of(&view(&[]), &DelayHistogram::default()).buckets, []);
    }

    #[test]
    fn what_is_not_known_has_a_reason() {
        let mut view = view(&[("pressure", "boot with psi=1"), ("ebpf", "no BTF")]);
        assert_eq!(run_delay_unknown(&view).as_deref(), Some(SOON));
        view.waits = Some(WaitView::default());
        assert_eq!(run_delay_unknown(&view).as_deref(), Some("no BTF"));
        assert_eq!(stalls_unknown(&view).as_deref(), Some("boot with psi=1"));
        let known =
            WaitView { run_delay_mean_seconds: Some(0.0), cpu_stall_ratio: Some(0.0), ..WaitView::default() };
        view.waits = Some(known);
        assert_eq!((run_delay_unknown(&view), stalls_unknown(&view)), (None, None));
        assert!(network_unknown(&view).is_some_and(|why| why.contains("twice")));
    }
}
