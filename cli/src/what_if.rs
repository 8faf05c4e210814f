//! `trimtab what-if`: recorded load played with other settings.

use autoscaler::api::{
    NodesNeeded, Unplaced, WhatIf as Answer, WhatIfNodeType, WhatIfOutcome, WhatIfReplicas, WhatIfRequest,
    WhatIfTarget, WhatIfWorkload,
};
use hyper::Method;
use hyper::body::Bytes;
use model::units::{Bytes as Memory, Millis, Share};

use crate::arguments::{Output, WhatIf};
use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::output::{self, Rows, age, bytes, moment, safe};

const EXAMPLE: &str = "for example: trimtab what-if web --target cpu=75% --load +20% --lose 1 --node-type cpus=8,memory=32Gi,price=0.4";
const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) fn run(client: &Client, asked: &WhatIf) -> Result<(), Failure> {
    let body = Bytes::from(serde_json::to_vec(&request(asked)?)?);
    let answer = client.send(Method::POST, "/api/v1/what-if", &[JSON], body)?;
    let answer: Answer = serde_json::from_slice(&answer.body)?;
    match asked.output {
        Output::Table | Output::Wide => {
            remarks(&answer);
            let wide = asked.output == Output::Wide;
            output::print(&workload_rows(&answer.workloads).table(wide))?;
            output::print(&format!("\n{}", node_rows(&answer).table(wide)))
        }
        other => output::print(&output::text(&answer, &plain_rows(&answer.workloads), other)?),
    }
}

fn usage(message: String) -> Failure {
    Failure::new(Kind::Usage, message).next(EXAMPLE)
}

fn request(asked: &WhatIf) -> Result<WhatIfRequest, Failure> {
    let (target, replicas) = targets(&asked.target)?;
    let share = |text: &str, what: &str| {
        let share = text.parse::<Share>().map(|share| share.0);
        share.map_err(|error| usage(format!("{what}: {error}")))
    };
    Ok(WhatIfRequest {
        workloads: asked.workloads.clone(),
        range: Some(asked.for_.clone()),
        target: (target != WhatIfTarget::default()).then_some(target),
        replicas: (replicas != WhatIfReplicas::default()).then_some(replicas),
        risk: asked.risk.as_deref().map(|text| share(text, "--risk")).transpose()?,
        load: asked.load.as_deref().map(load).transpose()?,
        headroom: asked.headroom.as_deref().map(headroom).transpose()?,
        lose: asked.lose,
        node_type: asked.node_type.as_deref().map(node_type).transpose()?,
    })
}

fn targets(settings: &[String]) -> Result<(WhatIfTarget, WhatIfReplicas), Failure> {
    let (mut target, mut replicas) = (WhatIfTarget::default(), WhatIfReplicas::default());
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(usage(format!("--target: `{}` is not KEY=VALUE", safe(setting))));
        };
        let whole = || {
            let number = value.parse::<u32>();
            number.map_err(|_| usage(format!("--target {}: `{}` is no whole number", safe(key), safe(value))))
        };
        match key {
            "cpu" => {
                let share =
                    value.parse::<Share>().map_err(|error| usage(format!("--target cpu: {error}")))?;
                target.cpu = Some(share.0);
            }
            "queue" | "queueDelayP95" => {
                let delay =
                    value.parse::<Millis>().map_err(|error| usage(format!("--target queue: {error}")))?;
                target.queue_delay_p95_ms = Some(delay.0);
            }
            "min" => replicas.min = Some(whole()?),
            "max" => replicas.max = Some(whole()?),
            other => {
                let message =
                    format!("--target: `{}` cannot be asked about: use cpu, queue, min or max", safe(other));
                return Err(usage(message));
            }
        }
    }
    Ok((target, replicas))
}

/// A number in percent.
fn percent(text: &str) -> Option<f64> {
    text.trim().strip_suffix('%')?.trim().parse::<f64>().ok().filter(|percent| percent.is_finite())
}

fn load(text: &str) -> Result<f64, Failure> {
    let bad = || usage(format!("--load: `{}` is no change in percent: write +20% or -10%", safe(text)));
    Ok(1.0 + percent(text).ok_or_else(bad)? / 100.0)
}

