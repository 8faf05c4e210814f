//! Debian's Prometheus: where its programs come from, and one that runs and is asked.
//!
//! The package is unpacked into the cache and not installed: on a host with systemd its installation would start a service that listens.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cache;

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// `prometheus` and `promtool`.
pub(super) struct Programs {
    bin: PathBuf,
}

impl Programs {
    /// Those of this host, or Debian's package, unpacked.
    pub(super) fn find() -> Result<Self> {
        let host = Path::new("/usr/bin");
        if ["prometheus", "promtool"].iter().all(|name| host.join(name).exists()) {
            return Ok(Self { bin: host.to_owned() });
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let entry = cache::Entry::at(&cache::directory("prometheus"), "prometheus", &release);
        entry
            .make_once(unpack)
            .context("the package prometheus could not be had (on other systems install it by hand)")?;
        Ok(Self { bin: entry.path().join("usr/bin") })
    }

    /// The alert rules, and their cases.
    pub(super) fn check_rules(&self, root: &Path) -> Result<()> {
        let folder = root.join("dashboards");
        self.promtool(&folder, &["check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"], "")?;
        self.promtool(&folder, &["test", "rules", "alerts_test.yaml"], "")
    }

    /// Names, helps and types of a daemon's metrics.
    pub(super) fn check_metrics(&self, root: &Path, text: &str) -> Result<()> {
        self.promtool(root, &["check", "metrics"], text)
    }

    fn promtool(&self, folder: &Path, arguments: &[&str], input: &str) -> Result<()> {
        let mut child = Command::new(self.bin.join("promtool"))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting promtool")?;
        child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
        let done = child.wait_with_output()?;
        let said =
            [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("");
        ensure!(
            done.status.success(),
            "`promtool {}` ended with {}:\n{said}",
            arguments.join(" "),
            done.status
        );
        Ok(())
    }
}

fn unpack(into: &Path) -> Result<()> {
    println!("==> downloading Debian's package prometheus (once)");
    let quiet = ["-qq", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=600"];
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.current_dir(into).args(quiet).args(["download", "prometheus"]);
        apt.stdout(Stdio::null()).stderr(Stdio::null()).status().context("starting apt-get")
    };
    if !download()?.success() {
        // Lists of a fresh machine are empty.
        Command::new("apt-get").args(quiet).arg("update").stdout(Stdio::null()).status()?;
        let status = download()?;
        ensure!(status.success(), "`apt-get download prometheus` ended with {status}");
    }
    let mut files = fs::read_dir(into)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = files.find(|path| path.extension().is_some_and(|end| end == "deb"));
    let package = package.context("apt-get brought no package")?;
    let status = Command::new("dpkg-deb").arg("-x").args([&package, &into.to_owned()]).status()?;
    ensure!(status.success(), "unpacking {} ended with {status}", package.display());
    fs::remove_file(package)?;
    Ok(())
}

/// One that runs; ended when dropped.
pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Prometheus {
    /// Scrapes these jobs each second, and takes what is written to it.
    pub(super) fn start(
        programs: &Programs,
        root: &Path,
        folder: &Path,
        address: SocketAddr,
        jobs: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let rules = root.join("dashboards/alerts.yaml");
        let mut config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [{:?}]\nscrape_configs:\n",
            std::path::absolute(rules)?
        );
        for (job, target) in jobs {
            config +=
                &format!("  - {{ job_name: {job}, static_configs: [{{ targets: [\"{target}\"] }}] }}\n");
        }
        fs::write(folder.join("prometheus.yml"), config)?;
        let log = folder.join("prometheus.log");
        let to = File::create(&log)?;
        let child = Command::new(programs.bin.join("prometheus"))
            .current_dir(folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver")
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to)
            .spawn()
            .context("starting prometheus")?;
        let mut started = Self { child, address, log };
        let deadline = Instant::now() + START;
        while ureq::get(format!("http://{address}/-/ready")).call().is_err() {
            started.alive()?;
            ensure!(Instant::now() < deadline, "Prometheus was not ready within {} s", START.as_secs());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(started)
    }

    /// Fails when it is gone, with its log.
    pub(super) fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("Prometheus ended with {status}:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        Ok(())
    }

    /// What an expression gives now.
    pub(super) fn query(&self, expr: &str) -> Result<Vec<Value>> {
        let data = self.get("query", &[("query", expr)])?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The values of a label of a metric, as `label_values(METRIC, LABEL)` of Grafana asks for them.
    pub(super) fn label_values(&self, metric: &str, label: &str) -> Result<Vec<String>> {
        strings(&self.get(&format!("label/{label}/values"), &[("match[]", metric)])?)
    }

    /// Names of all metrics that it knows, also of those that have no sample.
    pub(super) fn names(&self) -> Result<BTreeSet<String>> {
        let mut names: BTreeSet<String> =
            strings(&self.get("label/__name__/values", &[])?)?.into_iter().collect();
        let known = self.get("metadata", &[])?;
        names.extend(known.as_object().into_iter().flat_map(serde_json::Map::keys).cloned());
        Ok(names)
    }

    /// All rules: name, expression, and what went wrong with it.
    pub(super) fn rules(&self) -> Result<Vec<Value>> {
        let groups = self.get("rules", &[])?;
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().filter_map(|group| group["rules"].as_array().cloned()).flatten().collect())
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let asked = ureq::get(&url).config().http_status_as_error(false).build();
        let mut answer = asked.query_pairs(query.iter().copied()).call()?;
        let status = answer.status();
        let mut body: Value = answer.body_mut().read_json()?;
        ensure!(status == 200 && body["status"] == "success", "{path} {query:?}: {status} {}", body["error"]);
        Ok(body["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn strings(data: &Value) -> Result<Vec<String>> {
    let all = data.as_array().context("no list")?;
    Ok(all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect())
}
