//! What the slots say together: rows by load and mode, ratios of slots that had the same arrivals, tables for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::slot::{Mode, Slot};

/// The load at which utilisation is compared, percent.
const AT: u32 = 60;

/// A/A pairs that show the noise of a 99th percentile.
const PAIRS: usize = 9;
/// A/A ratios further apart than this hide any difference that is worth looking for.
const NOISE: f64 = 1.5;

/// One run: what may differ between runs whose slots are put together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) seed: u64,
    /// Requests a second that the service answers alone.
    pub(super) capacity: f64,
    /// Load average when it began, and when it ended.
    pub(super) load_average: (String, String),
    /// Slots that were measured once more because others used much of this machine.
    pub(super) repeated: u32,
}

/// Two slots with nothing different between them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) load: u32,
    pub(super) first: Slot,
    pub(super) second: Slot,
}

/// Everything; what is computed comes first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    /// 99th percentile of one slot without best-effort work, of another with the same arrivals: median of the pairs.
    pub(super) aa_p99_ratio: Option<f64>,
    /// The smallest and the largest of them: the noise.
    pub(super) aa_p99_spread: Option<(f64, f64)>,
    /// How many of the pairs counted.
    pub(super) counted_pairs: usize,
    /// The same with our loop, of without best-effort work, at the worst load.
    pub(super) lc_p99_ratio: Option<f64>,
    pub(super) lc_p99_spread: Option<(f64, f64)>,
    /// Node utilisation with our loop less without best-effort work at 60 % load, percentage points.
    pub(super) utilisation_gain_points_at_60: Option<f64>,
    pub(super) worst_load: u32,
    /// Why nothing may be concluded from it; empty when something may.
    pub(super) inconclusive: Vec<String>,
    pub(super) others: Vec<Other>,
    pub(super) rows: Vec<Row>,
    pub(super) host: Host,
    /// What best-effort work does: `cpu` or `memory`.
    pub(super) kind: String,
    /// Lines of `[qos]` of the agent's configuration; empty = its defaults.
    pub(super) qos: Vec<String>,
    /// CPU time of a request, µs.
    pub(super) request_us: u64,
    pub(super) seconds: f64,
    pub(super) settle: f64,
    /// A slot counts when others used at most this share of the machine.
    pub(super) foreign_limit: f64,
    pub(super) runs: Vec<Run>,
    pub(super) pairs: Vec<Pair>,
    pub(super) slots: Vec<Slot>,
}

/// The keys of our loop for another mode.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Other {
    pub(super) mode: Mode,
    pub(super) lc_p99_ratio: Option<f64>,
    pub(super) lc_p99_spread: Option<(f64, f64)>,
    pub(super) utilisation_gain_points_at_60: Option<f64>,
}

/// One load in one mode: medians of its slots.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) load: u32,
    pub(super) mode: Mode,
    /// How many count, of how many: those during which others used little of this machine, or all when there are none.
    pub(super) slots: (usize, usize),
    pub(super) lc_p50_us: f64,
    pub(super) lc_p99_us: f64,
    /// Smallest and largest of `lc_p99_us`.
    pub(super) spread: (f64, f64),
    /// 99th percentile, of that without best-effort work and with the same arrivals: median, smallest, largest.
    pub(super) lc_p99_ratio: Option<f64>,
    pub(super) ratio_spread: Option<(f64, f64)>,
    /// Of what best-effort work does alone.
    pub(super) be_throughput: f64,
    /// The service and best-effort work, of the node.
    pub(super) utilisation: f64,
    /// Answers a second.
    pub(super) lc_rate: f64,
    pub(super) lc_rate_wanted: f64,
    pub(super) agent_cores: f64,
    pub(super) generator_cores: f64,
    pub(super) foreign: f64,
}

/// The middle of them; `None` of none.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    Some((least, values.iter().copied().max_by(f64::total_cmp)?))
}

