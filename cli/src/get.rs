//! `trimtab get`.

use std::time::Duration;

use autoscaler::api::{
    API_VERSION, Containers, Decisions, EndedTasks, Headroom, Idle, Members, Node, Nodes, Status, Tasks,
    Workload, Workloads,
};
use serde::Serialize;

use crate::arguments::{Get, Kind, Output};
use crate::client::{Client, escaped};
use crate::failure::{self, Failure};
use crate::headroom;
use crate::output::{self, Rows, age, bytes, fresh_view, moment, number, percent};
use crate::{prices, revisions, usage};

/// Distance of questions when watching.
const WATCH: Duration = Duration::from_secs(1);

pub(crate) fn run(client: &Client, get: &Get) -> Result<(), Failure> {
    let mut last = String::new();
    loop {
        let text = once(client, get)?;
        if text != last {
            let view = if get.watch { fresh_view() } else { "" };
            output::print(&format!("{view}{text}"))?;
            last = text;
        }
        if !get.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH);
    }
}

fn once(client: &Client, get: &Get) -> Result<String, Failure> {
    match get.kind {
        Kind::Nodes => {
            let mut nodes: Nodes = client.get("/api/v1/nodes")?;
            nodes.items = only(nodes.items, get.name.as_deref(), |node| &node.name, "node", "get nodes")?;
            shown(&nodes, &node_rows(&nodes.items), get.output, "no agent has connected yet")
        }
        Kind::Workloads => {
            let mut workloads: Workloads = client.get("/api/v1/workloads")?;
            workloads.items =
                only(workloads.items, get.name.as_deref(), |w| &w.name, "workload", "get workloads")?;
            let hint = "no workload is specified; write a file and `trimtab apply -f FILE`";
            shown(&workloads, &workload_rows(&workloads.items), get.output, hint)
        }
        Kind::Decisions | Kind::Plans => {
            let acts = if get.kind == Kind::Plans { "&acts=true" } else { "" };
            let workload = get.workload.as_deref().or(get.name.as_deref());
            let of = workload.map(|name| format!("&workload={}", escaped(name))).unwrap_or_default();
            let limit = get.limit.unwrap_or(50);
            let decisions: Decisions = client.get(&format!("/api/v1/decisions?limit={limit}{acts}{of}"))?;
            if let Some(why) = &decisions.frozen {
                output::remark(&format!("frozen, nothing is done: {why}"));
            }
            shown(&decisions, &decision_rows(&decisions), get.output, "nothing was decided yet")
        }
        Kind::Revisions => {
            let revisions = revisions::of(client, get.name.as_deref().or(get.workload.as_deref()))?;
            shown(&revisions, &revisions::rows(&revisions), get.output, "")
        }
        Kind::Tasks if get.ended => {
            let limit = get.limit.unwrap_or(100);
            let tasks: EndedTasks =
                client.get(&format!("/api/v1/tasks?state=ended&limit={limit}{}", filter(get)))?;
            shown(&tasks, &ended_rows(&tasks), get.output, "no task has ended")
        }
        Kind::Tasks => {
            let limit = get.limit.map(|n| format!("&limit={n}")).unwrap_or_default();
            let tasks: Tasks = client.get(&format!("/api/v1/tasks?state=live{limit}{}", filter(get)))?;
            shown(&tasks, &task_rows(&tasks), get.output, "no task is known")
        }
        Kind::Containers => {
            let of = filter(get).replacen('&', "?", 1);
            let mut containers: Containers = client.get(&format!("/api/v1/containers{of}"))?;
            containers.items =
                only(containers.items, get.name.as_deref(), |c| &c.name, "container", "get containers")?;
            let hint =
                "no container is known (an agent that may not open the runtime's socket says so in its log)";
            shown(&containers, &container_rows(&containers), get.output, hint)
        }
        Kind::Members => {
            let mut members: Members = client.get("/api/v1/members")?;
            members.items = only(members.items, get.name.as_deref(), |m| &m.member, "member", "get members")?;
            let hint =
                "no cluster is reported ([[yarn]], [[hdfs]] and [[cassandra]] of an agent's configuration)";
            shown(&members, &member_rows(&members), get.output, hint)
        }
        Kind::Idle => {
            let idle: Idle = client.get(&format!("/api/v1/idle?limit={}", get.limit.unwrap_or(10)))?;
            let prices = prices::in_force(client)?;
            shown(
                &idle,
                &usage::idle_rows(&idle, prices.as_ref()),
                get.output,
                "no page of the idle ledger is closed yet: the first takes a minute",
            )
        }
        Kind::Usage => {
            let used = usage::over(client, get.for_.as_deref())?;
            let prices = prices::in_force(client)?;
            shown(
                &used,
                &usage::usage_rows(&used, prices.as_ref()),
                get.output,
                "nothing is known of this time yet: the ledger's first minute takes a minute",
            )
        }
        Kind::Prices => {
            let prices = prices::read(client)?;
            shown(&prices, &prices::rows(&prices), get.output, prices::HINT)
        }
        Kind::Headroom => {
            let headroom: Headroom = client.get("/api/v1/headroom")?;
            shown(&headroom, &headroom::rows(&headroom), get.output, "")
        }
        Kind::Status => {
            let status: Status = client.get("/api/v1/status")?;
            shown(&status, &status_rows(&status), get.output, "")
        }
    }
}

