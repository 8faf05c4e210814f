//! SHA-256 sums of the kernel programs' sources and objects, in the format of `sha256sum`, with paths below `agent-ebpf`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

const FILE: &str = "objects/SHA256SUMS";
/// What decides about the objects: files, and folders of `.rs` files.
const SOURCES: [&str; 6] =
    ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "src", "abi/src", "abi/Cargo.toml"];

/// Writes the list.
pub(super) fn write(ebpf: &Path) -> Result<()> {
    let mut text = String::new();
    for (path, sum) in current(ebpf)? {
        let _ = writeln!(text, "{sum}  {path}");
    }
    let file = ebpf.join(FILE);
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

/// Fails with the names of the files that differ from the list.
pub(super) fn verify(ebpf: &Path) -> Result<()> {
    let file = ebpf.join(FILE);
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let listed: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, path)| (path.to_owned(), sum.to_owned()))
        .collect();
    let current = current(ebpf)?;
    let changed: Vec<_> = listed
        .keys()
        .chain(current.keys().filter(|path| !listed.contains_key(*path)))
        .filter(|path| listed.get(*path) != current.get(*path))
        .map(String::as_str)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    bail!(
        "changed since the objects were built: {}; run `cargo xtask ebpf` and commit the result",
        changed.join(", ")
    )
}

fn current(ebpf: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&ebpf.join(source), "rs", &mut files)?;
    }
    collect(&ebpf.join("objects"), "o", &mut files)?;
    let mut sums = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(ebpf)?.to_string_lossy().into_owned();
        sums.insert(name, format!("{:x}", Sha256::digest(&bytes)));
    }
    Ok(sums)
}

/// The path itself if it is a file, or the files below it with this extension.
fn collect(path: &Path, extension: &str, into: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        into.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|found| found == extension) {
            collect(&path, extension, into)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_an_added_and_a_removed_file_are_named() {
        let top = std::env::temp_dir().join(format!("trimtab-sums-{}", std::process::id()));
        for folder in ["src/bin", "abi/src", ".cargo", "objects"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        let files = [
            "Cargo.toml",
            "Cargo.lock",
            ".cargo/config.toml",
            "abi/Cargo.toml",
            "abi/src/lib.rs",
            "src/a.rs",
            "objects/a.o",
        ];
        for file in files {
            std::fs::write(top.join(file), file).unwrap();
        }
        write(&top).unwrap();
        verify(&top).unwrap();
        std::fs::write(top.join("src/a.rs"), "changed").unwrap();
        std::fs::write(top.join("src/bin/b.rs"), "added").unwrap();
        std::fs::remove_file(top.join("objects/a.o")).unwrap();
        let error = verify(&top).unwrap_err().to_string();
        std::fs::remove_dir_all(&top).unwrap();
        for name in ["src/a.rs", "src/bin/b.rs", "objects/a.o"] {
            assert!(error.contains(name), "{error}");
        }
        assert!(!error.contains("abi/src/lib.rs"), "{error}");
    }
}