fn headroom(text: &str) -> Result<f64, Failure> {
    let bad = || usage(format!("--headroom: `{}` is no share of 0% or more: write 20%", safe(text)));
    percent(text).filter(|percent| *percent >= 0.0).map(|percent| percent / 100.0).ok_or_else(bad)
}

fn node_type(text: &str) -> Result<WhatIfNodeType, Failure> {
    let (mut cpus, mut memory, mut price) = (None, None, None);
    for part in text.split(',') {
        let bad = |why: &str| usage(format!("--node-type: `{}` {why}", safe(part)));
        let number = |value: &str| {
            let number =
                value.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
            number.ok_or_else(|| bad("is no number"))
        };
        match part.split_once('=').map(|(key, value)| (key.trim(), value)) {
            Some(("cpus", value)) => cpus = Some(number(value)?),
            Some(("memory", value)) => {
                memory =
                    Some(value.parse::<Memory>().map_err(|error| usage(format!("--node-type: {error}")))?.0);
            }
            Some(("price", value)) => price = Some(number(value)?),
            _ => return Err(bad("is not cpus=N, memory=BYTES or price=N")),
        }
    }
    let both = cpus.zip(memory);
    let (cpus, memory_bytes) = both.ok_or_else(|| usage("--node-type needs cpus and memory".to_owned()))?;
    Ok(WhatIfNodeType { cpus, memory_bytes, price })
}

/// What was played, and on what assumptions: for people, beside the data.
fn remarks(answer: &Answer) {
    let range = format!("{} to {}", moment(answer.from_ms), moment(answer.to_ms));
    output::remark(&format!("recorded load from {range} UTC, a value each {}", age(Some(answer.step_ms))));
    if let Some(limited) = &answer.limited {
        output::remark(&format!("it does not go back further: {limited}"));
    }
    for one in &answer.workloads {
        match &one.why {
            Some(why) => output::remark(&format!("{}: not replayed: {why}{}", one.name, enough(one))),
            None => output::remark(&format!("{}: assumes: {}", one.name, one.assumes.join("; "))),
        }
    }
}

fn enough(one: &WhatIfWorkload) -> String {
    one.enough_in_ms
        .map_or_else(String::new, |ms| format!(" (there is enough in {} at the earliest)", age(Some(ms))))
}

/// As they are, then as asked; once when it is the same.
fn both<T>(one: &WhatIfWorkload, of: impl Fn(&WhatIfOutcome) -> T, shown: impl Fn(T) -> String) -> String {
    match (&one.as_is, &one.asked) {
        (Some(as_is), Some(asked)) => arrow(&shown(of(as_is)), &shown(of(asked))),
        _ => "-".to_owned(),
    }
}

fn arrow(before: &str, after: &str) -> String {
    if before == after { before.to_owned() } else { format!("{before} -> {after}") }
}

fn tenth(value: f64) -> String {
    format!("{value:.1}")
}

fn workload_rows(workloads: &[WhatIfWorkload]) -> Rows {
    let mut rows = Rows::new(&[
        ("name", false, false),
        ("type", false, false),
        ("known", true, false),
        ("replica_hours", true, false),
        ("core_hours", true, false),
        ("breach_min", true, false),
        ("most", true, false),
        ("changes", true, false),
        ("differing", true, false),
        ("gib_hours", true, true),
        ("cpu_each", true, true),
        ("memory_each", true, true),
        ("why_not", false, true),
    ]);
    for one in workloads {
        let hours = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), tenth);
        rows.push(vec![
            one.name.clone(),
            one.kind.clone(),
            age(Some(one.covered_ms)),
            both(one, |o| o.replica_hours, tenth),
            both(one, |o| o.core_hours, tenth),
            both(one, |o| o.breach_minutes, tenth),
            both(one, |o| o.most, |n| n.to_string()),
            both(one, |o| o.changes, |n| n.to_string()),
            if one.why.is_some() { "-".to_owned() } else { one.differed.to_string() },
            both(one, |o| o.gib_hours, hours),
            both(one, |o| o.cpu_millis, |millis| format!("{millis}m")),
            both(one, |o| o.memory_bytes, bytes),
            one.why.clone().unwrap_or_default(),
        ]);
    }
    rows
}

