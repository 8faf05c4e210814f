//! Reading a section field by field: what is not known is refused with what was probably meant.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::fault::{Faults, Place};
use super::tree::{Key, Node, Value};
use crate::id::{LauncherName, PriceTableName, WorkloadName};
use crate::prices::{Currency, Price};
use crate::units::{Bytes, MilliCpu, Millis, Share};

/// A mapping whose field names were checked.
pub(super) struct Section<'n> {
    pub(super) path: String,
    place: Place,
    entries: &'n [(Key, Node)],
    /// Known fields that a misspelled one probably means: they are not reported as missing, too.
    meant: Vec<String>,
}

/// Something that one node can be read as. `None` means that a fault was recorded.
pub(super) trait Read: Sized {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self>;
}

impl<'n> Section<'n> {
    /// Opens a mapping that has `fields` and no others.
    pub(super) fn open(node: &'n Node, path: &str, fields: &[&str], faults: &mut Faults<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let what = if path.is_empty() { "a document" } else { path };
            faults.push(
                node.place,
                path,
                format!("{what} must be a section with fields, this is {}", node.value.what()),
                Some(format!("its fields are {}", listed(fields))),
            );
            return None;
        };
        let mut meant = Vec::new();
        for (key, _) in entries {
            if !fields.contains(&key.name.as_str()) {
                let shown: String = key.name.chars().take(60).collect();
                let help = match nearest(&key.name, fields) {
                    Some(name) => {
                        meant.push(name.to_owned());
                        format!("did you mean `{name}`?")
                    }
                    None => format!("known here: {}", listed(fields)),
                };
                faults.push(key.place, &join(path, &shown), format!("unknown field `{shown}`"), Some(help));
            }
        }
        Some(Self { path: path.to_owned(), place: node.place, entries, meant })
    }

    /// The field's node, when it is there and not null.
    pub(super) fn node(&self, name: &str) -> Option<&'n Node> {
        let (_, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        (!matches!(node.value, Value::Nothing)).then_some(node)
    }

    /// Where a field is written, or where its section begins.
    pub(super) fn place_of(&self, name: &str) -> Place {
        self.entries.iter().find(|(key, _)| key.name == name).map_or(self.place, |(key, node)| {
            if node.place.width > 1 || matches!(node.value, Value::Number(_)) {
                node.place
            } else {
                key.place
            }
        })
    }

    /// A field's path.
    pub(super) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// A field that may be absent.
    pub(super) fn optional<T: Read>(&self, name: &str, faults: &mut Faults<'_>) -> Option<T> {
        T::read(self.node(name)?, &self.path_of(name), faults)
    }

    /// A field with a default.
    pub(super) fn or<T: Read>(&self, name: &str, default: T, faults: &mut Faults<'_>) -> T {
        self.optional(name, faults).unwrap_or(default)
    }

    /// A field that must be there; `example` shows how it is written.
    pub(super) fn required<T: Read>(&self, name: &str, example: &str, faults: &mut Faults<'_>) -> Option<T> {
        if self.node(name).is_none() && self.meant.iter().any(|meant| meant == name) {
            return None;
        }
        if self.node(name).is_none() {
            let what = if self.path.is_empty() { "the document" } else { &self.path };
            faults.push(
                self.place,
                &self.path_of(name),
                format!("{what} has no `{name}`"),
                Some(format!("write for example `{example}`")),
            );
            return None;
        }
        self.optional(name, faults)
    }

    /// Records a fault about one field of this section.
    pub(super) fn fault(
        &self,
        name: &str,
        message: String,
        help: impl Into<String>,
        faults: &mut Faults<'_>,
    ) {
        faults.push(self.place_of(name), &self.path_of(name), message, Some(help.into()));
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// The known name that a person most probably meant.
fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    if written.len() > 60 {
        return None;
    }
    let plain = |s: &str| s.replace(['_', '-'], "").to_lowercase();
    let written = plain(written);
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(&written, &plain(name)), *name))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    node: &Node,
    path: &str,
    words: &[(&str, T)],
    faults: &mut Faults<'_>,
) -> Option<T> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let Value::Text(text) = &node.value else {
        let message = format!("`{path}` must be one of {}, this is {}", listed(&known), node.value.what());
        faults.push(node.place, path, message, None);
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
        return Some(*value);
    }
    let shown: String = text.chars().take(60).collect();
    let help = match nearest(text, &known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("use one of {}", listed(&known)),
    };
    faults.push(node.place, path, format!("`{shown}` is not a value of `{path}`"), Some(help));
    None
}

fn scalar<'n>(node: &'n Node, path: &str, what: &str, faults: &mut Faults<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) | Value::Number(text) => Some(text),
        other => {
            let message = format!("`{path}` must be {what}, this is {}", other.what());
            faults.push(node.place, path, message, None);
            None
        }
    }
}

fn from_text<T>(node: &Node, path: &str, what: &str, faults: &mut Faults<'_>) -> Option<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    match scalar(node, path, what, faults)?.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            faults.push(node.place, path, format!("`{path}`: {error}"), None);
            None
        }
    }
}

macro_rules! read_text {
    ($($kind:ty, $what:literal;)*) => {$(
        impl Read for $kind {
            fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
                from_text(node, path, $what, faults)
            }
        }
    )*};
}
read_text! {
    Bytes, "an amount of bytes such as 512Mi";
    MilliCpu, "an amount of CPU such as 1500m";
    Millis, "a duration such as 30s";
    Share, "a share such as 65%";
    Currency, "a currency such as EUR";
    Price, "a price such as 0.031";
    PriceTableName, "a name";
    WorkloadName, "a name";
    LauncherName, "a name";
}

macro_rules! read_whole {
    ($($kind:ty),*) => {$(
        impl Read for $kind {
            fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
                let text = scalar(node, path, "a whole number", faults)?;
                let value = text.parse().ok();
                if value.is_none() {
                    let shown: String = text.chars().take(40).collect();
                    let message = format!("`{path}` must be a whole number from 0 to {}, this is {shown:?}", <$kind>::MAX);
                    faults.push(node.place, path, message, None);
                }
                value
            }
        }
    )*};
}
read_whole!(u16, u32);

impl Read for String {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let text = scalar(node, path, "a text", faults)?;
        if text.len() > 4096 || text.chars().any(char::is_control) {
            let message =
                format!("`{path}` must be one line of at most 4096 bytes without control characters");
            faults.push(node.place, path, message, None);
            return None;
        }
        Some(text.to_owned())
    }
}

/// Free names with text values, as a launcher's parameters.
impl Read for BTreeMap<String, String> {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let message =
                format!("`{path}` must be a section of names and texts, this is {}", node.value.what());
            faults.push(node.place, path, message, None);
            return None;
        };
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let text = match &value.value {
                Value::Flag(flag) => Some(flag.to_string()),
                _ => String::read(value, &join(path, &key.name), faults),
            };
            if let Some(text) = text {
                map.insert(key.name.clone(), text);
            }
        }
        Some(map)
    }
}
