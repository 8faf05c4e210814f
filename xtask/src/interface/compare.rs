//! `cargo xtask api-compare`: whether programs that were written for the last release can still speak with the interface.
//!
//! oasdiff compares the description of the last release with the one of now. Because a tool that does not understand a
//! description finds nothing in it, it is first shown descriptions that were broken on purpose, and must refuse each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cache;
use crate::up::install;

/// Options of `cargo xtask api-compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// At a release: the description of now is what later ones are compared with.
    #[arg(long)]
    release: bool,
}

/// Installed by name, as a Go module.
const TOOL: &str = "github.com/oasdiff/oasdiff";
const VERSION: &str = "v1.31.0";
const RELEASED: &str = "autoscaler/openapi-released.json";
const NOW: &str = "autoscaler/openapi.json";
/// What the tool only remarks on, and what breaks a program all the same: most fields of our answers may be null and are not `required`.
const SEVERITIES: &str = "response-optional-property-removed err\n";

/// Compares, or keeps the description of now as that of a release.
///
/// # Errors
/// When something broke, or the tool cannot be had.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    if args.release {
        fs::copy(root.join(NOW), root.join(RELEASED)).context("copying the description")?;
        println!("{RELEASED} is the description of now: commit it with the release");
        return Ok(());
    }
    let tool = Tool { program: oasdiff()?, scratch: cache::Scratch::new(&cache::directory("interface"))? };
    let released = description(&root.join(RELEASED))?;
    for (what, change) in BREAKS {
        let mut broken = released.clone();
        change(&mut broken).with_context(|| format!("{RELEASED} has no part for: {what}"))?;
        ensure!(tool.compare(&released, &broken)?.is_err(), "oasdiff finds nothing wrong with: {what}");
    }
    for (what, change) in GROWTH {
        let mut grown = released.clone();
        change(&mut grown).with_context(|| format!("{RELEASED} has no part for: {what}"))?;
        if let Err(said) = tool.compare(&released, &grown)? {
            bail!("oasdiff takes for a break: {what}\n{said}");
        }
    }
    println!(
        "    oasdiff {VERSION} refuses {} breaks made on purpose, and lets {} additions pass",
        BREAKS.len(),
        GROWTH.len()
    );
    match tool.compare(&released, &description(&root.join(NOW))?)? {
        Ok(said) => {
            println!("    since the last release: {}", said.lines().next().unwrap_or("no breaking changes"));
        }
        Err(said) => bail!(
            "programs that were written for the last release would break:\n{said}\nBring back what is missing beside what is new, \
             or, at a release that may break them, `cargo xtask api-compare --release`"
        ),
    }
    Ok(())
}

