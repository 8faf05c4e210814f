//! What runs in a guest: the test programs of this checkout, at the paths that were compiled into them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::image;
use super::machine::{Ended, Place};
use crate::dist;

/// A payload and what it needs.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// About how long it takes with nothing beside it, s: the longest is started first.
    pub(super) seconds: u32,
    /// Its machines: name and MiB. The first one's script is the suite; several are on a network.
    machines: &'static [(&'static str, u32)],
    /// Test programs: package, extra arguments to cargo, name of the program (`None`: all of the package).
    programs: &'static [(&'static str, &'static [&'static str])],
    /// Files of the checkout that tests read.
    files: &'static [&'static str],
    /// Programs that tests start, from where cargo puts them.
    daemons: &'static [&'static str],
    /// Whether the C twin of the kernel programs goes along, compiled here.
    oracle: bool,
    /// Lines of shell that check the packages of this checkout, in two versions: /payload/old/ and /payload/new/.
    script: Option<&'static str>,
    /// Whether those packages are the optimised ones, whose building takes minutes.
    pub(super) optimised: bool,
    /// Debian packages of its machine, beside those that every node has; with commas.
    pub(super) debian: &'static str,
    /// Whether its machine has a disk that is slow and empty.
    pub(super) slow_disk: bool,
}

/// All suites; the first is the one of the kernel side.
pub(super) const SUITES: [Suite; 8] = [KERNEL, NODE, PACKAGES, CONTAINERS, ISOLATION, HOGS, FLEET, OVERHEAD];

/// The kernel side: every program loads, every feature works, the oracle agrees.
const KERNEL: Suite = Suite {
    name: "kernel",
    seconds: 85,
    machines: &[("guest", 768)],
    programs: &[
        ("agent-bpf", &["--lib", "--tests"]),
        ("e2e", &["--features", "oracle", "--test", "kernel_oracle"]),
    ],
    files: &["tests/oracle/verifier-budget.txt"],
    daemons: &[],
    oracle: true,
    script: None,
    optimised: false,
    debian: "",
    slow_disk: false,
};

/// The agent and the autoscaler on a whole cgroup v2 under systemd: faults and hostile input, as on the developer's machine.
const NODE: Suite = Suite {
    name: "node",
    seconds: 360,
    machines: &[("guest", 1536)],
    programs: &[
        ("e2e", &["--test", "agent_faults"]),
        ("e2e", &["--test", "hostile"]),
        ("e2e", &["--test", "agent_disk_full"]),
        ("e2e", &["--test", "clock"]),
        ("e2e", &["--test", "strain"]),
        ("e2e", &["--test", "isolation"]),
        ("e2e", &["--test", "leaf"]),
    ],
    files: &[],
    daemons: &["trimtab-agent", "trimtab-autoscaler", "e2e-task"],
    oracle: false,
    script: None,
    optimised: false,
    debian: "",
    slow_disk: false,
};

/// The life of the packages: installed, upgraded, removed, under their own units; as .deb, as .rpm, and by the program itself.
const PACKAGES: Suite = Suite {
    name: "packages",
    seconds: 250,
    machines: &[("guest", 768)],
    programs: &[],
    files: &[],
    daemons: &[],
    oracle: false,
    script: Some(concat!(include_str!("guest/checks.sh"), include_str!("guest/packages.sh"))),
    optimised: false,
    debian: "rpm",
    slow_disk: false,
};

/// Containers of real runtimes: names, labels, exact use.
const CONTAINERS: Suite = Suite {
    name: "containers",
    seconds: 200,
    machines: &[("guest", 2048)],
    programs: &[],
    files: &[],
    daemons: &[],
    oracle: false,
    script: Some(concat!(include_str!("guest/checks.sh"), include_str!("guest/containers.sh"))),
    optimised: false,
    debian: "docker.io,podman,busybox-static,jq",
    slow_disk: false,
};

/// Classes of work under systemd: what the kernel is told, and the dead-man.
const ISOLATION: Suite = Suite {
    name: "isolation",
    seconds: 90,
    machines: &[("guest", 768)],
    programs: &[],
    files: &[],
    daemons: &[],
    oracle: false,
    script: Some(concat!(include_str!("guest/checks.sh"), include_str!("guest/isolation.sh"))),
    optimised: false,
    debian: "",
    slow_disk: false,
};

/// Tasks that take a disk or all process ids: who does it has a name, and the others go on.
const HOGS: Suite = Suite {
    name: "hogs",
    seconds: 150,
    machines: &[("guest", 768)],
    programs: &[],
    files: &[],
    daemons: &[],
    oracle: false,
    script: Some(concat!(include_str!("guest/checks.sh"), include_str!("guest/hogs.sh"))),
    optimised: false,
    debian: "jq",
    slow_disk: true,
};

