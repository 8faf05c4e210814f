//! `cargo xtask web`: checks, tests and builds the dashboards, weighs what a browser will load, and shows them to one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::up::install;

/// Options of `cargo xtask web`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail when the committed types differ from autoscaler/openapi.json, instead of writing them anew.
    #[arg(long)]
    check: bool,
    /// Instead, build what changed and the daemons, and open each page in a real browser, against them. Needs root, as the agent does.
    #[arg(long, conflicts_with = "check")]
    browser: bool,
    /// Keep the browser's pictures of the pages there.
    #[arg(long, value_name = "DIR", requires = "browser")]
    shots: Option<PathBuf>,
}

/// Vite's and Svelte's floor.
const NODE: (u32, u32) = (20, 19);

/// Budgets, bytes as they are sent (gzip): scripts and styles of the first page, and all there is.
const FIRST_SCRIPTS: u64 = 80 * 1000;
const STYLES: u64 = 12 * 1000;
const ALL: u64 = 250 * 1000;

/// Types, lints, unit tests, the build, and its weight; or the pages in a browser.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    tools()?;
    let web = Web::new(root);
    web.packages()?;
    if args.browser {
        web.build()?;
        return web.browser(args.shots.as_deref());
    }
    web.script(if args.check { "types:check" } else { "types" }).context(
        "src/api/generated.ts does not fit autoscaler/openapi.json: `cargo xtask web` writes it anew",
    )?;
    web.script("check")?;
    web.script("test")?;
    web.build()?;
    web.weigh().map(drop)
}

/// Builds the dashboards when they are not as the sources say, so that what cargo builds next has them. Where that cannot
/// be done the programs are built without them, and it is said why.
pub(crate) fn ready(root: &Path) {
    if let Err(error) = node() {
        println!("==> no dashboards in this build: {error:#}");
        return;
    }
    let web = Web::new(root);
    if let Err(error) = web.packages().and_then(|()| web.build()) {
        println!("==> no dashboards in this build: {error:#}");
    }
}

/// What a browser loads, bytes as they are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// Scripts of the first page.
    pub(crate) scripts: u64,
    pub(crate) styles: u64,
    pub(crate) all: u64,
}

/// Builds the dashboards when they are not as the sources say; what they weigh.
///
/// # Errors
/// When they cannot be built here, or are over budget.
pub(crate) fn built(root: &Path) -> Result<Weight> {
    tools()?;
    let web = Web::new(root);
    web.packages()?;
    web.build()?;
    web.weigh()
}

/// How fast the first page of a running autoscaler with so many nodes is, as tests/bench.mjs tells it.
///
/// # Errors
/// When there is no browser, or the page does not come.
pub(crate) fn bench(root: &Path, url: &str, nodes: u32) -> Result<serde_json::Value> {
    let mut command = Web::new(root).driver("tests/bench.mjs")?;
    command.env("TRIMTAB_URL", url).env("NODES", nodes.to_string()).stderr(Stdio::inherit());
    let output = command.output().context("starting node")?;
    ensure!(output.status.success(), "tests/bench.mjs ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading what tests/bench.mjs says")
}

/// What takes the pictures of the documentation into a folder, of a running demo with its dashboards at an address.
///
/// # Errors
/// When there is no browser, or what it is driven by cannot be fetched.
pub(crate) fn pictures(root: &Path, programs: &Path, dashboard: &str, into: &Path) -> Result<Command> {
    let web = Web::new(root);
    web.packages()?;
    let mut command = web.driver("tests/pictures.mjs")?;
    command.env("TRIMTAB_DASHBOARD", dashboard).env("TRIMTAB_PROGRAMS", std::path::absolute(programs)?);
    command.env("PICTURES", std::path::absolute(into)?);
    Ok(command)
}

/// Debian's browser, installed where there is none.
fn chromium() -> Result<&'static str> {
    const BROWSERS: [&str; 2] = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"];
    let found = || BROWSERS.into_iter().find(|path| Path::new(path).exists());
    if found().is_none() {
        install::apt(&["chromium"])?;
    }
    found().context("the package chromium brought no browser")
}

/// Installs Node where there is none.
fn tools() -> Result<()> {
    if version("node").is_none() || version("npm").is_none() {
        install::apt(&["nodejs", "npm"])?;
    }
    node()
}

