//! Keeps what start-up needed out of what the agent occupies while it runs.
//!
//! Start-up reads the kernel's types, parses configuration and options, and compiles patterns: tens of MB of heap for a moment, and
//! most of the program's text. Neither is used again. The allocator keeps free memory, and pages of text stay mapped until the node is
//! short of memory; both count as this process's.

use std::fs;

/// Lets all threads share one heap. A heap per thread keeps free memory of its own, and two threads that take turns once a second do
/// not contend for it. To be called before there are threads.
pub fn share_one_heap() {
    // SAFETY: sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Returns free heap memory, and unmaps the pages of program text and constants, which come back from the page cache as they are used.
/// Costs some 100 page faults afterwards.
pub fn give_back() {
    give_back_heap();
    let Ok(mappings) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, bytes) in unmodified_files(&mappings) {
        // SAFETY: a private mapping of a file without a single modified page: what is read there next is the same file again.
        unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
    }
}

/// Returns free heap memory.
pub(crate) fn give_back_heap() {
    // SAFETY: releases free memory of the allocator, nothing else.
    unsafe { libc::malloc_trim(0) };
}

/// Start and length of each private mapping of a file that cannot be written and holds no page that differs from the file.
fn unmodified_files(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            current = mapping;
        } else if line.strip_prefix("Anonymous:").is_some_and(|rest| rest.trim() == "0 kB") {
            found.extend(current.take());
        }
    }
    found
}

/// The first line of a mapping; `Some(None)` when it is not one of a file that can only be read or run.
fn mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let is_file = rest.split_whitespace().nth(4).is_some_and(|path| path.starts_with('/'));
    let is_fixed = rest.starts_with("r-xp") || rest.starts_with("r--p");
    Some((is_file && is_fixed).then_some((start, end - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unmodified_private_mappings_of_files_are_given_back() {
        let smaps = "\
1000-3000 r-xp 00000000 08:01 7 /usr/bin/agent\nRss: 8 kB\nAnonymous:             0 kB\n\
3000-4000 r--p 00002000 08:01 7 /usr/bin/agent\nRss: 4 kB\nAnonymous:             4 kB\n\
4000-5000 rw-p 00003000 08:01 7 /usr/bin/agent\nAnonymous:             0 kB\n\
5000-6000 rw-s 00000000 00:0e 9 anon_inode:bpf-map\nAnonymous:             0 kB\n\
6000-7000 r--s 00000000 08:01 8 /var/shared\nAnonymous:             0 kB\n\
7000-9000 r--p 00000000 00:00 0 \nAnonymous:             0 kB\n\
9000-a000 r--p 00000000 08:01 7 /usr/lib/a b.so\nAnonymous:             0 kB\n";
        assert_eq!(unmodified_files(smaps), [(0x1000, 0x2000), (0x9000, 0x1000)]);
        assert!(unmodified_files("no mapping at all\n").is_empty());
    }

    #[test]
    fn text_leaves_memory_and_the_program_goes_on() {
        let text_kib = || -> u64 {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let own = std::env::current_exe().unwrap();
            let mut is_text = false;
            let mut kib = 0;
            for line in smaps.lines() {
                if mapping(line).is_some() {
                    is_text = line.contains("r-xp") && line.ends_with(own.to_str().unwrap());
                } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| is_text) {
                    kib += rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                }
            }
            kib
        };
        // SAFETY: makes every page of the text present, as start-up of a small program may not.
        unsafe { libc::mlockall(libc::MCL_CURRENT) };
        // SAFETY: and lets them go again.
        unsafe { libc::munlockall() };
        let before = text_kib();
        give_back();
        let after = text_kib();
        assert!(after < before, "{after} KiB of text after, {before} KiB before");
    }
}