/// What the agent costs beside the same machine without it: figures, for people who ask.
const OVERHEAD: Suite = Suite {
    name: "overhead",
    seconds: 240,
    machines: &[("guest", 1024)],
    programs: &[],
    files: &[],
    daemons: &[],
    oracle: false,
    script: Some(concat!(include_str!("guest/checks.sh"), include_str!("guest/overhead.sh"))),
    optimised: true,
    debian: "",
    slow_disk: false,
};

/// An autoscaler and three nodes on a network: join, place, drain, cut one off, heal.
const FLEET: Suite = Suite {
    name: "fleet",
    seconds: 240,
    machines: &[("scale", 512), ("n1", 384), ("n2", 384), ("n3", 384)],
    programs: &[],
    files: &[],
    daemons: &[],
    oracle: false,
    script: Some(concat!(
        include_str!("guest/checks.sh"),
        include_str!("guest/peers.sh"),
        include_str!("guest/fleet.sh")
    )),
    optimised: false,
    debian: "jq",
    slow_disk: false,
};

/// What a run of test programs says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
}

/// What suites run, each built once.
pub(super) struct Builds<'a> {
    root: &'a Path,
    scratch: &'a Path,
    payloads: BTreeMap<&'static str, PathBuf>,
    /// Versions of the packages that a suite needed, by folder and whether they are optimised.
    packages: BTreeMap<(&'static str, bool), PathBuf>,
}

/// The packages come in two versions, so that there is something to upgrade: folder and version.
const VERSIONS: [(&str, &str); 2] = [("old", "0.1.0"), ("new", "0.2.0")];

impl<'a> Builds<'a> {
    /// Those of this checkout; `scratch` holds them.
    pub(super) fn new(root: &'a Path, scratch: &'a Path) -> Self {
        Self { root, scratch, payloads: BTreeMap::new(), packages: BTreeMap::new() }
    }

    /// The disk of a suite.
    pub(super) fn payload(&mut self, suite: &'static Suite) -> Result<PathBuf> {
        if let Some(made) = self.payloads.get(suite.name) {
            return Ok(made.clone());
        }
        println!("    building what {} runs", suite.name);
        let folder = self.scratch.join(suite.name);
        suite.payload(self.root, &folder)?;
        // Packing takes half a minute: a script gets the versions that it names.
        let script = suite.script.unwrap_or_default();
        for (name, version) in VERSIONS {
            if script.contains(&format!("/payload/{name}/")) {
                link(&self.packages(name, version, suite.optimised)?, &folder.join(name))?;
            }
        }
        let disk = self.scratch.join(format!("{}.erofs", suite.name));
        image::pack(&folder, &disk)?;
        self.payloads.insert(suite.name, disk.clone());
        Ok(disk)
    }

    fn packages(&mut self, name: &'static str, version: &str, optimised: bool) -> Result<PathBuf> {
        let key = (name, optimised);
        if let Some(made) = self.packages.get(&key) {
            return Ok(made.clone());
        }
        let kind = if optimised { "optimised" } else { "debug" };
        let folder = self.scratch.join(format!("{name}-{kind}"));
        dist::packages(self.root, !optimised, version, &folder)?;
        self.packages.insert(key, folder.clone());
        Ok(folder)
    }
}

/// The files of a folder, in another one, too.
fn link(from: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::hard_link(file.path(), into.join(file.file_name()))?;
    }
    Ok(())
}

impl Suite {
    /// What it takes beside others. A machine of several has one processor, one that is alone has two.
    pub(super) fn weight(&self) -> usize {
        self.machines.len().div_ceil(2)
    }

    /// Its machines: where in the network, if there is one, and MiB.
    pub(super) fn places(&self) -> impl Iterator<Item = (Option<Place>, u32)> {
        let several = self.machines.len() > 1;
        (1..).zip(self.machines).map(move |(number, (name, memory))| {
            let place = Place { name, number };
            (several.then_some(place), *memory)
        })
    }