fn filter(get: &Get) -> String {
    let of = |name: &str, value: Option<&String>| {
        value.map(|v| format!("&{name}={}", escaped(v))).unwrap_or_default()
    };
    of("node", get.node.as_ref()) + &of("workload", get.workload.as_ref())
}

fn shown(value: &impl Serialize, rows: &Rows, output: Output, empty: &str) -> Result<String, Failure> {
    if rows.rows.is_empty() && matches!(output, Output::Table | Output::Wide) {
        output::remark(empty);
        return Ok(String::new());
    }
    output::text(value, rows, output)
}

fn only<T>(
    items: Vec<T>,
    name: Option<&str>,
    key: impl Fn(&T) -> &String,
    what: &str,
    list: &str,
) -> Result<Vec<T>, Failure> {
    let Some(name) = name else { return Ok(items) };
    let found: Vec<T> = items.into_iter().filter(|item| key(item) == name).collect();
    if found.is_empty() {
        let message = format!("there is no {what} `{}`", output::safe(name));
        return Err(
            Failure::new(failure::Kind::NotFound, message).next(format!("`trimtab {list}` lists all"))
        );
    }
    Ok(found)
}

pub(crate) fn node_rows(nodes: &[Node]) -> Rows {
    let mut rows = Rows::new(&[
        ("name", false, false),
        ("state", false, false),
        ("tier", false, false),
        ("cpus", true, false),
        ("cpu_used", true, false),
        ("cpu_use", true, false),
        ("memory", true, false),
        ("memory_used", true, false),
        ("tasks", true, false),
        ("age", true, false),
        ("acts", false, true),
        ("launchers", false, true),
        ("kernel", false, true),
        ("accounting_error", true, true),
        ("rack", false, true),
        ("run_delay_p99", true, true),
        ("cpu_stall", true, true),
        ("agent", false, true),
        ("clock_skew", true, true),
        ("spooled", true, true),
        ("gaps", true, true),
        ("reserved_cpu", true, true),
        ("reserved_memory", true, true),
        ("received", true, true),
        ("sent", true, true),
    ]);
    for node in nodes {
        let share = node.cpu_cores.filter(|_| node.cpus > 0).map(|cores| cores / f64::from(node.cpus));
        rows.push(vec![
            node.name.clone(),
            node_state(node),
            node.tier.clone(),
            node.cpus.to_string(),
            number(node.cpu_cores),
            percent(share),
            bytes(Some(node.memory_total_bytes)),
            bytes(node.memory_bytes),
            node.tasks.to_string(),
            age(node.age_ms),
            if node.acts { "yes" } else { "observes" }.to_owned(),
            node.launchers.join(" "),
            node.kernel.clone(),
            node.accounting_error_ratio.map_or_else(|| "-".to_owned(), |e| format!("{:.4}%", e * 100.0)),
            node.rack.clone().unwrap_or_else(|| "-".to_owned()),
            node.waits
                .and_then(|waits| waits.run_delay_p99_seconds)
                .map_or_else(|| "-".to_owned(), |v| format!("{:.1}us", v * 1e6)),
            percent(node.waits.and_then(|waits| waits.cpu_stall_ratio)),
            node.agent_version.clone().unwrap_or_else(|| "-".to_owned()),
            node.clock_skew_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:+}ms")),
            node.spooled_rounds.map_or_else(|| "-".to_owned(), |rounds| rounds.to_string()),
            node.gaps.to_string(),
            number(node.reserved.and_then(|reserved| reserved.cpu_cores)),
            bytes(node.reserved.and_then(|reserved| reserved.memory_bytes)),
            rate(node.network.map(|network| network.received_bytes_per_second)),
            rate(node.network.map(|network| network.sent_bytes_per_second)),
        ]);
    }
    rows
}

