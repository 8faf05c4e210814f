//! What a node's owner allows to be started: one file per launcher, argv with typed parameters, never a shell.

use std::collections::BTreeMap;

use model::action::Size;
use model::id::{LauncherName, TaskName, WorkloadName};
use model::units::{Bytes, MilliCpu, Millis};
use serde::{Deserialize, Serialize};

/// A launcher, as its file in `launch.d` says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launcher {
    /// Its name; the file's name without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// Program and arguments; `{parameter}`, `{task}` and `{workload}` are filled in.
    pub command: Vec<String>,
    /// Working directory.
    #[serde(default)]
    pub directory: Option<String>,
    /// Environment; nothing is inherited but PATH, HOME and LANG.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The user to run as. Needed when the agent is root, unless `allow_root` says otherwise.
    #[serde(default)]
    pub user: Option<String>,
    /// The owner accepts that tasks run as root.
    #[serde(default)]
    pub allow_root: bool,
    /// What a controller may fill in.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Limits that hold when the command gives none.
    #[serde(default)]
    pub limits: Limits,
    /// How the task's health is found.
    #[serde(default)]
    pub health: Option<Health>,
    /// Puma's control server, when the task is a Puma cluster.
    #[serde(default)]
    pub puma: Option<PumaControl>,
    /// The task is a NodeManager: each of its YARN containers is moved into a cgroup of its own, below the task's.
    #[serde(default)]
    pub leaves: bool,
}

/// What values a parameter may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Parameter {
    /// A TCP port within a range.
    Port {
        /// First allowed.
        from: u16,
        /// Last allowed.
        to: u16,
    },
    /// A whole number within a range.
    Number {
        /// Smallest allowed.
        from: u64,
        /// Largest allowed.
        to: u64,
    },
    /// One of a list.
    Choice {
        /// The list.
        of: Vec<String>,
    },
    /// A short name: a-z, 0-9, '-', at most 63 bytes.
    Name,
}

/// Default limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU quota.
    #[serde(default)]
    pub cpu: Option<MilliCpu>,
    /// Memory (memory.max).
    #[serde(default)]
    pub memory: Option<Bytes>,
    /// Most CPU that a controller may give a task until it is healthy; absent = all of the node's.
    #[serde(default)]
    pub startup_cpu: Option<MilliCpu>,
    /// Most processes and threads (pids.max).
    #[serde(default = "processes")]
    pub processes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu: None, memory: None, startup_cpu: None, processes: processes() }
    }
}

/// About what systemd gives a service (15 % of 32,768, the kernel's default of all process numbers).
fn processes() -> u32 {
    4_096
}

/// How a task's health is found: it is healthy when this succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// `GET` of this URL (http, loopback) answers 2xx or 3xx.
    #[serde(default)]
    pub http: Option<String>,
    /// A connection to this address is accepted.
    #[serde(default)]
    pub tcp: Option<String>,
    /// Time between checks.
    #[serde(default = "second")]
    pub interval: Millis,
    /// Longest wait for an answer.
    #[serde(default = "two_seconds")]
    pub timeout: Millis,
}

/// Puma's control server of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PumaControl {
    /// Its address, on loopback.
    pub address: String,
    /// Its token.
    #[serde(default)]
    pub token: Option<String>,
    /// Address of the listener for requests, to read its accept queue.
    #[serde(default)]
    pub listener: Option<String>,
}

fn second() -> Millis {
    Millis(1000)
}

fn two_seconds() -> Millis {
    Millis(2000)
}

/// A process to start, with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments; not empty.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: Option<String>,
    /// Its environment besides PATH, HOME and LANG.
    pub environment: BTreeMap<String, String>,
    /// User to run as.
    pub user: Option<String>,
    /// Limits, from the start or from when it is healthy.
    pub size: Size,
    /// CPU quota until it is healthy, thousandths of a core, above that of `size`.
    pub startup_cpu_millis: Option<u32>,
    /// Most processes and threads.
    pub processes: u32,
    /// Health check.
    pub health: Option<Health>,
    /// Puma's control server.
    pub puma: Option<PumaControl>,
    /// Its YARN containers have cgroups of their own.
    pub leaves: bool,
}

