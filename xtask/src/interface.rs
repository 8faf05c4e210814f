//! `cargo xtask api-fuzz`: what the description of the REST interface promises, held against a real autoscaler.
//!
//! schemathesis makes requests from the description, good ones and bad ones, and looks at each answer: no fault of the
//! server, a status, a form and headers that are described. Once as a program of this host would ask, and once as the
//! dashboards do, about a workload that is there.

pub(crate) mod compare;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cache;
use crate::up::install;

/// Options of `cargo xtask api-fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests of each kind to each operation, at most.
    #[arg(long, default_value_t = 40)]
    examples: u32,
    /// The same seed makes the same requests.
    #[arg(long, default_value_t = 38)]
    seed: u32,
}

const VERSION: &str = "4.32.5";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,unsupported_method,allow_header_conformance";
/// The description, as schemathesis is given it.
const DESCRIPTION: &str = "openapi.json";
/// The workload that the description's example is about.
const KNOWN: &str = "worker";

/// Starts an autoscaler, asks it, and ends it.
///
/// # Errors
/// When an answer is not as described, or a tool is missing.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let python = schemathesis()?;
    let bin = build(root)?;
    let scratch = cache::Scratch::new(&cache::directory("interface"))?;
    let service = Service::start(&bin, scratch.path())?;
    let description = crate::http::json(&format!("{}/api/v1/openapi.json", service.url));
    let mut description = description.context("the autoscaler does not describe its interface")?;
    without_tuples(&mut description);
    fs::write(scratch.path().join(DESCRIPTION), description.to_string())?;
    for kind in ["service", "rails", "yarn"] {
        let spec = root.join(format!("examples/{kind}.yaml"));
        let applied = Command::new(bin.join("trimtab"))
            .env("TRIMTAB_URL", &service.url)
            .args(["apply", "--yes", "--quiet", "-f"])
            .arg(spec)
            .stdout(Stdio::null())
            .status()?;
        ensure!(applied.success(), "examples/{kind}.yaml could not be applied: {applied}");
    }
    println!("==> schemathesis {VERSION}, seed {}, {} examples", args.seed, args.examples);
    println!("==> as a program of this host");
    service.ask(&python, args, "", &[])?;
    println!("==> as the dashboards, about a workload that is there");
    let known = format!(
        "[dictionaries.known]\nvalues = [\"{KNOWN}\"]\n[parameters]\n\"path.name\" = {{ dictionary = \"known\" }}\n"
    );
    let session = fs::read_to_string(scratch.path().join("session")).context("reading the session")?;
    let page = [
        format!("Authorization: Bearer {}", session.trim()),
        format!("Origin: {}", service.url),
        "Sec-Fetch-Site: same-origin".to_owned(),
    ];
    service.ask(&python, args, &known, &page)?;
    let ready = crate::http::json(&format!("{}/readyz", service.url)).unwrap_or_default();
    ensure!(ready["ready"] == true, "the autoscaler is not ready after it: {ready}");
    Ok(())
}

/// Writes tuples of equal items as lists of that length: schemathesis 4.32 takes `prefixItems` of an answer for a fault of the description.
fn without_tuples(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(items)) = fields.get("prefixItems").cloned()
                && let Some(first) = items.first().filter(|first| items.iter().all(|item| item == *first))
            {
                fields.remove("prefixItems");
                fields.insert("items".to_owned(), first.clone());
                fields.insert("minItems".to_owned(), items.len().into());
                fields.insert("maxItems".to_owned(), items.len().into());
            }
            fields.values_mut().for_each(without_tuples);
        }
        Value::Array(items) => items.iter_mut().for_each(without_tuples),
        _ => {}
    }
}

