//! This program as a service on a host without packages, or whose /usr cannot be written: below /etc and /var only.
//!
//! The program goes to /var/opt, which immutable systems keep and label like /opt: systemd may run what is in its `bin` there.
//! Every file is replaced as a whole, the program last, so that an installation that was cut off is finished by the next one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::durable;

const UNIT: &str = "trimtab-agent.service";
const PROGRAM: &str = "var/opt/trimtab/bin/trimtab-agent";
const CONFIGURATION: &str = "etc/trimtab/agent.toml";
/// Where a package puts its unit.
const PACKAGED: &str = "usr/lib/systemd/system/trimtab-agent.service";

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Written anew by each installation.
    Ours,
    /// Written when it is not there.
    Owners,
}

/// Path below the root, content, whose.
const FILES: [(&str, &str, Whose); 11] = [
    ("etc/systemd/system/trimtab-agent.service", include_str!("../dist/trimtab-agent.service"), Whose::Ours),
    ("etc/sysusers.d/trimtab-agent.conf", include_str!("../dist/sysusers.conf"), Whose::Ours),
    ("etc/tmpfiles.d/trimtab-agent.conf", include_str!("../dist/tmpfiles.conf"), Whose::Ours),
    (CONFIGURATION, include_str!("../dist/agent.toml"), Whose::Owners),
    ("var/opt/trimtab/share/acting.conf", include_str!("../dist/acting.conf"), Whose::Ours),
    ("var/opt/trimtab/share/network.conf", include_str!("../dist/network.conf"), Whose::Ours),
    (
        "var/opt/trimtab/share/launcher.toml",
        include_str!("../dist/launch.d/example.toml.disabled"),
        Whose::Ours,
    ),
    (
        "var/opt/trimtab/share/yarn-refresh.toml",
        include_str!("../dist/launch.d/yarn-refresh.toml.disabled"),
        Whose::Ours,
    ),
    (
        "var/opt/trimtab/share/hdfs-refresh.toml",
        include_str!("../dist/launch.d/hdfs-refresh.toml.disabled"),
        Whose::Ours,
    ),
    (
        "var/opt/trimtab/share/hdfs-balancer.toml",
        include_str!("../dist/launch.d/hdfs-balancer.toml.disabled"),
        Whose::Ours,
    ),
    ("var/opt/trimtab/share/tasks.toml", include_str!("../dist/tasks.d/90-default.toml"), Whose::Ours),
];

/// What `trimtab-agent join` writes, removed by a purge.
const JOINED: &str = "etc/trimtab/agent.d/joined.toml";
/// State of the agent, removed by a purge; under a dynamic user the first is a link to the second.
const STATE: [&str; 2] = ["var/lib/trimtab-agent", "var/lib/private/trimtab-agent"];
/// Folders that are removed when nothing is left in them.
const FOLDERS: [&str; 9] = [
    "var/opt/trimtab/bin",
    "var/opt/trimtab/share",
    "var/opt/trimtab",
    "etc/systemd/system/trimtab-agent.service.d",
    "etc/trimtab/agent.d",
    "etc/trimtab/conf.d",
    "etc/trimtab/launch.d",
    "etc/trimtab/tasks.d",
    "etc/trimtab",
];

/// Installs the running program below `root`, and starts it when that is this system's own.
///
/// # Errors
/// When a package is installed, or a file cannot be written; the text says what to do.
pub fn install(root: &Path, dry_run: bool) -> Result<()> {
    let here = is_this_system(root)?;
    if root.join(PACKAGED).exists() {
        bail!("the package trimtab-agent is installed here: upgrade or remove that instead");
    }
    let own = std::env::current_exe().context("finding this program")?;
    let program = fs::read(&own).with_context(|| format!("reading {}", own.display()))?;
    for (path, content, whose) in FILES {
        let text = content.replace("/usr/bin/trimtab-agent", &format!("/{PROGRAM}"));
        put(&root.join(path), text.as_bytes(), 0o644, whose, dry_run)?;
    }
    put(&root.join(PROGRAM), &program, 0o755, Whose::Ours, dry_run)?;
    if dry_run || !here {
        return Ok(());
    }
    // Where SELinux is, what was written must have its labels; elsewhere the program is not there.
    if Path::new("/usr/sbin/restorecon").exists() {
        call(
            "restorecon",
            &["-RF", "/var/opt/trimtab", "/etc/trimtab", "/etc/systemd/system/trimtab-agent.service"],
        )?;
    }
    call("systemd-sysusers", &["/etc/sysusers.d/trimtab-agent.conf"])?;
    call("systemd-tmpfiles", &["--create", "/etc/tmpfiles.d/trimtab-agent.conf"])?;
    call("systemctl", &["daemon-reload"])?;
    let configuration = format!("/{CONFIGURATION}");
    let checked = Command::new(Path::new("/").join(PROGRAM))
        .args(["--config", &configuration, "config"])
        .output()
        .context("trying the installed program")?;
    if !checked.status.success() {
        eprint!("{}", String::from_utf8_lossy(&checked.stderr));
        bail!(
            "the configuration is bad: a running agent goes on as it is; mend {configuration}, then `systemctl restart {UNIT}`"
        );
    }
    call("systemctl", &["enable", "--quiet", UNIT])?;
    call("systemctl", &["restart", UNIT])?;
    println!("{UNIT} runs; `journalctl -u {UNIT}` is its log, {configuration} its configuration");
    Ok(())
}

