//! A tree of files becomes an .rpm, by the distribution's own tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::package::{File, Package};

/// Builds the package in `into`; where it is. Requirements of libraries are found by the tool in the programs.
pub(super) fn build(package: &Package, version: &str, tree: &Path, into: &Path) -> Result<PathBuf> {
    ensure!(
        !version.contains('-'),
        "`{version}`: the version of an .rpm has no `-`; write ~ for a version before a release"
    );
    let top = into.join(format!(".rpm-{}", package.name));
    if top.exists() {
        fs::remove_dir_all(&top)?;
    }
    fs::create_dir_all(&top)?;
    let spec = top.join("package.spec");
    fs::write(&spec, text(package, version, tree))?;
    let output = Command::new("rpmbuild")
        .arg("-bb")
        .args(["--define", &format!("_topdir {}", top.display())])
        .args(["--define", &format!("_rpmdir {}", top.display())])
        .args(["--define", "_rpmfilename package.rpm"])
        .arg(&spec)
        .output()
        .context("starting rpmbuild")?;
    ensure!(
        output.status.success(),
        "rpmbuild ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let file = into.join(format!("{}-{version}-1.{}.rpm", package.name, std::env::consts::ARCH));
    fs::rename(top.join("package.rpm"), &file).context("the package that rpmbuild made")?;
    fs::remove_dir_all(top)?;
    Ok(file)
}

fn text(package: &Package, version: &str, tree: &Path) -> String {
    let files: String = package
        .files
        .iter()
        .map(|file| match file {
            File::Program(name) => format!("/usr/bin/{name}\n"),
            File::Configuration(_, to) => format!("%config(noreplace) /{to}\n"),
            File::Source(_, to) | File::Folder(_, to) | File::Completion(_, to) => format!("/{to}\n"),
            File::Manual => "/usr/share/man/man1/*\n".to_owned(),
        })
        .collect();
    let (requires, scripts) = match package.scripts {
        Some(_) => ("Requires: systemd, dbus\n", scripts(package.name)),
        None => ("", String::new()),
    };
    // The programs are stripped already, and nothing is to be rewritten.
    format!(
        "%global debug_package %{{nil}}\n%global _build_id_links none\n%global __os_install_post %{{nil}}\n\
         Name: {name}\nVersion: {version}\nRelease: 1\nSummary: {summary}\nLicense: Apache-2.0\n{requires}\
         %description\n{description}\n\
         %install\ncp -a '{tree}/.' '%{{buildroot}}/'\n\
         {scripts}%files\n{files}",
        name = package.name,
        summary = package.summary,
        description = package.description,
        tree = tree.display(),
    )
}

/// As is the custom of these distributions: nothing is started at the first installation; an upgrade restarts what runs, unless its
/// configuration is bad.
fn scripts(name: &str) -> String {
    let check = match name {
        "trimtab-autoscaler" => "trimtab-autoscaler check-config --config /etc/trimtab/autoscaler.toml",
        _ => "trimtab-agent --config /etc/trimtab/agent.toml config",
    };
    format!(
        "%post\n\
         systemd-sysusers /usr/lib/sysusers.d/{name}.conf\n\
         systemd-tmpfiles --create /usr/lib/tmpfiles.d/{name}.conf\n\
         [ -d /run/systemd/system ] || exit 0\n\
         systemctl daemon-reload\n\
         if [ $1 -eq 1 ]; then\n\
         systemctl --quiet preset {name}.service || :\n\
         systemctl --quiet is-enabled {name}.service || echo '{name}: start it with: systemctl enable --now {name}'\n\
         elif {check} > /dev/null; then\n\
         systemctl try-restart {name}.service\n\
         else\n\
         echo '{name}: the configuration is bad (see above): a running one goes on as it is; then: systemctl restart {name}' >&2\n\
         fi\n\
         %preun\n\
         if [ $1 -eq 0 ] && [ -d /run/systemd/system ]; then systemctl --quiet disable --now {name}.service || :; fi\n\
         %postun\n\
         if [ -d /run/systemd/system ]; then systemctl daemon-reload || :; fi\n"
    )
}
