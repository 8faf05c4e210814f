//! Guests together: booted at once, followed until the first one's suite ends; several have a network of their own.
//!
//! That network is a bridge in a namespace which only one thread and its children are in: nothing of the host's is changed, and
//! it is gone with them. The first guest asks the host for what no guest can do, a line each on its port `trimtab.host`:
//! `on NAME COMMAND` (base64) runs lines of shell in another guest, `link NAME on|off` connects that guest's network device or cuts it.
//! Each is answered with one line, `STATUS OUTPUT` (base64).

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::machine::{EMULATOR, Ended, Guest, HOST, Machine, Place};

/// Distance of two looks at what the guests print.
const LOOK: Duration = Duration::from_millis(20);
/// An emulator opens its sockets before it boots.
const OPENS: Duration = Duration::from_secs(20);

/// Boots the machines at once and waits for the end of the first one's suite.
pub(super) fn run(machines: &[Machine<'_>], scratch: &Path) -> Result<Ended> {
    // The thread outlives its guests: they are killed with it.
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let places: Vec<Place> = machines.iter().filter_map(|machine| machine.place).collect();
            if !places.is_empty() {
                own_network(&places)?;
            }
            follow(machines, scratch)
        });
        running.join().unwrap_or_else(|_| bail!("the thread that follows the guests panicked"))
    })
}

fn follow(machines: &[Machine<'_>], scratch: &Path) -> Result<Ended> {
    let folder = |machine: &Machine<'_>| scratch.join(machine.place.map_or("guest", |place| place.name));
    let mut guests: Vec<Guest> =
        machines.iter().map(|machine| machine.boot(&folder(machine))).collect::<Result<_>>()?;
    let mut lines: Vec<Line> = machines
        .iter()
        .filter_map(|machine| Some(Line::open(machine.place?, folder(machine))))
        .collect::<Result<_>>()?;
    loop {
        let mut ended = Vec::new();
        for guest in &mut guests {
            ended.push(guest.follow()?);
        }
        let first = guests.first().context("there is a machine at least")?;
        if ended[0] {
            return first.ended();
        }
        first.is_alive()?;
        if let Some(early) = ended.iter().position(|ended| *ended) {
            bail!("{:?} ended before the suite", machines[early].place);
        }
        pass_on(&mut lines)?;
        std::thread::sleep(LOOK);
    }
}

/// Carries out what the first guest asks for, and brings it the others' answers.
fn pass_on(lines: &mut [Line]) -> Result<()> {
    let Some((first, others)) = lines.split_first_mut() else { return Ok(()) };
    for asked in first.read()? {
        let request = Request::parse(&asked).with_context(|| format!("the suite asks for `{asked}`"))?;
        let name = request.name();
        let other = others.iter_mut().find(|line| line.place.name == name);
        let other = other.with_context(|| format!("the suite names `{name}`, which is no other guest"))?;
        match request {
            Request::Run { command, .. } => other.write(command)?,
            Request::Link { up, .. } => {
                other.set_link(up)?;
                first.write("0 ")?;
            }
        }
    }
    for other in others {
        for answer in other.read()? {
            first.write(&answer)?;
        }
    }
    Ok(())
}

/// What the first guest asks of the host.
#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    /// Give these lines of shell, in base64, to a guest.
    Run { name: &'a str, command: &'a str },
    /// Connect a guest's network device, or cut it without a word.
    Link { name: &'a str, up: bool },
}

impl<'a> Request<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["on", name, command] => Some(Request::Run { name, command }),
            ["link", name, "on"] => Some(Request::Link { name, up: true }),
            ["link", name, "off"] => Some(Request::Link { name, up: false }),
            _ => None,
        }
    }

    fn name(&self) -> &'a str {
        match self {
            Request::Run { name, .. } | Request::Link { name, .. } => name,
        }
    }
}

