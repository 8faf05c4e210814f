//! An amount of both resources: what a place has, what is free there, what somebody takes.

/// CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

impl Room {
    /// What is left of it, at least nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }

    /// Both, and no more than fits into a number.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// So often as much, and no more than fits into a number.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_mul(count),
            memory_bytes: self.memory_bytes.saturating_mul(count),
        }
    }

    /// How often `size` fits into it; what takes nothing fits as often as one likes.
    #[must_use]
    pub fn holds(self, size: Self) -> u64 {
        let times = |has: u64, one: u64| has.checked_div(one).unwrap_or(u64::MAX);
        times(self.cpu_millis, size.cpu_millis).min(times(self.memory_bytes, size.memory_bytes))
    }

    /// The larger share of `whole` in the two resources.
    #[must_use]
    pub fn share(self, whole: Self) -> f64 {
        let of = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        of(self.cpu_millis, whole.cpu_millis).max(of(self.memory_bytes, whole.memory_bytes))
    }
}
