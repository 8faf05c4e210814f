//! A tree of files becomes a .deb, by Debian's own tool.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::package::{File, Package};

/// Builds the package in `into`; where it is.
pub(super) fn build(
    package: &Package,
    root: &Path,
    version: &str,
    tree: &Path,
    into: &Path,
) -> Result<PathBuf> {
    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let text = format!(
        "Package: {}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: The Trimtab developers <trimtab@localhost>\n\
         Section: admin\nPriority: optional\nInstalled-Size: {}\nDepends: {}\nDescription: {}\n {}\n",
        package.name,
        size_kib(tree)?,
        depends(package, tree)?,
        package.summary,
        package.description,
    );
    fs::write(control.join("control"), text)?;
    let configuration: String = package
        .files
        .iter()
        .filter_map(|file| match file {
            File::Configuration(_, to) => Some(format!("/{to}\n")),
            _ => None,
        })
        .collect();
    fs::write(control.join("conffiles"), configuration)?;
    if let Some(scripts) = package.scripts {
        for script in ["postinst", "prerm", "postrm"] {
            let to = control.join(script);
            fs::copy(root.join(scripts).join(script), &to).with_context(|| format!("{scripts}/{script}"))?;
            fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
        }
    }
    let file = into.join(format!("{}_{version}_{architecture}.deb", package.name));
    let status = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zzstd", "--build"])
        .args([tree, &file])
        .stdout(std::process::Stdio::null())
        .status()
        .context("starting dpkg-deb")?;
    ensure!(status.success(), "dpkg-deb ended with {status}");
    Ok(file)
}

/// The C library that the programs were linked against, by the newest symbol that they use, and systemd for units.
fn depends(package: &Package, tree: &Path) -> Result<String> {
    let mut newest = (2, 0);
    for file in package.files {
        let File::Program(name) = file else { continue };
        let symbols = output(Command::new("objdump").arg("-T").arg(tree.join("usr/bin").join(name)))?;
        for version in symbols.split("GLIBC_").skip(1) {
            let mut numbers =
                version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("").split('.');
            let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
            if let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) {
                newest = newest.max((major, minor));
            }
        }
    }
    let library = format!("libc6 (>= {}.{})", newest.0, newest.1);
    let libgcc = "libgcc-s1";
    Ok(match package.scripts {
        Some(_) => format!("{library}, {libgcc}, systemd, dbus, init-system-helpers"),
        None => format!("{library}, {libgcc}"),
    })
}

fn size_kib(tree: &Path) -> Result<String> {
    let text = output(Command::new("du").args(["-sk"]).arg(tree))?;
    Ok(text.split_whitespace().next().unwrap_or("0").to_owned())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