/// Words with a guest, and orders to its emulator.
#[derive(Debug)]
struct Line {
    place: Place,
    folder: PathBuf,
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Line {
    fn open(place: Place, folder: PathBuf) -> Result<Self> {
        let stream = reach(&folder.join(HOST))?;
        // A look, not a wait; a guest that does not read for long hangs.
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { place, folder, stream, heard: Vec::new() })
    }

    /// Whole lines that came since the last call.
    fn read(&mut self) -> Result<Vec<String>> {
        let mut part = [0; 4096];
        loop {
            match self.stream.read(&mut part) {
                // Its emulator ends: whoever follows the guests sees that.
                Ok(0) => break,
                Ok(length) => self.heard.extend_from_slice(&part[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error).with_context(|| format!("hearing {}", self.place.name)),
            }
        }
        let mut lines = Vec::new();
        while let Some(end) = self.heard.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        Ok(lines)
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let sent = self.stream.write_all(format!("{line}\n").as_bytes());
        sent.with_context(|| format!("telling {}", self.place.name))
    }

    /// Tells the emulator to connect the guest's network device, or to cut it.
    fn set_link(&self, up: bool) -> Result<()> {
        let stream = reach(&self.folder.join(EMULATOR))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        for order in [
            json!({ "execute": "qmp_capabilities" }),
            json!({ "execute": "set_link", "arguments": { "name": "nic", "up": up } }),
        ] {
            stream.write_all(format!("{order}\n").as_bytes())?;
            loop {
                let mut line = String::new();
                ensure!(answers.read_line(&mut line)? > 0, "the emulator of {} hung up", self.place.name);
                let answer: Value = serde_json::from_str(&line)?;
                ensure!(answer.get("error").is_none(), "the emulator refuses {order}: {answer}");
                // A greeting and events come in between.
                if answer.get("return").is_some() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Connects to a socket that an emulator is about to open.
fn reach(socket: &Path) -> Result<UnixStream> {
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(_) if began.elapsed() < OPENS => std::thread::sleep(LOOK),
            Err(error) => return Err(error).with_context(|| format!("connecting to {}", socket.display())),
        }
    }
}

/// Moves this thread into a network of its own, with a bridge and a device per guest.
fn own_network(places: &[Place]) -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .context("making a network namespace for the guests")?;
    ip(&["link", "add", "guests", "type", "bridge"])?;
    ip(&["link", "set", "guests", "up"])?;
    for tap in places.iter().map(|place| place.tap()) {
        ip(&["tuntap", "add", &tap, "mode", "tap"])?;
        ip(&["link", "set", &tap, "master", "guests", "up"])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("starting ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` ended with {}: {said}", arguments.join(" "), output.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_asks_in_two_ways_only() {
        assert_eq!(Request::parse("on n1 dHJ1ZQ=="), Some(Request::Run { name: "n1", command: "dHJ1ZQ==" }));
        assert_eq!(Request::parse("link n2 off"), Some(Request::Link { name: "n2", up: false }));
        assert_eq!(Request::parse("link n2 on"), Some(Request::Link { name: "n2", up: true }));
        for wrong in ["", "on n1", "on n1 a b", "link n2", "link n2 maybe", "run n1 x"] {
            assert_eq!(Request::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn words_come_in_whole_lines() {
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let place = Place { name: "n1", number: 1 };
        let mut line = Line { place, folder: PathBuf::new(), stream: here, heard: Vec::new() };
        there.write_all(b"0 YQ==\n1 ").unwrap();
        assert_eq!(line.read().unwrap(), ["0 YQ=="]);
        there.write_all(b"Yg==\n").unwrap();
        assert_eq!(line.read().unwrap(), ["1 Yg=="]);
        line.write("dHJ1ZQ==").unwrap();
        let mut heard = [0; 9];
        there.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"dHJ1ZQ==\n");
        drop(there);
        assert!(line.read().unwrap().is_empty(), "the end of an emulator is seen elsewhere");
    }
}
