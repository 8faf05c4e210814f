//! Three ledgers of the same CPU time, compared.
//!
//! The kernel's (`cpu.stat`), the switch ledger (eBPF) and `/proc/stat` (sampled by the tick) are kept by different
//! code. A receipt says how far they agree over an interval, beside the figures that it vouches for.

use model::node::Receipt;

/// Totals of the ledgers at one moment; of the same set of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledgers {
    /// When, CLOCK_BOOTTIME ns.
    pub boot_ns: u64,
    /// By cpu.stat, µs: of all cgroups but the root.
    pub kernel_us: u64,
    /// By the switch ledger, ns: of the same cgroups.
    pub switch_ns: Option<u64>,
    /// By /proc/stat, µs: of the whole machine.
    pub proc_stat_us: u64,
    /// Largest difference between the iterator and the cpu.stat file since the last receipt, µs.
    pub iterator_error_us: Option<u64>,
}

/// The receipt for the time between two readings; `None` when no time passed or a ledger fell because the set of
/// tasks changed.
#[must_use]
pub fn receipt(earlier: &Ledgers, later: &Ledgers) -> Option<Receipt> {
    let interval_ns = later.boot_ns.checked_sub(earlier.boot_ns).filter(|ns| *ns > 0)?;
    let switch_us = match (earlier.switch_ns, later.switch_ns) {
        (Some(a), Some(b)) => Some(b.checked_sub(a)? / 1000),
        _ => None,
    };
    Some(Receipt {
        interval_ns,
        kernel_us: later.kernel_us.checked_sub(earlier.kernel_us)?,
        switch_us,
        proc_stat_us: later.proc_stat_us.checked_sub(earlier.proc_stat_us)?,
        iterator_error_us: later.iterator_error_us,
        spool: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_states_the_difference_and_never_invents_one() {
        let a = Ledgers {
            boot_ns: 10,
            kernel_us: 100,
            switch_ns: Some(50_000),
            proc_stat_us: 5,
            iterator_error_us: None,
        };
        let b = Ledgers {
            boot_ns: 20,
            kernel_us: 300,
            switch_ns: Some(248_000),
            proc_stat_us: 9,
            iterator_error_us: Some(1),
        };
        let r = receipt(&a, &b).unwrap();
        assert_eq!((r.kernel_us, r.switch_us, r.proc_stat_us), (200, Some(198), 4));
        assert_eq!(r.error_ratio(), Some(0.01));
        assert_eq!(receipt(&b, &a), None);
        assert_eq!(receipt(&a, &Ledgers { switch_ns: None, ..b }).unwrap().error_ratio(), None);
    }
}
