//! `trimtab explain workload NAME`: why it is as it is.

use std::fmt::Write as _;

use autoscaler::api::{Cluster, Decision, Explanation, SizeAdvice, SizeStatus};
use model::units::Millis;

use crate::arguments::Output;
use crate::client::{Client, escaped};
use crate::failure::{Failure, Kind};
use crate::output::{self, age, bytes, moment, number, percent, safe};

/// Decisions that are shown in full.
const SHOWN: usize = 10;

pub(crate) fn run(client: &Client, name: &str, output: Output) -> Result<(), Failure> {
    let explanation: Explanation = client.get(&format!("/api/v1/workloads/{}/explain", escaped(name)))?;
    let text = match output {
        Output::Table | Output::Wide => for_people(&explanation),
        Output::Json | Output::Yaml => output::structured(&explanation, output)?,
        Output::Csv => {
            return Err(Failure::new(Kind::Usage, "an explanation is no table: use -o json or -o yaml"));
        }
    };
    output::print(&text)
}

/// In words, over several lines.
pub(crate) fn for_people(e: &Explanation) -> String {
    let w = &e.workload;
    let mut text = String::new();
    let mut line = |indent: usize, words: String| {
        let _ = writeln!(text, "{:indent$}{}", "", safe(&words));
    };
    line(0, format!("{} ({}, mode {}, policy {})", w.name, w.kind, w.mode, w.policy));
    line(
        2,
        format!(
            "replicas: {} up, {} wanted ({} starting, {} leaving), bounds {}..{}",
            w.up, w.wanted, w.starting, w.leaving, w.min, w.max
        ),
    );
    let l = &w.load;
    let delay = l.queue_delay_p95_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    line(
        2,
        format!(
            "load: {} requests/s, queue delay p95 {delay}, use {}, CPU {} cores, memory {}",
            number(l.requests_per_second),
            percent(l.utilisation),
            number(l.cpu_cores),
            bytes(l.memory_bytes)
        ),
    );
    let cluster = [
        l.container_wait_ms.map(|ms| format!("containers wait for up to {}", age(Some(ms as u64)))),
        l.disk.map(|share| format!("disk {} full", percent(Some(share)))),
        l.latency_p99_ms.map(|ms| format!("latency p99 {ms:.1} ms")),
    ];
    let cluster: Vec<String> = cluster.into_iter().flatten().collect();
    if !cluster.is_empty() {
        line(2, format!("signals: {}", cluster.join(", ")));
    }
    line(
        2,
        format!(
            "forecast: {} of load {} when a replica started now would be ready (in {}); one replica carries {}",
            number(l.forecast),
            number(l.load),
            age(Some(l.ready_after_ms)),
            number(l.capacity)
        ),
    );
    line(2, size(&w.size));
    if let Some(found) = &w.size.advice {
        line(4, advice(found));
    }
    if let Some(cluster) = &w.cluster {
        members(cluster, &mut line);
    }
    if let Some(why) = &e.frozen {
        line(2, format!("FROZEN, nothing is done: {why}"));
    }
    if let Some(why) = &w.paused {
        line(2, format!("PAUSED: {why}"));
    }
    line(0, "What holds it now:".to_owned());
    let blocks: Vec<_> = e.blocks.iter().chain(&w.frozen).collect();
    if blocks.is_empty() {
        line(2, "nothing".to_owned());
    }
    let mut said = Vec::new();
    for reason in blocks {
        if !said.contains(&&reason.text) {
            line(2, format!("- {}", reason.text));
            said.push(&reason.text);
        }
    }
    line(0, "What would make it act:".to_owned());
    for would in &e.would_act {
        line(2, format!("- {would}"));
    }
    if !w.replicas.is_empty() {
        line(0, "Replicas:".to_owned());
        for r in &w.replicas {
            let port = r.port.map(|port| format!(", port {port}")).unwrap_or_default();
            let detail = if r.detail.is_empty() { String::new() } else { format!(": {}", r.detail) };
            line(
                2,
                format!("{} on {}{port}: {} since {}{detail}", r.task, r.node, r.state, moment(r.since_ms)),
            );
        }
    }
    line(0, "What was decided, newest first:".to_owned());
    if e.decisions.is_empty() {
        line(2, "nothing yet".to_owned());
    }
    for decision in e.decisions.iter().take(SHOWN) {
        decided(decision, &mut line);
    }
    if !e.anomalies.is_empty() {
        line(0, "What went against the expected order, newest first:".to_owned());
        for anomaly in e.anomalies.iter().take(SHOWN) {
            line(2, anomaly.clone());
        }
    }
    text
}

