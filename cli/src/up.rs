//! `trimtab up`: autoscaler and agent on this machine, in the foreground, to look at it within a minute.
//!
//! Nothing is installed and nothing acts: the agent measures only, until its owner says otherwise in the files that this leaves in
//! the state directory. Both end with this command, however it ends.

mod daemon;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use autoscaler::api::{Node, Nodes};
use autoscaler::session::Token;
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Up;
use crate::client::{Client, endpoints, own_states, state_directories};
use crate::failure::{Failure, Kind};
use crate::output;
use daemon::Daemon;

/// Where the dashboards are when nobody has the port.
const USUAL: &str = "127.0.0.1:7780";
/// Longest wait for the autoscaler, and for the agent's first sample: a machine may be slow, and a journal long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks at the daemons.
const LOOK: Duration = Duration::from_millis(200);

/// What the agent's configuration says when there is none yet.
const AGENT: &str = "# The agent of `trimtab up`. It measures; what it may start is listed in launch.d/, one file per launcher, and `act = true` lets it.\n\
    act = false\nexecutor = \"direct\"\n";
/// Likewise the autoscaler's.
const AUTOSCALER: &str =
    "# The autoscaler of `trimtab up`; `trimtab-autoscaler config show` lists every key with its meaning.\n";

pub(crate) fn run(up: &Up) -> Result<(), Failure> {
    let directory = directory(up.state.as_deref())?;
    let _alone = alone(&directory)?;
    nobody_else(&directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = runtime.block_on(async { Stop::new() })?;
    let api = up.api.clone().unwrap_or_else(free);
    let mut autoscaler = start_autoscaler(&directory, &api)?;
    let mut agent = None;
    let came_up = (|| {
        let address = wait(&runtime, &mut stop, &mut [&mut autoscaler], || dashboards(&directory))?;
        let Some(address) = address else { return Ok(()) };
        output::remark(&format!("autoscaler: {address}"));
        let client = Client::new(Some(&address))?;
        let running = agent.insert(start_agent(&directory)?);
        let node = wait(&runtime, &mut stop, &mut [&mut autoscaler, running], || measured(&client))?;
        let Some(node) = node else { return Ok(()) };
        tell(&node);
        let token = Token::read(&directory.join("autoscaler")).ok().flatten();
        let session = token.map_or_else(String::new, |token| format!("#session={}", token.secret()));
        output::print(&format!("{address}/{session}\n"))?;
        output::remark("open it in a browser of this host; Ctrl-C ends both, and what was measured is kept");
        wait(&runtime, &mut stop, &mut [&mut autoscaler, running], || Ok(None::<()>)).map(drop)
    })();
    // The agent first: it sends what it has.
    let ended = agent.as_mut().map_or(Ok(()), Daemon::end).and(autoscaler.end());
    came_up.and(ended)
}

/// Ctrl-C, or a supervisor's wish.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    /// True when it is to end; false after a while.
    async fn is_wanted(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
            () = tokio::time::sleep(LOOK) => false,
        }
    }
}

/// Waits until there is something, or `None` when somebody wants it to end.
///
/// # Errors
/// When a daemon ends, or nothing is there in time; a look that never finds anything has no time limit.
fn wait<T>(
    runtime: &tokio::runtime::Runtime,
    stop: &mut Stop,
    daemons: &mut [&mut Daemon],
    mut look: impl FnMut() -> Result<Option<T>, Option<String>>,
) -> Result<Option<T>, Failure> {
    let began = Instant::now();
    loop {
        daemons.iter_mut().try_for_each(|daemon| daemon.lives())?;
        match look() {
            Ok(Some(found)) => return Ok(Some(found)),
            Err(Some(why)) if began.elapsed() > PATIENCE => {
                return Err(Failure::new(Kind::Timeout, why).next("the logs are in the state directory"));
            }
            Ok(None) | Err(_) => {}
        }
        if runtime.block_on(stop.is_wanted()) {
            return Ok(None);
        }
    }
}

