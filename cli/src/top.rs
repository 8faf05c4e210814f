//! `trimtab top`: nodes, workloads and the busiest tasks, again and again; once when nobody watches.

use std::fmt::Write as _;
use std::time::Duration;

use autoscaler::api::{Nodes, Status, Tasks, Workloads};

use crate::arguments::Top;
use crate::client::Client;
use crate::failure::Failure;
use crate::get::{node_rows, workload_rows};
use crate::output::{self, Rows, bytes, fresh_view, moment, number};

pub(crate) fn run(client: &Client, top: &Top) -> Result<(), Failure> {
    loop {
        output::print(&format!("{}{}", fresh_view(), view(client, top)?))?;
        if !output::on_terminal() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(top.interval));
    }
}

fn view(client: &Client, top: &Top) -> Result<String, Failure> {
    let status: Status = client.get("/api/v1/status")?;
    let nodes: Nodes = client.get("/api/v1/nodes")?;
    let workloads: Workloads = client.get("/api/v1/workloads")?;
    let tasks: Tasks = client.get("/api/v1/tasks")?;
    let cpus: u32 = nodes.items.iter().map(|node| node.cpus).sum();
    // A node that was not measured is neither used nor idle.
    let measured = nodes.items.iter().filter_map(|node| Some((node.cpu_cores?, node.cpus)));
    let measured = measured.reduce(|(used, cpus), (more, of)| (used + more, cpus + of));
    let used = number(measured.map(|(used, _)| used));
    let idle = measured.filter(|(_, cpus)| *cpus > 0).map(|(used, cpus)| 1.0 - used / f64::from(cpus));
    let idle = output::percent(idle);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}  {}  {} nodes, {cpus} CPUs, {used} used, {idle} idle, {} tasks",
        moment(status.now_ms),
        status.state,
        nodes.items.len(),
        tasks.items.len()
    );
    if let Some(why) = &status.frozen {
        let _ = writeln!(text, "frozen: {}", output::safe(why));
    }
    let _ = write!(text, "\n{}", node_rows(&nodes.items).table(false));
    if !workloads.items.is_empty() {
        let _ = write!(text, "\n{}", workload_rows(&workloads.items).table(false));
    }
    let mut busiest = tasks.items;
    busiest.sort_by(|a, b| b.cpu_cores.unwrap_or(0.0).total_cmp(&a.cpu_cores.unwrap_or(0.0)));
    let mut rows = Rows::new(&[
        ("cpu", true, false),
        ("memory", true, false),
        ("node", false, false),
        ("kind", false, false),
        ("task", false, false),
    ]);
    for task in busiest.into_iter().take(top.tasks) {
        let name = task.task.unwrap_or(task.name);
        rows.push(vec![number(task.cpu_cores), bytes(task.memory_bytes), task.node, task.kind, name]);
    }
    let _ = write!(text, "\n{}", rows.table(false));
    Ok(text)
}