/// Why a launcher cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The file does not make sense.
    #[error("launcher {launcher}: {why}")]
    BadLauncher {
        /// Which.
        launcher: String,
        /// What is wrong.
        why: String,
    },
    /// A parameter that the launcher does not declare.
    #[error("launcher {launcher} has no parameter {parameter:?}; it has {known}")]
    UnknownParameter {
        /// Which launcher.
        launcher: String,
        /// Which parameter.
        parameter: String,
        /// Those it has.
        known: String,
    },
    /// A declared parameter without a value.
    #[error("launcher {launcher} needs a value for {parameter:?}")]
    MissingParameter {
        /// Which launcher.
        launcher: String,
        /// Which parameter.
        parameter: String,
    },
    /// A value outside what is declared.
    #[error("launcher {launcher}: {parameter} = {value:?} is not {allowed}")]
    BadValue {
        /// Which launcher.
        launcher: String,
        /// Which parameter.
        parameter: String,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Launcher {
    /// Finds faults that do not depend on a start; `agent_is_root` tells whether a user must be named.
    ///
    /// # Errors
    /// [`LaunchError::BadLauncher`] with the first fault.
    pub fn check(&self, agent_is_root: bool) -> Result<(), LaunchError> {
        let bad = |why: String| Err(LaunchError::BadLauncher { launcher: self.name.clone(), why });
        if let Err(why) = self.name.parse::<LauncherName>() {
            return bad(format!("the file's name must be a launcher's name: {why}"));
        }
        match self.command.first() {
            None => return bad("command must not be empty".into()),
            Some(program) if !program.starts_with('/') => {
                return bad(format!("{program:?} must be an absolute path"));
            }
            Some(program) if program.contains('{') => {
                return bad("the program itself takes no parameter".into());
            }
            Some(_) => {}
        }
        if agent_is_root && !self.allow_root && self.user.as_deref().is_none_or(|u| u == "root" || u == "0") {
            return bad("name a user other than root, or set allow_root = true".into());
        }
        if self.limits.processes == 0 {
            return bad("limits.processes must be above 0: a task has at least one".into());
        }
        for text in self.templates() {
            for name in placeholders(text) {
                if !matches!(name, "task" | "workload") && !self.parameters.contains_key(name) {
                    return bad(format!("{{{name}}} is used but not declared under [parameters.{name}]"));
                }
            }
        }
        match &self.health {
            Some(h) if h.http.is_some() == h.tcp.is_some() => bad("health needs one of http and tcp".into()),
            Some(h) if h.timeout.0 == 0 || h.interval.0 < 100 => {
                bad("health needs interval >= 100ms and a timeout above 0".into())
            }
            _ => Ok(()),
        }
    }

    fn templates(&self) -> impl Iterator<Item = &str> {
        let health = self.health.iter().flat_map(|h| [&h.http, &h.tcp]).flatten();
        let puma = self.puma.iter().flat_map(|p| [Some(&p.address), p.listener.as_ref()]).flatten();
        let texts = self.command.iter().chain(self.environment.values()).chain(&self.directory);
        texts.chain(health).chain(puma).map(String::as_str)
    }

    /// The CPU quota until the task is healthy: what is asked, at most what the owner and the node (`cpu_millis`) allow;
    /// `None` when that is no more than what the task is given anyway.
    #[must_use]
    pub fn startup(&self, asked: Option<u32>, given: Option<u32>, cpu_millis: u32) -> Option<u32> {
        let most = self.limits.startup_cpu.map_or(cpu_millis, |limit| limit.0.min(cpu_millis));
        let given = given.or(self.limits.cpu.map(|cpu| cpu.0))?;
        asked.map(|asked| asked.min(most)).filter(|startup| *startup > given)
    }

    /// Fills in the parameters of a start.
    ///
    /// # Errors
    /// [`LaunchError`] for a parameter that is unknown, missing or outside its type.
    pub fn launch(
        &self,
        task: &TaskName,
        workload: &WorkloadName,
        parameters: &BTreeMap<String, String>,
        size: Size,
    ) -> Result<Launch, LaunchError> {
        let launcher = || self.name.clone();
        for (parameter, value) in parameters {
            let Some(declared) = self.parameters.get(parameter) else {
                let known: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
                let (parameter, known) = (parameter.clone(), format!("{known:?}"));
                return Err(LaunchError::UnknownParameter { launcher: launcher(), parameter, known });
            };
            if let Err(allowed) = declared.accept(value) {
                let (parameter, value) = (parameter.clone(), value.clone());
                return Err(LaunchError::BadValue { launcher: launcher(), parameter, value, allowed });
            }
        }
        if let Some(parameter) = self.parameters.keys().find(|name| !parameters.contains_key(*name)) {
            return Err(LaunchError::MissingParameter { launcher: launcher(), parameter: parameter.clone() });
        }
        let fill = |text: &String| {
            let mut out = text.replace("{task}", task.as_str()).replace("{workload}", workload.as_str());
            for (name, value) in parameters {
                out = out.replace(&format!("{{{name}}}"), value);
            }
            out
        };
        Ok(Launch {
            command: self.command.iter().map(fill).collect(),
            directory: self.directory.as_ref().map(fill),
            environment: self.environment.iter().map(|(k, v)| (k.clone(), fill(v))).collect(),
            user: self.user.clone(),
            size: Size {
                cpu_max_millis: size.cpu_max_millis.or(self.limits.cpu.map(|c| c.0)),
                memory_max_bytes: size.memory_max_bytes.or(self.limits.memory.map(|m| m.0)),
                ..size
            },
            startup_cpu_millis: None,
            processes: self.limits.processes,
            health: self.health.as_ref().map(|h| Health {
                http: h.http.as_ref().map(fill),
                tcp: h.tcp.as_ref().map(fill),
                ..h.clone()
            }),
            puma: self.puma.as_ref().map(|p| PumaControl {
                address: fill(&p.address),
                token: p.token.clone(),
                listener: p.listener.as_ref().map(fill),
            }),
            leaves: self.leaves,
        })
    }
}

impl Parameter {
    /// `Err` says what is allowed.
    fn accept(&self, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().ok().filter(|n| n.to_string() == value);
        let (good, allowed) = match self {
            Parameter::Port { from, to } => (
                number().is_some_and(|n| n >= u64::from(*from) && n <= u64::from(*to)),
                format!("a port in {from}..={to}"),
            ),
            Parameter::Number { from, to } => {
                (number().is_some_and(|n| n >= *from && n <= *to), format!("a number in {from}..={to}"))
            }
            Parameter::Choice { of } => (of.iter().any(|c| c == value), format!("one of {of:?}")),
            Parameter::Name => {
                (value.parse::<LauncherName>().is_ok(), "a name of a-z, 0-9 and '-'".to_owned())
            }
        };
        if good { Ok(()) } else { Err(allowed) }
    }
}

/// Names in braces.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launcher() -> Launcher {
        let text = r#"
            command = ["/usr/bin/puma", "-b", "tcp://127.0.0.1:{port}", "--tag", "{task}"]
            user = "www-data"
            [environment]
            PORT = "{port}"
            [parameters.port]
            type = "port"
            from = 9300
            to = 9399
            [parameters.size]
            type = "choice"
            of = ["small", "large"]
            [limits]
            memory = "512Mi"
            [health]
            http = "http://127.0.0.1:{port}/up"
        "#;
        Launcher { name: "puma-web".into(), ..toml::from_str(text).unwrap() }
    }

    fn start(pairs: &[(&str, &str)]) -> Result<Launch, LaunchError> {
        let parameters = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        launcher().launch(&"web-1".parse().unwrap(), &"web".parse().unwrap(), &parameters, Size::default())
    }

    #[test]
    fn parameters_fill_declared_places_only() {
        let launch = start(&[("port", "9301"), ("size", "small")]).unwrap();
        assert_eq!(launch.command, ["/usr/bin/puma", "-b", "tcp://127.0.0.1:9301", "--tag", "web-1"]);
        assert_eq!(launch.health.unwrap().http.as_deref(), Some("http://127.0.0.1:9301/up"));
        assert_eq!(launch.size.memory_max_bytes, Some(512 << 20));
    }

    #[test]
    fn a_value_outside_its_type_is_refused() {
        for (value, why) in
            [("80", "9300"), ("9301; id", "9300"), ("09301", "9300"), ("", "9300"), ("+9301", "9300")]
        {
            let error = start(&[("port", value), ("size", "small")]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(start(&[("port", "9301"), ("size", "../x")]).unwrap_err().to_string().contains("one of"));
        assert!(start(&[("port", "9301")]).unwrap_err().to_string().contains("needs a value for \"size\""));
        let extra = [("port", "9301"), ("size", "small"), ("env", "x")];
        assert!(start(&extra).unwrap_err().to_string().contains("no parameter \"env\""));
    }

    #[test]
    fn more_cpu_until_healthy_is_what_is_asked_within_what_owner_and_node_allow() {
        let open = launcher();
        assert_eq!(open.startup(Some(1_500), Some(300), 4_000), Some(1_500));
        assert_eq!(open.startup(Some(9_000), Some(300), 4_000), Some(4_000), "the node has four");
        assert_eq!(open.startup(Some(300), Some(300), 4_000), None, "no more than it is given");
        assert_eq!(open.startup(Some(1_500), None, 4_000), None, "no quota, nothing to lift");
        assert_eq!(open.startup(None, Some(300), 4_000), None);
        let limits = Limits { startup_cpu: Some(MilliCpu(800)), cpu: Some(MilliCpu(200)), ..open.limits };
        let bound = Launcher { limits, ..open };
        assert_eq!(bound.startup(Some(1_500), None, 4_000), Some(800), "the owner's word");
    }

    #[test]
    fn a_launcher_says_what_is_wrong_with_it() {
        assert_eq!(launcher().check(true), Ok(()));
        let faults: [(Launcher, &str); 5] = [
            (Launcher { command: vec![], ..launcher() }, "empty"),
            (Launcher { command: vec!["puma".into()], ..launcher() }, "absolute"),
            (Launcher { user: None, ..launcher() }, "allow_root"),
            (Launcher { command: vec!["/bin/x".into(), "{shell}".into()], ..launcher() }, "not declared"),
            (Launcher { name: "../x".into(), ..launcher() }, "name"),
        ];
        for (launcher, why) in faults {
            assert!(launcher.check(true).unwrap_err().to_string().contains(why), "{why}");
        }
        assert_eq!(
            Launcher { user: None, ..launcher() }.check(false),
            Ok(()),
            "not root: nothing to give up"
        );
        assert!(
            toml::from_str::<Launcher>("command = []\nshell = true").is_err(),
            "unknown fields are refused"
        );
    }
}
