//! One document: `apiVersion`, `kind`, `metadata`, `spec`.

use std::collections::BTreeMap;

use super::fault::{Faults, Place};
use super::section::{Section, word};
use super::tree::{Node, Value};
use super::workload::read_spec;
use crate::id::WorkloadName;
use crate::workload::Workload;

/// The one version of specifications that is read.
pub const API_VERSION: &str = "trimtab/v1";

const FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "spec"];
const METADATA: &[&str] = &["name"];
/// Kinds that are planned but that this version does not read.
const LATER: &[&str] = &["NodePool", "Policy", "PriceTable"];

pub(super) fn decode_all(documents: &[Node], faults: &mut Faults<'_>) -> Vec<Workload> {
    let mut workloads = Vec::new();
    let mut seen: BTreeMap<WorkloadName, Place> = BTreeMap::new();
    for node in documents.iter().filter(|node| !matches!(node.value, Value::Nothing)) {
        let Some((workload, at)) = decode(node, faults) else { continue };
        if let Some(first) = seen.insert(workload.name.clone(), at) {
            let message = format!("workload `{}` is specified twice in this file", workload.name);
            let help = format!("the first one is at line {}", first.line);
            faults.push(at, "metadata.name", message, Some(help));
        }
        workloads.push(workload);
    }
    if workloads.is_empty() && !faults.any() {
        faults.whole_file("the file has no document".to_owned());
    }
    workloads
}

fn decode(node: &Node, faults: &mut Faults<'_>) -> Option<(Workload, Place)> {
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
    let kind = document.node("kind");
    match kind.map(|node| &node.value) {
        None => drop(document.required::<String>("kind", "kind: Workload", faults)),
        Some(Value::Text(text)) if LATER.contains(&text.as_str()) => {
            document.fault(
                "kind",
                format!("`{text}` is not read by this version"),
                "only `Workload` is",
                faults,
            );
        }
        Some(_) => drop(kind.and_then(|node| word(node, "kind", &[("Workload", ())], faults))),
    }
    let name = match document.node("metadata") {
        Some(node) => Section::open(node, "metadata", METADATA, faults).and_then(|metadata| {
            Some((metadata.required::<WorkloadName>("name", "name: web", faults)?, metadata.place_of("name")))
        }),
        None => {
            drop(document.required::<String>("metadata", "metadata: { name: web }", faults));
            None
        }
    };
    let spec = match document.node("spec") {
        Some(node) => read_spec(node, faults),
        None => {
            drop(document.required::<String>("spec", "spec: { type: service, … }", faults));
            None
        }
    };
    let (name, at) = name?;
    let spec = spec?;
    (faults.count() == before).then_some((Workload { name, spec }, at))
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
