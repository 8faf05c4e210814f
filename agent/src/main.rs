//! `trimtab-agent`: measures every task of this host and, where its owner allows it, acts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent::deadman::Watcher;
use agent::executor::shim;
use agent::identity::{self, join};
use agent::settings::{Address, Faults, Fragment, Settings};
use agent::{adapter, clock, install, node, qos_report, record, source};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use wire::token::JoinToken;

/// Measures every task of this host exactly and, where its owner allows it, starts, sizes and ends tasks.
#[derive(Debug, Parser)]
#[command(name = "trimtab-agent", version)]
struct Cli {
    /// Configuration; files in conf.d and agent.d beside it are read after it. Default: /etc/trimtab/agent.toml when it is there.
    #[arg(long, global = true, env = "TRIMTAB_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct Flags {
    /// Where the autoscaler listens: https://HOST:PORT, http://127.0.0.1:7781 or unix:/path.
    #[arg(long, global = true)]
    autoscaler: Option<String>,
    /// Directory of this agent's state.
    #[arg(long, global = true)]
    state: Option<PathBuf>,
    /// Name of this node.
    #[arg(long, global = true)]
    node: Option<String>,
    /// Address for /metrics, /livez and /readyz, on loopback.
    #[arg(long, global = true)]
    http: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent (also without a command).
    Run,
    /// Try what this host offers, say the tier and what is missing; exit 1 when nothing can be measured.
    Check {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print one round of raw readings as JSON.
    Dump,
    /// Write raw rounds to a file, one JSON object a line.
    Record {
        /// Where to.
        file: PathBuf,
        /// How many rounds.
        #[arg(long, default_value_t = 60)]
        rounds: u64,
        /// Time between them, ms.
        #[arg(long, default_value_t = 1000)]
        interval_ms: u64,
    },
    /// Play recorded rounds and print what each task used.
    Replay {
        /// What `record` wrote.
        file: PathBuf,
    },
    /// Get this node's certificate from an autoscaler on another machine: --autoscaler https://HOST:PORT and a join token.
    ///
    /// There, `trimtab node join-token NAME` prints the token; it is good once, for 15 minutes, for that name. The autoscaler must
    /// show the authority that the token names before anything secret is sent. The key is made here and stays here.
    Join {
        /// The token. Other users of this host see it in the list of processes while this runs: without it, it is read from
        /// standard input, or from --token-file.
        token: Option<String>,
        /// Read the token from this file; `-` is standard input.
        #[arg(long, value_name = "FILE", conflicts_with = "token")]
        token_file: Option<PathBuf>,
    },
    /// Print the settings in force.
    Config {
        /// With the place that each came from.
        #[arg(long)]
        origin: bool,
    },
    /// Say how best-effort work is held back beside latency-critical work here, what is measured, and why.
    Qos {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install this program as a service, on a host without packages: writes below /etc and /var only.
    ///
    /// Files of an owner (/etc/trimtab) are kept. Again, with a newer program, it is an upgrade: tasks and counts go on.
    Install {
        /// Say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Install below this directory, for an image; nothing is started.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Remove what `install` wrote; tasks that were started go on.
    Uninstall {
        /// And the configuration, the spool and all other state.
        #[arg(long)]
        purge: bool,
        /// Below this directory.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// (internal) Start a task and wait for it.
    #[command(hide = true)]
    Shim { directory: PathBuf },
    /// (internal) Freeze best-effort work when the agent is gone.
    #[command(hide = true)]
    Deadman {
        #[command(flatten)]
        watcher: Watcher,
    },
    /// (internal) Become a task.
    #[command(hide = true)]
    Enter { directory: PathBuf },
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    match &cli.command {
        Some(Command::Shim { directory }) => return ended(shim::shim(directory), 1),
        Some(Command::Enter { directory }) => return ended(shim::enter(directory), shim::ENTER_FAILED as u8),
        Some(Command::Deadman { watcher }) => return ended(watcher.watch(), 1),
        Some(Command::Install { dry_run, root }) => return ended(install::install(root, *dry_run), 1),
        Some(Command::Uninstall { purge, root }) => return ended(install::uninstall(root, *purge), 1),
        _ => {}
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .init();
    let settings = match settings(&cli) {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("error: the configuration has {} fault(s):\n{faults}", faults.0.len());
            return ExitCode::from(5);
        }
    };
    let result = match cli.command.take().unwrap_or(Command::Run) {
        Command::Run => run(settings, &cli),
        Command::Check { json } => check(&settings, json),
        Command::Dump => dump(&settings, 1, Duration::ZERO, &mut std::io::stdout().lock()),
        Command::Record { file, rounds, interval_ms } => std::fs::File::create(&file)
            .with_context(|| format!("creating {}", file.display()))
            .and_then(|mut out| dump(&settings, rounds, Duration::from_millis(interval_ms), &mut out)),
        Command::Replay { file } => std::fs::File::open(&file)
            .with_context(|| format!("opening {}", file.display()))
            .and_then(|input| record::replay(std::io::BufReader::new(input), &mut std::io::stdout().lock())),
        Command::Join { token, token_file } => join(&settings, &cli, token, token_file.as_deref()),
        Command::Config { origin } => {
            print!("{}", settings.show(origin));
            Ok(())
        }
        Command::Qos { json } => qos(&settings, json),
        Command::Shim { .. }
        | Command::Enter { .. }
        | Command::Deadman { .. }
        | Command::Install { .. }
        | Command::Uninstall { .. } => Ok(()),
    };
    ended(result, 1)
}

fn ended(result: Result<()>, status: u8) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(status)
        }
    }
}

/// The configuration file, when there is one.
fn configuration(cli: &Cli) -> Option<PathBuf> {
    let default = PathBuf::from("/etc/trimtab/agent.toml");
    cli.config.clone().or_else(|| default.exists().then_some(default))
}

fn settings(cli: &Cli) -> Result<Settings, Faults> {
    let file = configuration(cli);
    let flags = Fragment {
        autoscaler: cli.flags.autoscaler.clone(),
        state: cli.flags.state.clone(),
        node: cli.flags.node.clone(),
        http: cli.flags.http.clone(),
        ..Fragment::default()
    };
    let variables =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    Settings::read(file.as_deref(), variables, flags)
}

/// Most threads that wait: for a name to be resolved, a certificate to be written, memory to be reclaimed.
const WAITERS: usize = 2;

fn run(start: Settings, cli: &Cli) -> Result<()> {
    // Where the kernel gives huge pages to everybody, as Debian's does, the heap is in steps of 2 MiB that are never given back.
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "huge pages stay allowed: memory in use may be some MiB more");
    }
    agent_bpf::memory::share_one_heap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(WAITERS)
        .thread_keep_alive(Duration::MAX)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        // Where the node has no process ids left, no thread can be started, and the runtime panics unless it has one already.
        tokio::task::spawn_blocking(|| ()).await?;
        node::run(start, || settings(cli)).await
    })
}

