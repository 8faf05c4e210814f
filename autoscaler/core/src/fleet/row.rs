//! What is kept of one task: its last two readings, and what they give.

use model::metric::{Kind, Metric};
use model::node::TaskInfo;
use model::sample::{Usage, Values, derive};

use super::NetworkView;
use crate::event::Time;

/// A total or reading at an instant of the node's boot clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) boot_ns: u64,
    pub(super) values: Values,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) info: TaskInfo,
    pub(super) newest: Option<Reading>,
    /// The one before, for usage of the last interval.
    pub(super) previous: Option<Reading>,
    /// Of tasks of ours, from their first digest on.
    pub(super) digested: Option<Box<Digested>>,
    pub(super) arrived: Time,
}

#[derive(Debug)]
pub(super) struct Digested {
    /// The newest when the last digest was made, for usage of the round.
    pub(super) base: Reading,
    /// Usage of the last round that had a new sample.
    pub(super) round: Option<Usage>,
}

/// CPU in cores and memory in bytes, each as far as it is known.
pub(super) type InUse = (Option<f64>, Option<u64>);

impl Row {
    /// Derives the usage of a round that had a new sample.
    pub(super) fn digest(&mut self) {
        let Some(newest) = self.newest else { return };
        let before = self.digested.as_ref().map(|digested| digested.base);
        if before.is_some_and(|base| base.boot_ns >= newest.boot_ns) {
            return;
        }
        let round = before
            .or(self.previous)
            .and_then(|b| derive(&b.values, &newest.values, newest.boot_ns - b.boot_ns).ok())
            .or(self.digested.as_ref().and_then(|digested| digested.round));
        let now = Digested { base: newest, round };
        match &mut self.digested {
            Some(digested) => **digested = now,
            none => *none = Some(Box::new(now)),
        }
    }

    /// CPU in cores over the last interval, and memory at its end, as [`derive`] has them; `None` without an interval.
    /// No total falls within it: [`super::NodeTable::sample`] begins anew then.
    pub(super) fn in_use(&self) -> Option<InUse> {
        let (previous, newest, seconds) = self.interval()?;
        let cpu = |reading: &Reading| reading.values.get(Metric::CpuTime);
        let us = cpu(newest).zip(cpu(previous)).map(|(now, before)| now.saturating_sub(before));
        Some((us.map(|us| us as f64 / 1e6 / seconds), newest.values.get(Metric::MemoryCurrent)))
    }

    /// The last two readings, and the time between them, s: above 0.
    fn interval(&self) -> Option<(&Reading, &Reading, f64)> {
        let (previous, newest) = (self.previous.as_ref()?, self.newest.as_ref()?);
        let ns = newest.boot_ns.checked_sub(previous.boot_ns).filter(|ns| *ns > 0)?;
        Some((previous, newest, ns as f64 / 1e9))
    }

    pub(super) fn network(&self) -> Option<NetworkView> {
        let (previous, newest, seconds) = self.interval()?;
        NetworkView::between(&previous.values, &newest.values, seconds)
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        let (previous, newest) = (self.previous?, self.newest?);
        derive(&previous.values, &newest.values, newest.boot_ns - previous.boot_ns).ok()
    }
}

/// The first counter that fell, if any.
pub(super) fn fell(before: &Values, after: &Values) -> Option<Metric> {
    let both = before.present() & after.present();
    Metric::ALL.iter().copied().find(|metric| {
        both & metric.bit() != 0
            && metric.entry().kind == Kind::Counter
            && after.get(*metric) < before.get(*metric)
    })
}
