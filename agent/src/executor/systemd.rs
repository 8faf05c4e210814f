//! Tasks on hosts with systemd: one transient service per task, made, limited, signalled and ended through D-Bus.
//!
//! systemd is the only writer of cgroups there. A service is not ours to lose: it outlives this agent, its restart and
//! its upgrade, and is found again by its name. A service that ended stays `active (exited)` with its cgroup, so that
//! its end and its final totals can be read by anyone until the task is removed: every status of a program counts as
//! success for systemd, because what an end means is decided elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::lifecycle::Event;
use agent_core::qos::standing;
use agent_core::unit;
use model::action::Size;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::sync::{Mutex, mpsc};
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::standing::{Order, Stood};
use super::{Happened, TaskFile, What, shim};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Longest wait for an answer: systemd answers nobody while it reloads its units.
const ANSWER: Duration = Duration::from_secs(90);
/// Longest that a start may take, systemd's own default for services.
const START: Duration = Duration::from_secs(90);
/// Longest from the end of a process until systemd has noticed it.
const NOTICE: Duration = Duration::from_secs(30);
/// Time between SIGTERM and SIGKILL for what is left when a task is removed.
const LEFT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
/// Statuses that systemd uses for a program that it could not execute (systemd.exec(5)): those are failures.
const SYSTEMD_STATUSES: std::ops::RangeInclusive<i32> = 200..=243;

/// A property of a unit, as D-Bus takes it.
type Property = (&'static str, Value<'static>);

/// Why systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// D-Bus or systemd said no.
    #[error("systemd: {0}")]
    Bus(#[from] zbus::Error),
    /// The unit did not come up.
    #[error("{0}")]
    NotStarted(String),
}

/// systemd of this host.
#[derive(Debug, Clone)]
pub struct Systemd {
    /// The top of our slices.
    top: String,
    /// Connected at the first use, and again after the bus went away.
    bus: Arc<Mutex<Option<zbus::Connection>>>,
}

/// How a service stands.
#[derive(Debug)]
struct Standing {
    active: String,
    main_pid: u32,
}

