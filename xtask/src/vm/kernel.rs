//! The kernels that guests boot: Debian's packages, each with a small initramfs of its own modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::apt::{self, Apt};
use crate::cache::Entry;

/// One of Debian's kernels for clouds: the smallest with all that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// What a user calls it.
    pub(super) name: &'static str,
    /// Where it comes from; the suites in which its dependencies are looked up.
    suites: &'static [&'static str],
}

/// The oldest kernel that we support, the present stable one, and the newest that Debian packages.
pub(super) const KERNELS: [Kernel; 3] = [
    Kernel { name: "6.1", suites: &["bookworm"] },
    Kernel { name: "6.12", suites: &["trixie"] },
    Kernel { name: "7", suites: &["trixie", "trixie-backports"] },
];

/// Modules that a guest needs to reach its disks, its console and its network, and to shape that network.
const MODULES: [&str; 22] = [
    "virtio",
    "virtio_ring",
    "virtio_pci",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_blk",
    "virtio_net",
    "net_failover",
    "failover",
    "virtio_console",
    "virtio-rng",
    "overlay",
    "erofs",
    "netfs",
    "libcrc32c",
    "crc32c_generic",
    "lz4_decompress",
    "xxhash_generic",
    "loop",
    "dummy",
    "veth",
    "bfq",
];

const META: &str = "linux-image-cloud-amd64";

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Bootable {
    pub(super) image: PathBuf,
    pub(super) initramfs: PathBuf,
    /// The kernel's own name, such as `6.1.0-50-cloud-amd64`.
    pub(super) release: String,
}

/// Downloads and prepares a kernel, unless the cache has it.
pub(super) fn prepare(kernel: Kernel, cache: &Path) -> Result<Bootable> {
    let apt = Apt::open(cache, kernel.suites)?;
    let suite = kernel.suites.last().context("a kernel has a suite")?;
    let packages = apt.needs(META, suite, "linux-")?;
    let packages: Vec<String> = packages
        .into_iter()
        .filter(|p| {
            ["linux-image-", "linux-binary-", "linux-modules-"].iter().any(|kind| p.starts_with(kind))
        })
        .collect();
    ensure!(!packages.is_empty(), "{META} of {suite} depends on no kernel");
    let init = include_str!("guest/init.sh");
    let key = format!("{packages:?} {MODULES:?} {init}");
    let entry = Entry::at(cache, &format!("kernel-{}", kernel.name), &key);
    entry.make_once(|into| build(&apt, suite, &packages, init, into))?;
    let release = fs::read_to_string(entry.path().join("release"))?;
    Ok(Bootable {
        image: entry.path().join("vmlinuz"),
        initramfs: entry.path().join("initramfs.cpio"),
        release,
    })
}

fn build(apt: &Apt, suite: &str, packages: &[String], init: &str, into: &Path) -> Result<()> {
    println!("    kernel: {}", packages.join(", "));
    let (debs, tree) = (into.join("debs"), into.join("tree"));
    apt.download(suite, packages, &debs)?;
    apt::unpack(&debs, &tree)?;
    let modules = ["usr/lib/modules", "lib/modules"]
        .iter()
        .filter_map(|p| fs::read_dir(tree.join(p)).ok()?.next()?.ok())
        .map(|entry| entry.path())
        .next()
        .context("the kernel's package has no modules")?;
    let release =
        modules.file_name().context("a folder of modules has a name")?.to_string_lossy().into_owned();
    let image = ["boot", "usr/lib/linux-image"]
        .iter()
        .filter_map(|p| fs::read_dir(tree.join(p)).ok())
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .chain([modules.join("vmlinuz")])
        .find(|p| p.exists() && p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz")))
        .context("the kernel's package has no vmlinuz")?;
    fs::copy(image, into.join("vmlinuz"))?;
    initramfs(&modules, &release, init, into)?;
    fs::write(into.join("release"), release)?;
    for rest in [debs, tree] {
        fs::remove_dir_all(rest)?;
    }
    Ok(())
}

/// A static busybox, the modules, and our init.
fn initramfs(modules: &Path, release: &str, init: &str, into: &Path) -> Result<()> {
    let root = into.join("initramfs");
    for part in ["bin", "dev", "proc", "sys", "run", "newroot"] {
        fs::create_dir_all(root.join(part))?;
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox"))
        .or_else(|_| fs::copy("/bin/busybox", root.join("bin/busybox")))?;
    let installed = root.join("lib/modules").join(release);
    fs::create_dir_all(&installed)?;
    // Since 7.x the package has none of them, and modprobe does without.
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let from = modules.join(list);
        if from.exists() {
            fs::copy(from, installed.join(list))?;
        }
    }
    let listing = run(Command::new("find").arg(modules.join("kernel")).args(["-name", "*.ko*"]))?;
    for path in listing.lines().map(Path::new) {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(stem) = name.split(".ko").next().filter(|stem| MODULES.contains(stem)) else { continue };
        let target = installed.join(path.strip_prefix(modules)?).with_file_name(format!("{stem}.ko"));
        fs::create_dir_all(target.parent().context("a module is in a folder")?)?;
        match name.rsplit('.').next() {
            Some("xz") => expand("xz", path, &target)?,
            Some("zst") => expand("zstd", path, &target)?,
            _ => drop(fs::copy(path, target)?),
        }
    }
    run(Command::new("depmod").arg("-b").arg(&root).arg(release))?;
    let start = root.join("init");
    fs::write(&start, init)?;
    run(Command::new("chmod").arg("755").arg(&start))?;
    let archive = fs::File::create(into.join("initramfs.cpio"))?;
    let status = Command::new("sh")
        .args(["-c", "find . | cpio -o -H newc --quiet"])
        .current_dir(&root)
        .stdout(archive)
        .status()?;
    ensure!(status.success(), "cpio ended with {status}");
    fs::remove_dir_all(root)?;
    Ok(())
}

fn expand(program: &str, from: &Path, to: &Path) -> Result<()> {
    let status = Command::new(program)
        .args(["-dcq"])
        .arg(from)
        .stdout(fs::File::create(to)?)
        .status()
        .with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program} -d {} ended with {status}", from.display());
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
