//! How long a certificate is valid, and when to ask for the next one. The same rule for a node's and the service's own.

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second, since the Unix epoch.
    pub not_before_s: u64,
    /// Last second, since the Unix epoch.
    pub not_after_s: u64,
}

/// Shortest wait between two attempts, ms.
const RETRY_LEAST_MS: u64 = 1_000;
/// Longest wait between two attempts, ms.
const RETRY_MOST_MS: u64 = 3_600_000;
/// Wait when it is over already: only a clock that is set, or somebody who joins anew, can help.
const RETRY_OVER_MS: u64 = 60_000;

impl Validity {
    /// When two thirds of its time have passed, wall clock ms. A third is left for an autoscaler that is away.
    #[must_use]
    pub fn renew_at_ms(self) -> u64 {
        let life_ms = self.not_after_s.saturating_sub(self.not_before_s).saturating_mul(1000);
        self.not_before_s.saturating_mul(1000).saturating_add(life_ms / 3 * 2)
    }

    /// Whether it is valid no longer.
    #[must_use]
    pub fn is_over(self, now_ms: u64) -> bool {
        now_ms / 1000 > self.not_after_s
    }
}

/// When to ask for the next certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    validity: Validity,
    due_ms: u64,
}

impl Renewal {
    /// Of a certificate that is in use from now on.
    #[must_use]
    pub fn of(validity: Validity) -> Self {
        Self { validity, due_ms: validity.renew_at_ms() }
    }

    /// The certificate in use.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// When to ask next, wall clock ms.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// An attempt failed at `now_ms`: the next one comes after an eighth of what is left, between 1 s and 1 h.
    pub fn failed(&mut self, now_ms: u64) {
        let left_ms = self.validity.not_after_s.saturating_mul(1000).saturating_sub(now_ms);
        let wait_ms = match left_ms {
            0 => RETRY_OVER_MS,
            left_ms => (left_ms / 8).clamp(RETRY_LEAST_MS, RETRY_MOST_MS),
        };
        self.due_ms = now_ms.saturating_add(wait_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Validity = Validity { not_before_s: 1_000_000, not_after_s: 1_000_000 + 86_400 };

    #[test]
    fn a_day_is_renewed_after_sixteen_hours_and_tried_again_until_it_ends() {
        let mut renewal = Renewal::of(DAY);
        assert_eq!(renewal.due_ms(), (1_000_000 + 16 * 3600) * 1000);
        let mut attempts = 0;
        while !DAY.is_over(renewal.due_ms()) {
            renewal.failed(renewal.due_ms());
            attempts += 1;
        }
        assert!((20..2000).contains(&attempts), "{attempts}");
        let over = renewal.due_ms();
        renewal.failed(over);
        assert_eq!(renewal.due_ms(), over + RETRY_OVER_MS);
    }

    #[test]
    fn the_last_second_counts() {
        assert!(!DAY.is_over(DAY.not_after_s * 1000 + 999));
        assert!(DAY.is_over(DAY.not_after_s * 1000 + 1000));
    }

    proptest! {
        /// Whatever a certificate says and the clock shows: it is due while it is valid, and a failure never stops the attempts or
        /// makes them a busy loop.
        #[test]
        fn there_is_always_a_next_attempt(from: u32, life in 1u32.., now in 0u64..1 << 42, failures in 1usize..20) {
            let (not_before_s, not_after_s) = (u64::from(from), u64::from(from) + u64::from(life));
            let validity = Validity { not_before_s, not_after_s };
            let mut renewal = Renewal::of(validity);
            prop_assert!(renewal.due_ms() >= not_before_s * 1000 && renewal.due_ms() < not_after_s * 1000);
            let mut at = now;
            for _ in 0..failures {
                renewal.failed(at);
                prop_assert!((RETRY_LEAST_MS..=RETRY_MOST_MS).contains(&(renewal.due_ms() - at)));
                at = renewal.due_ms();
            }
        }
    }
}