impl Systemd {
    /// Whether systemd runs this host, sd_booted(3).
    #[must_use]
    pub fn is_here() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }

    /// Units go below the slice `top`.
    #[must_use]
    pub fn new(top: &str) -> Self {
        Self { top: top.to_owned(), bus: Arc::default() }
    }

    /// Path of a task's cgroup below the top slice.
    pub(super) fn path(&self, file: &TaskFile) -> String {
        format!("{}/{}", unit::slice(&self.top, &file.workload), self.service(file))
    }

    fn service(&self, file: &TaskFile) -> String {
        unit::service(&self.top, &file.task)
    }

    /// Starts the task unless it was `found`, and follows it to its end.
    pub(super) async fn run(self, file: TaskFile, found: bool, sender: mpsc::Sender<Happened>) {
        let tell = async |event| {
            let _ = sender.send(Happened { task: file.task.clone(), what: What::Life(event) }).await;
        };
        let service = self.service(&file);
        let standing = if found { self.standing(&service).await } else { self.start(&file, &service).await };
        let standing = match standing {
            Ok(standing) => standing,
            // It went while nobody looked: a reboot, or an operator.
            Err(error) if found => {
                tracing::warn!(%service, %error, "the task's service is gone");
                return tell(Event::Exited { status: None, signal: None }).await;
            }
            Err(error) => {
                self.remove(&service).await;
                return tell(Event::NotStarted { why: error.to_string() }).await;
            }
        };
        let checked = file.health.is_some();
        if standing.main_pid != 0 {
            let pid = standing.main_pid;
            tell(if found { Event::Found { pid, checked } } else { Event::Started { pid, checked } }).await;
            self.end_of(&service, pid).await;
        } else if !found {
            // It ran and is over already.
            let pid = self.number(&service, "ExecMainPID").await.unwrap_or(0);
            tell(Event::Started { pid, checked }).await;
        }
        let (status, signal) = self.exit(&service).await;
        tell(Event::Exited { status, signal }).await;
    }

    /// Starts the service; returns when its program runs or has run.
    async fn start(&self, file: &TaskFile, service: &str) -> Result<Standing, SystemdError> {
        let properties = self.properties(file);
        let aside: Vec<(&str, Vec<Property>)> = Vec::new();
        let _job: OwnedObjectPath =
            self.manage("StartTransientUnit", &(service, "fail", properties, aside)).await?;
        let deadline = tokio::time::Instant::now() + START;
        loop {
            let standing = self.standing(service).await?;
            match standing.active.as_str() {
                "active" => return Ok(standing),
                "failed" => return Err(SystemdError::NotStarted(self.failure(service).await)),
                _ if tokio::time::Instant::now() > deadline => {
                    let why = format!("{service} is {} after {} s", standing.active, START.as_secs());
                    return Err(SystemdError::NotStarted(why));
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    fn properties(&self, file: &TaskFile) -> Vec<Property> {
        // A launcher's program is an absolute path, as systemd wants it.
        let path = file.command.first().cloned().unwrap_or_default();
        let every: Vec<i32> = (1..=255).filter(|status| !SYSTEMD_STATUSES.contains(status)).collect();
        let signals: Vec<i32> = (1..=64).collect();
        let environment: Vec<String> = file.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut properties = vec![
            ("Description", Value::from(format!("{} of {}, started by Trimtab", file.task, file.workload))),
            ("Slice", Value::from(unit::slice(&self.top, &file.workload))),
            ("Type", Value::from("exec")),
            ("ExecStart", Value::from(vec![(path, file.command.clone(), false)])),
            ("Environment", Value::from(environment)),
            ("SyslogIdentifier", Value::from(file.task.to_string())),
            ("RemainAfterExit", Value::from(true)),
            ("SuccessExitStatus", Value::from((every, signals))),
            // What follows from a kill by the kernel is decided elsewhere, too.
            ("OOMPolicy", Value::from("continue")),
            ("KillMode", Value::from("control-group")),
            ("TimeoutStopUSec", Value::from(micros(LEFT))),
            // What was started and ended stays to be read as long as this agent is connected.
            ("AddRef", Value::from(true)),
            ("CollectMode", Value::from("inactive-or-failed")),
            ("CPUAccounting", Value::from(true)),
            ("MemoryAccounting", Value::from(true)),
            ("IOAccounting", Value::from(true)),
        ];
        // Its manager is told that the cgroup has cgroups below it that systemd did not make.
        if file.leaves {
            properties.push(("Delegate", Value::from(true)));
        }
        if let Some(user) = &file.user {
            properties.push(("User", Value::from(user.clone())));
        }
        if let Some(directory) = &file.directory {
            properties.push(("WorkingDirectory", Value::from(directory.clone())));
        }
        if let Some(most) = file.processes {
            properties.push(("TasksMax", Value::from(u64::from(most))));
        }
        properties.extend(limits(&file.size_now()));
        let standing = standing::task(file.class, &file.size);
        // Its memory.high is said here with the class in mind. Its weight is told once it runs: a systemd before 252 would not start a unit
        // with an idle one.
        properties.retain(|(name, _)| *name != "MemoryHigh");
        let told = unit::properties(&standing, false).into_iter().filter(|(name, _)| *name != "CPUWeight");
        properties.extend(told.map(|(name, number)| (name, Value::from(number))));
        properties
    }

    /// Tells a task's service, its workload's slice and the top how they stand to others.
    pub(super) async fn stand(&self, order: &Order) -> Result<Stood, SystemdError> {
        let mut stood = Stood::default();
        // Its parents are the frame of it: what they cannot be told does not keep the task from its own.
        let protected = match order.changed || order.top.memory_low_bytes > 0 {
            true => self.protect(&self.top, order.top.memory_low_bytes).await,
            false => Ok(()),
        };
        if let Err(error) = protected {
            stood.gap("memory.low", format!("{}: {error}", self.top));
        }
        let slice = unit::slice(&self.top, &order.file.workload);
        let told = self.tell(&slice, &unit::properties(&order.workload, order.changed), &mut stood).await;
        if let Err(error) = told {
            stood.gap("workload", format!("{slice}: {error}"));
        }
        let service = self.service(&order.file);
        self.tell(&service, &unit::properties(&order.task, order.changed), &mut stood).await?;
        Ok(stood)
    }

    async fn protect(&self, unit: &str, bytes: u64) -> Result<(), SystemdError> {
        let properties: Vec<Property> = vec![("MemoryLow", Value::from(bytes))];
        Ok(self.manage("SetUnitProperties", &(unit, true, properties)).await?)
    }

    async fn tell(
        &self,
        unit: &str,
        numbers: &[(&'static str, u64)],
        stood: &mut Stood,
    ) -> Result<(), SystemdError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let all = |idle: u64| -> Vec<Property> {
            let number = |(name, value): &(&'static str, u64)| match (*name, *value) {
                ("CPUWeight", 0) => (*name, Value::from(idle)),
                (name, value) => (name, Value::from(value)),
            };
            numbers.iter().map(number).collect()
        };
        let told: Result<(), zbus::Error> = self.manage("SetUnitProperties", &(unit, true, all(0))).await;
        match told {
            Ok(()) => Ok(()),
            // Before 252 systemd has no idle weight.
            Err(zbus::Error::MethodError(_, _, _)) if numbers.contains(&("CPUWeight", 0)) => {
                let least = u64::from(standing::LEAST_WEIGHT);
                self.manage::<_, ()>("SetUnitProperties", &(unit, true, all(least))).await?;
                stood.gap(
                    "cpu.idle",
                    "systemd takes no idle weight (it came with 252): the smallest one stands in",
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Starts the dead-man in a unit of its own: what ends the agent's unit does not end it.
    pub(crate) async fn start_watcher(&self, command: Vec<String>) -> Result<(), SystemdError> {
        let path = command.first().cloned().unwrap_or_default();
        let properties: Vec<Property> = vec![
            ("Description", Value::from("Trimtab: freezes best-effort work when its agent is gone")),
            ("Type", Value::from("exec")),
            ("ExecStart", Value::from(vec![(path, command, false)])),
            // Ended by somebody else than the agent: there again.
            ("Restart", Value::from("on-failure")),
            ("CollectMode", Value::from("inactive-or-failed")),
            ("NoNewPrivileges", Value::from(true)),
        ];
        let aside: Vec<(&str, Vec<Property>)> = Vec::new();
        let _job: OwnedObjectPath = self
            .manage("StartTransientUnit", &(unit::watcher(&self.top), "replace", properties, aside))
            .await?;
        Ok(())
    }

    /// Ends the dead-man.
    pub(crate) async fn stop_watcher(&self) {
        self.remove(&unit::watcher(&self.top)).await;
    }

    /// Sets the CPU quota, or that there is none.
    pub(super) async fn cap(&self, file: &TaskFile, millis: Option<u32>) -> Result<(), SystemdError> {
        let quota = millis.map_or(u64::MAX, |millis| u64::from(millis) * 1000);
        let properties: Vec<Property> = vec![("CPUQuotaPerSecUSec", Value::from(quota))];
        Ok(self.manage("SetUnitProperties", &(self.service(file), true, properties)).await?)
    }

    /// Sets the memory above which the task is slowed, or that there is none.
    pub(super) async fn high(&self, file: &TaskFile, bytes: Option<u64>) -> Result<(), SystemdError> {
        let properties: Vec<Property> = vec![("MemoryHigh", Value::from(bytes.unwrap_or(u64::MAX)))];
        Ok(self.manage("SetUnitProperties", &(self.service(file), true, properties)).await?)
    }

    /// Waits for the end of the service's first process, as far as systemd has noticed it.
    async fn end_of(&self, service: &str, pid: u32) {
        let raw = Pid::from_raw(pid.cast_signed());
        let opened = raw.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        // Opened first, asked after: systemd has not reaped it, so the number still means this process.
        if let Some(fd) = opened
            && self.number(service, "MainPID").await.is_ok_and(|now| now == pid)
        {
            match shim::watch(fd) {
                Ok(fd) => drop(fd.readable().await),
                Err(error) => tracing::warn!(%service, %error, "following by polling"),
            }
        }
        let mut since = tokio::time::Instant::now();
        loop {
            match self.number(service, "MainPID").await {
                Ok(now) if now == pid => {}
                Ok(_) => return,
                // The unit is gone, or systemd cannot be asked at the moment.
                Err(_) if since.elapsed() > NOTICE => return,
                Err(_) => {
                    tokio::time::sleep(POLL * 10).await;
                    continue;
                }
            }
            since = tokio::time::Instant::now();
            tokio::time::sleep(POLL).await;
        }
    }

    /// Status or signal of the end, as far as they are known.
    async fn exit(&self, service: &str) -> (Option<i32>, Option<i32>) {
        let (code, status) = (
            self.property(service, SERVICE, "ExecMainCode").await,
            self.property(service, SERVICE, "ExecMainStatus").await,
        );
        match (code, status) {
            // CLD_EXITED, CLD_KILLED and CLD_DUMPED of waitid(2).
            (Ok(1), Ok(status)) => (Some(status), None),
            (Ok(2 | 3), Ok(signal)) => (None, Some(signal)),
            _ => (None, None),
        }
    }

    /// Why a service failed to start, in systemd's words.
    async fn failure(&self, service: &str) -> String {
        let result: String = self.property(service, SERVICE, "Result").await.unwrap_or_default();
        let status: i32 = self.property(service, SERVICE, "ExecMainStatus").await.unwrap_or(0);
        let what = match status {
            200 => "its directory cannot be used (200/CHDIR)",
            203 => "its program could not be executed (203/EXEC)",
            216 => "its group does not exist (216/GROUP)",
            217 => "its user does not exist (217/USER)",
            _ => return format!("{service} failed: {result}, status {status}: see journalctl -u {service}"),
        };
        format!("{what}: see journalctl -u {service}")
    }

    /// The CPU total that systemd kept of a service whose cgroup is gone, µs.
    pub(super) async fn cpu_total_us(&self, file: &TaskFile) -> Option<u64> {
        let total: u64 = self.property(&self.service(file), SERVICE, "CPUUsageNSec").await.ok()?;
        (total != u64::MAX).then_some(total / 1000)
    }

    /// Sends a signal to the first process, or to every process of the task.
    pub(super) async fn kill(
        &self,
        file: &TaskFile,
        whom: &'static str,
        signal: Signal,
    ) -> Result<(), SystemdError> {
        Ok(self.manage("KillUnit", &(self.service(file), whom, signal.as_raw())).await?)
    }

    /// Changes limits.
    pub(super) async fn resize(&self, file: &TaskFile, size: &Size) -> Result<(), SystemdError> {
        Ok(self.manage("SetUnitProperties", &(self.service(file), true, limits(size))).await?)
    }

    /// Freezes or thaws.
    pub(super) async fn freeze(&self, file: &TaskFile, frozen: bool) -> Result<(), SystemdError> {
        let verb = if frozen { "FreezeUnit" } else { "ThawUnit" };
        Ok(self.manage(verb, &(self.service(file),)).await?)
    }

    /// Ends what is left of a task, and lets systemd forget it.
    pub(super) async fn forget(&self, file: &TaskFile) {
        self.remove(&self.service(file)).await;
    }

    async fn remove(&self, service: &str) {
        let stopped: Result<OwnedObjectPath, _> = self.manage("StopUnit", &(service, "replace")).await;
        if let Err(error) = stopped {
            tracing::debug!(%service, %error, "nothing to stop");
        }
        let _: Result<(), _> = self.manage("ResetFailedUnit", &(service,)).await;
    }

    async fn standing(&self, service: &str) -> Result<Standing, SystemdError> {
        Ok(Standing {
            active: self.property(service, UNIT, "ActiveState").await?,
            main_pid: self.number(service, "MainPID").await?,
        })
    }

    async fn number(&self, service: &str, name: &str) -> Result<u32, SystemdError> {
        self.property(service, SERVICE, name).await
    }

    async fn property<T>(&self, service: &str, interface: &str, name: &str) -> Result<T, SystemdError>
    where
        T: TryFrom<OwnedValue>,
        T::Error: Into<zbus::zvariant::Error>,
    {
        let unit: OwnedObjectPath = self.manage("GetUnit", &(service,)).await?;
        let properties = "org.freedesktop.DBus.Properties";
        let value: OwnedValue = self.call(unit.as_str(), properties, "Get", &(interface, name)).await?;
        T::try_from(value).map_err(|error| SystemdError::Bus(zbus::Error::Variant(error.into())))
    }

    async fn manage<B, R>(&self, method: &str, body: &B) -> Result<R, zbus::Error>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
        R: serde::de::DeserializeOwned + zbus::zvariant::Type,
    {
        self.call("/org/freedesktop/systemd1", MANAGER, method, body).await
    }

    async fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<R, zbus::Error>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
        R: serde::de::DeserializeOwned + zbus::zvariant::Type,
    {
        let bus = self.bus().await?;
        let answer = bus.call_method(Some(DESTINATION), path, Some(interface), method, body).await;
        if let Err(zbus::Error::InputOutput(_)) = &answer {
            // The bus was restarted: the next call connects anew.
            *self.bus.lock().await = None;
        }
        answer?.body().deserialize()
    }

    async fn bus(&self) -> Result<zbus::Connection, zbus::Error> {
        let mut bus = self.bus.lock().await;
        if let Some(bus) = &*bus {
            return Ok(bus.clone());
        }
        let connected = zbus::connection::Builder::system()?.method_timeout(ANSWER).build().await?;
        Ok(bus.insert(connected).clone())
    }

    /// Whether systemd can be asked at all.
    ///
    /// # Errors
    /// What the bus says.
    pub async fn check(&self) -> Result<(), SystemdError> {
        let properties = "org.freedesktop.DBus.Properties";
        let _: OwnedValue =
            self.call("/org/freedesktop/systemd1", properties, "Get", &(MANAGER, "Version")).await?;
        Ok(())
    }
}

/// Limits as systemd's properties.
fn limits(size: &Size) -> Vec<Property> {
    let mut properties = Vec::new();
    if let Some(weight) = size.cpu_weight {
        properties.push(("CPUWeight", Value::from(u64::from(weight))));
    }
    if let Some(millis) = size.cpu_max_millis {
        properties.push(("CPUQuotaPerSecUSec", Value::from(u64::from(millis) * 1000)));
    }
    if let Some(bytes) = size.memory_high_bytes {
        properties.push(("MemoryHigh", Value::from(bytes)));
    }
    if let Some(bytes) = size.memory_max_bytes {
        properties.push(("MemoryMax", Value::from(bytes)));
    }
    properties
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_systemds_units() {
        let size = Size { cpu_max_millis: Some(250), memory_max_bytes: Some(1 << 20), ..Size::default() };
        let properties = limits(&size);
        let expected =
            [("CPUQuotaPerSecUSec", Value::from(250_000_u64)), ("MemoryMax", Value::from(1_u64 << 20))];
        assert_eq!(properties, expected, "a quarter of a core is 250 ms in each second");
        assert!(limits(&Size::default()).is_empty(), "what is not given is left as it is");
    }
}