/// Bytes per second.
fn rate(value: Option<f64>) -> String {
    value.map_or_else(|| bytes(None), |value| format!("{}/s", bytes(Some(value as u64))))
}

/// Whether its agent is there, and whether it is emptied.
pub(crate) fn node_state(node: &Node) -> String {
    let link = if node.connected { "connected" } else { "away" };
    match &node.drain {
        None => link.to_owned(),
        Some(drain) if drain.left == 0 => format!("{link}, drained"),
        Some(drain) => format!("{link}, draining ({} left)", drain.left),
    }
}

/// What it does now, or what it waits for.
pub(crate) fn workload_state(w: &Workload) -> String {
    match (&w.paused, w.frozen.first(), w.starting + w.leaving) {
        (Some(_), _, _) => "paused".to_owned(),
        (None, _, changing) if changing > 0 => "changing".to_owned(),
        (None, Some(reason), _) => format!("holds: {}", reason.code),
        (None, None, _) if w.up < w.wanted => "short of replicas".to_owned(),
        (None, None, _) => "steady".to_owned(),
    }
}

pub(crate) fn workload_rows(workloads: &[Workload]) -> Rows {
    let mut rows = Rows::new(&[
        ("name", false, false),
        ("type", false, false),
        ("mode", false, false),
        ("up", true, false),
        ("wanted", true, false),
        ("bounds", false, false),
        ("requests/s", true, false),
        ("queue_p95", true, false),
        ("use", true, false),
        ("state", false, false),
        ("starting", true, true),
        ("leaving", true, true),
        ("cpu", true, true),
        ("memory", true, true),
        ("policy", false, true),
        ("last", false, true),
    ]);
    for w in workloads {
        rows.push(vec![
            w.name.clone(),
            w.kind.clone(),
            w.mode.clone(),
            w.up.to_string(),
            w.wanted.to_string(),
            format!("{}..{}", w.min, w.max),
            number(w.load.requests_per_second),
            w.load.queue_delay_p95_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}ms")),
            percent(w.load.utilisation),
            workload_state(w),
            w.starting.to_string(),
            w.leaving.to_string(),
            number(w.load.cpu_cores),
            bytes(w.load.memory_bytes),
            w.policy.clone(),
            w.last.as_ref().map_or_else(String::new, |d| format!("{} {}", moment(d.at_ms), d.summary)),
        ]);
    }
    rows
}

fn decision_rows(decisions: &Decisions) -> Rows {
    let mut rows = Rows::new(&[
        ("time", false, false),
        ("workload", false, false),
        ("act", false, false),
        ("kind", false, false),
        ("replicas", false, false),
        ("why", false, false),
        ("inputs", false, true),
        ("id", true, true),
    ]);
    for d in &decisions.items {
        let why: Vec<&str> = d.reasons.iter().map(|reason| reason.text.as_str()).collect();
        rows.push(vec![
            moment(d.at_ms),
            d.workload.clone(),
            if d.act { "yes" } else { "no" }.to_owned(),
            d.kind.clone(),
            if d.before == d.after { d.after.to_string() } else { format!("{} -> {}", d.before, d.after) },
            why.join("; "),
            d.inputs_hash.clone(),
            d.id.clone(),
        ]);
    }
    rows
}

fn task_rows(tasks: &Tasks) -> Rows {
    let mut rows = Rows::new(&[
        ("node", false, false),
        ("kind", false, false),
        ("name", false, false),
        ("workload", false, false),
        ("cpu", true, false),
        ("memory", true, false),
        ("cpu_total_us", true, false),
        ("run_delay", true, true),
        ("age", true, true),
        ("cgroup", true, true),
    ]);
    for t in &tasks.items {
        rows.push(vec![
            t.node.clone(),
            t.kind.clone(),
            t.task.clone().unwrap_or_else(|| t.name.clone()),
            t.workload.clone().unwrap_or_else(|| "-".to_owned()),
            t.cpu_cores.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}")),
            bytes(t.memory_bytes),
            t.totals.get("cpu_time_us").map_or_else(|| "-".to_owned(), ToString::to_string),
            t.run_delay_mean_seconds.map_or_else(|| "-".to_owned(), |v| format!("{:.1}us", v * 1e6)),
            age(t.age_ms),
            t.cgroup.to_string(),
        ]);
    }
    rows
}