/// Each number in a cell of its own: for spreadsheets.
fn plain_rows(workloads: &[WhatIfWorkload]) -> Rows {
    let mut rows = Rows::new(&[
        ("name", false, false),
        ("play", false, false),
        ("known_ms", true, false),
        ("replica_hours", true, false),
        ("core_hours", true, false),
        ("gib_hours", true, false),
        ("breach_minutes", true, false),
        ("most", true, false),
        ("changes", true, false),
        ("cpu_millis_each", true, false),
        ("memory_bytes_each", true, false),
        ("why_not", false, false),
    ]);
    for one in workloads {
        for (play, outcome) in [("as_is", &one.as_is), ("asked", &one.asked)] {
            let cell = |of: &dyn Fn(&WhatIfOutcome) -> Option<String>| {
                outcome.as_ref().and_then(of).unwrap_or_default()
            };
            rows.push(vec![
                one.name.clone(),
                play.to_owned(),
                one.covered_ms.to_string(),
                cell(&|o| Some(o.replica_hours.to_string())),
                cell(&|o| Some(o.core_hours.to_string())),
                cell(&|o| o.gib_hours.map(|hours| hours.to_string())),
                cell(&|o| Some(o.breach_minutes.to_string())),
                cell(&|o| Some(o.most.to_string())),
                cell(&|o| Some(o.changes.to_string())),
                cell(&|o| Some(o.cpu_millis.to_string())),
                cell(&|o| o.memory_bytes.map(|bytes| bytes.to_string())),
                one.why.clone().unwrap_or_default(),
            ]);
        }
    }
    rows
}

fn node_rows(answer: &Answer) -> Rows {
    let mut rows = Rows::new(&[("nodes", false, false), ("as_is", true, false), ("asked", true, false)]);
    let two = [&answer.nodes_as_is, &answer.nodes_asked];
    let mut row = |title: &str, of: &dyn Fn(&NodesNeeded) -> String| {
        rows.push(vec![title.to_owned(), of(two[0]), of(two[1])]);
    };
    row("given to replicas, cores", &|need| tenth(need.given_cpu_millis as f64 / 1e3));
    row("given to replicas, memory", &|need| memory(need));
    row("needed of those there", &|need| format!("{} of {}", need.used, need.nodes));
    row("does not fit", &|need| over(&need.unplaced));
    if answer.nodes_asked.loss.is_some() {
        let lost = |need: &NodesNeeded| need.loss.clone();
        row("lost", &|need| lost(need).map_or_else(|| "-".to_owned(), |loss| loss.lost.join(" ")));
        row("does not fit then", &|need| {
            lost(need).map_or_else(|| "-".to_owned(), |loss| over(&loss.unplaced))
        });
    }
    if answer.nodes_asked.of_type.is_some() {
        let of = |need: &NodesNeeded| need.of_type.clone();
        row("of the type", &|need| of(need).map_or_else(|| "-".to_owned(), |of| of.nodes.to_string()));
        row("larger than one", &|need| of(need).map_or_else(|| "-".to_owned(), |of| over(&of.unplaced)));
        row("cost an hour", &|need| {
            of(need)
                .and_then(|of| of.price_per_hour)
                .map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}"))
        });
    }
    rows
}

fn memory(need: &NodesNeeded) -> String {
    let known = bytes(Some(need.given_memory_bytes));
    if need.memory_unknown.is_empty() {
        known
    } else {
        format!("{known} without {}", need.memory_unknown.join(" "))
    }
}

fn over(unplaced: &[Unplaced]) -> String {
    if unplaced.is_empty() {
        return "nothing".to_owned();
    }
    let of = |one: &Unplaced| match &one.workload {
        Some(workload) => format!("{} of {workload}", one.count),
        None => format!("what else runs on {}", one.count),
    };
    unplaced.iter().map(of).collect::<Vec<_>>().join(", ")
}