/// The state directory, made when it is not there.
fn directory(said: Option<&Path>) -> Result<PathBuf, Failure> {
    let usual = || own_states().next().map(|state| state.join("up"));
    let directory = said.map(Path::to_owned).or_else(usual).ok_or_else(|| {
        Failure::new(Kind::Usage, "there is no place for the state").next("name a directory with --state")
    })?;
    for part in [directory.clone(), directory.join("launch.d")] {
        fs::create_dir_all(&part).map_err(|error| {
            Failure::new(Kind::Error, format!("{}: {error}", part.display()))
                .next("name another place with --state")
        })?;
    }
    for (name, text) in [("agent.toml", AGENT), ("autoscaler.toml", AUTOSCALER)] {
        match fs::File::create_new(directory.join(name)) {
            Ok(mut file) => file.write_all(text.as_bytes())?,
            // Its owner may have changed it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(directory)
}

/// Keeps others from the same directory for as long as it lives.
fn alone(directory: &Path) -> Result<Flock<fs::File>, Failure> {
    let file = fs::File::create(directory.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let at = dashboards(directory).ok().flatten().map_or_else(String::new, |at| format!(" at {at}"));
        Failure::new(Kind::Conflict, format!("`trimtab up` runs already in {}{at}", directory.display()))
            .next("use that one, or end it with Ctrl-C; --state names another place for a second one")
    })
}

/// A service of this host is not put aside silently.
fn nobody_else(own: &Path) -> Result<(), Failure> {
    let own = own.join("autoscaler");
    for directory in state_directories().into_iter().filter(|directory| *directory != own) {
        for address in endpoints(&directory).unwrap_or_default() {
            if Client::new(Some(&address))?.get::<serde_json::Value>("/api/v1/status").is_ok() {
                let message = format!("an autoscaler runs on this host already, at {address}");
                return Err(Failure::new(Kind::Conflict, message).next(
                    "`trimtab dashboard` opens it; end it first if you want this one (systemctl stop trimtab-autoscaler trimtab-agent)",
                ));
            }
        }
    }
    Ok(())
}

/// The usual address, or any that is free.
fn free() -> String {
    if TcpListener::bind(USUAL).is_ok() {
        return USUAL.to_owned();
    }
    output::remark(&format!("{USUAL} is taken by somebody else: another port is used"));
    "127.0.0.1:0".to_owned()
}

fn start_autoscaler(directory: &Path, api: &str) -> Result<Daemon, Failure> {
    let state = directory.join("autoscaler");
    // What an earlier one has left says nothing about this one.
    let _absent = fs::remove_file(state.join("endpoints.json"));
    let arguments = [
        format!("--config={}", directory.join("autoscaler.toml").display()),
        format!("--state={}", state.display()),
        format!("--listen=unix:{}", directory.join("agents.sock").display()),
        format!("--api={api}"),
    ];
    Daemon::start("trimtab-autoscaler", &arguments, directory.join("autoscaler.log"))
}

fn start_agent(directory: &Path) -> Result<Daemon, Failure> {
    let arguments = [
        format!("--config={}", directory.join("agent.toml").display()),
        format!("--state={}", directory.join("agent").display()),
        format!("--autoscaler=unix:{}", directory.join("agents.sock").display()),
        "--http=127.0.0.1:0".to_owned(),
    ];
    Daemon::start("trimtab-agent", &arguments, directory.join("agent.log"))
}

/// Where the dashboards are, once they are.
fn dashboards(directory: &Path) -> Result<Option<String>, Option<String>> {
    let all = endpoints(&directory.join("autoscaler")).unwrap_or_default();
    let first = all.into_iter().find(|address| address.starts_with("http://"));
    first.map(Some).ok_or_else(|| Some("the autoscaler does not listen".to_owned()))
}

/// The node, when samples of it have come.
fn measured(client: &Client) -> Result<Option<Node>, Option<String>> {
    let nodes: Nodes = client.get("/api/v1/nodes").map_err(|failure| Some(failure.to_string()))?;
    let mut connected = nodes.items.into_iter().filter(|node| node.connected);
    let seen = connected.find(|node| node.samples > 0);
    seen.map(Some).ok_or_else(|| Some("the agent sends no samples".to_owned()))
}

fn tell(node: &Node) {
    let acts = if node.acts { "it may act" } else { "it measures only" };
    output::remark(&format!("agent: tier {}, {} tasks on {} CPUs; {acts}", node.tier, node.tasks, node.cpus));
    for missing in &node.unavailable {
        output::remark(&format!("  not measured here: {} ({})", missing.what, missing.why));
    }
}
