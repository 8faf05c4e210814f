//! Kernel files as byte slices. Each parser takes what `pread` gave and names what is wrong with it.
//!
//! The kernel may add lines and fields at any time: unknown ones are skipped, missing ones are `None`, and only a
//! number that is no number is an error.

use model::metric::Metric;
use model::sample::Values;

/// Why bytes are not what the file should hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A line that should end in a number does not.
    #[error("line {line}: {text:?} is not a number")]
    NotANumber {
        /// From 1.
        line: usize,
        /// What stands there, cut to 40 characters.
        text: String,
    },
    /// The file has none of the lines that make it what it is.
    #[error("no line {0:?}")]
    NoLine(&'static str),
}

fn number(bytes: &[u8], line: usize) -> Result<u64, ParseError> {
    let mut value = 0u64;
    let mut good = !bytes.is_empty();
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        good &= digit < 10;
        match value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit))) {
            Some(next) if good => value = next,
            _ => good = false,
        }
    }
    if good {
        return Ok(value);
    }
    Err(ParseError::NotANumber { line, text: String::from_utf8_lossy(bytes).chars().take(40).collect() })
}

/// Lines of a file, numbered from 1, without empty ones.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes.split(|b| *b == b'\n').enumerate().map(|(i, l)| (i + 1, l)).filter(|(_, l)| !l.is_empty())
}

/// Calls `each` with every `key value` line.
fn flat_keyed(bytes: &[u8], mut each: impl FnMut(&[u8], u64)) -> Result<(), ParseError> {
    for (at, line) in lines(bytes) {
        let Some(space) = line.iter().position(|b| *b == b' ') else {
            return Err(ParseError::NotANumber {
                line: at,
                text: String::from_utf8_lossy(line).chars().take(40).collect(),
            });
        };
        each(&line[..space], number(&line[space + 1..], at)?);
    }
    Ok(())
}

/// `cpu.stat` of a cgroup: fills CPU and throttling; returns `usage_usec`.
///
/// # Errors
/// [`ParseError`] for a malformed number or when `usage_usec` is missing.
pub fn cpu_stat(bytes: &[u8], values: &mut Values) -> Result<u64, ParseError> {
    let mut usage = None;
    flat_keyed(bytes, |key, n| match key {
        b"usage_usec" => usage = Some(n),
        b"user_usec" => values.set(Metric::CpuUser, n),
        b"system_usec" => values.set(Metric::CpuSystem, n),
        b"nr_throttled" => values.set(Metric::ThrottledPeriods, n),
        b"throttled_usec" => values.set(Metric::Throttled, n),
        _ => {}
    })?;
    usage.ok_or(ParseError::NoLine("usage_usec"))
}

/// `cpu.stat.local` or `cpu.stat`: time for which its own quota held a cgroup back; µs on v2, ns on v1. `None` without a quota's controller.
///
/// # Errors
/// [`ParseError`] for a malformed number.
pub fn throttled(bytes: &[u8]) -> Result<Option<u64>, ParseError> {
    let mut held = None;
    flat_keyed(bytes, |key, n| {
        if matches!(key, b"throttled_usec" | b"throttled_time") {
            held = Some(n);
        }
    })?;
    Ok(held)
}

/// `cgroup.events`: whether a live process is in the cgroup or below.
///
/// # Errors
/// [`ParseError`] for a malformed number or when `populated` is missing.
pub fn populated(bytes: &[u8]) -> Result<bool, ParseError> {
    let mut found = None;
    flat_keyed(bytes, |key, n| {
        if key == b"populated" {
            found = Some(n != 0);
        }
    })?;
    found.ok_or(ParseError::NoLine("populated"))
}

/// `memory.events`: processes killed for lack of memory.
///
/// # Errors
/// [`ParseError`] for a malformed number or when `oom_kill` is missing.
pub fn memory_events(bytes: &[u8], values: &mut Values) -> Result<(), ParseError> {
    let mut found = false;
    flat_keyed(bytes, |key, n| {
        if key == b"oom_kill" {
            values.set(Metric::OomKills, n);
            found = true;
        }
    })?;
    if found { Ok(()) } else { Err(ParseError::NoLine("oom_kill")) }
}

/// `pids.events`: how often a process or thread could not be made because of the limit.
///
/// # Errors
/// [`ParseError`] for a malformed number or when `max` is missing.
pub fn pids_events(bytes: &[u8]) -> Result<u64, ParseError> {
    let mut found = None;
    flat_keyed(bytes, |key, n| {
        if key == b"max" {
            found = Some(n);
        }
    })?;
    found.ok_or(ParseError::NoLine("max"))
}

