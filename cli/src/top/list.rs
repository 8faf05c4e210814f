//! Which lines a page has, in which order.

use std::cmp::Ordering;

use autoscaler::api::{Decision, Node, Task, Workload};

use super::data::Data;
use crate::get::{node_state, workload_state};
use crate::output::{age, bytes, moment, number, safe};

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Nodes,
    Workloads,
    Tasks,
    Decisions,
}

/// A column: its title, whether numbers are in it, and its width; 0 = what the others leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) right: bool,
    pub(super) width: u16,
}

const fn column(title: &'static str, right: bool, width: u16) -> Column {
    Column { title, right, width }
}

impl Page {
    /// In the order of their keys.
    pub(super) const ALL: [Self; 4] = [Self::Nodes, Self::Workloads, Self::Tasks, Self::Decisions];

    pub(super) fn number(self) -> usize {
        Self::ALL.iter().position(|page| *page == self).unwrap_or(0)
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Nodes => "Nodes",
            Self::Workloads => "Workloads",
            Self::Tasks => "Tasks",
            Self::Decisions => "Decisions",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        const NODES: [Column; 8] = [
            column("node", false, 0),
            column("cpu", false, 15),
            column("cores", true, 12),
            column("memory", false, 15),
            column("tasks", true, 6),
            column("tier", false, 4),
            column("age", true, 6),
            column("state", false, 22),
        ];
        const WORKLOADS: [Column; 9] = [
            column("workload", false, 0),
            column("type", false, 9),
            column("mode", false, 9),
            column("up", true, 4),
            column("wanted", true, 6),
            column("bounds", true, 8),
            column("use", false, 15),
            column("queue p95", true, 10),
            column("state", false, 24),
        ];
        const TASKS: [Column; 7] = [
            column("cpu", true, 8),
            column("memory", true, 9),
            column("waits for CPU", true, 13),
            column("node", false, 16),
            column("kind", false, 10),
            column("workload", false, 16),
            column("task", false, 0),
        ];
        const DECISIONS: [Column; 4] = [
            column("time (UTC)", false, 19),
            column("workload", false, 16),
            column("done", false, 4),
            column("what and why", false, 0),
        ];
        match self {
            Self::Nodes => &NODES,
            Self::Workloads => &WORKLOADS,
            Self::Tasks => &TASKS,
            Self::Decisions => &DECISIONS,
        }
    }

    /// The column that orders it at first, and whether the largest comes first.
    pub(super) fn order(self) -> (usize, bool) {
        match self {
            Self::Nodes => (1, true),
            Self::Workloads => (0, false),
            Self::Tasks | Self::Decisions => (0, true),
        }
    }

    /// All its lines.
    pub(super) fn lines(self, data: &Data) -> Vec<Line> {
        match self {
            Self::Nodes => data.nodes.iter().map(node).collect(),
            Self::Workloads => data.workloads.iter().map(workload).collect(),
            Self::Tasks => data.tasks.iter().map(task).collect(),
            Self::Decisions => data.decisions.iter().map(decision).collect(),
        }
    }
}

/// How much a line wants to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Calm,
    /// Something is on its way, or held back.
    Notice,
    /// Something is wrong.
    Bad,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// A number, and how it is written.
    Number(f64, String),
    /// A part of a whole, drawn as a bar.
    Share(f64),
    /// Not known: never 0.
    Unknown,
}

impl Value {
    fn number(value: Option<f64>, shown: impl Fn(Option<f64>) -> String) -> Self {
        value.map_or(Self::Unknown, |number| Self::Number(number, shown(value)))
    }

    fn text(text: &str) -> Self {
        Self::Text(safe(text))
    }

    /// What is unknown comes last in any order, so it is no part of this one.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(a, _), Self::Number(b, _)) | (Self::Share(a), Self::Share(b)) => a.total_cmp(b),
            _ => Ordering::Equal,
        }
    }
}

/// A line of a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Whose it is, so that the choice stays with it when the order changes.
    pub(super) key: String,
    pub(super) cells: Vec<Value>,
    pub(super) mood: Mood,
}

