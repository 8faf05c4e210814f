//! The checked configuration.

use std::path::PathBuf;
use std::str::FromStr;

use model::units::{Bytes, Millis, Share};

use super::remote_write::RemoteWriteSettings;
use super::tls::TlsSettings;
use super::{Address, ConfigFault, Input};
use crate::store::JournalSettings;

/// Everything that can be set, checked. Each component takes its slice.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the store.
    pub state: PathBuf,
    /// Where agents connect.
    pub listen: Vec<Address>,
    /// Where the REST interface listens.
    pub api: Vec<Address>,
    /// How `https://` listeners show who they are; `None` when there is none of them.
    pub tls: Option<TlsSettings>,
    /// Log filter.
    pub log: String,
    /// Distance of rounds, ms.
    pub round_ms: u64,
    /// An agent that sent nothing for this long counts as lost, ms.
    pub node_dead_after_ms: u64,
    /// Grace for agents to come back after a start, ms.
    pub reconnect_ms: u64,
    /// The risk setting, 0..=1.
    pub risk: f64,
    /// The journal and the records beside it.
    pub journal: JournalSettings,
    /// The history of usage.
    pub history: HistorySettings,
    /// Bounds on what peers may use.
    pub limits: LimitSettings,
    /// Where samples are sent; `None` = nowhere.
    pub remote_write: Option<RemoteWriteSettings>,
}

/// How much history is kept at which resolution.
#[derive(Debug, Clone, Copy)]
pub struct HistorySettings {
    /// Distance of writes, ms.
    pub flush_ms: u64,
    /// Retention of the tiers 1 s, 10 s, 1 min, 10 min, ms.
    pub retain_ms: [u64; 4],
    /// Largest size, bytes.
    pub max_bytes: u64,
}

/// Bounds on what peers may use.
#[derive(Debug, Clone, Copy)]
pub struct LimitSettings {
    /// Agents connected at once.
    pub agents: usize,
    /// Messages waiting for one agent.
    pub agent_queue: usize,
    /// Largest body of a request, bytes.
    pub api_body: usize,
    /// Live streams at once.
    pub streams: usize,
}

impl Settings {
    /// Checks every value; `None` when one could not be read at all. Faults are added to `faults`.
    pub fn check(input: &Input, faults: &mut Vec<ConfigFault>) -> Option<Self> {
        let mut check = Check { input, faults };
        let state = check.state();
        let listen = check.addresses("listen");
        let api = check.addresses("api");
        let tls = check.tls(listen.as_deref().unwrap_or_default());
        let log = check.log();
        let round = check.millis("round", 100, 60_000);
        let dead = check.millis("node_dead_after", 1000, 600_000);
        let reconnect = check.millis("reconnect", 1000, 3_600_000);
        let risk = check.parsed::<Share>("risk").map(|share| share.0);
        let history = check.history();
        let journal = check.journal();
        let limits = check.limits();
        let remote_write = check.remote_write();
        Some(Self {
            state: state?,
            listen: listen?,
            api: api?,
            tls: tls?,
            log: log?,
            round_ms: round?,
            node_dead_after_ms: dead?,
            reconnect_ms: reconnect?,
            risk: risk?,
            journal: journal?,
            history: history?,
            limits: limits?,
            remote_write: remote_write?,
        })
    }
}

pub(super) struct Check<'a> {
    pub(super) input: &'a Input,
    faults: &'a mut Vec<ConfigFault>,
}

