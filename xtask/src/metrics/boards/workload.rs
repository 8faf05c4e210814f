//! One workload.

use crate::metrics::dashboard::{Look, PANEL, Panel, STAT};

pub(super) const PANELS: &[Panel] = &[
    Panel {
        title: "Mode",
        why: "observe measures, recommend says what it would do, auto does it.",
        queries: &[("trimtab_workload_info{workload=\"$workload\"}", "{{kind}}, {{mode}}", "")],
        look: Look::Name,
        ..STAT
    },
    Panel {
        title: "Replicas",
        why: "Up and wanted. Fewer up than wanted for long: they do not get ready, see the reasons of the newest decisions.",
        queries: &[
            ("trimtab_replicas{workload=\"$workload\", state=\"up\"}", "up", ""),
            ("trimtab_replicas{workload=\"$workload\", state=\"wanted\"}", "wanted", ""),
        ],
        ..STAT
    },
    Panel {
        title: "Worst signal",
        why: "As a share of its target; missed above 100 %.",
        unit: "percentunit",
        queries: &[("max(trimtab_target_reached_ratio{workload=\"$workload\"})", "", "")],
        steps: Some((0.9, 1.0)),
        ..STAT
    },
    Panel {
        title: "Paused",
        why: "By an operator, for this workload or for all; `trimtab resume` ends it.",
        queries: &[("trimtab_workload_paused{workload=\"$workload\"}", "", "")],
        words: &[("0", "no", "green"), ("1", "paused", "yellow")],
        ..STAT
    },
    Panel {
        title: "Kept from shrinking",
        why: "How many reasons keep it from shrinking now; the REST interface and `trimtab explain` say them in words.",
        queries: &[(
            "count(trimtab_workload_frozen{workload=\"$workload\"}) or 0 * max(trimtab_workload_info{workload=\"$workload\"})",
            "",
            "",
        )],
        ..STAT
    },
    Panel {
        title: "Ready after",
        why: "Time from an order to a ready replica, as measured: the forecast looks this far ahead.",
        unit: "s",
        queries: &[("trimtab_workload_ready_after_seconds{workload=\"$workload\"}", "", "")],
        ..STAT
    },
    Panel {
        title: "Replicas and bounds",
        why: "Wanted at the upper bound while a target is missed: raise the bound, or the size.",
        queries: &[
            ("sum by (state) (trimtab_replicas{workload=\"$workload\"})", "{{state}}", ""),
            ("trimtab_replicas_min{workload=\"$workload\"}", "at least", ""),
            ("trimtab_replicas_max{workload=\"$workload\"}", "at most", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Signals as shares of their targets",
        why: "The signal that is highest decides how many replicas are wanted.",
        unit: "percentunit",
        queries: &[("trimtab_target_reached_ratio{workload=\"$workload\"}", "{{signal}}", "")],
        steps: Some((0.9, 1.0)),
        ..PANEL
    },
    Panel {
        title: "Queue delay, 95th percentile",
        why: "Of workloads behind a balancer: how long requests wait for a free thread, and the target.",
        unit: "s",
        queries: &[
            ("trimtab_queue_delay_p95_seconds{workload=\"$workload\"}", "queue delay", ""),
            ("trimtab_target_queue_delay_p95_seconds{workload=\"$workload\"}", "target", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Use of what replicas are given",
        why: "Of threads or of the CPU quota, whichever is tighter; the target where the specification sets one for CPU.",
        unit: "percentunit",
        queries: &[
            ("trimtab_utilisation_ratio{workload=\"$workload\"}", "use", ""),
            ("trimtab_target_cpu_ratio{workload=\"$workload\"}", "target", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Load, forecast, and what the replicas carry",
        why: "Requests per second (rails) or cores (service). The forecast is for the time when a replica that is started now would be ready.",
        queries: &[
            ("trimtab_workload_load{workload=\"$workload\"}", "load", ""),
            ("trimtab_workload_forecast_load{workload=\"$workload\"}", "forecast", ""),
            (
                "trimtab_workload_replica_load{workload=\"$workload\"} * on (instance, workload) trimtab_replicas{state=\"up\"}",
                "carried at the target",
                "",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Requests",
        why: "Per second, and those that wait in the balancer's queue, where there is one.",
        queries: &[
            ("trimtab_workload_requests_per_second{workload=\"$workload\"}", "per second", ""),
            ("trimtab_workload_queued_requests{workload=\"$workload\"}", "queued", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "CPU: reserved and used",
        why: "Far apart: the size of a replica is too large; `trimtab explain` recommends one.",
        unit: "cores",
        queries: &[
            ("trimtab_workload_reserved_cpu_cores{workload=\"$workload\"}", "reserved", ""),
            ("trimtab_workload_used_cpu_cores{workload=\"$workload\"}", "used", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Memory: reserved and used",
        why: "As for CPU.",
        unit: "bytes",
        queries: &[
            ("trimtab_workload_reserved_memory_bytes{workload=\"$workload\"}", "reserved", ""),
            ("trimtab_workload_used_memory_bytes{workload=\"$workload\"}", "used", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Room for more",
        why: "So many more replicas would fit beside what runs, if nothing else took the room. Empty without a size.",
        queries: &[("trimtab_workload_room_replicas{workload=\"$workload\"}", "replicas", "")],
        ..PANEL
    },
    Panel {
        title: "Idle CPU of its replicas, by cause",
        why: "What it was given and did not use, by cause; blocked names the rule.",
        look: Look::Stack,
        unit: "cores",
        queries: &[(
            "sum by (cause, reason) (trimtab_idle_cpu_cores{workload=\"$workload\"})",
            "{{cause}} {{reason}}",
            "",
        )],
        ..PANEL
    },
    Panel {
        title: "Decisions by kind and first reason",
        why: "Per minute, acts and non-acts. `trimtab get decisions` has each with its numbers.",
        queries: &[(
            "sum by (kind, reason) (rate(trimtab_decisions_total{workload=\"$workload\"}[$__rate_interval])) * 60",
            "{{kind}}: {{reason}}",
            "",
        )],
        ..PANEL
    },
];
