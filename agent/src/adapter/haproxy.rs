//! HAProxy: its runtime socket, and its request log by a datagram socket of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_core::haproxy::{self, Delays};
use model::action::{BalancerStep, OutcomeKind};
use model::adapter::{AdapterReport, BalancerReport, ServerState};
use model::id::TaskName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixDatagram, UnixStream};

use super::haproxy_config::ConfigFile;
use crate::clock;
use crate::settings::BalancerFragment;

/// Longest wait for an answer of the runtime socket.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer that is read, bytes.
const ANSWER_LIMIT: u64 = 4 << 20;
/// Health checks of servers that Trimtab adds.
const CHECKS: &str = "inter 1s rise 1 fall 3";

/// Queue and response times by backend since the last report.
type Times = Arc<Mutex<BTreeMap<String, (Delays, Delays)>>>;

/// A HAProxy on this host.
#[derive(Clone)]
pub struct Haproxy {
    socket: PathBuf,
    backends: Vec<String>,
    times: Option<Times>,
    config: Option<ConfigFile>,
}

impl Haproxy {
    /// Begins to listen for its log, when the configuration names a socket for it.
    ///
    /// # Errors
    /// When the socket cannot be made; the text names it.
    pub fn open(config: &BalancerFragment) -> Result<Self, String> {
        let times = match &config.log {
            None => None,
            Some(path) => {
                let times = Times::default();
                // A socket of an earlier agent: nobody reads it any more.
                let _ = std::fs::remove_file(path);
                let socket = UnixDatagram::bind(path).map_err(|e| format!("{}: {e}", path.display()))?;
                let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
                std::fs::set_permissions(path, open).map_err(|e| format!("{}: {e}", path.display()))?;
                tokio::spawn(listen(socket, config.backends.clone(), Arc::clone(&times)));
                Some(times)
            }
        };
        let file = config.config.clone().map(|file| ConfigFile::new(file, config.program.clone()));
        Ok(Self { socket: config.socket.clone(), backends: config.backends.clone(), times, config: file })
    }

    /// Its backends.
    #[must_use]
    pub fn backends(&self) -> &[String] {
        &self.backends
    }

    /// Reads every backend.
    pub async fn read(&self) -> Vec<AdapterReport> {
        let answers = async {
            let stat = ask(&self.socket, "show stat").await?;
            let info = ask(&self.socket, "show info").await?;
            Ok::<_, String>((stat, haproxy::uptime_seconds(&info)))
        };
        let (stat, uptime) = match answers.await {
            Ok(answers) => answers,
            Err(why) => {
                let endpoint = self.socket.display().to_string();
                return vec![AdapterReport::Unreachable { endpoint, why }];
            }
        };
        let report = |backend: &String| match haproxy::stat(&stat, backend) {
            Ok(report) => AdapterReport::Balancer(self.with_times(report, uptime)),
            Err(e) => AdapterReport::Unreachable {
                endpoint: format!("{} {backend}", self.socket.display()),
                why: e.to_string(),
            },
        };
        self.backends.iter().map(report).collect()
    }

    fn with_times(&self, report: BalancerReport, uptime: Option<u64>) -> BalancerReport {
        let taken = self.times.as_ref().and_then(|times| {
            let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
            let (queue, total) = times.get_mut(&report.backend)?;
            Some((queue.take(), total.take()))
        });
        let (queue_delay, response_time) = taken.unwrap_or_default();
        // To the ten seconds: uptime is in whole seconds, and a start that wobbles would look like a restart.
        let started_ms =
            uptime.map_or(0, |s| (clock::wall_ms() / 1000).saturating_sub(s).div_euclid(10) * 10_000);
        BalancerReport { queue_delay, response_time, started_ms, ..report }
    }

    /// Takes a step about a server, and reads back what became of it.
    pub async fn step(
        &self,
        backend: &str,
        task: &TaskName,
        step: &BalancerStep,
    ) -> (OutcomeKind, String, BTreeMap<String, String>) {
        let server = format!("{backend}/{task}");
        let before = self.server(backend, task).await;
        let result = match (&before, step) {
            (Err(why), _) => Err(why.clone()),
            (Ok(None), BalancerStep::Remove) => {
                let back = self.keep(backend, task, step).await.into_iter().collect();
                return (OutcomeKind::Already, "no such server".into(), back);
            }
            (Ok(None), BalancerStep::Add { .. }) | (Ok(Some(_)), _) => {
                self.tell(&server, step, before.ok().flatten()).await
            }
            (Ok(None), _) => {
                Err(format!("{server} is not in the balancer: it was restarted, or never had it"))
            }
        };
        let mut back = match self.server(backend, task).await {
            Ok(Some((state, address))) => {
                BTreeMap::from([("state".to_owned(), format!("{state:?}")), ("address".to_owned(), address)])
            }
            Ok(None) => BTreeMap::from([("state".to_owned(), "absent".to_owned())]),
            Err(_) => BTreeMap::new(),
        };
        match result {
            Ok(kind) => {
                back.extend(self.keep(backend, task, step).await);
                (kind, String::new(), back)
            }
            Err(why) => (OutcomeKind::Failed, why, back),
        }
    }

