//! The four dashboards, and which question each of them answers. docs/grafana.md says the same to people.

mod fleet;
mod internals;
mod node;
mod workload;

use super::dashboard::Dashboard;

/// All of them.
pub(super) const ALL: [Dashboard; 4] = [
    Dashboard {
        name: "fleet",
        title: "Trimtab / Fleet",
        question: "Is Trimtab acting, what capacity is idle and why, are targets met, is the data fresh?",
        variable: None,
        panels: fleet::PANELS,
    },
    Dashboard {
        name: "workload",
        title: "Trimtab / Workload",
        question: "Does this workload meet its targets, why does it have this many replicas, what holds it back?",
        variable: Some(("workload", "trimtab_workload_info")),
        panels: workload::PANELS,
    },
    Dashboard {
        name: "node",
        title: "Trimtab / Node",
        question: "How full is this node, how long do its tasks wait, how well is it measured, what does its agent cost?",
        variable: Some(("node", "trimtab_node_info")),
        panels: node::PANELS,
    },
    Dashboard {
        name: "internals",
        title: "Trimtab / Internals",
        question: "Is Trimtab itself well: the control loop, its store, its connections, its agents?",
        variable: None,
        panels: internals::PANELS,
    },
];
