//! What lets a node in, and what empties it.

use std::time::{Duration, Instant};

use autoscaler::api::{DrainPreview, DrainRequest, JoinToken, Node};
use hyper::Method;
use hyper::body::Bytes;

use crate::arguments::{Drain, Output};
use crate::client::{Client, escaped};
use crate::failure::{Failure, Kind};
use crate::output::{self, Rows, age, bytes, safe};

pub(crate) fn join_token(client: &Client, name: &str, output: Output) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{}/join-token", escaped(name));
    let answer = client.send(Method::POST, &path, &[], Bytes::new())?;
    let made: JoinToken = serde_json::from_slice(&answer.body)?;
    if matches!(output, Output::Json | Output::Yaml) {
        return output::print(&output::structured(&made, output)?);
    }
    let (node, token, autoscaler) = (safe(&made.node), safe(&made.token), safe(&made.autoscaler));
    output::print(&format!("{token}\n"))?;
    output::remark(&format!("good once, until {} UTC; on {node} run", output::moment(made.expires_ms)));
    output::remark(&format!("  trimtab-agent join --node {node} --autoscaler {autoscaler} {token}"));
    output::remark(
        "or leave the token out there and paste it when asked: then it is not in the list of processes",
    );
    Ok(())
}

/// What a drain would take, for each workload that has something there.
fn preview(client: &Client, drain: &Drain) -> Result<(), Failure> {
    let found: DrainPreview = client.get(&format!("/api/v1/nodes/{}/drain", escaped(&drain.node)))?;
    let mut rows = Rows::new(&[
        ("workload", false, false),
        ("tasks", true, false),
        ("takes", true, false),
        ("moves", true, false),
        ("leaves", false, false),
        ("risk", false, true),
        ("waits_for", false, true),
    ]);
    for one in &found.items {
        let waits: Vec<&str> = one.waits_for.iter().map(|reason| reason.text.as_str()).collect();
        rows.push(vec![
            one.workload.clone(),
            one.tasks.to_string(),
            age(Some(one.seconds.saturating_mul(1_000))),
            bytes(Some(one.bytes)),
            one.stays.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {}", why.text)),
            one.risk.clone(),
            waits.join("; "),
        ]);
    }
    if found.items.is_empty() {
        output::remark(&format!("nothing of Trimtab's is on node {}", safe(&drain.node)));
    }
    output::print(&output::text(&found, &rows, drain.output)?)
}

pub(crate) fn drain(client: &Client, drain: &Drain) -> Result<(), Failure> {
    if drain.dry_run {
        return preview(client, drain);
    }
    let path = format!("/api/v1/nodes/{}", escaped(&drain.node));
    let request = DrainRequest { reason: drain.reason.clone(), partly: drain.partly };
    let body = Bytes::from(serde_json::to_vec(&request)?);
    let headers = [("content-type", "application/json")];
    let answer = client.send(Method::POST, &format!("{path}/drain"), &headers, body)?;
    let mut node: Node = serde_json::from_slice(&answer.body)?;
    let began = Instant::now();
    loop {
        let left = node.drain.as_ref().map(|drain| drain.left);
        match left {
            None => {
                let message = format!("node {} is in use again: somebody ended the drain", safe(&drain.node));
                return Err(Failure::new(Kind::Conflict, message).next("trimtab get nodes"));
            }
            Some(0) => return output::print(&format!("node {}: empty\n", safe(&drain.node))),
            Some(left) if !drain.wait => {
                return output::print(&format!("node {}: draining, {left} left\n", safe(&drain.node)));
            }
            Some(left) if began.elapsed() > Duration::from_secs(drain.timeout) => {
                let message = format!("node {}: {left} left after {} s", safe(&drain.node), drain.timeout);
                let next = "`trimtab explain workload NAME` says what keeps its replicas there";
                return Err(Failure::new(Kind::Timeout, message).next(next));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(500)),
        }
        node = client.get(&path)?;
    }
}

pub(crate) fn uncordon(client: &Client, name: &str) -> Result<(), Failure> {
    client.send(Method::DELETE, &format!("/api/v1/nodes/{}/drain", escaped(name)), &[], Bytes::new())?;
    output::print(&format!("node {}: in use\n", safe(name)))
}
