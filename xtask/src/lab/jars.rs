//! Jars, fetched by Maven by name, once for each list of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cache::{self, Entry};
use crate::up::install;

/// Debian and Ubuntu packages of the Java labs.
const PACKAGES: [&str; 2] = ["openjdk-17-jre-headless", "maven"];
/// Maven's plugin that copies a dependency tree.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// One artifact with what it needs.
pub(super) struct Artifact {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) classifier: Option<&'static str>,
    /// Without its dependencies.
    pub(super) alone: bool,
}

impl Artifact {
    pub(super) const fn new(group: &'static str, name: &'static str, version: &'static str) -> Self {
        Self { group, name, version, classifier: None, alone: false }
    }

    fn xml(&self) -> String {
        let Self { group, name, version, classifier, alone } = self;
        let classifier = classifier.map_or(String::new(), |c| format!("<classifier>{c}</classifier>"));
        let exclusions =
            "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>";
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>{classifier}{}</dependency>\n",
            if *alone { exclusions } else { "" }
        )
    }
}

/// Installs Java and Maven when they are missing.
///
/// # Errors
/// With the line to run when this is not root, and apt's own.
pub(super) fn packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|package| !install::installed(package)).collect();
    if missing.is_empty() || (found("java") && found("mvn")) { Ok(()) } else { install::apt(&missing) }
}

fn found(program: &str) -> bool {
    let version = if program == "java" { "-version" } else { "--version" };
    let status = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What these artifacts give, in the cache.
fn entry(name: &str, artifacts: &[Artifact]) -> Entry {
    Entry::at(&cache::directory("lab"), name, &pom(artifacts))
}

/// The directory with the jars of these artifacts, once they are fetched.
pub(super) fn place(name: &str, artifacts: &[Artifact]) -> PathBuf {
    entry(name, artifacts).path().to_owned()
}

/// Fetches them when they are not there.
///
/// # Errors
/// Maven's, with its last lines.
pub(super) fn fetch(name: &str, artifacts: &[Artifact]) -> Result<()> {
    entry(name, artifacts).make_once(|new| {
        println!("==> fetching the jars of {name} with Maven (about a minute the first time)");
        copy(&pom(artifacts), new)
    })
}

/// A repository may not answer for a moment: Maven remembers that, and is told to ask again.
const TRIES: u32 = 3;

fn copy(pom: &str, into: &Path) -> Result<()> {
    let file = into.join("pom.xml");
    fs::write(&file, pom)?;
    for try_of in 1..TRIES {
        let Err(error) = maven(&file, into) else { return Ok(()) };
        println!("    try {try_of} of {TRIES}: {error:#}");
        std::thread::sleep(Duration::from_secs(10));
    }
    maven(&file, into)
}

fn maven(file: &Path, into: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-U", "-ntp", "-q", "-f"]).arg(file).arg(COPY);
    maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", into.display()));
    let output = maven.stdin(Stdio::null()).output().context("starting mvn")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last: Vec<&str> = said.lines().rev().take(8).collect();
    ensure!(
        output.status.success(),
        "Maven could not fetch the jars ({}):\n{}",
        output.status,
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    Ok(())
}

fn pom(artifacts: &[Artifact]) -> String {
    let dependencies: String = artifacts.iter().map(Artifact::xml).collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>trimtab</groupId><artifactId>lab</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{dependencies}</dependencies>\n</project>\n"
    )
}

/// The jar in `directory` whose name begins so.
///
/// # Errors
/// When there is none.
pub(super) fn jar(directory: &Path, begins: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory)?.filter_map(Result::ok);
    let mut jars = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(begins));
    Ok(jars.next().with_context(|| format!("no {begins}*.jar in {}", directory.display()))?.path())
}
