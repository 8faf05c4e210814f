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
        title: "Survives the loss of any one",
        why: "Whether all that Trimtab runs would find room elsewhere. Absent: it cannot be said, for lack of a size, a measurement or a rack; `trimtab get headroom` says what and names what has no place.",
        queries: &[("min by (of) (trimtab_survives_loss)", "{{of}}", "")],
        words: &[("0", "no", "red"), ("1", "yes", "green")],
        width: 6,
        ..STAT
    },
    Panel {
        title: "Headroom: CPU",
        why: "Neither given nor used, on nodes where something may be started.",
        unit: "cores",
        queries: &[("sum(trimtab_headroom_cpu_cores)", "", "")],
        width: 6,
        ..STAT
    },
    Panel {
        title: "Headroom: memory",
        why: "As for CPU.",
        unit: "bytes",
        queries: &[("sum(trimtab_headroom_memory_bytes)", "", "")],
        width: 6,
        ..STAT
    },
    Panel {
        title: "Idle cost an hour",
        why: "What the idle minute's CPU and memory cost at the prices in force, in their currency. Empty without a price table (docs/prices.md). What nothing fresh is known of is left out.",
        queries: &[(
            "sum by (currency) (sum by (instance) (trimtab_idle_cpu_cores{cause!=\"no_data\"}) * on (instance) group_right () trimtab_price_core_hour + on (instance, currency) sum by (instance) (trimtab_idle_memory_bytes{cause!=\"no_data\"} / 2^30) * on (instance) group_right () trimtab_price_gib_hour)",
            "{{currency}}",
            "",
        )],
        width: 6,
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
        title: "Waits for a CPU: the longest",
        why: "99th percentile of the run-queue delay of all tasks of a node over a minute; ten nodes. One that stands out: open it, and look at who runs there.",
        unit: "s",
        queries: &[("topk(10, max by (node) (trimtab_node_run_delay_p99_seconds))", "{{node}}", "")],
        ..PANEL
    },
    Panel {
        title: "Stalls: the longest",
        why: "Share of a minute in which tasks of a node waited for CPU, memory or IO (PSI); the worst node of each.",
        unit: "percentunit",
        queries: &[
            ("max(trimtab_node_cpu_stall_ratio)", "CPU", ""),
            ("max(trimtab_node_memory_stall_ratio)", "memory", ""),
            ("max(trimtab_node_io_stall_ratio)", "IO", ""),
        ],
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
            ("sum by (workload) (trimtab_workload_room_replicas)", "more would fit", ""),
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
            ("max by (node) (trimtab_node_run_delay_p99_seconds)", "wait p99", "s"),
            ("min by (node) (trimtab_node_loss_survived)", "loss survived", "bool_yes_no"),
            ("max by (node) (trimtab_node_tasks)", "tasks", "short"),
            ("max by (node) (trimtab_node_sample_age_seconds)", "age", "s"),
        ],
        ..PANEL
    },
];