impl Check<'_> {
    pub(super) fn fault(&mut self, name: &str, message: impl Into<String>) {
        let origin = self.input.get(name).1.clone();
        self.faults.push(ConfigFault { origin, message: format!("`{name}`: {}", message.into()) });
    }

    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        match self.input.get(name).0.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    pub(super) fn millis(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        let value = self.parsed::<Millis>(name)?.0;
        if (least..=most).contains(&value) {
            return Some(value);
        }
        self.fault(
            name,
            format!("{} must lie between {} and {}", Millis(value), Millis(least), Millis(most)),
        );
        None
    }

    pub(super) fn bytes(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        let value = self.parsed::<Bytes>(name)?.0;
        if (least..=most).contains(&value) {
            return Some(value);
        }
        self.fault(name, format!("{} must lie between {} and {}", Bytes(value), Bytes(least), Bytes(most)));
        None
    }

    fn count(&mut self, name: &str, least: usize, most: usize) -> Option<usize> {
        let value = self.parsed::<usize>(name)?;
        if (least..=most).contains(&value) {
            return Some(value);
        }
        self.fault(name, format!("{value} must lie between {least} and {most}"));
        None
    }

    fn state(&mut self) -> Option<PathBuf> {
        let path = PathBuf::from(self.input.get("state").0);
        if path.is_absolute() {
            return Some(path);
        }
        self.fault("state", "the directory must be an absolute path");
        None
    }

    fn addresses(&mut self, name: &'static str) -> Option<Vec<Address>> {
        let text = self.input.get(name).0.to_owned();
        let mut list = Vec::new();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            match one.parse::<Address>() {
                Ok(address @ Address::Tls(_)) if name == "api" => self.fault(
                    name,
                    format!(
                        "{address}: the REST interface has no TLS and no log-in yet: listen on 127.0.0.1, [::1] or \
                         unix:PATH, and bring remote operators in through a tunnel"
                    ),
                ),
                Ok(address @ Address::Tls(_)) => list.push(address),
                Ok(address) if address.is_local() => list.push(address),
                Ok(address) if name == "api" => self.fault(
                    name,
                    format!(
                        "{address} can be reached from other hosts, and the REST interface has no TLS and no log-in yet: \
                         listen on 127.0.0.1, [::1] or unix:PATH, and bring remote operators in through a tunnel"
                    ),
                ),
                Ok(address) => self.fault(
                    name,
                    format!(
                        "{address} can be reached from other hosts, and there is no TLS on it: write https://{address}, or \
                         listen on 127.0.0.1, [::1] or unix:PATH"
                    ),
                ),
                Err(message) => self.fault(name, message),
            }
        }
        if list.is_empty() && text.trim().is_empty() {
            self.fault(name, "at least one address is needed");
        }
        (!list.is_empty()).then_some(list)
    }

    fn log(&mut self) -> Option<String> {
        let text = self.input.get("log").0.to_owned();
        match tracing_subscriber::EnvFilter::builder().parse(&text) {
            Ok(_) => Some(text),
            Err(error) => {
                self.fault("log", format!("{error}; write for example info or autoscaler=debug"));
                None
            }
        }
    }

    fn journal(&mut self) -> Option<JournalSettings> {
        const YEARS: u64 = 366 * 86_400_000;
        let retain = self.millis("journal.retain", 60_000, YEARS);
        let replay = self.millis("journal.replay", 60_000, 86_400_000);
        let max = self.bytes("journal.max_bytes", 1 << 20, 1 << 44);
        let tasks = self.millis("tasks.retain", 60_000, YEARS);
        let decisions = self.millis("decisions.retain", 60_000, YEARS);
        Some(JournalSettings {
            retain_ms: retain?,
            replay_ms: replay?,
            max_bytes: max?,
            tasks_retain_ms: tasks?,
            decisions_retain_ms: decisions?,
        })
    }

    fn history(&mut self) -> Option<HistorySettings> {
        const YEAR: u64 = 366 * 86_400_000;
        let flush = self.millis("history.flush", 10_000, 600_000);
        let names = ["history.retain_1s", "history.retain_10s", "history.retain_1m", "history.retain_10m"];
        let retain = names.map(|name| self.millis(name, 60_000, YEAR));
        let max = self.bytes("history.max_bytes", 1 << 20, 1 << 44);
        let [a, b, c, d] = retain;
        Some(HistorySettings { flush_ms: flush?, retain_ms: [a?, b?, c?, d?], max_bytes: max? })
    }

    fn limits(&mut self) -> Option<LimitSettings> {
        let agents = self.count("limits.agents", 1, 1_000_000);
        let queue = self.count("limits.agent_queue", 16, 65_536);
        let body = self.bytes("limits.api_body", 1 << 10, 64 << 20);
        let streams = self.count("limits.streams", 1, 65_536);
        Some(LimitSettings {
            agents: agents?,
            agent_queue: queue?,
            api_body: usize::try_from(body?).ok()?,
            streams: streams?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fragment, load};
    use super::*;

    fn checked(text: &str) -> Result<Settings, Vec<String>> {
        let mut faults = Vec::new();
        let fragment = Fragment::from_toml("a.toml", text, &mut faults);
        let mut base = Fragment::default();
        base.flag("state", "--state", Some("/tmp/none".to_owned()));
        let settings = Settings::check(&Input::merge(&[fragment, base]), &mut faults);
        settings.filter(|_| faults.is_empty()).ok_or_else(|| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_defaults_are_good() {
        let settings = checked("").unwrap();
        assert_eq!(settings.listen, ["127.0.0.1:7781".parse().unwrap()]);
        assert_eq!(settings.round_ms, 1000);
        assert_eq!(settings.history.retain_ms[3], 366 * 86_400_000);
    }

    #[test]
    fn a_listener_that_others_reach_names_tls() {
        let faults = checked("listen = \"0.0.0.0:0\"").unwrap_err();
        assert!(faults[0].starts_with("a.toml:1:1: `listen`: 0.0.0.0:0"), "{faults:?}");
        assert!(faults[0].contains("TLS") && faults[0].contains("unix:PATH"), "{faults:?}");
        assert!(checked("api = [\"127.0.0.1:0\", \"[::]:80\"]").unwrap_err()[0].contains("TLS"));
    }

    #[test]
    fn all_faults_of_a_file_come_at_once_with_line_and_suggestion() {
        let faults = checked(
            "lisen = \"127.0.0.1:1\"\nround = \"1 parsec\"\n[history]\nflush = \"1ms\"\nretian_1s = \"1h\"\n[jurnal]\nx = 1\n",
        )
        .unwrap_err();
        let expect = [
            ("a.toml:1:1", "`listen`"),
            ("a.toml:2:1", "not a duration"),
            ("a.toml:4:1", "between 10s and 10m"),
            ("a.toml:5:1", "did you mean `history.retain_1s`"),
            ("a.toml:6:2", "unknown section `jurnal`"),
        ];
        for (place, text) in expect {
            assert!(
                faults.iter().any(|f| f.starts_with(place) && f.contains(text)),
                "{place} {text}: {faults:#?}"
            );
        }
        assert_eq!(faults.len(), expect.len());
        assert!(checked("a = [").unwrap_err()[0].contains("not valid TOML"));
        assert!(checked("limits.agents = 0").is_err());
    }

    #[test]
    fn files_beside_are_read_after_it_and_its_own_folder_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("conf.d")).unwrap();
        std::fs::create_dir(path("autoscaler.d")).unwrap();
        for (name, text) in [
            ("autoscaler.toml", "state = \"/s\"\nround = \"2s\"\nlog = \"warn\"\nrisk = \"1%\"\n"),
            ("conf.d/20.toml", "round = \"3s\"\nlog = \"debug\"\n"),
            ("autoscaler.d/10.toml", "round = \"4s\"\n"),
            ("autoscaler.d/note.txt", "no = toml"),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        let (_, settings) = load(Some(&path("autoscaler.toml")), [], Fragment::default()).unwrap();
        assert_eq!((settings.round_ms, settings.log.as_str(), settings.risk), (4000, "debug", 0.01));
    }

    #[test]
    fn the_environment_beats_the_file_and_the_flag_beats_both() {
        let mut flags = Fragment::default();
        flags.flag("log", "--log", Some("debug".to_owned()));
        let environment = [
            ("TRIMTAB_LOG", "warn"),
            ("TRIMTAB_HISTORY__FLUSH", "30s"),
            ("TRIMTAB_URL", "http://127.0.0.1:1"),
            ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
        ];
        let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let (input, settings) = load(None, environment, flags).unwrap();
        assert_eq!((settings.log.as_str(), settings.history.flush_ms), ("debug", 30_000));
        assert_eq!(settings.state, PathBuf::from("/var/lib/a"));
        let shown = input.show(true);
        assert!(
            shown.contains("# flag --log") && shown.contains("# environment TRIMTAB_HISTORY__FLUSH"),
            "{shown}"
        );
        assert!(
            Fragment::from_toml("x", &input.show(false), &mut Vec::new()).values.len() > 20,
            "it is valid TOML"
        );
    }
}
