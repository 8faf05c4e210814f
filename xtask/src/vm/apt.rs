//! Debian packages of any suite, downloaded beside the host's own package system: nothing is installed on the host.
//!
//! The mirror is the one that the host's apt already uses, so no address is written here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One set of suites with its own lists.
pub(super) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Lists of `suites`, fetched anew when they are older than a day.
    pub(super) fn open(cache: &Path, suites: &[&str]) -> Result<Self> {
        let directory = cache.join("apt").join(suites.join("+"));
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        ensure!(Path::new(KEYRING).exists(), "{KEYRING} is missing: apt-get install debian-archive-keyring");
        let mirror = mirror()?;
        let sources: String =
            suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
        fs::write(directory.join("sources.list"), sources)?;
        let at = |part: &str| directory.join(part).display().to_string();
        let configuration = format!(
            "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\nDir::State::lists \"{}\";\nDir::Cache \"{}\";\nAPT::Sandbox::User \"root\";\n",
            at("sources.list"),
            at("lists"),
            at("cache"),
        );
        fs::write(directory.join("apt.conf"), configuration)?;
        let apt = Self { directory };
        let stamp = apt.directory.join("updated");
        let fresh = fs::metadata(&stamp)
            .and_then(|m| m.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 24 * 3600));
        if !fresh {
            apt.run("apt-get", &["update", "-qq"])?;
            fs::write(stamp, "")?;
        }
        Ok(apt)
    }

    /// Downloads what the host lacks for `package` (from `suite` if it is there), itself included, into `into`.
    pub(super) fn download_missing(&self, suite: &str, package: &str, into: &Path) -> Result<()> {
        let text = self.run(
            "apt-get",
            &["install", "--no-install-recommends", "--yes", "--print-uris", "-qq", "-t", suite, package],
        )?;
        // 'URI' FILE SIZE HASH: the file's name begins with the package's.
        let names: Vec<String> = text
            .lines()
            .filter_map(|line| line.split(' ').nth(1)?.split('_').next().map(str::to_owned))
            .collect();
        ensure!(!names.is_empty(), "apt has nothing to download for {package}");
        self.download(suite, &names, into)
    }

    /// Downloads these packages, in the version of `suite` where it has one.
    pub(super) fn download(&self, suite: &str, packages: &[String], into: &Path) -> Result<()> {
        fs::create_dir_all(into)?;
        let mut arguments = vec!["download", "-qq", "-t", suite];
        arguments.extend(packages.iter().map(String::as_str));
        self.run_in("apt-get", &arguments, into).map(drop)
    }

    /// All packages whose name begins with `prefix` among what `package` of `suite` needs, itself not included.
    pub(super) fn needs(&self, package: &str, suite: &str, prefix: &str) -> Result<Vec<String>> {
        let flags = ["--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks"];
        let mut arguments = vec!["depends", "-t", suite];
        arguments.extend(flags);
        arguments.extend(["--no-replaces", "--no-enhances", package]);
        let text = self.run("apt-cache", &arguments)?;
        let mut found: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with([' ', '<']) && line.starts_with(prefix) && *line != package)
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_in(program, arguments, &self.directory)
    }

    fn run_in(&self, program: &str, arguments: &[&str], at: &Path) -> Result<String> {
        let output = Command::new(program)
            .args(arguments)
            .env("APT_CONFIG", self.directory.join("apt.conf"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir(at)
            .output()
            .with_context(|| format!("starting {program}: this needs Debian or a derivative"))?;
        ensure!(
            output.status.success(),
            "`{program} {}` ended with {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The Debian mirror that this host's apt uses for its own release.
pub(super) fn mirror() -> Result<String> {
    let release = codename()?;
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)|$(RELEASE)", "Created-By: Packages"])
        .output()
        .context("starting apt-get: virtual machines are made from Debian packages")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().filter_map(|line| line.strip_suffix(&format!("|{release}"))).next();
    match found {
        Some(uri) => Ok(uri.to_owned()),
        None => bail!("this host's apt knows no mirror of Debian {release}: virtual machines need one"),
    }
}

/// The host's own release, such as `bookworm`.
pub(super) fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no release")
}

/// Unpacks every package in `from` into `root`.
pub(super) fn unpack(from: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            let status = Command::new("dpkg-deb").arg("-x").args([&path, root]).status()?;
            ensure!(status.success(), "unpacking {} ended with {status}", path.display());
        }
    }
    Ok(())
}
