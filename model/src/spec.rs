//! Reading specification files: YAML, TOML or JSON, many documents in one, each fault with its place.
//!
//! A file becomes a tree whose nodes know their line and column ([`tree`]), the tree is read field by field
//! ([`section`], [`document`], [`workload`], [`prices`]), and what was read is checked as a whole ([`check`]). Reading goes on
//! after a fault, so that one run reports all of them.

mod check;
mod cluster;
mod document;
mod fault;
mod prices;
#[cfg(test)]
mod schema_tests;
mod section;
mod tree;
mod workload;

#[cfg(test)]
mod tests;

pub use document::{API_VERSION, prices_document, to_document};
pub use fault::SpecFault;

use crate::prices::PriceTable;
use crate::workload::Workload;
use fault::{Faults, Place};

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

/// The JSON Schema of one document, for editors and other programs. The parser knows more rules, and takes a number in quotes, too.
pub const SCHEMA: &str = include_str!("spec/schema.json");

/// Everything that a file specifies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Documents {
    /// Workloads, in their order.
    pub workloads: Vec<Workload>,
    /// The prices; there is one table in force.
    pub prices: Option<PriceTable>,
}

/// What is read of a file, and where the prices are in it.
type Read = (Documents, Option<Place>);

/// Reads all documents of a file, of any kind. `file` is used in messages, and its ending chooses the format.
///
/// # Errors
/// Every fault that was found, in the order of the file.
pub fn parse_all(file: &str, text: &str) -> Result<Documents, Vec<SpecFault>> {
    let mut faults = Faults::new(file, text);
    let (documents, _) = read(Format::of_file(file), text, &mut faults);
    faults.into_result(documents)
}

/// Reads all documents of a file, which are workloads. `file` is used in messages, and its ending chooses the format.
///
/// # Errors
/// Every fault that was found, in the order of the file.
pub fn parse(file: &str, text: &str) -> Result<Vec<Workload>, Vec<SpecFault>> {
    parse_as(Format::of_file(file), file, text)
}

/// Reads all documents of a text in a known format, which are workloads. `file` is used in messages only.
///
/// # Errors
/// Every fault that was found, in the order of the file.
pub fn parse_as(format: Format, file: &str, text: &str) -> Result<Vec<Workload>, Vec<SpecFault>> {
    let mut faults = Faults::new(file, text);
    let (documents, prices) = read(format, text, &mut faults);
    if let Some(place) = prices {
        let message = "this is a `PriceTable`, and a `Workload` is wanted here".to_owned();
        faults.push(place, "kind", message, Some("`trimtab apply` takes both".to_owned()));
    }
    faults.into_result(documents.workloads)
}

/// Reads a text in a known format that is one price table. `file` is used in messages only.
///
/// # Errors
/// Every fault that was found, in the order of the file.
pub fn parse_prices_as(format: Format, file: &str, text: &str) -> Result<PriceTable, Vec<SpecFault>> {
    let mut faults = Faults::new(file, text);
    let (documents, _) = read(format, text, &mut faults);
    if !faults.any() && (documents.prices.is_none() || !documents.workloads.is_empty()) {
        faults.whole_file("one document of `kind: PriceTable` is wanted here, and nothing else".to_owned());
    }
    match documents.prices {
        Some(prices) => faults.into_result(prices),
        None => Err(faults.into_result(()).err().unwrap_or_default()),
    }
}

fn read(format: Format, text: &str, faults: &mut Faults<'_>) -> Read {
    if text.len() > FILE_LIMIT {
        faults.whole_file(format!("the file has {} bytes, more than {FILE_LIMIT}", text.len()));
        return Read::default();
    }
    match tree::read(format, text) {
        Ok(documents) => document::decode_all(&documents, faults),
        Err(broken) => {
            faults.push(broken.place, "", broken.message, broken.help);
            Read::default()
        }
    }
}
