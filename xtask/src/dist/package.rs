//! What is in which package, and where it goes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// One package.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// The rest of the description, one paragraph.
    pub(super) description: &'static str,
    pub(super) files: &'static [File],
    /// Folder of the checkout with postinst, prerm and postrm.
    pub(super) scripts: Option<&'static str>,
}

/// One file, or a folder of files of the same kind.
#[derive(Debug)]
pub(super) enum File {
    /// A program that cargo built.
    Program(&'static str),
    /// A file of the checkout, at a path of the system.
    Source(&'static str, &'static str),
    /// The same, which an administrator may change: an upgrade keeps the change.
    Configuration(&'static str, &'static str),
    /// A folder of the checkout with all that is in it, at a path of the system.
    Folder(&'static str, &'static str),
    /// All manual pages.
    Manual,
    /// What completes the command in a shell, at a path of the system.
    Completion(&'static str, &'static str),
}

use File::{Completion, Configuration, Folder, Manual, Program, Source};

/// All packages.
pub(super) const PACKAGES: [Package; 3] = [
    Package {
        name: "trimtab-agent",
        summary: "measures every task of a node exactly, and isolates it",
        description: "Measures every cgroup's CPU time, run-queue delay, memory and stalls with eBPF and cgroup v2, and streams that \
                      to the Trimtab autoscaler. Where the node's owner allows it, it starts, sizes and ends tasks.",
        files: &[
            Program("trimtab-agent"),
            Source("agent/dist/trimtab-agent.service", "usr/lib/systemd/system/trimtab-agent.service"),
            Source("agent/dist/sysusers.conf", "usr/lib/sysusers.d/trimtab-agent.conf"),
            Source("agent/dist/tmpfiles.conf", "usr/lib/tmpfiles.d/trimtab-agent.conf"),
            Configuration("agent/dist/agent.toml", "etc/trimtab/agent.toml"),
            // Not in usr/share/doc, which minimal systems leave out.
            Source("agent/dist/launch.d/example.toml.disabled", "usr/share/trimtab-agent/launcher.toml"),
            Source(
                "agent/dist/launch.d/yarn-refresh.toml.disabled",
                "usr/share/trimtab-agent/yarn-refresh.toml",
            ),
            Source(
                "agent/dist/launch.d/hdfs-refresh.toml.disabled",
                "usr/share/trimtab-agent/hdfs-refresh.toml",
            ),
            Source(
                "agent/dist/launch.d/hdfs-balancer.toml.disabled",
                "usr/share/trimtab-agent/hdfs-balancer.toml",
            ),
            Source("agent/dist/acting.conf", "usr/share/trimtab-agent/acting.conf"),
            Source("agent/dist/network.conf", "usr/share/trimtab-agent/network.conf"),
            Source("agent/dist/tasks.d/90-default.toml", "usr/share/trimtab-agent/tasks.toml"),
            Source("LICENSE", "usr/share/doc/trimtab-agent/copyright"),
        ],
        scripts: Some("agent/dist/deb"),
    },
    Package {
        name: "trimtab-autoscaler",
        summary: "places, sizes, scales and rebalances the workloads of a fleet",
        description: "The central service of Trimtab: agents stream to it; it stores, decides, explains each decision and each \
                      non-decision, and sends commands within bounds.",
        files: &[
            Program("trimtab-autoscaler"),
            Source(
                "autoscaler/dist/trimtab-autoscaler.service",
                "usr/lib/systemd/system/trimtab-autoscaler.service",
            ),
            Source("autoscaler/dist/sysusers.conf", "usr/lib/sysusers.d/trimtab-autoscaler.conf"),
            Source("autoscaler/dist/tmpfiles.conf", "usr/lib/tmpfiles.d/trimtab-autoscaler.conf"),
            Configuration("autoscaler/dist/autoscaler.toml", "etc/trimtab/autoscaler.toml"),
            Source("autoscaler/dist/network.conf", "usr/share/trimtab-autoscaler/network.conf"),
            Source("dashboards/alerts.yaml", "usr/share/trimtab-autoscaler/alerts.yaml"),
            Folder("dashboards/grafana", "usr/share/trimtab-autoscaler/grafana"),
            Source("docs/alerts.md", "usr/share/trimtab-autoscaler/docs/alerts.md"),
            Source("docs/grafana.md", "usr/share/trimtab-autoscaler/docs/grafana.md"),
            Source("docs/prices.md", "usr/share/trimtab-autoscaler/docs/prices.md"),
            Source("examples/prices.yaml", "usr/share/trimtab-autoscaler/prices.yaml"),
            Source("LICENSE", "usr/share/doc/trimtab-autoscaler/copyright"),
        ],
        scripts: Some("autoscaler/dist/deb"),
    },
    Package {
        name: "trimtab",
        summary: "the operator's command of Trimtab",
        description: "Shows what a fleet uses, sets targets, and says why each change was made or not made.",
        files: &[
            Program("trimtab"),
            Manual,
            Completion("bash", "usr/share/bash-completion/completions/trimtab"),
            Completion("zsh", "usr/share/zsh/vendor-completions/_trimtab"),
            Completion("fish", "usr/share/fish/vendor_completions.d/trimtab.fish"),
            Source("model/src/spec/schema.json", "usr/share/trimtab/schema.json"),
            Source("LICENSE", "usr/share/doc/trimtab/copyright"),
        ],
        scripts: None,
    },
];

impl File {
    /// Puts it where it belongs below `tree`.
    pub(super) fn place(&self, root: &Path, bin: &Path, generated: &Path, tree: &Path) -> Result<()> {
        match self {
            Program(name) => {
                let to = tree.join("usr/bin").join(name);
                fs::create_dir_all(tree.join("usr/bin"))?;
                let status = Command::new("strip").arg("-o").arg(&to).arg(bin.join(name)).status();
                ensure!(status.context("starting strip")?.success(), "strip {name} failed");
                fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
                Ok(())
            }
            Source(from, to) | Configuration(from, to) => copy(&root.join(from), &tree.join(to)),
            Folder(from, to) => copy_all(&root.join(from), &tree.join(to)),
            Completion(shell, to) => copy(&generated.join(shell), &tree.join(to)),
            Manual => {
                for entry in fs::read_dir(generated.join("man"))? {
                    let entry = entry?;
                    copy(&entry.path(), &tree.join("usr/share/man/man1").join(entry.file_name()))?;
                }
                Ok(())
            }
        }
    }
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let (path, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if path.is_dir() { copy_all(&path, &to)? } else { copy(&path, &to)? }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packages_take_from_the_checkout_is_there() {
        for file in PACKAGES.iter().flat_map(|package| package.files) {
            if let Source(from, _) | Configuration(from, _) | Folder(from, _) = file {
                assert!(crate::root().join(from).exists(), "{from}");
            }
        }
    }

    #[test]
    fn the_autoscalers_package_has_dashboards_alerts_and_their_examples() {
        let tree = std::env::temp_dir().join(format!("trimtab-package-{}", std::process::id()));
        let nowhere = Path::new("/nonexistent");
        for file in PACKAGES.iter().find(|package| package.name == "trimtab-autoscaler").unwrap().files {
            if matches!(file, Source(..) | Folder(..)) {
                file.place(&crate::root(), nowhere, nowhere, &tree).unwrap();
            }
        }
        let missing: Vec<&str> = [
            "alerts.yaml",
            "grafana/fleet.json",
            "grafana/workload.json",
            "grafana/node.json",
            "grafana/internals.json",
            "grafana/provisioning/datasource.yaml",
            "grafana/provisioning/dashboards.yaml",
            "grafana/provisioning/prometheus.yml",
            "docs/alerts.md",
        ]
        .into_iter()
        .filter(|file| !tree.join("usr/share/trimtab-autoscaler").join(file).is_file())
        .collect();
        fs::remove_dir_all(&tree).unwrap();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
