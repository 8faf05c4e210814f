//! What was asked of a workload before, and the way back.

use autoscaler::api::{Applied, Revision, Revisions, RollbackRequest};
use hyper::Method;
use hyper::body::Bytes;

use crate::arguments::Rollback;
use crate::change::difference;
use crate::client::{Client, escaped};
use crate::failure::{Failure, Kind};
use crate::output::{self, Rows, moment, safe};
use crate::specs;

pub(crate) fn of(client: &Client, name: Option<&str>) -> Result<Revisions, Failure> {
    let Some(name) = name else {
        let next = "trimtab get revisions NAME; `trimtab get workloads` lists those that are there";
        return Err(Failure::new(Kind::Usage, "revisions are those of one workload").next(next));
    };
    client.get(&format!("/api/v1/workloads/{}/revisions", escaped(name)))
}

pub(crate) fn rows(revisions: &Revisions) -> Rows {
    let mut rows = Rows::new(&[
        ("revision", true, false),
        ("time", false, false),
        ("state", false, false),
        ("replicas", false, false),
        ("mode", false, false),
        ("target", false, true),
    ]);
    for one in &revisions.items {
        let spec = one.document.as_ref().map(|document| &document["spec"]);
        let said = |field: &str| spec.and_then(|spec| spec[field].as_str()).unwrap_or("-").to_owned();
        let bounds = spec.map(|spec| format!("{}..{}", spec["replicas"]["min"], spec["replicas"]["max"]));
        let target = spec.and_then(|spec| spec["target"].as_object());
        let target: Vec<String> = target
            .into_iter()
            .flatten()
            .map(|(key, value)| {
                format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect();
        rows.push(vec![
            one.revision.to_string(),
            moment(one.at_ms),
            state(one).to_owned(),
            bounds.unwrap_or_else(|| "-".to_owned()),
            said("mode"),
            target.join(" "),
        ]);
    }
    rows
}

fn state(revision: &Revision) -> &'static str {
    match (revision.in_force, revision.withdrawn) {
        (true, _) => "in force",
        (false, true) => "withdrawn",
        (false, false) => "-",
    }
}

fn ask(client: &Client, rollback: &Rollback, dry_run: bool, tag: Option<&str>) -> Result<Applied, Failure> {
    let path = format!("/api/v1/workloads/{}/rollback", escaped(&rollback.name));
    let path = if dry_run { path + "?dryRun=true" } else { path };
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(tag.map(|tag| if tag.is_empty() { ("if-none-match", "*") } else { ("if-match", tag) }));
    let body = Bytes::from(serde_json::to_vec(&RollbackRequest { to: rollback.to })?);
    let answer = client.send(Method::POST, &path, &headers, body)?;
    Ok(serde_json::from_slice(&answer.body)?)
}

pub(crate) fn rollback(client: &Client, rollback: &Rollback) -> Result<(), Failure> {
    let name = safe(&rollback.name);
    let mut tag = None;
    if rollback.dry_run || !rollback.yes {
        // What is shown is compared with what is in force now; what somebody else puts there meanwhile is not gone over.
        let now = of(client, Some(&rollback.name))?.items.into_iter().find(|one| one.in_force);
        let now = now.map_or_else(String::new, |one| format!("\"{}\"", one.revision));
        let planned = ask(client, rollback, true, Some(&now))?;
        let shown = difference(&name, &planned);
        if rollback.dry_run {
            output::print(&shown)?;
            output::remark("nothing was changed (--dry-run)");
            return Ok(());
        }
        eprint!("{shown}");
        if !planned.unchanged && !specs::confirmed(&format!("Go back to revision {}?", rollback.to))? {
            return Err(Failure::new(Kind::Error, "nothing was changed"));
        }
        tag = Some(now);
    }
    let applied = ask(client, rollback, false, tag.as_deref())?;
    let revision = applied.revision.map(|n| format!(" (revision {n})")).unwrap_or_default();
    let what = if applied.unchanged {
        format!("is as revision {} already", rollback.to)
    } else {
        format!("as in revision {} again", rollback.to)
    };
    output::print(&format!("workload {name}: {what}{revision}\n"))
}
