//! Linear quantile regression with a smoothed loss.
//!
//! The quantile loss has a corner, which makes Newton's method useless; smoothing it with a logistic kernel of width
//! [`WIDTH`] × the task's scale gives a convex function with a Hessian (Fernandes, Guerre and Horta 2021), and the
//! smoothing moves the quantile by less than what a sample of this size leaves open. A small ridge keeps nearly equal
//! features from running off against each other. Deterministic: samples are taken in order.

#![allow(clippy::needless_range_loop, reason = "triangular matrices are written by their indices")]

use super::features::{COUNT, Features};

/// Width of the kernel in the unit of the task's scale.
const WIDTH: f64 = 0.04;
/// Ridge, as a share of the mean diagonal.
const RIDGE: f64 = 1e-4;

/// What was said and what came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) features: Features,
    pub(super) demand: f64,
}

/// The fitted weights.
#[derive(Debug, Clone)]
pub(super) struct Regression {
    weights: [f64; COUNT],
    fitted: bool,
}

impl Regression {
    /// Starts from the last value and a tenth.
    pub(super) fn new() -> Self {
        let mut weights = [0.0; COUNT];
        weights[0] = 1.1;
        Self { weights, fitted: false }
    }

    pub(super) fn fitted(&self) -> bool {
        self.fitted
    }

    pub(super) fn predict(&self, features: &Features) -> f64 {
        dot(&self.weights, &features.of)
    }

    /// Fits the `1 − λ` quantile, with at most `steps` Newton steps from the last fit.
    pub(super) fn fit(&mut self, samples: &[Sample], lambda: f64, steps: usize) {
        let mut loss = self.loss(&self.weights, samples, lambda);
        for _ in 0..steps {
            let (gradient, hessian) = self.slope(samples, lambda);
            let Some(step) = solve(hessian, gradient) else { break };
            let mut share = 1.0;
            let mut better = None;
            for _ in 0..6 {
                let mut weights = self.weights;
                for (weight, step) in weights.iter_mut().zip(step) {
                    *weight -= share * step;
                }
                let now = self.loss(&weights, samples, lambda);
                if now < loss {
                    better = Some((weights, now));
                    break;
                }
                share *= 0.4;
            }
            let Some((weights, now)) = better else { break };
            let gain = (loss - now) / loss.abs().max(1e-300);
            (self.weights, loss) = (weights, now);
            if gain < 1e-6 {
                break;
            }
        }
        self.fitted = true;
    }

    fn loss(&self, weights: &[f64; COUNT], samples: &[Sample], lambda: f64) -> f64 {
        samples
            .iter()
            .map(|sample| {
                let limit = dot(weights, &sample.features.of);
                let width = WIDTH * sample.features.scale;
                let over = (sample.demand - limit) / width;
                let soft = if over > 30.0 { over } else { over.exp().ln_1p() };
                lambda * limit + width * soft
            })
            .sum()
    }

    fn slope(&self, samples: &[Sample], lambda: f64) -> ([f64; COUNT], [[f64; COUNT]; COUNT]) {
        let mut gradient = [0.0; COUNT];
        let mut hessian = [[0.0; COUNT]; COUNT];
        for sample in samples {
            let of = &sample.features.of;
            let width = WIDTH * sample.features.scale;
            let over = ((sample.demand - dot(&self.weights, of)) / width).clamp(-30.0, 30.0);
            let above = 1.0 / (1.0 + (-over).exp());
            let curve = above * (1.0 - above) / width;
            for i in 0..COUNT {
                gradient[i] += (lambda - above) * of[i];
                if curve > 1e-9 {
                    for j in 0..=i {
                        hessian[i][j] += curve * of[i] * of[j];
                    }
                }
            }
        }
        let mean = (0..COUNT).map(|i| hessian[i][i]).sum::<f64>() / COUNT as f64;
        for i in 0..COUNT {
            hessian[i][i] += RIDGE * mean + 1e-12;
            for j in 0..i {
                hessian[j][i] = hessian[i][j];
            }
        }
        (gradient, hessian)
    }
}

fn dot(a: &[f64; COUNT], b: &[f64; COUNT]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves a symmetric positive definite system by Cholesky's method; `None` when it is not.
fn solve(mut a: [[f64; COUNT]; COUNT], mut b: [f64; COUNT]) -> Option<[f64; COUNT]> {
    for i in 0..COUNT {
        for j in 0..=i {
            let mut sum = a[i][j];
            for k in 0..j {
                sum -= a[i][k] * a[j][k];
            }
            if i == j {
                if sum <= 0.0 || !sum.is_finite() {
                    return None;
                }
                a[i][i] = sum.sqrt();
            } else {
                a[i][j] = sum / a[j][j];
            }
        }
    }
    for i in 0..COUNT {
        for k in 0..i {
            b[i] -= a[i][k] * b[k];
        }
        b[i] /= a[i][i];
    }
    for i in (0..COUNT).rev() {
        for k in i + 1..COUNT {
            b[i] -= a[k][i] * b[k];
        }
        b[i] /= a[i][i];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_quantile_of_a_ratio() {
        // Demand is the last value times 0.5 ..= 1.5, evenly: the 90 % quantile is 1.4 times it.
        let samples: Vec<Sample> = (0..1000)
            .map(|n| {
                let mut of = [0.0; COUNT];
                of[0] = 1.0 + f64::from(n % 7);
                let demand = of[0] * (0.5 + f64::from(n * 37 % 1000) / 1000.0);
                Sample { features: Features { of, scale: of[0] }, demand }
            })
            .collect();
        let mut regression = Regression::new();
        regression.fit(&samples, 0.1, 20);
        assert!((regression.weights[0] - 1.4).abs() < 0.03, "{:?}", regression.weights);
    }
}