/// The change of a cluster on its way, those that are over, and whom Trimtab did not start.
fn members(cluster: &Cluster, line: &mut impl FnMut(usize, String)) {
    if !cluster.found.is_empty() {
        line(
            2,
            format!("members that Trimtab did not start, and leaves alone: {}", cluster.found.join(", ")),
        );
    }
    let way = |direction: &str| if direction == "in" { "leaves" } else { "comes" };
    if let Some(change) = &cluster.change {
        let (member, state, detail) = (&change.member, &change.state, &change.detail);
        let took = change.elapsed_ms / 1_000;
        line(
            2,
            format!(
                "{member} {}: {state} ({detail}), {took} s of about {} s; {}",
                way(&change.direction),
                change.estimate_s,
                change.risk
            ),
        );
    }
    for past in cluster.past.iter().take(SHOWN) {
        line(
            2,
            format!(
                "{} {} {}: {} after {} s (about {} s were expected)",
                moment(past.began_ms),
                past.member,
                way(&past.direction),
                past.ended,
                past.took_ms / 1_000,
                past.estimate_s
            ),
        );
    }
}

/// What each replica is given, and what is on its way.
fn size(s: &SizeStatus) -> String {
    let of = |cpu: Option<u32>, memory: Option<u64>| {
        let cpu = cpu.map_or_else(|| "no CPU quota".to_owned(), |millis| format!("{millis}m CPU"));
        let memory =
            memory.map_or_else(|| "no memory limit".to_owned(), |n| format!("{} memory", bytes(Some(n))));
        format!("{cpu}, {memory}")
    };
    let mut text = format!("size ({}): {} each", s.mode, of(s.cpu_millis, s.memory_bytes));
    let to = of(s.to_cpu_millis, s.to_memory_bytes);
    match (s.phase.as_str(), &s.canary) {
        ("canary", Some(task)) => text.push_str(&format!("; {task} tries {to}")),
        ("spreading", _) => text.push_str("; the others follow the first"),
        ("returning", _) => text.push_str(&format!("; all go back to {to}")),
        _ => {}
    }
    if let (Some(why), Some(until)) = (&s.held, s.held_until_ms) {
        text.push_str(&format!("; not changed until {} ({why})", moment(until)));
    }
    text
}

/// What the replicas' own use asks for, between what would be too little and what would be too much.
fn advice(a: &SizeAdvice) -> String {
    let of = |n| bytes(Some(n));
    let cpu = format!("{}m CPU ({}m to {}m)", a.cpu_millis, a.cpu_millis_low, a.cpu_millis_high);
    let memory =
        format!("{} memory ({} to {})", of(a.memory_bytes), of(a.memory_bytes_low), of(a.memory_bytes_high));
    let asked = if a.history_ms < a.after_ms {
        format!("; said from {} on", Millis(a.after_ms))
    } else {
        String::new()
    };
    format!("their use asks for {cpu}, {memory}, by {} of it{asked}", Millis(a.history_ms / 1_000 * 1_000))
}

fn decided(d: &Decision, line: &mut impl FnMut(usize, String)) {
    let change =
        if d.before == d.after { d.after.to_string() } else { format!("{} -> {}", d.before, d.after) };
    let act = match (d.act, d.kind.as_str()) {
        (true, _) => "",
        (false, "hold") => "",
        (false, _) => " (not carried out)",
    };
    line(2, format!("{}  {} {change}{act}", moment(d.at_ms), d.kind.replace('_', " ")));
    for reason in &d.reasons {
        line(6, format!("because {}", reason.text));
    }
    if let Some(binding) = &d.binding
        && d.reasons.iter().all(|reason| reason.text != binding.text)
    {
        line(6, format!("not further because {}", binding.text));
    }
    for part in &d.parts {
        let wish = part.wish.map_or_else(|| "says nothing".to_owned(), |n| format!("wished {n}"));
        line(6, format!("{} {wish}: {}", part.signal.replace('_', " "), part.detail));
    }
    for other in &d.alternatives {
        line(6, format!("not {}: {}", other.replicas, other.why.text));
    }
    if let Some(p) = &d.predicted {
        let (after, used) = (age(Some(p.after_ms)), percent(Some(p.utilisation)));
        line(6, format!("expected {after} later: use {used}, load of {:.1} replicas", p.load));
    }
    if let Some(r) = &d.realised {
        let (after, used) = (age(Some(r.after_ms)), percent(Some(r.utilisation)));
        line(
            6,
            format!("seen {after} later: use {used}, load of {:.1} replicas, {} there", r.load, r.serving),
        );
    }
}
