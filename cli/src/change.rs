//! What changes something: plan, apply, set target, delete, pause, resume.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use autoscaler::api::{
    Applied, ApproveRequest, CancelRequest, PauseRequest, PricesApplied, RejectRequest, ResumeRequest,
    Status, Workload, WorkloadDetail, Workloads,
};
use hyper::Method;
use hyper::body::Bytes;
use model::spec::{prices_document, to_document};
use serde_json::{Value, json};

use crate::arguments::{Apply, Output, Plan, Target};
use crate::client::{Client, escaped};
use crate::failure::{CHANGES, Failure, Kind};
use crate::get::{self, status_rows};
use crate::output::{self, safe};
use crate::{prices, specs};

const JSON: (&str, &str) = ("content-type", "application/json");

fn put(
    client: &Client,
    name: &str,
    document: &Value,
    dry_run: bool,
    tag: Option<&str>,
) -> Result<Applied, Failure> {
    let path = format!("/api/v1/workloads/{}{}", escaped(name), if dry_run { "?dryRun=true" } else { "" });
    let mut headers = vec![JSON];
    headers.extend(tag.map(|tag| ("if-match", tag)));
    let answer = client.send(Method::PUT, &path, &headers, Bytes::from(document.to_string()))?;
    Ok(serde_json::from_slice(&answer.body)?)
}

