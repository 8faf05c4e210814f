//! The Horizontal Pod Autoscaler's rule, exactly, as a policy to choose and to compare with.
//!
//! Source: kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go` and `horizontal.go` (v1.31), and
//! their tests, whose numbers are the tests here. desired = ceil(ready · usage ÷ target), nothing within the tolerance of
//! 0.1; pods without a metric count as 100 % of their request when shrinking and 0 when growing, unready ones 0 when
//! growing; the largest recommendation of 300 s holds back a shrink; growth is at most max(100 %, 4 pods) in 15 s.

use std::collections::VecDeque;

use crate::event::Time;

/// `--horizontal-pod-autoscaler-tolerance`.
pub const TOLERANCE: f64 = 0.1;
/// `behavior.scaleDown.stabilizationWindowSeconds`, ms.
pub const DOWN_WINDOW_MS: u64 = 300_000;
/// Period of the two default policies of `behavior.scaleUp`, ms.
pub const UP_PERIOD_MS: u64 = 15_000;
/// Pods that may be added in a period whatever the number there is.
pub const UP_PODS: u32 = 4;

/// One pod (here: one replica).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pod {
    /// Its use; `None` when its metric is missing.
    pub usage: Option<f64>,
    /// What it requests, in the same unit.
    pub request: f64,
    /// It takes requests.
    pub ready: bool,
}

/// Replicas by a resource: `target` is a share of the request.
#[must_use]
pub fn by_resource(pods: &[Pod], current: u32, target: f64) -> u32 {
    by(pods, current, |counted: &[(f64, f64)]| {
        let (usage, request) = counted.iter().fold((0.0, 0.0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
        usage / request.max(f64::MIN_POSITIVE) / target
    })
}

/// Replicas by a metric of each pod: `target` is an average.
#[must_use]
pub fn by_pods(pods: &[Pod], current: u32, target: f64) -> u32 {
    by(pods, current, |counted: &[(f64, f64)]| {
        counted.iter().map(|pod| pod.0).sum::<f64>() / counted.len().max(1) as f64 / target
    })
}

/// Replicas by one number for all of them (an external value), with `ready` pods.
#[must_use]
pub fn by_value(value: f64, target: f64, ready: u32, current: u32) -> u32 {
    let ratio = value / target;
    if within(ratio) { current } else { ceil(ratio * f64::from(ready)) }
}

fn within(ratio: f64) -> bool {
    (1.0 - ratio).abs() <= TOLERANCE
}

fn ceil(x: f64) -> u32 {
    // A sum of doubles that should be whole must not round up.
    (x - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

fn by(pods: &[Pod], current: u32, ratio_of: impl Fn(&[(f64, f64)]) -> f64) -> u32 {
    let known = |ready: bool| {
        pods.iter().filter(move |p| p.ready == ready).filter_map(|p| Some((p.usage?, p.request)))
    };
    let mut counted: Vec<(f64, f64)> = known(true).collect();
    let missing: Vec<f64> = pods.iter().filter(|p| p.usage.is_none()).map(|p| p.request).collect();
    let unready: Vec<f64> =
        pods.iter().filter(|p| !p.ready && p.usage.is_some()).map(|p| p.request).collect();
    if counted.is_empty() {
        return current;
    }
    let ratio = ratio_of(&counted);
    if missing.is_empty() && (unready.is_empty() || ratio <= 1.0) {
        return if within(ratio) { current } else { ceil(ratio * counted.len() as f64) };
    }
    if ratio < 1.0 {
        counted.extend(missing.iter().map(|request| (*request, *request)));
    } else if ratio > 1.0 {
        counted.extend(missing.iter().chain(&unready).map(|request| (0.0, *request)));
    }
    let again = ratio_of(&counted);
    if within(again) || (ratio < 1.0) != (again < 1.0) {
        return current;
    }
    let desired = ceil(again * counted.len() as f64);
    if (again < 1.0 && desired > current) || (again > 1.0 && desired < current) { current } else { desired }
}

/// What was recommended and added lately.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hpa {
    recommended: VecDeque<(Time, u32)>,
    added: VecDeque<(Time, u32)>,
}

impl Hpa {
    /// From what the rule desires to what may be set now, within `min..=max`. Remembers growth that it allows.
    pub fn stabilise(&mut self, current: u32, desired: u32, bounds: (u32, u32), now: Time) -> u32 {
        self.recommended.push_back((now, desired));
        self.recommended.retain(|(at, _)| now.since(*at) < DOWN_WINDOW_MS);
        self.added.retain(|(at, _)| now.since(*at) < UP_PERIOD_MS);
        let largest = self.recommended.iter().map(|(_, n)| *n).max().unwrap_or(desired);
        let desired = if desired < current { largest.min(current) } else { desired };
        let start = current.saturating_sub(self.added.iter().map(|(_, n)| *n).sum());
        let most = (start + UP_PODS).max(start.saturating_mul(2)).max(current);
        let set = desired.min(most).clamp(bounds.0, bounds.1);
        if set > current {
            self.added.push_back((now, set - current));
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(usage: &[f64]) -> Vec<Pod> {
        usage.iter().map(|u| Pod { usage: Some(*u), request: 1000.0, ready: true }).collect()
    }

    /// `TestScaleUp`, `TestScaleUpUnreadyLessScale`, `TestScaleDown`, `TestScaleUpCM`, external metrics.
    #[test]
    fn the_vectors_of_upstream() {
        assert_eq!(by_resource(&pods(&[300.0, 500.0, 700.0]), 3, 0.3), 5);
        let mut unready = pods(&[300.0, 500.0, 700.0]);
        unready[0].ready = false;
        assert_eq!(by_resource(&unready, 3, 0.3), 4);
        assert_eq!(by_resource(&pods(&[100.0, 300.0, 500.0, 250.0, 250.0]), 5, 0.5), 3);
        assert_eq!(by_pods(&pods(&[20_000.0, 10_000.0, 30_000.0]), 3, 15_000.0), 4);
        assert_eq!(by_value(8_600.0, 4_400.0, 1, 1), 2);
    }

    #[test]
    fn a_missing_pod_is_full_when_shrinking_and_idle_when_growing() {
        let mut shrinking = pods(&[100.0, 300.0, 500.0, 250.0, 250.0]);
        shrinking[4].usage = None;
        // (100+300+500+250+1000) ÷ 5000 = 43 % of 50 % → 0.86 · 5 = 4.3 → 5 = no change upwards.
        assert_eq!(by_resource(&shrinking, 5, 0.5), 5);
        let mut growing = pods(&[500.0, 700.0, 0.0]);
        growing[2].usage = None;
        assert_eq!(by_resource(&growing, 3, 0.3), 4);
    }

    #[test]
    fn nothing_within_the_tolerance() {
        assert_eq!(by_resource(&pods(&[540.0, 550.0]), 2, 0.5), 2);
    }

    #[test]
    fn growth_is_limited_per_period_and_shrinking_waits_for_the_window() {
        let mut hpa = Hpa::default();
        assert_eq!(hpa.stabilise(1, 100, (1, 50), Time(0)), 5);
        assert_eq!(hpa.stabilise(5, 100, (1, 50), Time(5_000)), 5, "the four of this period are used");
        assert_eq!(hpa.stabilise(5, 100, (1, 50), Time(15_000)), 10);
        assert_eq!(hpa.stabilise(10, 3, (1, 50), Time(20_000)), 10);
        assert_eq!(hpa.stabilise(10, 3, (1, 50), Time(315_000)), 3);
    }
}
