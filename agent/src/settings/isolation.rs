//! `[qos]`: how best-effort work is held back beside latency-critical work.

use agent_core::qos::Settings;
use model::units::{Millis, Share, UnitError};
use serde::Deserialize;

/// How much of the node's CPUs is left free beside best-effort work.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub enum Headroom {
    /// As much as the kernel makes necessary.
    Auto,
    /// This share, 0..=1.
    Share(f64),
}

impl TryFrom<String> for Headroom {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "0" | "0%" => Ok(Self::Share(0.0)),
            text => text.parse::<Share>().map(|share| Self::Share(share.0)).map_err(|error| match error {
                UnitError::Malformed { .. } => format!("{error}, or auto"),
                UnitError::OutOfRange { .. } => error.to_string(),
            }),
        }
    }
}

impl std::fmt::Display for Headroom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Share(share) => Share(*share).fmt(f),
        }
    }
}

/// `[qos]` of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QosFragment {
    /// Whether the loop acts; classes are told to the kernel all the same.
    pub enabled: Option<bool>,
    /// Mean wait for a CPU of a latency-critical task that is borne: `1ms` to `10s`.
    pub run_queue_delay: Option<Millis>,
    /// Share of time in which some thread of it waits for a CPU that is borne.
    pub cpu_stall: Option<Share>,
    /// Share of time in which some thread of it waits for memory that is borne.
    pub memory_stall: Option<Share>,
    /// Share of the node's CPUs that is left free, or `auto`.
    pub headroom: Option<Headroom>,
    /// Share of the node's CPUs that best-effort work keeps.
    pub floor: Option<Share>,
    /// Share of the node's memory that must be available.
    pub memory_free: Option<Share>,
    /// Share by which best-effort work may lengthen waits and computing of a latency-critical task.
    pub harm: Option<Share>,
    /// Whether best-effort work pauses now and then, so that this is measured.
    pub pauses: Option<bool>,
}

impl QosFragment {
    /// Keys that this source says, as the configuration names them.
    pub(super) fn said(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("qos.enabled", self.enabled.is_some()),
            ("qos.run_queue_delay", self.run_queue_delay.is_some()),
            ("qos.cpu_stall", self.cpu_stall.is_some()),
            ("qos.memory_stall", self.memory_stall.is_some()),
            ("qos.headroom", self.headroom.is_some()),
            ("qos.floor", self.floor.is_some()),
            ("qos.memory_free", self.memory_free.is_some()),
            ("qos.harm", self.harm.is_some()),
            ("qos.pauses", self.pauses.is_some()),
        ];
        keys.into_iter().filter_map(|(key, said)| said.then_some(key))
    }

    /// What a later source says goes before what this one says.
    #[must_use]
    pub(super) fn then(self, later: Self) -> Self {
        Self {
            enabled: later.enabled.or(self.enabled),
            run_queue_delay: later.run_queue_delay.or(self.run_queue_delay),
            cpu_stall: later.cpu_stall.or(self.cpu_stall),
            memory_stall: later.memory_stall.or(self.memory_stall),
            headroom: later.headroom.or(self.headroom),
            floor: later.floor.or(self.floor),
            memory_free: later.memory_free.or(self.memory_free),
            harm: later.harm.or(self.harm),
            pauses: later.pauses.or(self.pauses),
        }
    }

    /// Complete; what is not said is as it is by default.
    #[must_use]
    pub(super) fn settings(self) -> Settings {
        let d = Settings::default();
        let share = |said: Option<Share>, default: f64| said.map_or(default, |share| share.0);
        Settings {
            enabled: self.enabled.unwrap_or(d.enabled),
            delay_ns: self.run_queue_delay.map_or(d.delay_ns, |ms| ms.0.saturating_mul(1_000_000)),
            cpu_stall: share(self.cpu_stall, d.cpu_stall),
            memory_stall: share(self.memory_stall, d.memory_stall),
            headroom: match self.headroom {
                None => d.headroom,
                Some(Headroom::Auto) => None,
                Some(Headroom::Share(share)) => Some(share),
            },
            floor: share(self.floor, d.floor),
            memory_free: share(self.memory_free, d.memory_free),
            harm: share(self.harm, d.harm),
            pauses: self.pauses.unwrap_or(d.pauses),
        }
    }
}

/// Settings in force by key, as the configuration writes them.
pub(super) fn shown(settings: &Settings) -> [(&'static str, String); 9] {
    let share = |share: f64| Share(share).to_string();
    [
        ("qos.enabled", settings.enabled.to_string()),
        ("qos.run_queue_delay", Millis(settings.delay_ns / 1_000_000).to_string()),
        ("qos.cpu_stall", share(settings.cpu_stall)),
        ("qos.memory_stall", share(settings.memory_stall)),
        ("qos.headroom", settings.headroom.map_or(Headroom::Auto, Headroom::Share).to_string()),
        ("qos.floor", share(settings.floor)),
        ("qos.memory_free", share(settings.memory_free)),
        ("qos.harm", share(settings.harm)),
        ("qos.pauses", settings.pauses.to_string()),
    ]
}