pub(crate) fn plan(client: &Client, plan: &Plan) -> Result<ExitCode, Failure> {
    let specified = specs::read(&plan.files.paths())?.map_err(|faults| specs::refused(&faults))?;
    let mut planned = Vec::new();
    for workload in &specified.workloads {
        planned.push((
            workload.name.to_string(),
            put(client, workload.name.as_str(), &to_document(workload), true, None)?,
        ));
    }
    let prices = specified.prices.as_ref().map(|table| prices::put(client, &prices_document(table), true));
    let prices = prices.transpose()?;
    let changes = planned.iter().filter(|(_, applied)| !applied.unchanged).count()
        + usize::from(prices.as_ref().is_some_and(|prices| !prices.unchanged));
    if matches!(plan.output, Output::Json | Output::Yaml) {
        let items: Vec<Value> = planned
            .iter()
            .map(|(name, applied)| Ok(json!({ "workload": name, "plan": serde_json::to_value(applied)? })))
            .collect::<Result<_, serde_json::Error>>()?;
        let mut answer = json!({ "apiVersion": "trimtab/v1", "changes": changes, "items": items });
        if let Some(prices) = &prices {
            answer["prices"] = serde_json::to_value(prices)?;
        }
        output::print(&output::structured(&answer, plan.output)?)?;
    } else {
        let mut text: String = planned.iter().map(|(name, applied)| difference(name, applied)).collect();
        text += &prices.as_ref().map(prices_difference).unwrap_or_default();
        let noun = if prices.is_some() { "documents" } else { "workloads" };
        let count = planned.len() + usize::from(prices.is_some());
        let _ = writeln!(text, "{changes} of {count} {noun} would change");
        output::print(&text)?;
    }
    Ok(if plan.detailed_exitcode && changes > 0 { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
}

/// What an application changes, for people.
pub(crate) fn difference(name: &str, applied: &Applied) -> String {
    if applied.unchanged {
        return format!("workload {name}: as it is\n");
    }
    let mut text = format!("workload {name}: {}\n", if applied.created { "new" } else { "changes" });
    text += &compared(applied.before.as_ref(), &applied.after);
    let (min, max) = applied.bounds;
    let replicas = match applied.wanted_now {
        Some(now) if now < min => format!("{now} now, at least {min}: {} more start", min - now),
        Some(now) if now > max => format!("{now} now, at most {max}: {} leave", now - max),
        Some(now) => format!("{now} now, which is within {min}..{max}"),
        None => format!("at least {min}, at most {max}"),
    };
    let _ = writeln!(text, "  replicas: {replicas}");
    text
}

/// What an application of prices changes, for people.
fn prices_difference(applied: &PricesApplied) -> String {
    if applied.unchanged {
        return "prices: as they are\n".to_owned();
    }
    let what = if applied.created { "new" } else { "change" };
    format!("prices: {what}\n{}", compared(applied.before.as_ref(), &applied.after))
}

/// Two documents line by line, with signs before those that differ.
fn compared(before: Option<&Value>, after: &Value) -> String {
    let yaml = |document: Option<&Value>| {
        document.and_then(|value| serde_saphyr::to_string(value).ok()).unwrap_or_default()
    };
    let (before, after) = (yaml(before), yaml(Some(after)));
    let mut text = String::new();
    let compared = similar::TextDiff::from_lines(&before, &after);
    for operation in compared.grouped_ops(2).iter().flatten() {
        for change in compared.iter_changes(operation) {
            let sign = match change.tag() {
                similar::ChangeTag::Delete => '-',
                similar::ChangeTag::Insert => '+',
                similar::ChangeTag::Equal => ' ',
            };
            let _ = writeln!(text, "  {sign} {}", safe(change.value().trim_end()));
        }
    }
    text
}

pub(crate) fn apply(client: &Client, apply: &Apply) -> Result<(), Failure> {
    let specified = specs::read(&apply.files.paths())?.map_err(|faults| specs::refused(&faults))?;
    if !apply.yes {
        let mut changes = 0;
        for workload in &specified.workloads {
            let planned = put(client, workload.name.as_str(), &to_document(workload), true, None)?;
            changes += usize::from(!planned.unchanged);
            eprint!("{}", difference(workload.name.as_str(), &planned));
        }
        if let Some(table) = &specified.prices {
            let planned = prices::put(client, &prices_document(table), true)?;
            changes += usize::from(!planned.unchanged);
            eprint!("{}", prices_difference(&planned));
        }
        if changes > 0 && !specs::confirmed(&format!("Apply {changes} of them?"))? {
            return Err(Failure::new(Kind::Error, "nothing was applied"));
        }
    }
    let mut names = Vec::new();
    for workload in &specified.workloads {
        let applied = put(client, workload.name.as_str(), &to_document(workload), false, None)?;
        let what = what(applied.unchanged, applied.created);
        let revision = applied.revision.map(|n| format!(" (revision {n})")).unwrap_or_default();
        output::print(&format!("workload {}: {what}{revision}\n", workload.name))?;
        names.push(workload.name.to_string());
    }
    if let Some(table) = &specified.prices {
        let applied = prices::put(client, &prices_document(table), false)?;
        let revision = applied.revision.map(|n| format!(" (revision {n})")).unwrap_or_default();
        output::print(&format!("prices: {}{revision}\n", what(applied.unchanged, applied.created)))?;
    }
    if apply.wait { settled(client, &names, Duration::from_secs(apply.timeout)) } else { Ok(()) }
}

fn what(unchanged: bool, created: bool) -> &'static str {
    match (unchanged, created) {
        (true, _) => "unchanged",
        (false, true) => "created",
        (false, false) => "changed",
    }
}

/// Waits until as many replicas are up as are wanted.
fn settled(client: &Client, names: &[String], patience: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let all: Workloads = client.get("/api/v1/workloads")?;
        let unsettled: Vec<String> = names
            .iter()
            .filter_map(|name| match all.items.iter().find(|workload| workload.name == *name) {
                Some(w) if w.up == w.wanted && w.starting + w.leaving == 0 => None,
                Some(w) => Some(format!("{name}: {} of {} up", w.up, w.wanted)),
                None => Some(format!("{name}: not yet seen")),
            })
            .collect();
        if unsettled.is_empty() {
            return Ok(());
        }
        if began.elapsed() > patience {
            let message = format!("not settled within {} s: {}", patience.as_secs(), unsettled.join("; "));
            let next = format!("trimtab explain workload {}", names.first().map_or("NAME", String::as_str));
            return Err(Failure::new(Kind::Timeout, message).next(next));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

pub(crate) fn set_target(client: &Client, target: &Target) -> Result<(), Failure> {
    let path = format!("/api/v1/workloads/{}", escaped(&target.name));
    let answer = client.send(Method::GET, &path, &[], Bytes::new())?;
    let detail: WorkloadDetail = serde_json::from_slice(&answer.body)?;
    let mut document = detail.document;
    for setting in &target.settings {
        set(&mut document, setting)?;
    }
    // Checked here first, so that a fault names what was written.
    if let Err(faults) = model::spec::parse("settings.json", &document.to_string()) {
        let all: Vec<String> = faults.iter().map(|fault| fault.message.clone()).collect();
        let next = "compare with `trimtab get workloads -o json`";
        return Err(Failure::new(Kind::Validation, all.join("; ")).next(next));
    }
    let tag = answer.etag.as_deref();
    let applied = put(client, &target.name, &document, target.dry_run, tag)?;
    output::print(&difference(&target.name, &applied))?;
    if target.dry_run {
        output::remark("nothing was changed (--dry-run)");
    }
    Ok(())
}

fn set(document: &mut Value, setting: &str) -> Result<(), Failure> {
    let usage = |message: String| {
        Failure::new(Kind::Usage, message).next("for example: trimtab set target web cpu=65% min=2 max=20")
    };
    let Some((key, value)) = setting.split_once('=') else {
        return Err(usage(format!("`{}` is not KEY=VALUE", safe(setting))));
    };
    let (section, field) = match key {
        "cpu" => (Some("target"), "cpu"),
        "queue" | "queueDelayP95" => (Some("target"), "queueDelayP95"),
        "min" => (Some("replicas"), "min"),
        "max" => (Some("replicas"), "max"),
        "mode" => (None, "mode"),
        other => {
            return Err(usage(format!("`{}` cannot be set: use cpu, queue, min, max or mode", safe(other))));
        }
    };
    let spec = &mut document["spec"];
    let at = match section {
        Some(section) => &mut spec[section],
        None => spec,
    };
    let written = match value.parse::<u64>() {
        Ok(number) if matches!(field, "min" | "max") => json!(number),
        _ => json!(value),
    };
    if let Some(fields) = at.as_object_mut() {
        if value.is_empty() {
            fields.remove(field);
        } else {
            fields.insert(field.to_owned(), written);
        }
    }
    Ok(())
}

pub(crate) fn delete(client: &Client, name: &str, yes: bool) -> Result<(), Failure> {
    let question = format!("Withdraw the specification of {}? Its tasks keep running.", safe(name));
    if !yes && !specs::confirmed(&question)? {
        return Err(Failure::new(Kind::Error, "nothing was withdrawn"));
    }
    client.send(Method::DELETE, &format!("/api/v1/workloads/{}", escaped(name)), &[], Bytes::new())?;
    output::print(&format!("workload {}: withdrawn\n", safe(name)))
}

fn post(client: &Client, path: &str, body: &impl serde::Serialize) -> Result<(), Failure> {
    // A repetition by the network must not pause twice.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let key = format!("cli-{}-{}", std::process::id(), since.as_nanos());
    let headers = [JSON, ("idempotency-key", key.as_str())];
    let answer = client.send(Method::POST, path, &headers, Bytes::from(serde_json::to_vec(body)?))?;
    let status: Status = serde_json::from_slice(&answer.body)?;
    output::print(&status_rows(&status).table(false))
}

pub(crate) fn pause(
    client: &Client,
    workload: Option<String>,
    for_: Option<String>,
    reason: String,
) -> Result<(), Failure> {
    post(client, "/api/v1/pause", &PauseRequest { workload, reason, for_ })
}

pub(crate) fn resume(client: &Client, workload: Option<String>) -> Result<(), Failure> {
    post(client, "/api/v1/resume", &ResumeRequest { workload })
}

/// Sends a word about a cluster's change, and shows how it is then.
fn about(client: &Client, workload: &str, word: &str, body: &impl serde::Serialize) -> Result<(), Failure> {
    let path = format!("/api/v1/workloads/{}/{word}", escaped(workload));
    let answer = client.send(Method::POST, &path, &[JSON], Bytes::from(serde_json::to_vec(body)?))?;
    let workload: Workload = serde_json::from_slice(&answer.body)?;
    output::print(&get::workload_rows(std::slice::from_ref(&workload)).table(false))
}

pub(crate) fn approve(client: &Client, workload: &str, decision: Option<String>) -> Result<(), Failure> {
    about(client, workload, "approve", &ApproveRequest { decision })
}

pub(crate) fn reject(
    client: &Client,
    workload: &str,
    decision: Option<String>,
    reason: String,
    for_: Option<String>,
) -> Result<(), Failure> {
    about(client, workload, "reject", &RejectRequest { decision, reason, for_ })
}

pub(crate) fn cancel(client: &Client, workload: &str, reason: String) -> Result<(), Failure> {
    about(client, workload, "cancel", &CancelRequest { reason })
}
