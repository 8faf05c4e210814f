//! Trimtab itself.

use crate::metrics::dashboard::{Look, PANEL, Panel, STAT};

pub(super) const PANELS: &[Panel] = &[
    Panel {
        title: "Control loop",
        why: "Stuck: it did not answer the scrape within 2 s. Restart the service, and keep its log.",
        queries: &[("min(trimtab_loop_answers)", "", "")],
        words: &[("0", "stuck", "red"), ("1", "answers", "green")],
        ..STAT
    },
    Panel {
        title: "Store",
        why: "Frozen: nothing can be made durable, so nothing is done until it can. Look at the disk of the state directory.",
        queries: &[("max(trimtab_frozen)", "", "")],
        words: &[("0", "writable", "green"), ("1", "frozen", "red")],
        ..STAT
    },
    Panel {
        title: "Version",
        why: "What runs.",
        queries: &[("trimtab_build_info", "{{version}}", "")],
        look: Look::Name,
        ..STAT
    },
    Panel {
        title: "Agents connected",
        why: "Streams that are up.",
        queries: &[("sum(trimtab_agents_connected)", "", "")],
        ..STAT
    },
    Panel {
        title: "Store on disk",
        why: "Journal and what is read of it. It is kept within what the configuration allows.",
        unit: "bytes",
        queries: &[("sum(trimtab_store_bytes)", "", "")],
        ..STAT
    },
    Panel {
        title: "Starts",
        why: "The epoch of the controller grows by one with each start.",
        queries: &[("max(trimtab_epoch)", "", "")],
        ..STAT
    },
    Panel {
        title: "Time of a round, and of making it durable",
        why: "99th percentile. A round is due each second; a slow disk shows in the second line.",
        unit: "s",
        queries: &[
            (
                "histogram_quantile(0.99, sum by (le) (rate(trimtab_round_seconds_bucket[$__rate_interval])))",
                "round",
                "",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(trimtab_commit_seconds_bucket[$__rate_interval])))",
                "commit",
                "",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Clocks of nodes",
        why: "Wall clocks beside the autoscaler's. Seconds apart, logs cannot be laid beside each other; minutes apart, certificates are refused: look at the node's time synchronisation.",
        unit: "s",
        queries: &[("trimtab_node_clock_skew_seconds", "{{node}}", "")],
        ..PANEL
    },
    Panel {
        title: "Rounds that agents could not send yet",
        why: "They wait on the agents' disks after a time without a stream, and are sent as the stream has room. A line that does not fall: the stream is too slow.",
        queries: &[("trimtab_node_spooled_rounds", "{{node}}", "")],
        ..PANEL
    },
    Panel {
        title: "Inputs that wait for the loop",
        why: "At 1024 agents have to wait, and their samples grow old.",
        queries: &[("max by (instance) (trimtab_inputs_waiting)", "{{instance}}", "")],
        ..PANEL
    },
    Panel {
        title: "The service's own CPU",
        why: "In cores. Its budget is 1 µs for each sample of a task.",
        unit: "cores",
        queries: &[("rate(trimtab_cpu_seconds_total[$__rate_interval])", "{{instance}}", "")],
        ..PANEL
    },
    Panel {
        title: "The service's own memory",
        why: "Resident.",
        unit: "bytes",
        queries: &[("trimtab_resident_memory_bytes", "{{instance}}", "")],
        ..PANEL
    },
    Panel {
        title: "From agents",
        why: "Samples of tasks per second, and bytes.",
        queries: &[
            ("sum(rate(trimtab_samples_total[$__rate_interval]))", "samples", ""),
            ("sum(rate(trimtab_batches_total[$__rate_interval]))", "batches", ""),
            ("sum(rate(trimtab_received_bytes_total[$__rate_interval]))", "bytes", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "What went wrong with agents",
        why: "Per minute, by reason: streams that were closed, messages that were refused, handshakes that failed.",
        queries: &[
            (
                "sum by (reason) (rate(trimtab_streams_closed_total[$__rate_interval])) * 60 or on () (0 * max(trimtab_build_info))",
                "closed {{reason}}",
                "",
            ),
            (
                "sum by (reason) (rate(trimtab_messages_refused_total[$__rate_interval])) * 60 or on () (0 * max(trimtab_build_info))",
                "refused {{reason}}",
                "",
            ),
            (
                "sum by (reason) (rate(trimtab_tls_handshakes_failed_total[$__rate_interval])) * 60 or on () (0 * max(trimtab_build_info))",
                "handshake {{reason}}",
                "",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Commands",
        why: "Per minute, sent and not sent. Late: the plan waited for the disk longer than the command was good for.",
        queries: &[
            ("sum(rate(trimtab_commands_total[$__rate_interval])) * 60", "sent", ""),
            (
                "sum by (reason) (rate(trimtab_commands_unsent_total[$__rate_interval])) * 60 or on () (0 * max(trimtab_build_info))",
                "not sent {{reason}}",
                "",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "History",
        why: "Bytes per second, and batches that history did not take or could not write: then a chart has a hole, and decisions do not care.",
        queries: &[
            ("sum(rate(trimtab_history_written_bytes_total[$__rate_interval]))", "bytes", ""),
            ("sum(rate(trimtab_history_batches_dropped_total[$__rate_interval]))", "dropped", ""),
            ("sum(rate(trimtab_history_writes_failed_total[$__rate_interval]))", "failed", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "REST interface",
        why: "Requests per second by class of status, and live streams.",
        queries: &[
            ("sum by (reason) (rate(trimtab_requests_total[$__rate_interval]))", "{{reason}}", ""),
            ("sum(trimtab_live_streams)", "live streams", ""),
        ],
        ..PANEL
    },
    Panel {
        title: "Remote write: samples",
        why: "Per second, taken by the receiver and dropped, by reason. Empty where nothing is sent. refused: the receiver will never take them, and the log has its words.",
        queries: &[
            ("sum(rate(trimtab_remote_write_samples_total[$__rate_interval]))", "taken", ""),
            (
                "sum by (reason) (rate(trimtab_remote_write_samples_dropped_total[$__rate_interval]))",
                "dropped: {{reason}}",
                "",
            ),
            (
                "sum by (reason) (rate(trimtab_remote_write_requests_failed_total[$__rate_interval]))",
                "requests failed: {{reason}}",
                "",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Remote write: behind",
        why: "Age of the oldest sample that waits to be sent. It grows while the receiver is away; what does not fit in memory is dropped, the oldest first.",
        unit: "s",
        queries: &[("max by (instance) (trimtab_remote_write_behind_seconds)", "{{instance}}", "")],
        ..PANEL
    },
    Panel {
        title: "Agents: the dearest ones",
        why: "Five by CPU, in cores; needs agents' own /metrics to be scraped.",
        unit: "cores",
        queries: &[(
            "topk(5, rate(trimtab_agent_cpu_seconds_total[$__rate_interval]) * on (instance) group_left (node) trimtab_agent_info)",
            "{{node}}",
            "",
        )],
        ..PANEL
    },
];
