//! Runs beside each other: as many as fit, in the order given.

use std::sync::{Condvar, Mutex, PoisonError};

/// What waits to be run.
#[derive(Debug)]
struct Waiting<J> {
    /// The part of the host that it takes; more than there is counts as all of it.
    weight: usize,
    job: J,
}

#[derive(Debug)]
struct State<J> {
    waiting: Vec<Waiting<J>>,
    free: usize,
}

impl<J> State<J> {
    /// The first that fits into what is free.
    fn next(&mut self) -> Option<Waiting<J>> {
        let at = self.waiting.iter().position(|waiting| waiting.weight <= self.free)?;
        let next = self.waiting.remove(at);
        self.free -= next.weight;
        Some(next)
    }
}

/// Runs all jobs, `width` of them at a time when each has the weight 1; in the order given, but for those that do not fit yet. Returns
/// when all have ended.
pub(super) fn run_all<J: Send>(jobs: Vec<(usize, J)>, width: usize, run: impl Fn(J) + Sync) {
    let width = width.max(1);
    let waiting: Vec<Waiting<J>> =
        jobs.into_iter().map(|(weight, job)| Waiting { weight: weight.clamp(1, width), job }).collect();
    let workers = waiting.len().min(width);
    let state = Mutex::new(State { waiting, free: width });
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let mut state = lock();
                    let Waiting { weight, job } = loop {
                        if state.waiting.is_empty() {
                            return;
                        }
                        match state.next() {
                            Some(next) => break next,
                            None => state = changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                        }
                    };
                    drop(state);
                    run(job);
                    lock().free += weight;
                    changed.notify_all();
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Runs jobs of these weights; the order of their starts, and the most weight at a time.
    fn run(weights: &[usize], width: usize) -> (Vec<usize>, usize) {
        let (now, most, started) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
        let jobs = weights.iter().copied().enumerate().map(|(number, weight)| (weight, (number, weight)));
        run_all(jobs.collect(), width, |(number, weight)| {
            started.lock().unwrap().push(number);
            let weight = weight.clamp(1, width);
            most.fetch_max(now.fetch_add(weight, Ordering::SeqCst) + weight, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(weight, Ordering::SeqCst);
        });
        (started.into_inner().unwrap(), most.into_inner())
    }

    #[test]
    fn all_run_and_never_more_than_fit() {
        for width in 1..4 {
            let (mut started, most) = run(&[1, 4, 1, 2, 1, 1, 3, 1], width);
            started.sort_unstable();
            assert_eq!(started, (0..8).collect::<Vec<_>>());
            assert!(most <= width, "{most} of {width}");
        }
    }

    #[test]
    fn one_at_a_time_keeps_the_order() {
        assert_eq!(run(&[1, 1, 2, 1], 1).0, [0, 1, 2, 3]);
    }

    #[test]
    fn nothing_to_run_is_no_fault() {
        assert_eq!(run(&[], 2), (Vec::new(), 0));
    }

    #[test]
    fn what_fits_goes_before_what_does_not() {
        let mut state = State {
            waiting: vec![Waiting { weight: 2, job: 'a' }, Waiting { weight: 1, job: 'b' }],
            free: 1,
        };
        assert_eq!(state.next().map(|next| next.job), Some('b'));
        assert!(state.next().is_none() && state.free == 0);
        state.free = 2;
        assert_eq!(state.next().map(|next| next.job), Some('a'));
    }
}
