//! What `/metrics`, `/tasks` and `/readyz` say.

use std::collections::BTreeMap;

use serde_json::json;

use super::Node;
use crate::clock;
use crate::http::{About, metric};

impl Node {
    /// Made when somebody asks, which is much rarer than a round.
    pub(super) fn said(&self, about: About) -> String {
        match about {
            About::Metrics => self.metrics(),
            About::Tasks => self.tasks(),
            About::Qos => self.isolation_shown(),
            About::Readiness if self.settings.autoscaler.is_some() && self.up.is_none() => {
                format!("no stream to the autoscaler: {}\n", self.why_down)
            }
            About::Readiness => String::new(),
        }
    }

    /// The node and each task with its totals: what `trimtab top` shows where there is no autoscaler.
    fn tasks(&self) -> String {
        let tasks = self.table.live().map(|(_, info, values)| {
            let totals: BTreeMap<&str, u64> =
                values.iter().map(|(metric, value)| (metric.entry().name, value)).collect();
            json!({
                "cgroup": info.cgroup.0,
                "kind": info.class.kind,
                "name": info.class.name,
                "workload": info.class.workload,
                "task": info.class.task,
                "totals": totals,
            })
        });
        json!({
            "apiVersion": "trimtab/v1",
            "node": self.settings.node,
            "atMs": self.read_ms,
            "ageMs": clock::boot_ms().saturating_sub(self.read_ms),
            "connected": self.up.is_some(),
            "inventory": self.inventory,
            "tasks": tasks.collect::<Vec<_>>(),
        })
        .to_string()
    }

    fn metrics(&self) -> String {
        let mut out = String::with_capacity(4096);
        let one = |value: f64| vec![(String::new(), value)];
        let mut add = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64)>| {
            metric(&mut out, &format!("trimtab_agent_{name}"), kind, help, &samples);
        };
        let h = &self.health;
        let (merged, dropped) = self.spool.lost();
        let label = format!("{{node=\"{}\",tier=\"{}\"}}", self.settings.node, self.inventory.tier);
        add("info", "gauge", "This node's name, and its tier of measurement.", vec![(label, 1.0)]);
        add("tasks", "gauge", "Cgroups measured.", one(self.table.len() as f64));
        add("own_tasks", "gauge", "Tasks started by Trimtab.", one(self.executor.count() as f64));
        add(
            "connected",
            "gauge",
            "1 while the stream to the autoscaler is up.",
            one(f64::from(self.up.is_some())),
        );
        add("rounds_total", "counter", "Rounds read.", one(h.rounds as f64));
        add("vanished_total", "counter", "Cgroups that ended while they were read.", one(h.vanished as f64));
        add("malformed_total", "counter", "Kernel files that could not be parsed.", one(h.malformed as f64));
        add("kept_files", "gauge", "Descriptors kept open for reading.", one(h.kept_files as f64));
        add(
            "switch_guard_misses_total",
            "counter",
            "Switches whose CPU time was not counted.",
            one(h.guard_misses as f64),
        );
        add(
            "switch_overflow_total",
            "counter",
            "Waits counted in the overflow slot.",
            one(h.overflow_switches as f64),
        );
        add("map_bytes", "gauge", "Kernel memory of the programs' maps.", one(h.map_bytes as f64));
        add("switch_slots", "gauge", "Places of the switch program, all CPUs together.", one(h.slots as f64));
        add("switch_slots_used", "gauge", "Places in use.", one(h.slots_used as f64));
        if let Some(ns) = h.program_ns {
            let help = "Run time of the kernel programs while it was measured.";
            add("program_seconds_total", "counter", help, one(ns as f64 / 1e9));
        }
        add("cpu_seconds_total", "counter", "CPU time of this agent.", one(clock::own_cpu_ns() as f64 / 1e9));
        if let Some(bytes) = resident_bytes() {
            add("resident_memory_bytes", "gauge", "Resident memory of this agent.", one(bytes));
        }
        add("wire_bytes_total", "counter", "Bytes of batches sent.", one(self.wire_bytes as f64));
        add("spool_bytes", "gauge", "Bytes that wait on disk.", one(self.spool.bytes() as f64));
        add("spool_rounds", "gauge", "Rounds that wait on disk.", one(self.spool.len() as f64));
        add("spool_merged_total", "counter", "Spooled rounds merged into later ones.", one(merged as f64));
        add("spool_dropped_total", "counter", "Spooled rounds dropped.", one(dropped as f64));
        let events_dropped = self.session.events_dropped() as f64;
        add(
            "events_dropped_total",
            "counter",
            "Events dropped because their queue was full.",
            one(events_dropped),
        );
        if let Some(validity) = self.certificate.validity() {
            let help = "When this node's certificate expires, seconds since the Unix epoch.";
            add("certificate_expiry_seconds", "gauge", help, one(validity.not_after_s as f64));
            let help = "Attempts to renew this node's certificate that failed.";
            add(
                "certificate_renewals_failed_total",
                "counter",
                help,
                one(self.certificate.failures() as f64),
            );
        }
        self.isolation_metrics(&mut add);
        if self.leaves.are_watched() {
            let (leaves, moved, hindered) = self.leaves.counts();
            add("leaves", "gauge", "YARN containers with a cgroup of their own.", one(leaves as f64));
            let help = "Processes of YARN containers that were moved into a cgroup of their own.";
            add("leaf_moves_total", "counter", help, one(moved as f64));
            let help = "Units whose containers are counted with the unit, because they cannot be moved.";
            add("leaf_hindered_units", "gauge", help, one(hindered as f64));
        }
        if let Some(receipt) = &self.receipt {
            if let Some(error) = receipt.error_ratio() {
                let help = "Difference between the kernel's ledger and the switch ledger, as a share of the kernel's.";
                add("accounting_error_ratio", "gauge", help, one(error));
            }
            if let Some(us) = receipt.iterator_error_us {
                let help = "Largest difference between the iterator and a task's own file.";
                add("iterator_error_seconds", "gauge", help, one(us as f64 / 1e6));
            }
        }
        out
    }
}

/// What the kernel says; `None` where /proc is not as usual.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}
