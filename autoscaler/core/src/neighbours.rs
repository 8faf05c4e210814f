//! With whose CPU do a workload's waits for a CPU move?
//!
//! Problem: on a shared node a workload waits because others run, and an average does not say who. Method: over a stretch of time, on one node, the
//! seconds per second that the workload's tasks waited for a CPU are compared with the CPU of each other task or workload there. First what both
//! have in common with the workload's own CPU is taken out of both (a workload that does more waits more, and whoever has its day at the same
//! time would look guilty); then the waits are fitted by a straight line through what the neighbour used: its *slope* is how many seconds more were
//! waited per second of the neighbour's CPU, *explained* the share of the variance of the waits that goes with it, and slope × mean CPU what went with
//! the neighbour altogether, by which neighbours are ranked. Values that follow one another are alike, so points count for fewer than there are:
//! n (1 − ab) / (1 + ab) with a, b the correlations of each series with itself one step later (Bayley and Hammersley 1946; for the test of a
//! correlation, Bretherton et al. 1999). A neighbour stands out when the slope is positive, at least [`EXPLAINED`] is explained, and the correlation is at least
//! [`SURE`] + √(2 ln k) standard errors from none, where √(2 ln k) is what the largest of k that mean nothing reaches. Otherwise nothing stands out.
//! Whatever moves with the waits need not be their cause: both may follow a third. Bounds: one walk over the points for each neighbour.

/// Least number of points: below it the standard error says little.
pub const POINTS: usize = 30;
/// Least number of points that count, after those that are alike are counted together.
pub const EFFECTIVE: f64 = 10.0;
/// Least share of the variance that must be explained to be worth a look.
pub const EXPLAINED: f64 = 0.1;
/// Standard errors, beyond what chance gives to the largest of many: one in a thousand.
pub const SURE: f64 = 3.0;
/// Least standard deviation of a neighbour's CPU, cores: what moves less moves nobody's waits, and rounding in history is of 0.0001.
pub const MOVES: f64 = 0.01;

/// A series at even distances; `None` where it is not known.
pub type Series = [Option<f64>];

/// What was found of one neighbour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its number in the list that was given.
    pub at: usize,
    /// Points at which all three were known.
    pub points: usize,
    /// Its mean CPU, cores.
    pub mean_cores: f64,
    /// Seconds waited more per second of its CPU.
    pub slope: f64,
    /// Seconds of waiting per second that went with it: slope × mean CPU; 0 when the slope is negative.
    pub effect: f64,
    /// Share of the variance of the waits that goes with it, 0..=1, after the workload's own CPU.
    pub explained: f64,
    /// Standard errors between this correlation and none.
    pub sure: f64,
    /// It is not likely to be chance.
    pub stands_out: bool,
}

/// Compares the waits of a workload on a node (s/s) with the CPU (cores) of each neighbour, given the workload's own CPU. `tested` is how many
/// neighbours are looked at in all, on all nodes. Those that stand out come first, by effect; then the others, by what they explain. Neighbours
/// that hardly move, or of which there are too few points, are left out: nothing can be said of them.
#[must_use]
pub fn rank(waits: &Series, own: &Series, neighbours: &[Vec<Option<f64>>], tested: usize) -> Vec<Found> {
    let all = neighbours.iter().enumerate();
    let mut found: Vec<Found> = all.filter_map(|(at, cpu)| compare(at, waits, own, cpu, tested)).collect();
    found.sort_by(|a, b| {
        let effect = |one: &Found| if one.stands_out { one.effect } else { 0.0 };
        let order = b.stands_out.cmp(&a.stands_out).then_with(|| effect(b).total_cmp(&effect(a)));
        order.then_with(|| b.explained.total_cmp(&a.explained)).then_with(|| a.at.cmp(&b.at))
    });
    found
}

