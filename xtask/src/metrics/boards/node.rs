//! One node, and its agent.

use crate::metrics::dashboard::{Look, PANEL, Panel, STAT};

pub(super) const PANELS: &[Panel] = &[
    Panel {
        title: "Agent",
        why: "Silent: nothing is known and nothing is changed here. Look at `systemctl status trimtab-agent` on the node.",
        queries: &[("trimtab_node_connected{node=\"$node\"}", "", "")],
        words: &[("0", "silent", "red"), ("1", "connected", "green")],
        ..STAT
    },
    Panel {
        title: "Age of the newest sample",
        why: "Above 15 s the node counts as unknown.",
        unit: "s",
        queries: &[("trimtab_node_sample_age_seconds{node=\"$node\"}", "", "")],
        steps: Some((15.0, 60.0)),
        ..STAT
    },
    Panel {
        title: "Tier of measurement",
        why: "A: exact, with run-queue delay; B and C lack what the kernel does not give. The node's page in Trimtab says what and why.",
        queries: &[("trimtab_node_info{node=\"$node\"}", "tier {{tier}}", "")],
        look: Look::Name,
        ..STAT
    },
    Panel {
        title: "May act",
        why: "Whether the node's owner lets the agent start, size and end tasks.",
        queries: &[("trimtab_node_acts{node=\"$node\"}", "", "")],
        words: &[("0", "observes", "blue"), ("1", "acts", "green")],
        ..STAT
    },
    Panel {
        title: "Tasks",
        why: "Cgroups that are measured.",
        queries: &[("trimtab_node_tasks{node=\"$node\"}", "", "")],
        ..STAT
    },
    Panel {
        title: "Difference of CPU ledgers",
        why: "Between the kernel's own ledger and the count of switches. Above 0.1 % ask why: the accounting receipt of the node's page says more.",
        unit: "percentunit",
        queries: &[("trimtab_node_accounting_error_ratio{node=\"$node\"}", "", "")],
        steps: Some((0.001, 0.01)),
        ..STAT
    },
    Panel {
        title: "CPU",
        why: "In use by all tasks, given to replicas of Trimtab's and members of clusters that it started, and all there is.",
        unit: "cores",
        queries: &[
            ("trimtab_node_used_cpu_cores{node=\"$node\"}", "used", ""),
            ("trimtab_node_reserved_cpu_cores{node=\"$node\"}", "reserved", ""),
            ("trimtab_node_capacity_cpu_cores{node=\"$node\"}", "capacity", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Memory",
        why: "Charged to all tasks, page cache included, what was given likewise, and all there is.",
        unit: "bytes",
        queries: &[
            ("trimtab_node_used_memory_bytes{node=\"$node\"}", "used", ""),
            ("trimtab_node_reserved_memory_bytes{node=\"$node\"}", "reserved", ""),
            ("trimtab_node_capacity_memory_bytes{node=\"$node\"}", "capacity", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Waits for a CPU",
        why: "Run-queue delay of all its tasks over a minute: from ready to running. Long while CPU is free: a quota, or one busy CPU set.",
        unit: "s",
        queries: &[
            ("trimtab_node_run_delay_mean_seconds{node=\"$node\"}", "mean", ""),
            ("trimtab_node_run_delay_p99_seconds{node=\"$node\"}", "99th percentile", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Stalls",
        why: "Share of a minute in which some task waited for CPU or IO, or all of them for memory (PSI of the whole node).",
        unit: "percentunit",
        queries: &[
            ("trimtab_node_cpu_stall_ratio{node=\"$node\"}", "CPU", ""),
            ("trimtab_node_memory_stall_ratio{node=\"$node\"}", "memory", ""),
            ("trimtab_node_io_stall_ratio{node=\"$node\"}", "IO", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Network",
        why: "Over all its network cards. What stays on the node, as between its containers, is not in it.",
        unit: "Bps",
        queries: &[
            (
                "rate(trimtab_node_network_received_bytes_total{node=\"$node\"}[$__rate_interval])",
                "received",
                "",
            ),
            ("rate(trimtab_node_network_sent_bytes_total{node=\"$node\"}[$__rate_interval])", "sent", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Samples",
        why: "Per second, taken and refused. A refused sample has a total that fell or a task that nobody named: some are normal when an agent restarts.",
        queries: &[
            ("rate(trimtab_node_samples_total{node=\"$node\"}[$__rate_interval])", "taken", ""),
            ("rate(trimtab_node_refused_samples_total{node=\"$node\"}[$__rate_interval])", "refused", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "The agent's own CPU",
        why: "Cores. Its budget is 1 % of one core at 1,000 cgroups. This and the following need the agent's own /metrics to be scraped.",
        unit: "cores",
        queries: &[(
            "rate(trimtab_agent_cpu_seconds_total[$__rate_interval]) * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
            "CPU",
            "",
        )],
        ..PANEL
    },
    Panel {
        title: "The agent's own memory",
        why: "Resident, and the kernel's for its programs.",
        unit: "bytes",
        queries: &[
            (
                "trimtab_agent_resident_memory_bytes * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
                "resident",
                "",
            ),
            (
                "trimtab_agent_map_bytes * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
                "kernel maps",
                "",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "What was lost or waits",
        why: "Per minute: events and rounds that were dropped. Not zero: the agent cannot follow, or the autoscaler was away for longer than its spool holds.",
        queries: &[
            (
                "rate(trimtab_agent_events_dropped_total[$__rate_interval]) * 60 * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
                "events dropped",
                "",
            ),
            (
                "rate(trimtab_agent_spool_dropped_total[$__rate_interval]) * 60 * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
                "rounds dropped",
                "",
            ),
            (
                "trimtab_agent_spool_rounds * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
                "rounds that wait",
                "",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Isolation",
        why: "Latency-critical and best-effort tasks that the isolation loop looks at, and those that it froze; `trimtab-agent qos` on the node says why.",
        queries: &[
            (
                "trimtab_agent_qos_tasks * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
                "{{class}}",
                "",
            ),
            (
                "trimtab_agent_qos_frozen_tasks * on (instance) group_left (node) trimtab_agent_info{node=\"$node\"}",
                "frozen",
                "",
            ),
        ],
        ..PANEL
    },
];
