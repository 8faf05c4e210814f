//! Between messages and the vocabulary. To a message is total; from a message is a parse that may refuse.

mod adapter;
mod cluster;
mod command;
mod event;
mod node;
#[cfg(test)]
mod tests;

pub(crate) use node::container_to_pb;
pub use node::{Hello, RunsHere, hello, hello_to_pb, task_info};

use crate::{TEXT_LIMIT, WireError};

/// Refuses a text that is too long for the wire.
fn text(what: &'static str, value: String) -> Result<String, WireError> {
    if value.len() > TEXT_LIMIT {
        return Err(WireError::OverLimit { what, found: value.len(), limit: TEXT_LIMIT });
    }
    Ok(value)
}

/// Parses a checked name.
fn name<T>(what: &'static str, value: &str) -> Result<T, WireError>
where
    T: std::str::FromStr<Err = model::id::NameError>,
{
    value.parse().map_err(|e: model::id::NameError| WireError::Invalid { what, why: e.to_string() })
}

/// Parses a name that may be absent (empty).
fn optional_name<T>(what: &'static str, value: &str) -> Result<Option<T>, WireError>
where
    T: std::str::FromStr<Err = model::id::NameError>,
{
    if value.is_empty() { Ok(None) } else { name(what, value).map(Some) }
}

/// Refuses a list that is too long.
fn few<T>(what: &'static str, list: Vec<T>, limit: usize) -> Result<Vec<T>, WireError> {
    if list.len() > limit {
        return Err(WireError::OverLimit { what, found: list.len(), limit });
    }
    Ok(list)
}

/// Cuts a text of ours to what the wire allows, at a character boundary.
#[must_use]
pub fn fit(mut value: String) -> String {
    if value.len() > TEXT_LIMIT {
        let mut end = TEXT_LIMIT - '…'.len_utf8();
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        value.push('…');
    }
    value
}

fn unspecified(what: &'static str) -> WireError {
    WireError::Invalid { what, why: "a value that this version does not know".to_owned() }
}