fn check(settings: &Settings, json: bool) -> Result<()> {
    let mut source = source::Source::open(settings)?;
    let mut reading = source::Reading::default();
    source.read(&mut reading)?;
    let offer = source.offer();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clusters = runtime.block_on(adapter::check::clusters(&settings.clusters));
    if json {
        let missing: Vec<_> = offer.unavailable.iter().collect();
        let value = serde_json::json!({
            "apiVersion": "trimtab/v1", "tier": offer.tier, "features": offer.features, "unavailable": missing,
            "cgroups": reading.raw.cgroups.len(), "acts": settings.act, "clusters": clusters,
        });
        println!("{value:#}");
        return Ok(());
    }
    println!("tier {}: {} cgroups measured in one round", offer.tier, reading.raw.cgroups.len());
    for feature in &offer.features {
        println!("PASS  {feature}");
    }
    for missing in &offer.unavailable {
        println!("WARN  {}: {}", missing.what, missing.why);
    }
    for finding in &clusters {
        println!("{}  {}: {}", if finding.good { "PASS" } else { "WARN" }, finding.check, finding.found);
        if !finding.good {
            println!("      fix: {}", finding.fix);
        }
    }
    let acting = if settings.act { "acts on commands" } else { "observes only (act = true lets it act)" };
    println!("this agent {acting}; launchers: {:?}", settings.launchers.keys().collect::<Vec<_>>());
    Ok(())
}

fn join(settings: &Settings, cli: &Cli, token: Option<String>, file: Option<&Path>) -> Result<()> {
    let Some(Address::Remote(remote)) = &settings.autoscaler else {
        anyhow::bail!("say which autoscaler to join: --autoscaler https://HOST:PORT");
    };
    let text = match (token, file) {
        (Some(token), _) => token,
        (None, Some(file)) if file != Path::new("-") => {
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
        }
        (None, _) => {
            if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
                eprint!("token: ");
            }
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).context("reading the token from standard input")?;
            line
        }
    };
    let token: JoinToken = text.parse()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let validity = runtime.block_on(join::join(remote, &token, &settings.node, &settings.state))?;
    let minutes = validity.not_after_s.saturating_sub(clock::wall_ms() / 1000) / 60;
    println!(
        "node {} has joined {remote}; its certificate is in {}, lasts {} h {} min, and is renewed by itself",
        settings.node,
        settings.state.join(identity::FILE).display(),
        minutes / 60,
        minutes % 60
    );
    let written = configuration(cli).map(|file| join::configure(&file, remote, &settings.node));
    match &written {
        Some(Ok(path)) => println!("{} says so; next: systemctl restart trimtab-agent", path.display()),
        Some(Err(why)) => println!("{why}; next: write this into the configuration and restart the agent"),
        None => println!("next: write this into the agent's configuration and restart it"),
    }
    if !matches!(written, Some(Ok(_))) {
        print!("{}", join::lines(remote, &settings.node));
    }
    Ok(())
}

fn qos(settings: &Settings, json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(qos_report::ask(&settings.state))?;
    if json {
        println!("{said:#}");
    } else {
        print!("{}", qos_report::render(&said));
    }
    Ok(())
}

fn dump(settings: &Settings, rounds: u64, interval: Duration, out: &mut impl Write) -> Result<()> {
    let mut source = source::Source::open(settings)?;
    record::record(&mut source, rounds, interval, out)
}
