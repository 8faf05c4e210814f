//! A file as a tree of values that know their place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use toml::de::{DeTable, DeValue};

use super::Format;
use super::fault::Place;

/// One value.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `null`, `~` or nothing.
    Nothing,
    /// True, false.
    Flag(bool),
    /// A number, as it would be written.
    Number(String),
    /// Any other scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A field's name and its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

impl Value {
    /// What it is, for messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Value::Nothing => "nothing",
            Value::Flag(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }
}

/// Why a text is not a tree.
pub(super) struct Broken {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// The documents of a text.
pub(super) fn read(format: Format, text: &str) -> Result<Vec<Node>, Broken> {
    match format {
        Format::Yaml => yaml(text),
        Format::Json => json(text),
        Format::Toml => toml(text),
    }
}

fn yaml(text: &str) -> Result<Vec<Node>, Broken> {
    let documents: Vec<Spanned<Raw>> = serde_saphyr::from_multiple(text).map_err(|error| {
        let plain = error.without_snippet();
        let place = plain.location().map_or(Place { line: 1, column: 1, width: 1 }, |l| place(l, 1));
        // The library appends the place; it is shown by ours.
        let message = plain.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().replace('\n', " ");
        let tab = text
            .lines()
            .nth(place.line.saturating_sub(1))
            .is_some_and(|l| l.trim_start_matches(' ').starts_with('\t'));
        Broken {
            place,
            message: format!("this is not valid YAML: {message}"),
            help: tab.then(|| "indent with spaces: YAML does not allow tabs there".to_owned()),
        }
    })?;
    Ok(documents.into_iter().map(Node::from).collect())
}

/// JSON is checked by its own grammar, then read as the YAML that it also is, which gives the places.
fn json(text: &str) -> Result<Vec<Node>, Broken> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        return Err(Broken {
            place: Place { line: error.line().max(1), column: error.column().max(1), width: 1 },
            message: format!("this is not valid JSON: {message}"),
            help: None,
        });
    }
    let documents = yaml(text)?;
    Ok(documents
        .into_iter()
        .flat_map(|node| match node.value {
            Value::List(many) => many,
            _ => vec![node],
        })
        .collect())
}

fn toml(text: &str) -> Result<Vec<Node>, Broken> {
    let at = |offset: usize, width: usize| {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            width: width.max(1),
        }
    };
    let table = DeTable::parse(text).map_err(|error| Broken {
        place: error.span().map_or(at(0, 1), |span| at(span.start, span.len())),
        message: format!("this is not valid TOML: {}", error.message().replace('\n', " ")),
        help: None,
    })?;
    let root = Node { place: at(0, 1), value: from_table(table.get_ref(), &at) };
    if let Value::Map(entries) = &root.value
        && let [(key, Node { value: Value::List(many), .. })] = entries.as_slice()
        && key.name == "document"
    {
        return Ok(many.clone());
    }
    Ok(vec![root])
}

fn from_table(table: &DeTable<'_>, at: &impl Fn(usize, usize) -> Place) -> Value {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let name = key.get_ref().to_string();
            let place = at(key.span().start, key.span().len());
            (Key { place, name }, from_toml(value, at))
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.place);
    Value::Map(entries)
}

fn from_toml(value: &toml::Spanned<DeValue<'_>>, at: &impl Fn(usize, usize) -> Place) -> Node {
    let value_at = at(value.span().start, value.span().len());
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Value::Number(number.as_str().to_owned()),
        DeValue::Integer(number) => Value::Number(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_owned(), |n| n.to_string()),
        ),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(moment) => Value::Text(moment.to_string()),
        DeValue::Array(many) => Value::List(many.iter().map(|v| from_toml(v, at)).collect()),
        DeValue::Table(table) => from_table(table, at),
    };
    Node { place: value_at, value }
}

fn place(location: Location, width: usize) -> Place {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).max(1);
    Place { line: number(location.line()), column: number(location.column()), width: width.max(1) }
}

/// A YAML value whose parts know their places.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl From<Spanned<Raw>> for Node {
    fn from(raw: Spanned<Raw>) -> Node {
        let at = raw.referenced;
        match raw.value {
            Raw::Scalar(value) => {
                let width = match &value {
                    Value::Text(text) | Value::Number(text) => text.chars().count(),
                    Value::Flag(flag) => flag.to_string().len(),
                    _ => 1,
                };
                Node { place: place(at, width), value }
            }
            Raw::List(many) => {
                Node { place: place(at, 1), value: Value::List(many.into_iter().map(Node::from).collect()) }
            }
            Raw::Map(entries) => {
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| {
                        let at = place(key.referenced, key.value.chars().count());
                        (Key { place: at, name: key.value }, Node::from(value))
                    })
                    .collect();
                Node { place: place(at, 1), value: Value::Map(entries) }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Flag(flag)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(number.to_string())))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(number.to_string())))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(number.to_string())))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Nothing))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Nothing))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