    /// Writes what a step changed for good into HAProxy's own file. That it could not be written is said, and no reason
    /// to take the step back: it is in force until a reload.
    async fn keep(&self, backend: &str, task: &TaskName, step: &BalancerStep) -> Option<(String, String)> {
        let arguments = match step {
            BalancerStep::Add { host, port, check_port, limit } => {
                Some(arguments(&format!("{host}:{port}"), *check_port, *limit))
            }
            BalancerStep::Remove => None,
            BalancerStep::Ready | BalancerStep::Drain | BalancerStep::Maintenance => return None,
        };
        let config = self.config.as_ref()?;
        let said = match config.set(backend, task.as_str(), arguments.as_deref()).await {
            Ok(()) => "written".to_owned(),
            Err(why) => {
                tracing::warn!(%task, backend, %why, "a reload of HAProxy will not know this change");
                format!("not written: {why}")
            }
        };
        Some(("configuration".to_owned(), said))
    }

    async fn server(&self, backend: &str, task: &TaskName) -> Result<Option<(ServerState, String)>, String> {
        let stat = ask(&self.socket, "show stat").await?;
        let report = haproxy::stat(&stat, backend).map_err(|e| e.to_string())?;
        let found = report.servers.into_iter().find(|s| s.server == task.as_str());
        Ok(found.map(|s| (s.state, s.address)))
    }

    async fn tell(
        &self,
        server: &str,
        step: &BalancerStep,
        before: Option<(ServerState, String)>,
    ) -> Result<OutcomeKind, String> {
        let commands = match step {
            BalancerStep::Add { host, port, check_port, limit } => {
                if !haproxy::safe_word(host) {
                    return Err(format!("{host:?} is no address"));
                }
                let address = format!("{host}:{port}");
                match &before {
                    Some((_, known)) if *known != address => {
                        return Err(format!("{server} is there with another address, {known}"));
                    }
                    Some((ServerState::Up | ServerState::Failing | ServerState::Down, _)) => {
                        return Ok(OutcomeKind::Already);
                    }
                    _ => {}
                }
                let add = format!("add server {server} {}", arguments(&address, *check_port, *limit));
                let mut commands = if before.is_none() { vec![add] } else { vec![] };
                commands.extend([format!("enable health {server}"), format!("enable server {server}")]);
                commands
            }
            BalancerStep::Ready => vec![format!("set server {server} state ready")],
            BalancerStep::Drain => vec![format!("set server {server} state drain")],
            BalancerStep::Maintenance => vec![format!("set server {server} state maint")],
            BalancerStep::Remove => {
                vec![format!("set server {server} state maint"), format!("del server {server}")]
            }
        };
        for command in commands {
            let reply = ask(&self.socket, &command).await?;
            haproxy::accepted(&reply).map_err(|reply| format!("{command}: {reply}"))?;
        }
        Ok(OutcomeKind::Applied)
    }
}

/// What follows a server's name, at the runtime socket as in the file.
fn arguments(address: &str, check_port: u16, limit: u32) -> String {
    format!("{address} check port {check_port} {CHECKS} maxconn {limit}")
}

/// One command on the runtime socket.
async fn ask(socket: &Path, command: &str) -> Result<String, String> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.take(ANSWER_LIMIT).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(TIMEOUT, talk).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(format!("{}: {e}", socket.display())),
        Err(_) => Err(format!("{}: no answer in {} s", socket.display(), TIMEOUT.as_secs())),
    }
}

async fn listen(socket: UnixDatagram, backends: Vec<String>, times: Times) {
    let mut buffer = vec![0; 8192];
    while let Ok(n) = socket.recv(&mut buffer).await {
        let Some(request) = std::str::from_utf8(&buffer[..n]).ok().and_then(haproxy::request) else {
            continue;
        };
        if !backends.iter().any(|b| b == request.backend) {
            continue;
        }
        let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
        let (queue, total) = times.entry(request.backend.to_owned()).or_default();
        // A request that never left the queue waited for its whole time.
        if let Some(ms) = request.queue_ms.or(request.total_ms) {
            queue.record(ms);
        }
        if let Some(ms) = request.total_ms {
            total.record(ms);
        }
    }
}
