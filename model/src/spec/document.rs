//! One document: `apiVersion`, `kind`, `metadata`, `spec`.

use std::collections::BTreeMap;

use super::fault::{Faults, Place};
use super::section::{Read, Section, word};
use super::tree::{Node, Value};
use super::{Documents, prices, workload};
use crate::id::WorkloadName;
use crate::prices::PriceTable;
use crate::workload::Workload;

/// The one version of specifications that is read.
pub const API_VERSION: &str = "trimtab/v1";

const FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "spec"];
const METADATA: &[&str] = &["name"];
/// Kinds that are planned but that this version does not read.
const LATER: &[&str] = &["NodePool", "Policy"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Workload,
    Prices,
}

const KINDS: &[(&str, Kind)] = &[("Workload", Kind::Workload), ("PriceTable", Kind::Prices)];

enum Document {
    Workload(Box<Workload>),
    Prices(PriceTable),
}

/// All documents, and where the prices are.
pub(super) fn decode_all(documents: &[Node], faults: &mut Faults<'_>) -> (Documents, Option<Place>) {
    let mut all = Documents::default();
    let mut seen: BTreeMap<WorkloadName, Place> = BTreeMap::new();
    let mut prices_at: Option<Place> = None;
    for node in documents.iter().filter(|node| !matches!(node.value, Value::Nothing)) {
        let Some((document, at)) = decode(node, faults) else { continue };
        match document {
            Document::Workload(workload) => {
                if let Some(first) = seen.insert(workload.name.clone(), at) {
                    let message = format!("workload `{}` is specified twice in this file", workload.name);
                    let help = format!("the first one is at line {}", first.line);
                    faults.push(at, "metadata.name", message, Some(help));
                }
                all.workloads.push(*workload);
            }
            Document::Prices(table) => {
                if let Some(first) = prices_at {
                    let message = "there are two price tables in this file, and one is in force".to_owned();
                    let help = format!("the first one is at line {}", first.line);
                    faults.push(at, "metadata.name", message, Some(help));
                }
                prices_at = prices_at.or(Some(at));
                all.prices = Some(table);
            }
        }
    }
    if all == Documents::default() && !faults.any() {
        faults.whole_file("the file has no document".to_owned());
    }
    (all, prices_at)
}

fn decode(node: &Node, faults: &mut Faults<'_>) -> Option<(Document, Place)> {
    let before = faults.count();
    let document = Section::open(node, "", FIELDS, faults)?;
    let version: Option<String> = document.required("apiVersion", "apiVersion: trimtab/v1", faults);
    if let Some(version) = version.filter(|version| version != API_VERSION) {
        let shown: String = version.chars().take(60).collect();
        document.fault(
            "apiVersion",
            format!("`{shown}` is not a version that is known"),
            format!("write `{API_VERSION}`"),
            faults,
        );
    }
    let (read, at) = match kind(&document, faults) {
        Kind::Workload => {
            let (name, at) = named(&document, "web", faults);
            let spec = section(&document, "spec: { type: service, … }", workload::read_spec, faults);
            (name.zip(spec).map(|(name, spec)| Document::Workload(Box::new(Workload { name, spec }))), at)
        }
        Kind::Prices => {
            let (name, at) = named(&document, "default", faults);
            let example = "spec: { currency: EUR, perCoreHour: 0.031, perGibHour: 0.004 }";
            let spec = section(&document, example, prices::read_spec, faults);
            (name.zip(spec).map(|(name, spec)| Document::Prices(PriceTable { name, spec })), at)
        }
    };
    Some((read.filter(|_| faults.count() == before)?, at))
}

/// What a document is read as; one whose kind is not clear as a workload, so that more of its faults are found.
fn kind(document: &Section<'_>, faults: &mut Faults<'_>) -> Kind {
    let node = document.node("kind");
    match node.map(|node| &node.value) {
        None => drop(document.required::<String>("kind", "kind: Workload", faults)),
        Some(Value::Text(text)) if LATER.contains(&text.as_str()) => {
            document.fault(
                "kind",
                format!("`{text}` is not read by this version"),
                "only `Workload` and `PriceTable` are",
                faults,
            );
        }
        Some(_) => {
            if let Some(kind) = node.and_then(|node| word(node, "kind", KINDS, faults)) {
                return kind;
            }
        }
    }
    Kind::Workload
}

/// The name, and where it is or should be.
fn named<N: Read>(document: &Section<'_>, example: &str, faults: &mut Faults<'_>) -> (Option<N>, Place) {
    let Some(node) = document.node("metadata") else {
        let example = format!("metadata: {{ name: {example} }}");
        drop(document.required::<String>("metadata", &example, faults));
        return (None, document.place_of("metadata"));
    };
    let Some(metadata) = Section::open(node, "metadata", METADATA, faults) else {
        return (None, node.place);
    };
    (metadata.required("name", &format!("name: {example}"), faults), metadata.place_of("name"))
}

fn section<T>(
    document: &Section<'_>,
    example: &str,
    read: fn(&Node, &mut Faults<'_>) -> Option<T>,
    faults: &mut Faults<'_>,
) -> Option<T> {
    match document.node("spec") {
        Some(node) => read(node, faults),
        None => {
            drop(document.required::<String>("spec", example, faults));
            None
        }
    }
}

/// A workload as the document that would specify it.
#[must_use]
pub fn to_document(workload: &Workload) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "Workload",
        "metadata": { "name": workload.name },
        "spec": workload.spec,
    })
}

/// A price table as the document that would specify it.
#[must_use]
pub fn prices_document(table: &PriceTable) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "PriceTable",
        "metadata": { "name": table.name },
        "spec": table.spec,
    })
}
