//! The latency-critical service: a pool of workers behind a TCP port; a request is a byte, its work, and a byte back.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, Result};

use super::work::Work;

/// Serves until it is killed. Where, and as which process, is written to `place`.
///
/// # Errors
/// When it cannot listen, or `place` cannot be written.
pub(super) fn serve(place: &Path, workers: u32, units: u32) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    let port = listener.local_addr()?.port();
    let new = place.with_extension("new");
    std::fs::write(&new, format!("{port} {}", std::process::id()))?;
    std::fs::rename(&new, place)?;
    let pool: Vec<_> = (0..workers)
        .map(|_| {
            let listener = listener.try_clone()?;
            Ok(std::thread::spawn(move || work_for(&listener, units)))
        })
        .collect::<Result<_>>()?;
    for worker in pool {
        let _ = worker.join();
    }
    anyhow::bail!("no worker is left")
}

/// One worker: a connection after the other.
fn work_for(listener: &TcpListener, units: u32) {
    let mut work = Work::new();
    while let Ok((stream, _)) = listener.accept() {
        if let Err(error) = answer(stream, &mut work, units)
            && error.kind() != ErrorKind::UnexpectedEof
        {
            eprintln!("a connection broke: {error}");
        }
    }
}

fn answer(mut stream: TcpStream, work: &mut Work, units: u32) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0];
    loop {
        stream.read_exact(&mut request)?;
        work.run(units);
        stream.write_all(&request)?;
    }
}

/// Where a service is, and as which process; `None` until it has said so.
pub(super) fn place_of(place: &Path) -> Option<(u16, u32)> {
    let text = std::fs::read_to_string(place).ok()?;
    let (port, pid) = text.split_once(' ')?;
    Some((port.parse().ok()?, pid.parse().ok()?))
}