/// A file that holds one number (`memory.current`, `pids.current`); `max` is `None`.
///
/// # Errors
/// [`ParseError`] when it is neither.
pub fn single(bytes: &[u8]) -> Result<Option<u64>, ParseError> {
    let text = bytes.trim_ascii();
    if text == b"max" { Ok(None) } else { number(text, 1).map(Some) }
}

/// `/proc/meminfo`: all memory, and what can be had without swapping (`MemAvailable`), bytes.
///
/// # Errors
/// [`ParseError`] for a malformed number or when one of the lines is missing.
pub fn meminfo(bytes: &[u8]) -> Result<(u64, u64), ParseError> {
    let find = |key: &'static str| {
        let line = lines(bytes).find_map(|(at, line)| Some((at, line.strip_prefix(key.as_bytes())?)));
        let (at, rest) = line.ok_or(ParseError::NoLine(key))?;
        let kib = rest.strip_suffix(b" kB").unwrap_or(rest).trim_ascii();
        number(kib, at).map(|kib| kib.saturating_mul(1024))
    };
    Ok((find("MemTotal:")?, find("MemAvailable:")?))
}

/// The two lines of a `*.pressure` file: total stall of some and of all threads, µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// Some thread waited.
    pub some_us: Option<u64>,
    /// All threads waited; absent for CPU on old kernels.
    pub full_us: Option<u64>,
}

/// `cpu.pressure`, `memory.pressure`, `io.pressure`.
///
/// # Errors
/// [`ParseError`] for a malformed number or when the `some` line is missing.
pub fn pressure(bytes: &[u8]) -> Result<Pressure, ParseError> {
    let mut found = Pressure::default();
    for (at, line) in lines(bytes) {
        let Some(total) = line.split(|b| *b == b' ').find_map(|field| field.strip_prefix(b"total=")) else {
            continue;
        };
        let total = Some(number(total, at)?);
        if line.starts_with(b"some ") {
            found.some_us = total;
        } else if line.starts_with(b"full ") {
            found.full_us = total;
        }
    }
    if found.some_us.is_some() { Ok(found) } else { Err(ParseError::NoLine("some … total=")) }
}

/// `io.stat`: bytes read and written over all devices. An empty file is a cgroup without IO yet.
///
/// # Errors
/// [`ParseError`] for a malformed number.
pub fn io_stat(bytes: &[u8], values: &mut Values) -> Result<(), ParseError> {
    let (mut read, mut written) = (0u64, 0u64);
    for (at, line) in lines(bytes) {
        for field in line.split(|b| *b == b' ') {
            if let Some(n) = field.strip_prefix(b"rbytes=") {
                read = read.saturating_add(number(n, at)?);
            } else if let Some(n) = field.strip_prefix(b"wbytes=") {
                written = written.saturating_add(number(n, at)?);
            }
        }
    }
    values.set(Metric::IoRead, read);
    values.set(Metric::IoWritten, written);
    Ok(())
}

/// Busy time of all CPUs since boot by `/proc/stat`, in ticks (USER_HZ): everything but idle and iowait. Guest time is
/// part of user time and not added again.
///
/// # Errors
/// [`ParseError`] for a malformed number or when the `cpu` line is missing.
pub fn proc_stat_busy(bytes: &[u8]) -> Result<u64, ParseError> {
    let Some((at, line)) = lines(bytes).find(|(_, l)| l.starts_with(b"cpu ")) else {
        return Err(ParseError::NoLine("cpu"));
    };
    let mut busy = 0u64;
    let fields = line[4..].split(|b| *b == b' ').filter(|f| !f.is_empty());
    for (index, field) in fields.enumerate().take(8) {
        let ticks = number(field, at)?;
        // user nice system idle iowait irq softirq steal: neither idle, iowait nor the time that others took.
        if !matches!(index, 3 | 4 | 7) {
            busy = busy.saturating_add(ticks);
        }
    }
    Ok(busy)
}

/// Start of a process by `/proc/PID/stat`, in ticks since boot (field 22): with the pid it identifies a process.
///
/// # Errors
/// [`ParseError`] when the line has no such field.
pub fn process_start(bytes: &[u8]) -> Result<u64, ParseError> {
    process_field(bytes, 22, "starttime")
}

/// Session of a process by `/proc/PID/stat` (field 6): the id of the process that began it; 0 outside of this pid namespace.
///
/// # Errors
/// [`ParseError`] when the line has no such field.
pub fn process_session(bytes: &[u8]) -> Result<u32, ParseError> {
    let session = process_field(bytes, 6, "session")?;
    u32::try_from(session).map_err(|_| ParseError::NoLine("session"))
}

