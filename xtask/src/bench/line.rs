//! A straight line through points: how much something grows, and how sure that is.

/// The line of least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    /// Growth of y for one of x; not a number with fewer than two different x.
    pub(super) slope: f64,
    /// Standard error of the slope, from the distances to the line, as if they were independent; not a number below three points.
    pub(super) slope_error: f64,
}

impl Line {
    /// Through `(x, y)`.
    pub(super) fn through(points: &[(f64, f64)]) -> Self {
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x0, y0) = (mean(|p| p.0), mean(|p| p.1));
        let xx: f64 = points.iter().map(|(x, _)| (x - x0).powi(2)).sum();
        let xy: f64 = points.iter().map(|(x, y)| (x - x0) * (y - y0)).sum();
        let slope = if xx > 0.0 { xy / xx } else { f64::NAN };
        let rest: f64 = points.iter().map(|(x, y)| (y - y0 - slope * (x - x0)).powi(2)).sum();
        let slope_error = if n > 2.0 { (rest / (n - 2.0) / xx).sqrt() } else { f64::NAN };
        Self { slope, slope_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_give_it_without_error() {
        let points: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i), 7.0 + 3.0 * f64::from(i))).collect();
        let line = Line::through(&points);
        assert!((line.slope - 3.0).abs() < 1e-9 && line.slope_error < 1e-9, "{line:?}");
    }

    #[test]
    fn a_jitter_without_a_trend_is_within_its_error() {
        let points: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(i * 37 % 10))).collect();
        let line = Line::through(&points);
        assert!(line.slope.abs() < 2.0 * line.slope_error, "{line:?}");
    }

    #[test]
    fn too_few_points_say_nothing() {
        assert!(Line::through(&[]).slope.is_nan());
        assert!(Line::through(&[(1.0, 2.0)]).slope.is_nan());
        assert!(Line::through(&[(1.0, 2.0), (2.0, 3.0)]).slope_error.is_nan());
    }
}
