//! `trimtab-autoscaler`: the central service.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use autoscaler::config::{ConfigFaults, Fragment, Input, Settings, load};
use autoscaler::remote_write::Target;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Where the configuration is when no flag says so, and the file exists.
const CONFIG: &str = "/etc/trimtab/autoscaler.toml";

/// The central service of Trimtab: agents stream to it, it decides, explains and sends commands.
#[derive(Debug, Parser)]
#[command(
    name = "trimtab-autoscaler",
    version,
    after_help = "Keys can also be set as TRIMTAB_<KEY> or \
    TRIMTAB_<SECTION>__<KEY>; `config show` lists all of them. Exit codes: 0 ok, 1 error, 2 usage, 5 bad configuration."
)]
struct Arguments {
    /// Configuration file; `conf.d/*.toml` and `autoscaler.d/*.toml` beside it are read, too [default: /etc/trimtab/autoscaler.toml if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the store.
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where agents connect: addresses or unix:PATH, separated by commas.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the REST interface listens.
    #[arg(long, global = true, value_name = "ADDRESS")]
    api: Option<String>,
    /// Log filter: a level, or target=level, separated by commas.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (also without a command).
    Run,
    /// Check the configuration, and say all that is wrong with it.
    CheckConfig,
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show every key with its value.
    Show {
        /// Say where each value was written.
        #[arg(long)]
        origin: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trimtab-autoscaler: {error:#}");
            let bad_configuration = error.downcast_ref::<ConfigFaults>().is_some();
            ExitCode::from(if bad_configuration { 5 } else { 1 })
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (input, settings) = configuration(&arguments)?;
    match &arguments.command {
        None | Some(Command::Run) => serve(settings, input, arguments),
        Some(Command::CheckConfig) => {
            receiver(&input, &settings)?;
            println!("the configuration is good");
            Ok(())
        }
        Some(Command::Config(ConfigCommand::Show { origin })) => {
            print!("{}", input.show(*origin));
            Ok(())
        }
    }
}

fn configuration(arguments: &Arguments) -> Result<(Input, Settings), ConfigFaults> {
    let mut flags = Fragment::default();
    let path = arguments.state.as_ref().map(|path| path.display().to_string());
    flags.flag("state", "--state", path);
    flags.flag("listen", "--listen", arguments.listen.clone());
    flags.flag("api", "--api", arguments.api.clone());
    flags.flag("log", "--log", arguments.log.clone());
    let default = Some(PathBuf::from(CONFIG)).filter(|path| path.exists());
    let file = arguments.config.clone().or(default);
    // Variables that are not UTF-8 are none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    load(file.as_deref(), environment, flags)
}

/// Where samples are sent, with the files that are needed for it; `None` when they are not.
fn receiver(input: &Input, settings: &Settings) -> Result<Option<Arc<Target>>, ConfigFaults> {
    let target = settings.remote_write.clone().map(Target::open).transpose();
    Ok(target.map_err(|fault| input.fault(fault.key, &fault.message))?.map(Arc::new))
}

/// The configuration read anew, for SIGHUP; `None` when it has faults, which are logged: then nothing changes.
fn reloaded(arguments: &Arguments) -> Option<(Input, Settings, Option<Arc<Target>>)> {
    let new = configuration(arguments).and_then(|(input, settings)| {
        let target = receiver(&input, &settings)?;
        Ok((input, settings, target))
    });
    match new {
        Ok(new) => Some(new),
        Err(faults) => {
            tracing::error!(%faults, "not reloaded: the running configuration stays in force");
            None
        }
    }
}

fn filter(settings: &Settings) -> EnvFilter {
    EnvFilter::builder().parse_lossy(&settings.log)
}

/// Most threads that wait for the disk at a time, for questions and for the history; the store has one writer.
const WAITERS: usize = 4;

fn serve(settings: Settings, input: Input, arguments: Arguments) -> anyhow::Result<()> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_ansi(colour).with_writer(std::io::stderr);
    let log = log.with_env_filter(filter(&settings)).with_filter_reloading();
    let level = log.reload_handle();
    log.init();
    let (receive, receiver) = watch::channel(receiver(&input, &settings)?);
    // One thread for the loop and its peers, one so that a question never waits for a long turn.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(WAITERS)
        .thread_keep_alive(Duration::MAX)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        // Where the system has no process ids left, no thread can be started, and the runtime panics unless it has one already.
        tokio::task::spawn_blocking(|| ()).await?;
        let (stop, shutdown) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.send_replace(true);
        });
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let Some((new, settings, target)) = reloaded(&arguments) else { continue };
                if let Err(error) = level.reload(filter(&settings)) {
                    tracing::error!(%error, "the log filter could not be set");
                }
                // Also when no key has changed: files that are named may be new.
                receive.send_replace(target);
                let at_once = |key: &&str| *key == "log" || key.starts_with("remote_write.");
                let waits: Vec<&str> = input.differing(&new).filter(|key| !at_once(key)).collect();
                tracing::info!(log = %settings.log, "reloaded");
                if !waits.is_empty() {
                    tracing::warn!(settings = ?waits, "changed, and takes effect at the next start");
                }
            }
        });
        autoscaler::service::run(settings, receiver, shutdown).await
    });
    // Everything that writes has ended. What may be left is a question to a name server that does not answer.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}
