//! Best-effort work that counts what it has done: as many threads as CPUs, which never wait.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::work::{Stream, Work};

/// Units between two notes of what was done: a millisecond or so.
const UNITS: u32 = 500;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Computes, within its caches.
    Cpu,
    /// Copies memory, past all caches.
    Memory,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::Memory => "memory",
        }
    }
}

/// Works until it is killed. `counter`: its process id, then what each thread has done, 8 bytes each.
///
/// # Errors
/// When the counter cannot be written.
pub(super) fn burn(counter: &Path, threads: u32, kind: Kind) -> Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(counter);
    let file = file.with_context(|| format!("opening {}", counter.display()))?;
    file.write_all_at(&u64::from(std::process::id()).to_le_bytes(), 0)?;
    let hogs: Vec<_> = (1..=u64::from(threads))
        .map(|number| {
            let file = file.try_clone()?;
            Ok(std::thread::spawn(move || count(&file, number * 8, kind)))
        })
        .collect::<Result<_>>()?;
    for hog in hogs {
        hog.join().map_err(|_| anyhow::anyhow!("a hog panicked"))??;
    }
    Ok(())
}

fn count(file: &File, offset: u64, kind: Kind) -> Result<()> {
    let mut done = 0u64;
    match kind {
        Kind::Cpu => {
            let mut work = Work::new();
            loop {
                work.run(UNITS);
                done += u64::from(UNITS);
                file.write_all_at(&done.to_le_bytes(), offset)?;
            }
        }
        Kind::Memory => {
            let mut stream = Stream::new();
            loop {
                stream.run();
                done += 1;
                file.write_all_at(&done.to_le_bytes(), offset)?;
            }
        }
    }
}

/// Its process, and what all of its threads have done; `None` until it has begun.
pub(super) fn read(counter: &Path) -> Option<(u32, u64)> {
    let bytes = std::fs::read(counter).ok()?;
    let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    let pid = u32::try_from(words.next()?).ok()?;
    Some((pid, words.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_have_done_is_summed() {
        let path = std::env::temp_dir().join(format!("trimtab-hog-test-{}", std::process::id()));
        assert_eq!(read(&path), None);
        let words = [77u64, 5, 0, 3];
        std::fs::write(&path, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        assert_eq!(read(&path), Some((77, 8)));
        std::fs::remove_file(&path).unwrap();
    }
}
