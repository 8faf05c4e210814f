//! All sources merged: file, `conf.d/*.toml` and its own `autoscaler.d/*.toml` beside it, environment, flags. The later one
//! wins. `conf.d` is read by an agent on the same host, too, which refuses keys that are not its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::keys::KEYS;
use super::{ConfigFault, ConfigFaults, Fragment, Origin, Settings};

/// The merged configuration: each key's value as text, and where it was written.
#[derive(Debug, Clone)]
pub struct Input {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Input {
    /// Merges fragments over the defaults; the later one wins.
    #[must_use]
    pub fn merge(fragments: &[Fragment]) -> Self {
        let mut values: BTreeMap<_, _> =
            KEYS.iter().map(|key| (key.name, (key.default.to_owned(), Origin::Default))).collect();
        for (name, value, origin) in fragments.iter().flat_map(|fragment| &fragment.values) {
            if let Some(slot) = values.get_mut(name.as_str()) {
                *slot = (value.clone(), origin.clone());
            }
        }
        Self { values }
    }

    /// Names of the keys whose values differ.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'static str> + 'a {
        self.values.iter().filter(|(key, (value, _))| other.get(key).0 != value).map(|(key, _)| *key)
    }

    /// What turned out to be wrong with a key's value when it was used.
    #[must_use]
    pub fn fault(&self, name: &str, message: &str) -> ConfigFaults {
        let origin = self.get(name).1.clone();
        ConfigFaults(vec![ConfigFault { origin, message: format!("`{name}`: {message}") }])
    }

    /// A key's value and origin.
    pub(super) fn get(&self, name: &str) -> (&str, &Origin) {
        self.values.get(name).map_or(("", &Origin::Default), |(value, origin)| (value.as_str(), origin))
    }

    /// The whole as TOML; each line ends with the origin of its value when `origins` is set.
    #[must_use]
    pub fn show(&self, origins: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let (value, origin) = self.get(key.name);
            let (of, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if of != section {
                let _ = writeln!(text, "\n[{of}]");
                section = of;
            }
            let shown = toml::Value::String(value.to_owned());
            let comment = if origins { origin.to_string() } else { key.help.to_owned() };
            let _ = writeln!(text, "{:<34} # {comment}", format!("{name} = {shown}"));
        }
        text
    }
}

/// Reads the file (when there is one) with its `conf.d` and its own folder, then the environment, then the flags.
///
/// # Errors
/// Every fault of every source.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: Fragment,
) -> Result<(Input, Settings), ConfigFaults> {
    let mut faults = Vec::new();
    let mut fragments = Vec::new();
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    if let Some(file) = file {
        read(file, &mut fragments, &mut faults);
        let shared = file.parent().map(|parent| parent.join("conf.d"));
        for folder in shared.into_iter().chain([file.with_extension("d")]) {
            folder_files(&folder).iter().for_each(|path| read(path, &mut fragments, &mut faults));
        }
    }
    let default_state = default_state(&environment);
    fragments.push(Fragment::from_environment(environment));
    fragments.push(flags);
    let mut input = Input::merge(&fragments);
    if let Some(slot) = input.values.get_mut("state")
        && slot.0.is_empty()
    {
        *slot = default_state;
    }
    let settings = Settings::check(&input, &mut faults);
    match settings {
        Some(settings) if faults.is_empty() => Ok((input, settings)),
        _ => Err(ConfigFaults(faults)),
    }
}

/// Its `*.toml`, in order of their names; none when there is no such folder.
fn folder_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    files
}

fn read(path: &Path, fragments: &mut Vec<Fragment>, faults: &mut Vec<ConfigFault>) {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => fragments.push(Fragment::from_toml(&shown, &text, faults)),
        Err(error) => {
            let origin = Origin::File { path: shown, line: 0, column: 0 };
            faults.push(ConfigFault { origin, message: format!("cannot be read: {error}") });
        }
    }
}

/// systemd's state directory, then the XDG one.
fn default_state(environment: &BTreeMap<String, String>) -> (String, Origin) {
    let of = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let Some(state) = of("STATE_DIRECTORY") {
        // A list when the unit names several.
        let first = state.split(':').next().unwrap_or_default().to_owned();
        return (first, Origin::Environment("STATE_DIRECTORY".to_owned()));
    }
    if let Some(state) = of("XDG_STATE_HOME") {
        return (format!("{state}/trimtab"), Origin::Environment("XDG_STATE_HOME".to_owned()));
    }
    match of("HOME") {
        Some(home) => (format!("{home}/.local/state/trimtab"), Origin::Environment("HOME".to_owned())),
        None => ("/var/lib/trimtab-autoscaler".to_owned(), Origin::Default),
    }
}