fn container_rows(containers: &Containers) -> Rows {
    let mut rows = Rows::new(&[
        ("node", false, false),
        ("name", false, false),
        ("image", false, false),
        ("workload", false, false),
        ("cpu", true, false),
        ("memory", true, false),
        ("cpu_total_us", true, false),
        ("id", false, false),
        ("cgroups", true, true),
        ("labels", false, true),
    ]);
    for c in &containers.items {
        let labels: Vec<String> = c.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        rows.push(vec![
            c.node.clone(),
            c.name.clone(),
            c.image.clone(),
            c.workload.clone().unwrap_or_else(|| "-".to_owned()),
            c.cpu_cores.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}")),
            bytes(c.memory_bytes),
            c.cpu_total_us.map_or_else(|| "-".to_owned(), |v| v.to_string()),
            c.id.get(..12).unwrap_or(&c.id).to_owned(),
            c.cgroups.to_string(),
            labels.join(" "),
        ]);
    }
    rows
}

fn member_rows(members: &Members) -> Rows {
    let mut rows = Rows::new(&[
        ("kind", false, false),
        ("cluster", false, false),
        ("member", false, false),
        ("state", false, false),
        ("used", true, false),
        ("size", true, false),
        ("detail", false, false),
        ("node", false, true),
        ("age", true, true),
    ]);
    for m in &members.items {
        rows.push(vec![
            m.kind.clone(),
            m.cluster.clone(),
            m.member.clone(),
            m.state.clone(),
            bytes(m.used_bytes),
            bytes(m.size_bytes),
            m.detail.clone(),
            m.node.clone(),
            age(Some(m.age_ms)),
        ]);
    }
    rows
}

fn ended_rows(tasks: &EndedTasks) -> Rows {
    let mut rows = Rows::new(&[
        ("ended", false, false),
        ("node", false, false),
        ("kind", false, false),
        ("name", false, false),
        ("workload", false, false),
        ("cpu_total_us", true, false),
        ("end", false, false),
        ("cgroup", true, true),
        ("boot", false, true),
    ]);
    for t in &tasks.items {
        let end = match (t.status, t.signal, t.asked) {
            (_, Some(signal), asked) => {
                format!("signal {signal}{}", if asked == Some(true) { ", asked" } else { "" })
            }
            (Some(status), None, asked) => {
                format!("status {status}{}", if asked == Some(true) { ", asked" } else { "" })
            }
            (None, None, _) => "-".to_owned(),
        };
        rows.push(vec![
            moment(t.ended_ms),
            t.node.clone(),
            t.kind.clone().unwrap_or_default(),
            t.task.clone().or_else(|| t.name.clone()).unwrap_or_default(),
            t.workload.clone().unwrap_or_else(|| "-".to_owned()),
            t.cpu_total_us.map_or_else(|| "-".to_owned(), |v| v.to_string()),
            end,
            t.cgroup.to_string(),
            t.boot.clone(),
        ]);
    }
    rows
}

pub(crate) fn status_rows(status: &Status) -> Rows {
    let mut rows = Rows::new(&[("field", false, false), ("value", false, false)]);
    let mut add = |field: &str, value: String| rows.push(vec![field.to_owned(), value]);
    add("state", status.state.clone());
    if let Some(why) = &status.frozen {
        add("frozen", why.clone());
    }
    for pause in &status.pauses {
        let of = pause.workload.clone().unwrap_or_else(|| "everything".to_owned());
        let until =
            pause.until_ms.map_or_else(|| "until resumed".to_owned(), |ms| format!("until {}", moment(ms)));
        add("paused", format!("{of}, {until}: {}", pause.reason));
    }
    add("agents", status.agents.to_string());
    add("epoch", status.epoch.to_string());
    add("time", moment(status.now_ms));
    add("version", status.version.clone());
    debug_assert_eq!(status.api_version, API_VERSION);
    rows
}
