//! How the allowance is divided over best-effort tasks: nobody gets more than it can use while somebody else could use it.
//!
//! Max-min fairness: everybody gets an equal share; what one leaves of its share is divided over the others. A task that
//! used nearly all it was given could use more; what nobody can use is divided equally, so that a task that wakes up has room.
//! A quota for the parent of all would do the same in the kernel, but a class can change while a task runs, and systemd moves no
//! service to another parent (decision 0024).

use super::settings::LEAST_MILLIS;

/// A task that used this share of what it was given could use more.
const FULL: f64 = 0.9;
/// Room above what a task used.
const ROOM: f64 = 1.25;
/// … and at least this, thousandths of a core.
const ROOM_MILLIS: f64 = 50.0;

/// One task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// What it used, thousandths of a core.
    pub used: Option<u32>,
    /// What it was given then; `None` = no limit.
    pub given: Option<u32>,
    /// The most that its owner lets it have.
    pub own: Option<u32>,
}

impl Claim {
    /// The most that it would use now, thousandths of a core.
    fn wish(&self) -> f64 {
        let own = self.own.map_or(f64::INFINITY, f64::from);
        let wish = match (self.used, self.given) {
            (Some(used), Some(given)) if f64::from(used) < f64::from(given) * FULL => {
                f64::from(used) * ROOM + ROOM_MILLIS
            }
            _ => f64::INFINITY,
        };
        wish.min(own)
    }
}

/// Shares in thousandths of a core, one for each claim: together at most `millis`, but none under [`LEAST_MILLIS`].
#[must_use]
pub fn split(millis: u32, claims: &[Claim]) -> Vec<u32> {
    let least = f64::from(LEAST_MILLIS);
    let mut shares = vec![least; claims.len()];
    let mut left = f64::from(millis) - least * claims.len() as f64;
    let mut open: Vec<usize> = (0..claims.len()).collect();
    open.sort_by(|a, b| claims[*a].wish().total_cmp(&claims[*b].wish()));
    let mut waiting = open.len();
    for at in &open {
        let fair = (left / waiting as f64).max(0.0);
        let share = (claims[*at].wish() - least).clamp(0.0, fair);
        shares[*at] += share;
        left -= share;
        waiting -= 1;
    }
    // What nobody asks for: equally, up to what owners allow.
    let roomy: Vec<usize> = open.into_iter().filter(|at| claims[*at].own.is_none()).collect();
    for at in &roomy {
        shares[*at] += left.max(0.0) / roomy.len() as f64;
    }
    // In whole tens, so that a quota does not change with every breath.
    shares.into_iter().map(|share| ((share / 10.0).floor() * 10.0).max(least) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(used: u32, given: u32) -> Claim {
        Claim { used: Some(used), given: Some(given), own: None }
    }

    #[test]
    fn the_busy_get_what_the_quiet_leave() {
        assert_eq!(split(1_000, &[Claim::default(); 2]), [500, 500]);
        let shares = split(1_000, &[claim(0, 500), claim(500, 500)]);
        assert_eq!(shares, [50, 950], "one wakes up with some room");
        let own = Claim { own: Some(100), ..Claim::default() };
        assert_eq!(split(1_000, &[own, Claim::default()]), [100, 900]);
        assert_eq!(split(0, &[Claim::default(); 3]), [10, 10, 10], "the kernel takes no less");
        assert!(split(500, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn the_sum_is_within_and_everybody_has_the_least(
            millis in 0u32..100_000,
            claims in prop::collection::vec(
                (prop::option::of(0u32..64_000), prop::option::of(10u32..64_000), prop::option::of(10u32..64_000)),
                1..40,
            ),
        ) {
            let claims: Vec<Claim> = claims.into_iter().map(|(used, given, own)| Claim { used, given, own }).collect();
            let shares = split(millis, &claims);
            let least = LEAST_MILLIS * claims.len() as u32;
            prop_assert!(shares.iter().sum::<u32>() <= millis.max(least));
            for (share, claim) in shares.iter().zip(&claims) {
                prop_assert!(*share >= LEAST_MILLIS);
                prop_assert!(claim.own.is_none_or(|own| *share <= own.max(LEAST_MILLIS)));
            }
        }

        #[test]
        fn those_who_ask_alike_get_alike(millis in 100u32..10_000, count in 1usize..10) {
            let shares = split(millis, &vec![Claim::default(); count]);
            prop_assert!(shares.iter().all(|share| *share == shares[0]));
        }
    }
}