/// The Python that has schemathesis; installed once, by name and version.
fn schemathesis() -> Result<PathBuf> {
    if !install::installed("python3-venv") {
        install::apt(&["python3-venv"])?;
    }
    let entry = cache::Entry::at(&cache::directory("python"), "schemathesis", VERSION);
    entry.make_once(|path| {
        println!("==> pip install schemathesis=={VERSION} (about a minute, once)");
        let made = Command::new("python3").args(["-m", "venv"]).arg(path).status();
        ensure!(made.context("starting python3")?.success(), "python3 -m venv failed");
        let mut pip = Command::new(path.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        let installed = pip.arg(format!("schemathesis=={VERSION}")).status()?;
        ensure!(installed.success(), "pip ended with {installed}");
        Ok(())
    })?;
    Ok(entry.path().join("bin/python"))
}

fn build(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    let status = cargo
        .current_dir(root)
        .args(["build", "--quiet", "--bins", "-p", "autoscaler", "-p", "cli"])
        .status();
    ensure!(status.context("starting cargo")?.success(), "the programs do not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug"))
}

/// An autoscaler without agents; killed when dropped.
struct Service {
    child: Child,
    url: String,
    directory: PathBuf,
}

impl Service {
    /// With TLS for agents, too, so that there is something to join.
    fn start(bin: &Path, directory: &Path) -> Result<Self> {
        let log = fs::File::create(directory.join("log"))?;
        let child = Command::new(bin.join("trimtab-autoscaler"))
            .arg("--state")
            .arg(directory)
            .args(["--listen", "https://127.0.0.1:0", "--api", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting the autoscaler")?;
        let mut service = Self { child, url: String::new(), directory: directory.to_owned() };
        let began = Instant::now();
        while service.url.is_empty() {
            if let Some(status) = service.child.try_wait()? {
                bail!("the autoscaler ended with {status}:\n{}", fs::read_to_string(directory.join("log"))?);
            }
            ensure!(began.elapsed() < Duration::from_secs(30), "the autoscaler did not start");
            std::thread::sleep(Duration::from_millis(50));
            let text = fs::read(directory.join("endpoints.json")).unwrap_or_default();
            let found: Value = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(address) = found["api"][0].as_str() {
                service.url = format!("http://{address}");
            }
        }
        Ok(service)
    }

    fn ask(&self, python: &Path, args: &Args, config: &str, headers: &[String]) -> Result<()> {
        fs::write(self.directory.join("schemathesis.toml"), config)?;
        let mut command = Command::new(python);
        command.current_dir(&self.directory);
        command.args(["-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]);
        command.args([DESCRIPTION, "--url", &self.url, "--checks", CHECKS]);
        command.args(["--seed", &args.seed.to_string(), "--max-examples", &args.examples.to_string()]);
        // Live events have no end; autoscaler/tests/rest.rs reads them.
        command.args([
            "--exclude-path",
            "/api/v1/stream",
            "--continue-on-failure",
            "--warnings",
            "off",
            "--no-color",
        ]);
        command.args(["--generation-database", "none", "--phases", "examples,coverage,fuzzing"]);
        for header in headers {
            command.args(["--header", header]);
        }
        let output = command.stdin(Stdio::null()).output().context("starting schemathesis")?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("answers are not as described:\n{said}{}", String::from_utf8_lossy(&output.stderr));
        }
        for line in said.lines().filter(|line| line.contains("generated") || line.contains("passed")) {
            println!("    {}", line.trim());
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tuple_of_equal_items_is_a_list_of_that_length_and_others_stay() {
        let count = json!({ "type": "integer" });
        let mut schema = json!({ "properties": { "bounds": { "prefixItems": [count, count], "items": false, "type": "array" } } });
        without_tuples(&mut schema);
        let list = json!({ "type": "array", "items": count, "minItems": 2, "maxItems": 2 });
        assert_eq!(schema["properties"]["bounds"], list);
        let mixed = json!({ "prefixItems": [count, { "type": "string" }], "items": false });
        let mut same = mixed.clone();
        without_tuples(&mut same);
        assert_eq!(same, mixed);
    }
}