impl Report {
    /// Computes what follows from slots and pairs.
    pub(super) fn complete(mut self) -> Self {
        let mut keys: Vec<(u32, Mode)> = self.slots.iter().map(|slot| (slot.load, slot.mode)).collect();
        keys.sort_unstable();
        keys.dedup();
        self.rows = keys.into_iter().map(|(load, mode)| self.row(load, mode)).collect();
        self.worst_load = self.slots.iter().map(|slot| slot.load).max().unwrap_or(0);
        let clean = |pair: &&Pair| pair.first.foreign.max(pair.second.foreign) <= self.foreign_limit;
        let some = self.pairs.iter().any(|pair| clean(&pair));
        let pairs = self.pairs.iter().filter(|pair| !some || clean(pair));
        let aa: Vec<f64> = pairs.map(|pair| pair.second.p99_us / pair.first.p99_us).collect();
        self.counted_pairs = aa.len();
        (self.aa_p99_spread, self.aa_p99_ratio) = (spread(&aa), median(aa));
        let of = |mode| {
            let worst = self.find(self.worst_load, mode);
            let at = self.find(AT, mode).zip(self.find(AT, Mode::Off));
            Other {
                mode,
                lc_p99_ratio: worst.and_then(|row| row.lc_p99_ratio),
                lc_p99_spread: worst.and_then(|row| row.ratio_spread),
                utilisation_gain_points_at_60: at.map(|(on, off)| (on.utilisation - off.utilisation) * 100.0),
            }
        };
        let ours = of(Mode::Ours);
        let others = [Mode::Weight, Mode::Fixed, Mode::Idle].map(of);
        self.others =
            others.into_iter().filter(|of| self.slots.iter().any(|slot| slot.mode == of.mode)).collect();
        self.inconclusive = self.doubts();
        self.lc_p99_ratio = ours.lc_p99_ratio;
        self.lc_p99_spread = ours.lc_p99_spread;
        self.utilisation_gain_points_at_60 = ours.utilisation_gain_points_at_60;
        self
    }

    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.counted_pairs < PAIRS {
            doubts.push(format!("{} A/A pairs, {PAIRS} show the noise", self.counted_pairs));
        }
        if let Some((low, high)) = self.aa_p99_spread.filter(|(low, high)| *high > low * NOISE) {
            doubts.push(format!("A/A differs by itself: {low:.2}–{high:.2}"));
        }
        let dirty = self.slots.iter().filter(|slot| slot.foreign > self.foreign_limit).count();
        if dirty * 2 > self.slots.len() {
            doubts.push(format!(
                "in {dirty} of {} slots others used more than {:.0} % of the machine",
                self.slots.len(),
                self.foreign_limit * 100.0
            ));
        }
        doubts
    }

    fn find(&self, load: u32, mode: Mode) -> Option<&Row> {
        self.rows.iter().find(|row| (row.load, row.mode) == (load, mode))
    }

    fn row(&self, load: u32, mode: Mode) -> Row {
        let every: Vec<&Slot> = self.slots.iter().filter(|s| (s.load, s.mode) == (load, mode)).collect();
        let clean = |slot: &Slot| slot.foreign <= self.foreign_limit;
        let some = every.iter().any(|slot| clean(slot));
        let slots: Vec<&Slot> = every.iter().copied().filter(|slot| !some || clean(slot)).collect();
        let all = |of: &dyn Fn(&Slot) -> f64| slots.iter().map(|slot| of(slot)).collect::<Vec<_>>();
        let mid = |of: &dyn Fn(&Slot) -> f64| median(all(of)).unwrap_or(f64::NAN);
        let without = |slot: &Slot| {
            let same = |other: &&Slot| {
                (other.mode, other.load, other.round, other.half, other.seed)
                    == (Mode::Off, slot.load, slot.round, slot.half, slot.seed)
            };
            self.slots.iter().find(same).map(|off| (clean(slot) && clean(off), slot.p99_us / off.p99_us))
        };
        let ratios: Vec<(bool, f64)> = slots.iter().filter_map(|slot| without(slot)).collect();
        let some_ratio = ratios.iter().any(|(clean, _)| *clean);
        let ratios: Vec<f64> =
            ratios.into_iter().filter(|(clean, _)| !some_ratio || *clean).map(|of| of.1).collect();
        Row {
            load,
            mode,
            slots: (slots.len(), every.len()),
            lc_p50_us: mid(&|slot| slot.p50_us),
            lc_p99_us: mid(&|slot| slot.p99_us),
            spread: spread(&all(&|slot| slot.p99_us)).unwrap_or((f64::NAN, f64::NAN)),
            ratio_spread: spread(&ratios),
            lc_p99_ratio: median(ratios),
            be_throughput: if mode == Mode::Off { 0.0 } else { mid(&|slot| slot.best_share) },
            utilisation: mid(&|slot| slot.utilisation(self.host.cpus)),
            lc_rate: mid(&|slot| slot.rate),
            lc_rate_wanted: mid(&|slot| slot.rate_wanted),
            agent_cores: mid(&|slot| slot.agent_cores),
            generator_cores: mid(&|slot| slot.generator_cores),
            foreign: mid(&|slot| slot.foreign),
        }
    }

    /// The table that people read; Markdown, which is plain text, too.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        if !self.inconclusive.is_empty() {
            let _ = writeln!(
                text,
                "**Nothing is to be concluded from this**: {}.\n",
                self.inconclusive.join("; ")
            );
        }
        let host = &self.host;
        let idle =
            if host.cpu_idle { "with cpu.idle" } else { "without cpu.idle: the smallest weight stands in" };
        let _ = writeln!(
            text,
            "Kernel {}, {} × {}, CPU controller of cgroup {} {idle}. A request takes {:.1} ms of CPU, best-effort work: {}, {} threads; slots of {} s, \
             load generator under `{}`.",
            host.kernel,
            host.cpus,
            host.cpu,
            host.cgroup_cpu,
            self.request_us as f64 / 1e3,
            self.kind,
            host.cpus,
            self.seconds,
            host.generator
        );
        if !self.qos.is_empty() {
            let _ = writeln!(text, "Our loop with `{}`.", self.qos.join("`, `"));
        }
        for run in &self.runs {
            let _ = writeln!(
                text,
                "Run with seed {}: {:.0} requests/s alone, load average {} at its start and {} at its end, {} slots repeated.",
                run.seed, run.capacity, run.load_average.0, run.load_average.1, run.repeated
            );
        }
        if let (Some(median), Some((low, high))) = (self.aa_p99_ratio, self.aa_p99_spread) {
            let _ = writeln!(
                text,
                "A/A, {} of {} pairs without best-effort work at {} % load: p99 ratio {median:.3} ({low:.3}–{high:.3}).",
                self.counted_pairs,
                self.pairs.len(),
                self.pairs.first().map_or(0, |pair| pair.load)
            );
        }
        text.push_str(
            "\n| load | mode | p50 ms | p99 ms (least–most) | p99 ÷ off (least–most) | best-effort work, of alone | node used | answers/s | agent, cores | others on the machine | slots |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let ratio = row.lc_p99_ratio.zip(row.ratio_spread);
            let ratio = match ratio.filter(|_| row.mode != Mode::Off) {
                Some((ratio, (low, high))) => format!("{ratio:.2} ({low:.2}–{high:.2})"),
                None => "–".to_owned(),
            };
            let _ = writeln!(
                text,
                "| {} % | {} | {:.2} | {:.2} ({:.2}–{:.2}) | {ratio} | {:.1} % | {:.1} % | {:.0} of {:.0} | {:.4} | {:.1} % | {} of {} |",
                row.load,
                row.mode.name(),
                row.lc_p50_us / 1e3,
                row.lc_p99_us / 1e3,
                row.spread.0 / 1e3,
                row.spread.1 / 1e3,
                row.be_throughput * 100.0,
                row.utilisation * 100.0,
                row.lc_rate,
                row.lc_rate_wanted,
                row.agent_cores,
                row.foreign * 100.0,
                row.slots.0,
                row.slots.1
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(mode: Mode, load: u32, half: u32, p99_us: f64, best_cores: f64) -> Slot {
        Slot {
            mode,
            load,
            round: 0,
            half,
            seed: u64::from(half),
            p50_us: p99_us / 4.0,
            p99_us,
            requests: 1000,
            rate_wanted: 100.0,
            rate: 99.0,
            critical_cores: 1.2,
            best_cores,
            best_share: best_cores / 2.0,
            generator_cores: 0.02,
            agent_cores: 0.002,
            autoscaler_cores: 0.001,
            foreign: 0.01,
            stolen: 0.0,
            late_p99_us: 20.0,
            allowance_cores: None,
            delay_ms: None,
        }
    }

    fn report(slots: Vec<Slot>, pairs: Vec<Pair>) -> Report {
        let host = Host {
            kernel: "6.18".into(),
            cpu: "a processor".into(),
            cpus: 2,
            cgroup_cpu: "v1".into(),
            cpu_idle: true,
            generator: "chrt".into(),
        };
        Report {
            aa_p99_ratio: None,
            aa_p99_spread: None,
            counted_pairs: 0,
            lc_p99_ratio: None,
            lc_p99_spread: None,
            utilisation_gain_points_at_60: None,
            worst_load: 0,
            inconclusive: vec![],
            others: vec![],
            rows: vec![],
            host,
            kind: "cpu".into(),
            qos: vec![],
            request_us: 1_000,
            seconds: 4.0,
            settle: 15.0,
            foreign_limit: 0.1,
            runs: vec![],
            pairs,
            slots,
        }
    }

    #[test]
    fn ratios_are_of_slots_with_the_same_arrivals_and_the_median_counts() {
        let slots = vec![
            slot(Mode::Off, 60, 0, 1_000.0, 0.0),
            slot(Mode::Ours, 60, 0, 1_100.0, 0.4),
            slot(Mode::Ours, 60, 1, 2_600.0, 0.4),
            slot(Mode::Off, 60, 1, 2_000.0, 0.0),
            slot(Mode::Off, 90, 0, 4_000.0, 0.0),
            slot(Mode::Ours, 90, 0, 4_400.0, 0.1),
            slot(Mode::Weight, 90, 0, 8_000.0, 0.2),
        ];
        let pair = |a, b| Pair {
            load: 90,
            first: slot(Mode::Off, 90, 0, a, 0.0),
            second: slot(Mode::Off, 90, 0, b, 0.0),
        };
        let report = report(slots, vec![pair(100.0, 90.0), pair(100.0, 105.0), pair(100.0, 120.0)]);
        let done = report.complete();
        let near = |is: Option<f64>, wanted: f64| {
            assert!((is.unwrap() - wanted).abs() < 1e-9, "{is:?}, not {wanted}");
        };
        near(done.lc_p99_ratio, 1.1);
        near(done.utilisation_gain_points_at_60, 20.0);
        near(done.aa_p99_ratio, 1.05);
        assert_eq!(done.aa_p99_spread, Some((0.9, 1.2)));
        near(done.find(60, Mode::Ours).unwrap().lc_p99_ratio, 1.2);
        near(done.others[0].lc_p99_ratio, 2.0);
        assert_eq!(done.others[0].utilisation_gain_points_at_60, None, "it was not measured there");
        assert_eq!(done.inconclusive, ["3 A/A pairs, 9 show the noise"]);
        let table = done.table();
        for part in [
            "**Nothing is to be concluded from this**: 3 A/A pairs",
            "| 60 % | our loop |",
            "1.20 (1.10–1.30)",
            "A/A, 3 of 3 pairs",
            "2.00 (2.00–2.00)",
        ] {
            assert!(table.contains(part), "{part} in:\n{table}");
        }
        let again: Report = serde_json::from_str(&serde_json::to_string(&done).unwrap()).unwrap();
        assert_eq!(again.complete().table(), table, "from its file as from the run");
    }

    #[test]
    fn slots_in_which_others_used_the_machine_count_only_where_there_are_no_others() {
        let dirty = |slot: Slot| Slot { foreign: 0.4, ..slot };
        let slots = vec![
            slot(Mode::Off, 60, 0, 1_000.0, 0.0),
            slot(Mode::Ours, 60, 0, 1_100.0, 0.4),
            dirty(slot(Mode::Ours, 60, 1, 9_000.0, 0.1)),
            slot(Mode::Off, 60, 1, 1_000.0, 0.0),
            dirty(slot(Mode::Off, 70, 0, 1_000.0, 0.0)),
            slot(Mode::Ours, 70, 0, 1_500.0, 0.0),
        ];
        let done = report(slots, vec![]).complete();
        assert_eq!(done.inconclusive.len(), 1, "most slots were clean: {:?}", done.inconclusive);
        let ours = done.find(60, Mode::Ours).unwrap();
        assert_eq!((ours.slots, ours.lc_p99_us), ((1, 2), 1_100.0));
        assert_eq!(done.find(70, Mode::Off).unwrap().slots, (1, 1));
        assert!(
            (done.find(70, Mode::Ours).unwrap().lc_p99_ratio.unwrap() - 1.5).abs() < 1e-9,
            "better than none"
        );
    }

    #[test]
    fn noise_and_a_busy_machine_are_said_and_nothing_is_said_where_all_is_well() {
        let busy = |foreign| Slot { foreign, ..slot(Mode::Off, 90, 0, 1_000.0, 0.0) };
        let pair = |ratio: f64| Pair {
            load: 90,
            first: busy(0.0),
            second: Slot { p99_us: 1_000.0 * ratio, ..busy(0.0) },
        };
        let nine = |high| (0..9).map(|n| pair(if n == 4 { high } else { 1.0 })).collect::<Vec<_>>();
        assert_eq!(report(vec![busy(0.01)], nine(1.1)).complete().inconclusive, Vec::<String>::new());
        let noisy = report(vec![busy(0.01), busy(0.5), busy(0.6)], nine(1.8)).complete().inconclusive;
        assert_eq!(
            noisy,
            ["A/A differs by itself: 1.00–1.80", "in 2 of 3 slots others used more than 10 % of the machine"]
        );
    }

    #[test]
    fn a_median_of_none_is_none() {
        assert_eq!(
            (median(vec![]), median(vec![2.0, 1.0]), median(vec![3.0, 1.0, 2.0])),
            (None, Some(1.5), Some(2.0))
        );
    }
}