    /// Builds the programs and puts everything but packages into one folder.
    fn payload(&self, root: &Path, into: &Path) -> Result<()> {
        fs::create_dir_all(into)?;
        let mut script = String::from("status=0\nexport TRIMTAB_OWN_MACHINE=1\n");
        // Tests know their checkout by the path at which they were compiled.
        script.push_str(&format!(
            "mkdir -p {parent} && ln -s /payload/checkout {root}\n",
            parent = root.parent().unwrap_or(root).display(),
            root = root.display()
        ));
        for file in self.files {
            let target = into.join("checkout").join(file);
            fs::create_dir_all(target.parent().context("a file is in a folder")?)?;
            fs::copy(root.join(file), target)?;
        }
        if self.oracle {
            script.push_str("export TRIMTAB_ORACLE_OBJECT=/payload/oracle.o\n");
            let status = Command::new("clang-19")
                .current_dir(root.join("tests/oracle"))
                .args(fs::read_to_string(root.join("tests/oracle/clang-flags.txt"))?.split_whitespace())
                .args(["switch.bpf.c", "-o"])
                .arg(into.join("oracle.o"))
                .status()
                .context("starting clang-19, which compiles the oracle")?;
            ensure!(status.success(), "compiling the oracle ended with {status}");
        }
        if !self.daemons.is_empty() {
            let cargo = ["build", "--quiet", "--bins", "-p", "agent", "-p", "autoscaler", "-p", "e2e"];
            let status = cargo_command(root).args(cargo).status().context("starting cargo")?;
            ensure!(status.success(), "building the daemons ended with {status}");
        }
        for daemon in self.daemons {
            let from = root.join("target/debug").join(daemon);
            let to = into.join("checkout/target/debug").join(daemon);
            fs::create_dir_all(into.join("checkout/target/debug"))?;
            strip(&from, &to)?;
        }
        for (package, arguments) in self.programs {
            for program in test_programs(root, package, arguments)? {
                let name = program.file_name().context("a program has a name")?.to_owned();
                let target = into.join(&name);
                strip(&program, &target)?;
                let name = name.to_string_lossy();
                script.push_str(&format!(
                    "echo '## {name}'\n/payload/{name} --test-threads=1 --nocapture --color=never || status=1\n"
                ));
            }
        }
        if let Some(lines) = self.script {
            script.push_str(lines);
        }
        script.push_str("exit $status\n");
        fs::write(into.join("run.sh"), script)?;
        Ok(())
    }
}

/// A copy without debugging information: a tenth of the size.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("-o").arg(to).arg(from).status().context("starting strip")?;
    ensure!(status.success(), "strip {} ended with {status}", from.display());
    Ok(())
}

fn cargo_command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.current_dir(root);
    command
}

/// Builds the tests of a package; where their programs are.
fn test_programs(root: &Path, package: &str, arguments: &[&str]) -> Result<Vec<PathBuf>> {
    let output = cargo_command(root)
        .args(["test", "--no-run", "--quiet", "--message-format=json", "-p", package])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "building the tests of {package} ended with {}", output.status);
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        if message["profile"]["test"] == true
            && let Some(path) = message["executable"].as_str()
        {
            programs.push(PathBuf::from(path));
        }
    }
    ensure!(!programs.is_empty(), "{package} has no test programs");
    Ok(programs)
}

/// Adds up the closing lines of test programs; a test that says SKIP is no test that passed.
pub(super) fn count(ended: &Ended) -> Counted {
    let said = |line: &&str| line.starts_with("SKIP") || line.contains("... SKIP");
    let said = ended.output.lines().filter(said).map(|_| 1).sum::<u32>();
    let mut counted = Counted { skipped: said, ..Counted::default() };
    for line in ended.output.lines() {
        let Some((_, result)) = line.split_once("test result: ") else { continue };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(kind)) = (words.next().and_then(|n| n.parse::<u32>().ok()), words.next())
            else {
                continue;
            };
            match kind {
                "passed" => counted.passed += number,
                "failed" => counted.failed += number,
                "ignored" => counted.skipped += number,
                _ => {}
            }
        }
    }
    counted.passed = counted.passed.saturating_sub(said);
    if ended.status != 0 && counted.failed == 0 {
        counted.failed = 1;
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(output: &str, status: i32) -> Ended {
        Ended { output: output.to_owned(), status }
    }

    #[test]
    fn closing_lines_are_added_up() {
        let output = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.35s\n\
                      test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(count(&ended(output, 1)), Counted { passed: 14, failed: 1, skipped: 1 });
    }

    #[test]
    fn a_test_that_says_skip_did_not_pass() {
        let output = "test one ... SKIP: not root\nok\ntest result: ok. 2 passed; 0 failed; 0 ignored\n";
        assert_eq!(count(&ended(output, 0)), Counted { passed: 1, failed: 0, skipped: 1 });
    }

    /// What README.md tells users to type for a fleet is what the suite types.
    #[test]
    fn the_fleet_is_made_as_the_manual_says() {
        let manual = include_str!("../../../README.md");
        let script = include_str!("guest/fleet.sh");
        let (_, section) = manual.split_once("## More than one machine").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let blocks = section.split("```").skip(1).step_by(2);
        let mut commands = 0;
        for line in blocks.flat_map(str::lines).filter(|line| !line.is_empty()) {
            let typed = line.split(" #").next().unwrap().trim_end();
            let typed = typed.replace("join-token n2", "join-token \"$1\"").replace("--node n2", "--node $1");
            let typed = typed.replace("trimtab node", "trimtab --quiet node");
            assert!(script.contains(&typed), "{typed}");
            commands += 1;
        }
        assert!(commands >= 8, "{commands} commands");
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        assert_eq!(count(&ended("", 139)), Counted { passed: 0, failed: 1, skipped: 0 });
    }
}