fn description(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

struct Tool {
    program: PathBuf,
    scratch: cache::Scratch,
}

impl Tool {
    /// What it says: of no break, or of one.
    fn compare(&self, before: &Value, after: &Value) -> Result<Result<String, String>> {
        let folder = self.scratch.path();
        for (name, text) in [
            ("before.json", before.to_string()),
            ("after.json", after.to_string()),
            ("severities", SEVERITIES.to_owned()),
        ] {
            fs::write(folder.join(name), text)?;
        }
        let mut command = Command::new(&self.program);
        // It would tell its makers of each run.
        command.current_dir(folder).env("OASDIFF_NO_TELEMETRY", "1").args([
            "breaking",
            "before.json",
            "after.json",
            "--fail-on",
            "WARN",
            "--color",
            "never",
        ]);
        let output =
            command.args(["--severity-levels", "severities"]).output().context("starting oasdiff")?;
        match output.status.code() {
            Some(0) => Ok(Ok(said(&output))),
            Some(1) => Ok(Err(said(&output))),
            _ => bail!(
                "oasdiff ended with {}:\n{}{}",
                output.status,
                said(&output),
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Built once from its module.
fn oasdiff() -> Result<PathBuf> {
    if Command::new("go").arg("version").output().is_err() {
        install::apt(&["golang-go"])?;
    }
    let entry = cache::Entry::at(&cache::directory("go"), "oasdiff", VERSION);
    entry.make_once(|path| {
        println!("==> go install {TOOL}@{VERSION} (a minute or two, once)");
        let mut go = Command::new("go");
        go.args(["install", &format!("{TOOL}@{VERSION}")]).env("GOBIN", path).env("GOFLAGS", "-modcacherw");
        let status = go.status().context("starting go")?;
        ensure!(status.success(), "go ended with {status}");
        Ok(())
    })?;
    Ok(entry.path().join("oasdiff"))
}

/// What is changed, and how; `None` when there is nothing to change.
type Change = (&'static str, fn(&mut Value) -> Option<()>);

/// What breaks programs that exist.
const BREAKS: [Change; 9] = [
    ("a path that is gone", |d| d["paths"].as_object_mut()?.remove("/api/v1/idle").map(drop)),
    ("a method that is gone", |d| {
        d["paths"]["/api/v1/workloads/{name}"].as_object_mut()?.remove("delete").map(drop)
    }),
    ("a field of answers that is gone", |d| {
        schema(d, "Status")?["required"].as_array_mut()?.retain(|name| name != "version");
        property(d, "Status", "version").map(drop)
    }),
    ("a field of answers that may be null and is gone", |d| property(d, "Node", "cpuCores").map(drop)),
    ("a field of answers of another type", |d| {
        let field = schema(d, "Status")?["properties"].get_mut("epoch")?;
        *field = json!({ "type": "string" });
        Some(())
    }),
    ("a field that requests must have now", |d| {
        schema(d, "PauseRequest")?.as_object_mut()?.insert("required".to_owned(), json!(["reason"]));
        Some(())
    }),
    ("a field of requests of a narrower type", |d| {
        let field = schema(d, "PauseRequest")?["properties"].get_mut("reason")?;
        *field = json!({ "type": "string", "enum": ["deploy"] });
        Some(())
    }),
    ("a value of requests that is gone", |d| {
        let values = schema(d, "Series")?["enum"].as_array_mut()?;
        values.pop().map(drop)
    }),
    ("a part of the query that must be there now", |d| {
        d["paths"]["/api/v1/usage"]["get"]["parameters"].as_array_mut()?.first_mut()?["required"] =
            json!(true);
        Some(())
    }),
];

/// What does not.
const GROWTH: [Change; 4] = [
    ("a new path", |d| {
        let copy = d["paths"].get("/api/v1/idle")?.clone();
        d["paths"]["/api/v1/more"] = copy;
        Some(())
    }),
    ("a new field of answers", |d| new_field(d, "Status")),
    ("a new field that requests may have", |d| new_field(d, "PauseRequest")),
    ("a new part of the query", |d| {
        let more =
            json!({ "name": "more", "in": "query", "required": false, "schema": { "type": "string" } });
        d["paths"]["/api/v1/usage"]["get"]["parameters"].as_array_mut()?.push(more);
        Some(())
    }),
];

fn schema<'a>(description: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    description["components"]["schemas"].get_mut(name)
}

/// Takes a property away.
fn property(description: &mut Value, of: &str, name: &str) -> Option<Value> {
    schema(description, of)?["properties"].as_object_mut()?.remove(name)
}

fn new_field(description: &mut Value, of: &str) -> Option<()> {
    schema(description, of)?["properties"]
        .as_object_mut()?
        .insert("more".to_owned(), json!({ "type": "string" }));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_on_purpose_changes_the_description_of_the_last_release() {
        let released = description(&crate::root().join(RELEASED)).unwrap();
        for (what, change) in BREAKS.iter().chain(&GROWTH) {
            let mut changed = released.clone();
            assert!(change(&mut changed).is_some() && changed != released, "{what}");
        }
    }
}