fn node() -> Result<()> {
    let (floor, least) = NODE;
    let Some(found) = version("node") else {
        bail!("Node is missing; {floor}.{least} or newer builds them (packages nodejs and npm)");
    };
    ensure!(version("npm").is_some(), "npm is missing (package npm)");
    let mut numbers = found.trim_start_matches('v').split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let have = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    ensure!(have >= NODE, "Node {found} is too old; {floor}.{least} or newer builds them");
    Ok(())
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folder of the dashboards.
struct Web {
    path: PathBuf,
    root: PathBuf,
}

impl Web {
    fn new(root: &Path) -> Self {
        Self { path: root.join("dashboards/web"), root: root.to_owned() }
    }

    fn dist(&self) -> PathBuf {
        self.path.join("dist")
    }

    /// What the last build was made from; beside the packages, because the folder of the build is embedded as it is.
    fn stamp(&self) -> PathBuf {
        self.path.join("node_modules/.trimtab-built")
    }

    fn npm(&self, arguments: &[&str]) -> Result<()> {
        let status = Command::new("npm").current_dir(&self.path).args(arguments).status();
        let status = status.context("starting npm")?;
        ensure!(status.success(), "`npm {}` in dashboards/web ended with {status}", arguments.join(" "));
        Ok(())
    }

    fn script(&self, name: &str) -> Result<()> {
        self.npm(&["run", "--silent", name])
    }

    /// A script that drives the browser.
    fn driver(&self, script: &str) -> Result<Command> {
        let mut command = Command::new("node");
        command.current_dir(&self.path).arg(script).env("CHROMIUM", chromium()?);
        Ok(command)
    }

    /// Exactly what the lockfile names, when that changed.
    fn packages(&self) -> Result<()> {
        let lock = digest(&[fs::read(self.path.join("package-lock.json"))?]);
        let stamp = self.path.join("node_modules/.trimtab-packages");
        if fs::read_to_string(&stamp).ok().as_ref() == Some(&lock) {
            return Ok(());
        }
        println!("==> npm ci (packages of the dashboards, about 100)");
        self.npm(&["ci", "--no-audit", "--no-fund", "--silent"])?;
        fs::write(stamp, lock)?;
        Ok(())
    }

    /// Hash of all that a build is made from.
    fn sources(&self) -> Result<String> {
        let output = Command::new("git")
            .current_dir(&self.root)
            .args(["ls-files", "-co", "--exclude-standard", "dashboards/web"])
            .output()?;
        ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
        let mut parts = Vec::new();
        for name in String::from_utf8_lossy(&output.stdout).lines() {
            // A file that was removed and not yet committed.
            if let Ok(content) = fs::read(self.root.join(name)) {
                parts.push(name.as_bytes().to_vec());
                parts.push(content);
            }
        }
        Ok(digest(&parts))
    }

    /// Builds, unless it is there as the sources say: a folder that is written anew makes cargo compile anew.
    fn build(&self) -> Result<()> {
        let sources = self.sources()?;
        let built = fs::read_to_string(self.stamp()).is_ok_and(|stamp| stamp == sources);
        if built && self.dist().join("index.html").exists() {
            return Ok(());
        }
        println!("==> building the dashboards");
        for entry in fs::read_dir(self.dist())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != ".gitignore" {
                fs::remove_file(entry.path())?;
            }
        }
        self.npm(&["run", "--silent", "build", "--", "--logLevel", "warn"])?;
        fs::write(self.stamp(), sources)?;
        Ok(())
    }

    /// The real daemons, without optimisation, and Debian's browser.
    fn browser(&self, shots: Option<&Path>) -> Result<()> {
        let browser = chromium()?;
        let programs = install::build(&self.root, true)?;
        let mut command = Command::new("npm");
        command.current_dir(&self.path).args(["run", "--silent", "browser"]);
        command.env("TRIMTAB_PROGRAMS", std::path::absolute(programs)?).env("CHROMIUM", browser);
        if let Some(shots) = shots {
            command.env("SHOTS", std::path::absolute(shots)?);
        }
        let status = command.status().context("starting npm")?;
        ensure!(status.success(), "the dashboards do not hold in a browser: {status}");
        Ok(())
    }

    /// Prints the sizes, and fails when they are over budget.
    fn weigh(&self) -> Result<Weight> {
        let page = fs::read_to_string(self.dist().join("index.html"))?;
        let (mut all, mut scripts, mut styles) = (0, 0, 0);
        let mut folders = vec![self.dist()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                let Some(plain) = name.strip_suffix(".gz") else { continue };
                let size = fs::metadata(&path)?.len();
                all += size;
                // What the page names is loaded at once; the rest when it is wanted.
                if page.contains(plain) {
                    scripts += if plain.ends_with(".js") { size } else { 0 };
                }
                styles += if plain.ends_with(".css") { size } else { 0 };
            }
        }
        ensure!(
            scripts > 0 && styles > 0,
            "the build wrote no scripts or no styles: look into {}",
            self.dist().display()
        );
        let mut over = Vec::new();
        for (what, size, budget) in [
            ("scripts of the first page", scripts, FIRST_SCRIPTS),
            ("styles", styles, STYLES),
            ("all files", all, ALL),
        ] {
            println!("    {what}: {:.1} kB of {} kB (gzip)", size as f64 / 1000.0, budget / 1000);
            if size > budget {
                over.push(what);
            }
        }
        ensure!(over.is_empty(), "over budget: {}", over.join(", "));
        Ok(Weight { scripts, styles, all })
    }
}

fn digest(parts: &[Vec<u8>]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{:x}", hash.finalize())
}
