//! A small program to be launched, measured and ended: `e2e-task burn | stubborn | surge FILE | hog | bomb | spin MS | join PROCS spin MS`.

use std::ffi::OsString;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or("")).collect();
    let words = match words.as_slice() {
        ["join", _, rest @ ..] => {
            // Its name may be no text.
            if let Err(error) = std::fs::write(&arguments[1], "0") {
                eprintln!("joining {}: {error}", arguments[1].display());
                return ExitCode::FAILURE;
            }
            rest
        }
        all => all,
    };
    match words {
        ["burn"] => burn(),
        ["stubborn"] => stubborn(),
        ["hog"] => hog(),
        ["bomb"] => bomb(),
        ["surge", file] => surge(std::path::Path::new(file)),
        ["spin", ms] => match ms.parse() {
            Ok(ms) => spin(Duration::from_millis(ms)),
            Err(_) => return ExitCode::from(2),
        },
        _ => {
            eprintln!("usage: e2e-task [join PROCS] burn | stubborn | surge FILE | hog | bomb | spin MS");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Uses the CPU for this long.
fn spin(time: Duration) {
    let end = Instant::now() + time;
    let mut value = 1u64;
    while Instant::now() < end {
        for _ in 0..1000 {
            value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Uses a few percent of a core, forever.
fn burn() {
    loop {
        spin(Duration::from_millis(3));
        std::thread::sleep(Duration::from_millis(97));
    }
}

/// Takes memory without end, 1 MiB at a time.
fn hog() {
    let mut all = Vec::new();
    loop {
        // Every page is written, so that it is there.
        all.push(vec![1u8; 1 << 20]);
        black_box(&all);
        spin(Duration::from_millis(1));
    }
}

/// Makes processes that make nothing but CPU use, ten times a second, and goes on when it may not.
fn bomb() {
    let Ok(program) = std::env::current_exe() else { return };
    let mut all = Vec::new();
    loop {
        all.extend(std::process::Command::new(&program).arg("burn").spawn());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The same until the file is there, then all of a core for as long as it is.
fn surge(file: &std::path::Path) {
    loop {
        let all = file.exists();
        spin(Duration::from_millis(if all { 100 } else { 3 }));
        if !all {
            std::thread::sleep(Duration::from_millis(97));
        }
    }
}

/// As [`burn`], and a SIGTERM changes nothing.
fn stubborn() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    // Once tokio handles the signal, its default effect is gone for good.
    let caught =
        runtime.block_on(async { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) });
    if caught.is_ok() {
        burn();
    }
}
