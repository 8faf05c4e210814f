//! Draws the edges of a machine, to be compared with the committed graph.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};

/// One edge: from, to, by which event, with which effects.
pub(super) fn edge(from: &str, to: &str, event: impl Debug, effects: &[impl Debug]) -> Option<String> {
    let event = format!("{event:?}").to_lowercase().replace('"', "");
    let event = event.replace("tick", "deadline");
    let effects: String = effects.iter().map(|effect| format!(" / {effect:?}")).collect();
    (from != to).then(|| format!("  {from} -> {to} [label=\"{event}{effects}\"];"))
}

/// The graph.
pub(super) fn graph(name: &str, edges: BTreeSet<String>) -> String {
    let mut dot = format!("digraph {name} {{\n");
    for line in edges {
        // Writing to a String cannot fail.
        let _ = writeln!(dot, "{line}");
    }
    dot + "}\n"
}