impl Line {
    /// Its texts hold these words; after `=`, one of them is exactly the rest.
    pub(super) fn has(&self, words: &str) -> bool {
        let exact = words.strip_prefix('=');
        let lower = words.to_lowercase();
        self.cells.iter().any(|cell| match (cell, exact) {
            (Value::Text(text), Some(whole)) => text == whole,
            (Value::Text(text), None) => text.to_lowercase().contains(&lower),
            _ => false,
        })
    }
}

/// Orders lines by a column; equal ones as they were.
pub(super) fn order(lines: &mut [Line], column: usize, largest_first: bool) {
    let unknown = |line: &Line| line.cells.get(column).is_none_or(|cell| *cell == Value::Unknown);
    lines.sort_by(|a, b| match (unknown(a), unknown(b)) {
        (false, false) => {
            let rising = a.cells[column].compare(&b.cells[column]);
            if largest_first { rising.reverse() } else { rising }
        }
        (a, b) => a.cmp(&b),
    });
}

fn share(part: Option<f64>, whole: f64) -> Value {
    part.filter(|_| whole > 0.0).map_or(Value::Unknown, |part| Value::Share(part / whole))
}

fn node(node: &Node) -> Line {
    let cpus = f64::from(node.cpus);
    let mood = match (&node.drain, node.connected) {
        (_, false) => Mood::Bad,
        (Some(_), true) => Mood::Notice,
        (None, true) => Mood::Calm,
    };
    Line {
        key: node.name.clone(),
        cells: vec![
            Value::text(&node.name),
            share(node.cpu_cores, cpus),
            Value::number(node.cpu_cores, |used| format!("{} / {}", number(used), node.cpus)),
            share(node.memory_bytes.map(|used| used as f64), node.memory_total_bytes as f64),
            Value::Number(f64::from(node.tasks), node.tasks.to_string()),
            Value::text(&node.tier),
            Value::number(node.age_ms.map(|ms| ms as f64), |_| age(node.age_ms)),
            Value::text(&node_state(node)),
        ],
        mood,
    }
}

fn workload(workload: &Workload) -> Line {
    let count = |n: u32| Value::Number(f64::from(n), n.to_string());
    let mood = if workload.paused.is_some() || workload.starting + workload.leaving > 0 {
        Mood::Notice
    } else if workload.up < workload.wanted {
        Mood::Bad
    } else {
        Mood::Calm
    };
    Line {
        key: workload.name.clone(),
        cells: vec![
            Value::text(&workload.name),
            Value::text(&workload.kind),
            Value::text(&workload.mode),
            count(workload.up),
            count(workload.wanted),
            Value::Text(format!("{}..{}", workload.min, workload.max)),
            share(workload.load.utilisation, 1.0),
            Value::number(workload.load.queue_delay_p95_ms, |ms| format!("{} ms", number(ms))),
            Value::text(&workload_state(workload)),
        ],
        mood,
    }
}

fn task(task: &Task) -> Line {
    Line {
        key: format!("{}/{}", task.node, task.cgroup),
        cells: vec![
            Value::number(task.cpu_cores, |cores| format!("{:.3}", cores.unwrap_or_default())),
            Value::number(task.memory_bytes.map(|of| of as f64), |_| bytes(task.memory_bytes)),
            Value::number(task.run_delay_mean_seconds, |s| format!("{:.1} us", s.unwrap_or_default() * 1e6)),
            Value::text(&task.node),
            Value::text(&task.kind),
            task.workload.as_deref().map_or(Value::Unknown, Value::text),
            Value::text(task.task.as_ref().unwrap_or(&task.name)),
        ],
        mood: Mood::Calm,
    }
}

fn decision(decision: &Decision) -> Line {
    Line {
        key: decision.id.clone(),
        cells: vec![
            Value::Text(moment(decision.at_ms)),
            Value::text(&decision.workload),
            Value::text(if decision.act { "yes" } else { "no" }),
            Value::text(&decision.summary),
        ],
        mood: if decision.act { Mood::Notice } else { Mood::Calm },
    }
}
