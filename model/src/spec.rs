//! Reading specification files: YAML, TOML or JSON, many documents in one, each fault with its place.
//!
//! A file becomes a tree whose nodes know their line and column ([`tree`]), the tree is read field by field
//! ([`section`], [`document`], [`workload`]), and what was read is checked as a whole ([`check`]). Reading goes on
//! after a fault, so that one run reports all of them.

mod check;
mod cluster;
mod document;
mod fault;
mod section;
mod tree;
mod workload;

#[cfg(test)]
mod tests;

pub use document::{API_VERSION, to_document};
pub use fault::SpecFault;

use crate::workload::Workload;
use fault::Faults;

/// Largest file that is read, bytes; specs are written by people.
pub const FILE_LIMIT: usize = 1 << 20;

/// How a specification is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2; documents are separated by `---`.
    Yaml,
    /// TOML; many documents as `[[document]]`.
    Toml,
    /// JSON; many documents as an array.
    Json,
}

impl Format {
    /// The format that a file's name says; YAML when it says nothing.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("toml") => Self::Toml,
            Some("json") => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// Reads all documents of a file. `file` is used in messages, and its ending chooses the format.
///
/// # Errors
/// Every fault that was found, in the order of the file.
pub fn parse(file: &str, text: &str) -> Result<Vec<Workload>, Vec<SpecFault>> {
    parse_as(Format::of_file(file), file, text)
}

/// Reads all documents of a text in a known format. `file` is used in messages only.
///
/// # Errors
/// Every fault that was found, in the order of the file.
pub fn parse_as(format: Format, file: &str, text: &str) -> Result<Vec<Workload>, Vec<SpecFault>> {
    let mut faults = Faults::new(file, text);
    let mut workloads = Vec::new();
    if text.len() > FILE_LIMIT {
        faults.whole_file(format!("the file has {} bytes, more than {FILE_LIMIT}", text.len()));
    } else {
        match tree::read(format, text) {
            Ok(documents) => workloads = document::decode_all(&documents, &mut faults),
            Err(broken) => faults.push(broken.place, "", broken.message, broken.help),
        }
    }
    faults.into_result(workloads)
}