/// A field of `/proc/PID/stat` by its number in proc(5), from 3. The command name may hold anything, so fields are counted from the last
/// parenthesis.
fn process_field(bytes: &[u8], field: usize, name: &'static str) -> Result<u64, ParseError> {
    let after = bytes.iter().rposition(|b| *b == b')').ok_or(ParseError::NoLine("pid (comm) …"))?;
    let found = bytes[after + 1..].split(|b| *b == b' ').filter(|f| !f.is_empty()).nth(field - 3);
    number(found.ok_or(ParseError::NoLine(name))?, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_quota_held_back_is_read_on_both_hierarchies() {
        assert_eq!(throttled(b"throttled_time 3255829089\n").unwrap(), Some(3_255_829_089));
        assert_eq!(throttled(b"usage_usec 7\nnr_throttled 2\nthrottled_usec 8000\n").unwrap(), Some(8_000));
        assert_eq!(throttled(b"usage_usec 7\n").unwrap(), None);
        assert!(throttled(b"throttled_usec x\n").is_err());
    }

    #[test]
    fn cpu_stat_as_kernels_write_it() {
        let mut v = Values::default();
        let text = b"usage_usec 70123\nuser_usec 60000\nsystem_usec 10123\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 4\nnr_throttled 2\nthrottled_usec 8000\nnr_bursts 0\nburst_usec 0\n";
        assert_eq!(cpu_stat(text, &mut v), Ok(70_123));
        assert_eq!(v.get(Metric::ThrottledPeriods), Some(2));
        assert_eq!(v.get(Metric::CpuSystem), Some(10_123));
    }

    #[test]
    fn malformed_files_are_errors_that_say_where() {
        let mut v = Values::default();
        assert_eq!(cpu_stat(b"", &mut v), Err(ParseError::NoLine("usage_usec")));
        assert_eq!(
            cpu_stat(b"user_usec 5\nusage_usec 5x\n", &mut v).unwrap_err().to_string(),
            "line 2: \"5x\" is not a number"
        );
        assert!(cpu_stat(b"usage_usec\n", &mut v).is_err());
        assert!(cpu_stat(b"usage_usec 99999999999999999999\n", &mut v).is_err(), "over 2^64");
        assert!(pressure(b"some avg10=0.00\n").is_err());
        assert!(single(b"-1").is_err() && single(b"").is_err());
        assert!(process_start(b"12 (a").is_err());
        assert!(populated(b"frozen 0\n").is_err());
    }

    #[test]
    fn pressure_and_memory_and_io() {
        let text = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=45\n";
        assert_eq!(pressure(text), Ok(Pressure { some_us: Some(123), full_us: Some(45) }));
        assert_eq!(single(b"4096\n"), Ok(Some(4096)));
        assert_eq!(single(b"max\n"), Ok(None));
        let mut v = Values::default();
        memory_events(b"low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n", &mut v).unwrap();
        assert_eq!(v.get(Metric::OomKills), Some(2));
        io_stat(b"8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=5 wbytes=0\n", &mut v).unwrap();
        assert_eq!((v.get(Metric::IoRead), v.get(Metric::IoWritten)), (Some(15), Some(20)));
        assert_eq!(populated(b"populated 1\nfrozen 0\n"), Ok(true));
        let text = b"MemTotal:       16303428 kB\nMemFree:        1 kB\nMemAvailable:    9000000 kB\n";
        assert_eq!(meminfo(text), Ok((16_303_428 << 10, 9_000_000 << 10)));
        assert_eq!(meminfo(b"MemTotal: 5 kB\n"), Err(ParseError::NoLine("MemAvailable:")));
    }

    #[test]
    fn busy_time_leaves_out_idle_iowait_steal_and_guest() {
        assert_eq!(proc_stat_busy(b"cpu  10 1 5 1000 50 2 3 7 4 0\ncpu0 1 1 1 1\n"), Ok(21));
    }

    #[test]
    fn a_command_name_may_hold_anything() {
        let stat = b"42 (a) b (c)) S 1 1 1 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 2 18446744073709551615";
        assert_eq!(process_start(stat), Ok(987_654));
        assert_eq!(process_session(b"42 (a) b (c)) S 7 8 9 0 -1"), Ok(9));
        assert!(process_session(b"42 (a) S 7 8").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut v = Values::default();
            let _ = cpu_stat(&bytes, &mut v);
            let _ = io_stat(&bytes, &mut v);
            let _ = memory_events(&bytes, &mut v);
            let _ = (pressure(&bytes), single(&bytes), proc_stat_busy(&bytes), process_start(&bytes), process_session(&bytes), populated(&bytes), meminfo(&bytes));
        }

        #[test]
        fn what_the_kernel_prints_is_read(n: u64) {
            prop_assert_eq!(single(format!("{n}\n").as_bytes()), Ok(Some(n)));
        }
    }
}