fn compare(at: usize, waits: &Series, own: &Series, cpu: &Series, tested: usize) -> Option<Found> {
    let known =
        waits.iter().zip(own).zip(cpu).filter_map(|((waits, own), cpu)| Some(((*waits)?, (*own)?, (*cpu)?)));
    let finite = known.filter(|(a, b, c)| a.is_finite() && b.is_finite() && c.is_finite());
    let (mut y, mut o, mut x) = (Vec::new(), Vec::new(), Vec::new());
    finite.for_each(|(waits, own, cpu)| {
        y.push(waits);
        o.push(own);
        x.push(cpu);
    });
    let points = y.len();
    if points < POINTS {
        return None;
    }
    let mean_cores = mean(&x);
    [&mut y, &mut o, &mut x].into_iter().for_each(|series| centre(series));
    take_out(&mut y, &o);
    take_out(&mut x, &o);
    let (xx, yy, xy) = (dot(&x, &x), dot(&y, &y), dot(&x, &y));
    let waited: f64 = waits.iter().flatten().map(|wait| wait * wait).sum();
    // Waits that are the same at each point, but for rounding, move with nobody.
    if (xx / points as f64).sqrt() < MOVES || yy <= 1e-12 * waited.max(1e-12) {
        return None;
    }
    let slope = xy / xx;
    let explained = (xy * xy / (xx * yy)).min(1.0);
    let alike = (follows(&x) * follows(&y)).clamp(0.0, 0.999);
    let count = points as f64 * (1.0 - alike) / (1.0 + alike);
    // A line, and the workload's own CPU: three numbers were fitted.
    let sure = (explained * (count - 3.0).max(0.0) / (1.0 - explained).max(1e-9)).sqrt();
    let chance = (2.0 * (tested.max(1) as f64).ln()).sqrt();
    let stands_out = slope > 0.0 && count >= EFFECTIVE && explained >= EXPLAINED && sure >= SURE + chance;
    Some(Found {
        at,
        points,
        mean_cores,
        slope,
        effect: (slope * mean_cores).max(0.0),
        explained,
        sure,
        stands_out,
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn centre(values: &mut [f64]) {
    let mean = mean(values);
    values.iter_mut().for_each(|value| *value -= mean);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Leaves of `values` what does not go with `other`; both have the mean 0.
fn take_out(values: &mut [f64], other: &[f64]) {
    let all = dot(other, other);
    if (all / other.len().max(1) as f64).sqrt() < MOVES / 10.0 {
        return;
    }
    let slope = dot(values, other) / all;
    values.iter_mut().zip(other).for_each(|(value, other)| *value -= slope * other);
}

/// The correlation of a series with itself one step later.
fn follows(values: &[f64]) -> f64 {
    let later = values.get(1..).unwrap_or_default();
    dot(values, later) / dot(values, values).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same numbers each time, 0..1, as good as chance.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as f64 / (1u64 << 31) as f64
        }

        fn series(&mut self, points: usize, mean: f64) -> Vec<f64> {
            (0..points).map(|_| 2.0 * mean * self.roll()).collect()
        }

        /// On for some points, off for some points.
        fn bursts(&mut self, points: usize, high: f64) -> Vec<f64> {
            let mut on = false;
            (0..points)
                .map(|_| {
                    on ^= self.roll() < 0.1;
                    if on { high } else { 0.05 }
                })
                .collect()
        }
    }

    fn known(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    fn sum(parts: &[(&[f64], f64)]) -> Vec<Option<f64>> {
        let points = parts[0].0.len();
        (0..points).map(|at| Some(parts.iter().map(|(part, weight)| part[at] * weight).sum())).collect()
    }

    #[test]
    fn a_noisy_neighbour_is_found_among_quiet_ones() {
        let mut dice = Dice(1);
        let noisy = dice.bursts(360, 2.0);
        let quiet: Vec<Vec<f64>> = (0..9).map(|n| dice.bursts(360, 0.2 * f64::from(n))).collect();
        let (own, noise) = (dice.series(360, 0.5), dice.series(360, 0.02));
        let waits = sum(&[(&noisy, 0.1), (&own, 0.02), (&noise, 1.0)]);
        let mut neighbours: Vec<_> = quiet.iter().map(|series| known(series)).collect();
        neighbours.insert(4, known(&noisy));
        let found = rank(&waits, &known(&own), &neighbours, 10);
        assert_eq!((found[0].at, found[0].stands_out), (4, true), "{found:?}");
        assert!((found[0].slope - 0.1).abs() < 0.01, "{found:?}");
        assert!((found[0].effect - 0.1 * found[0].mean_cores).abs() < 0.02 * found[0].mean_cores);
        assert!(found[1..].iter().all(|one| !one.stands_out), "{found:?}");
    }

    #[test]
    fn who_has_its_day_at_the_same_time_as_the_workload_is_not_blamed() {
        let mut dice = Dice(2);
        let day: Vec<f64> = (0..360).map(|at| 1.0 + (f64::from(at) / 57.0).sin()).collect();
        let (a, b, c) = (dice.series(360, 0.1), dice.series(360, 0.1), dice.series(360, 0.01));
        let own = sum(&[(&day, 1.0), (&a, 1.0)]);
        let neighbour = sum(&[(&day, 2.0), (&b, 1.0)]);
        let plain: Vec<f64> = own.iter().map(|value| value.unwrap()).collect();
        let waits = sum(&[(&plain, 0.05), (&c, 1.0)]);
        let found = rank(&waits, &own, &[neighbour], 1);
        assert!(!found[0].stands_out, "{found:?}");
    }

    /// Slow waves that have nothing to do with one another look alike for a while.
    #[test]
    fn slow_waves_are_few_points_however_often_they_are_read() {
        let wave = |length: f64, at: f64| 1.0 + (at / length).sin();
        let waits: Vec<f64> = (0..360).map(|at| 0.1 * wave(90.0, f64::from(at))).collect();
        let neighbour: Vec<f64> = (0..360).map(|at| wave(101.0, f64::from(at))).collect();
        let found = rank(&known(&waits), &known(&vec![0.5; 360]), &[known(&neighbour)], 1);
        assert!(found[0].explained > EXPLAINED && !found[0].stands_out, "{found:?}");
    }

    #[test]
    fn independent_ones_do_not_stand_out() {
        for seed in 0..40 {
            let mut dice = Dice(seed);
            let waits = known(&dice.series(200, 0.1));
            let own = known(&dice.series(200, 0.5));
            let neighbours: Vec<_> = (0..50).map(|_| known(&dice.bursts(200, 1.0))).collect();
            let found = rank(&waits, &own, &neighbours, 50);
            assert!(found.iter().all(|one| !one.stands_out), "{seed}: {:?}", found[0]);
        }
    }

    #[test]
    fn too_few_points_and_what_does_not_move_say_nothing() {
        let mut dice = Dice(3);
        let series = known(&dice.series(POINTS, 1.0));
        let own = known(&vec![0.1; POINTS]);
        assert_eq!(rank(&series, &own, std::slice::from_ref(&series), 1).len(), 1);
        let mut hole = series.clone();
        hole[7] = None;
        assert_eq!(rank(&series, &own, &[hole], 1), []);
        assert_eq!(rank(&series, &own, &[known(&vec![3.0; POINTS])], 1), [], "a constant explains nothing");
        assert_eq!(
            rank(&known(&vec![0.2; POINTS]), &own, std::slice::from_ref(&series), 1),
            [],
            "nothing to be explained"
        );
        assert_eq!(rank(&[], &[], &[Vec::new()], 1), []);
        // Less waiting with more of it: it makes nobody wait.
        let less: Vec<_> = series.iter().map(|value| value.map(|value| 5.0 - value)).collect();
        let found = rank(&less, &own, &[series], 1);
        assert!(
            (found[0].effect, found[0].stands_out) == (0.0, false) && found[0].explained > 0.99,
            "{found:?}"
        );
    }

    fn any_series() -> impl Strategy<Value = Vec<Option<f64>>> {
        prop::collection::vec(prop::option::weighted(0.9, 0.0f64..4.0), 60)
    }

    proptest! {
        /// Whatever is beside a neighbour, a constant one changes nothing of what is said of it, and numbers stay within bounds.
        #[test]
        fn a_constant_neighbour_changes_nothing(
            waits in any_series(), own in any_series(), cpu in any_series(), level in 0.0f64..8.0,
        ) {
            let without = rank(&waits, &own, std::slice::from_ref(&cpu), 2);
            let with = rank(&waits, &own, &[cpu, vec![Some(level); 60]], 2);
            prop_assert_eq!(&without, &with);
            for one in with {
                prop_assert!((0.0..=1.0).contains(&one.explained) && one.effect >= 0.0 && one.sure.is_finite());
                prop_assert!(one.points >= POINTS && one.points <= 60);
            }
        }

        /// A level that is added to the neighbour, or to the waits, changes no slope.
        #[test]
        fn only_movement_counts(waits in any_series(), own in any_series(), cpu in any_series(), level in 0.0f64..8.0) {
            let raised: Vec<_> = cpu.iter().map(|value| value.map(|value| value + level)).collect();
            let (before, after) = (rank(&waits, &own, &[cpu], 1), rank(&waits, &own, &[raised], 1));
            prop_assert_eq!(before.len(), after.len());
            for (a, b) in before.iter().zip(&after) {
                prop_assert!((a.slope - b.slope).abs() < 1e-9 && (a.explained - b.explained).abs() < 1e-9);
                prop_assert!((b.mean_cores - a.mean_cores - level).abs() < 1e-9);
            }
        }
    }
}