/// Removes what [`install`] wrote.
///
/// # Errors
/// When a file cannot be removed.
pub fn uninstall(root: &Path, purge: bool) -> Result<()> {
    let here = is_this_system(root)?;
    if here && root.join(FILES[0].0).exists() {
        call("systemctl", &["disable", "--now", "--quiet", UNIT])?;
    }
    let removed =
        FILES.iter().filter(|(_, _, whose)| purge || *whose == Whose::Ours).map(|(path, _, _)| *path);
    let mut nothing = true;
    for path in removed.chain([PROGRAM]).chain(purge.then_some(JOINED)).map(|path| root.join(path)) {
        match fs::remove_file(&path) {
            Ok(()) => {
                nothing = false;
                println!("removed {}", path.display());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("removing {}", path.display())),
        }
    }
    if purge {
        for path in STATE.map(|path| root.join(path)) {
            let gone = match fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() => fs::remove_file(&path),
                Ok(_) => fs::remove_dir_all(&path),
                Err(_) => continue,
            };
            gone.with_context(|| format!("removing {}", path.display()))?;
            println!("removed {}", path.display());
        }
    }
    for folder in FOLDERS {
        // What an owner put there stays, with its folder.
        let _ = fs::remove_dir(root.join(folder));
    }
    if here {
        call("systemctl", &["daemon-reload"])?;
    }
    if nothing {
        println!("nothing of `trimtab-agent install` was there");
    }
    Ok(())
}

/// Whether `root` is the running system, with systemd; then it takes root's powers.
fn is_this_system(root: &Path) -> Result<bool> {
    if root != Path::new("/") {
        ensure!(root.is_dir(), "{} is no directory", root.display());
        return Ok(false);
    }
    ensure!(
        Path::new("/run/systemd/system").is_dir(),
        "systemd does not run here: run `trimtab-agent` from your own init, or give --root for an image"
    );
    ensure!(rustix::process::geteuid().is_root(), "only root may install a service: use sudo");
    Ok(true)
}

fn put(path: &Path, content: &[u8], mode: u32, whose: Whose, dry_run: bool) -> Result<()> {
    let shown = path.display();
    match fs::read(path) {
        Ok(found) if found == content => println!("same     {shown}"),
        Ok(_) if whose == Whose::Owners => println!("kept     {shown} (its owner changed it)"),
        _ if dry_run => println!("to write {shown}"),
        found => {
            let directory: PathBuf = path.parent().map(Path::to_owned).unwrap_or_default();
            fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
            durable::replace(path, content, mode)?;
            println!("{} {shown}", if found.is_ok() { "replaced" } else { "written " });
        }
    }
    Ok(())
}

fn call(program: &str, arguments: &[&str]) -> Result<()> {
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "`{program} {}` ended with {status}", arguments.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn files(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn an_image_gets_files_below_etc_and_var_and_gives_them_back() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), true).unwrap();
        assert!(files(dir.path()).is_empty(), "a dry run writes nothing");
        install(dir.path(), false).unwrap();
        let installed = files(dir.path());
        assert_eq!(installed.len(), FILES.len() + 1);
        assert!(installed.iter().all(|f| f.starts_with("etc/") || f.starts_with("var/")), "{installed:?}");
        let unit = fs::read_to_string(dir.path().join(FILES[0].0)).unwrap();
        assert!(
            unit.contains("ExecStart=/var/opt/trimtab/bin/trimtab-agent --config")
                && !unit.contains("/usr/bin/")
        );
        let mode = fs::metadata(dir.path().join(PROGRAM)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);

        let configuration = dir.path().join(CONFIGURATION);
        fs::write(&configuration, "node = \"n1\"\n").unwrap();
        fs::write(dir.path().join(FILES[0].0), "an older unit").unwrap();
        install(dir.path(), false).unwrap();
        assert_eq!(fs::read_to_string(&configuration).unwrap(), "node = \"n1\"\n", "its owner's");
        assert_eq!(fs::read_to_string(dir.path().join(FILES[0].0)).unwrap(), unit, "ours");

        uninstall(dir.path(), false).unwrap();
        assert_eq!(files(dir.path()), [CONFIGURATION]);
        fs::create_dir_all(dir.path().join("var/lib/trimtab-agent")).unwrap();
        fs::write(dir.path().join("var/lib/trimtab-agent/lock"), "").unwrap();
        fs::create_dir_all(dir.path().join("etc/trimtab/agent.d")).unwrap();
        fs::write(dir.path().join(JOINED), "").unwrap();
        uninstall(dir.path(), true).unwrap();
        assert!(files(dir.path()).is_empty() && !dir.path().join("etc/trimtab").exists());
        uninstall(dir.path(), true).unwrap();
    }

    #[test]
    fn it_does_not_mix_with_a_package() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib/systemd/system")).unwrap();
        fs::write(dir.path().join(PACKAGED), "").unwrap();
        assert!(install(dir.path(), false).unwrap_err().to_string().contains("the package trimtab-agent"));
        let missing = install(&dir.path().join("absent"), false).unwrap_err().to_string();
        assert!(missing.contains("is no directory"), "{missing}");
    }
}
