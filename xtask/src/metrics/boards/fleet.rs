//! The whole fleet.

use crate::metrics::dashboard::{Look, PANEL, Panel, STAT};

pub(super) const PANELS: &[Panel] = &[
    Panel {
        title: "State",
        why: "Acting: what modes and bounds allow is changed. Paused: an operator said so. Frozen: nothing can be made durable, so nothing is done; look at the autoscaler's disk.",
        queries: &[("max(2 * trimtab_frozen) + max(trimtab_paused) * (1 - max(trimtab_frozen))", "", "")],
        words: &[
            ("0", "acting", "green"),
            ("1", "paused", "yellow"),
            ("2", "frozen", "red"),
            ("3", "frozen", "red"),
        ],
        ..STAT
    },
    Panel {
        title: "Nodes",
        why: "Connected nodes, and those whose agent is silent: nothing is changed on these, and their capacity is in no sum.",
        queries: &[
            ("sum(trimtab_node_connected)", "connected", ""),
            ("count(trimtab_node_connected) - sum(trimtab_node_connected)", "silent", ""),
        ],
        ..STAT
    },
    Panel {
        title: "Oldest sample",
        why: "Of connected nodes. Above 15 s a node counts as unknown, and nothing on it shrinks.",
        unit: "s",
        queries: &[(
            "max(trimtab_node_sample_age_seconds and on (instance, node) trimtab_node_connected == 1)",
            "",
            "",
        )],
        steps: Some((15.0, 60.0)),
        ..STAT
    },
    Panel {
        title: "Targets",
        why: "Targets whose signal is known now. A target without a signal (no requests, no replica) is in neither number.",
        queries: &[
            ("sum(trimtab_target_reached_ratio <= bool 1)", "met", ""),
            ("sum(trimtab_target_reached_ratio > bool 1)", "missed", ""),
        ],
        ..STAT
    },
    Panel {
        title: "CPU idle",
        why: "Share of all CPU that nobody used in the newest closed minute of the idle ledger; the causes are below.",
        unit: "percentunit",
        queries: &[("sum(trimtab_idle_cpu_cores) / sum(trimtab_ledger_capacity_cpu_cores)", "", "")],
        max: Some(1.0),
        ..STAT
    },
    Panel {
        title: "Memory idle",
        why: "Share of all memory that nobody used in the newest closed minute of the idle ledger.",
        unit: "percentunit",
        queries: &[("sum(trimtab_idle_memory_bytes) / sum(trimtab_ledger_capacity_memory_bytes)", "", "")],
        max: Some(1.0),
        ..STAT
    },
    Panel {
        title: "CPU: capacity, reserved, used",
        why: "Reserved is the number of replicas times the size that their specification gives; workloads without a size are not in it. Far from used: sizes are too large. Far from capacity: there is room.",
        unit: "cores",
        queries: &[
            ("sum(trimtab_node_capacity_cpu_cores)", "capacity", ""),
            ("sum(trimtab_workload_reserved_cpu_cores)", "reserved", ""),
            ("sum(trimtab_node_used_cpu_cores)", "used", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Memory: capacity, reserved, used",
        why: "As for CPU. Used is what the kernel charges to tasks, page cache included.",
        unit: "bytes",
        queries: &[
            ("sum(trimtab_node_capacity_memory_bytes)", "capacity", ""),
            ("sum(trimtab_workload_reserved_memory_bytes)", "reserved", ""),
            ("sum(trimtab_node_used_memory_bytes)", "used", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Idle CPU by cause",
        why: "Each idle core has one cause; with what is used they add up to the capacity. over_sized: give smaller sizes. blocked: a rule holds it, see the workload. no_demand: nobody needs it.",
        look: Look::Stack,
        unit: "cores",
        queries: &[("sum by (cause) (trimtab_idle_cpu_cores)", "{{cause}}", "")],
        ..PANEL
    },
    Panel {
        title: "Idle memory by cause",
        why: "As for CPU.",
        look: Look::Stack,
        unit: "bytes",
        queries: &[("sum by (cause) (trimtab_idle_memory_bytes)", "{{cause}}", "")],
        ..PANEL
    },
    Panel {
        title: "Signals as shares of their targets",
        why: "Above 1 a target is missed. A line that ends is a signal that is not known any more.",
        unit: "percentunit",
        queries: &[(
            "max by (workload, signal) (trimtab_target_reached_ratio)",
            "{{workload}} {{signal}}",
            "",
        )],
        steps: Some((0.9, 1.0)),
        ..PANEL
    },
    Panel {
        title: "Decisions carried out",
        why: "Per minute, by what was done. Many in both directions: a workload swings, see its own dashboard.",
        queries: &[(
            "sum by (kind) (rate(trimtab_decisions_total{act=\"true\"}[$__rate_interval])) * 60",
            "{{kind}}",
            "",
        )],
        ..PANEL
    },
    Panel {
        title: "Workloads",
        why: "Open one for its reasons. Reached is the worst signal as a share of its target.",
        look: Look::Table("workload"),
        queries: &[
            ("sum by (workload) (trimtab_replicas{state=\"wanted\"})", "wanted", ""),
            ("sum by (workload) (trimtab_replicas{state=\"up\"})", "up", ""),
            ("max by (workload) (trimtab_replicas_max)", "at most", ""),
            ("max by (workload) (trimtab_target_reached_ratio)", "reached", "percentunit"),
            ("sum by (workload) (trimtab_workload_used_cpu_cores)", "cores used", ""),
            ("sum by (workload) (trimtab_idle_cpu_cores{workload!=\"\"})", "cores idle", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Fullest nodes",
        why: "Twenty by CPU. Open one for what runs there.",
        look: Look::Table("node"),
        unit: "percentunit",
        queries: &[
            (
                "topk(20, max by (node) (trimtab_node_used_cpu_cores / on (instance, node) trimtab_node_capacity_cpu_cores))",
                "CPU",
                "",
            ),
            (
                "max by (node) (trimtab_node_used_memory_bytes / on (instance, node) trimtab_node_capacity_memory_bytes)",
                "memory",
                "",
            ),
            ("max by (node) (trimtab_node_tasks)", "tasks", "short"),
            ("max by (node) (trimtab_node_sample_age_seconds)", "age", "s"),
        ],
        ..PANEL
    },
];
