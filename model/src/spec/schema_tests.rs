//! The JSON Schema of specifications, made of the types that they are read into, and held against the parser.
//! `UPDATE=1 cargo test -p model schema` writes `schema.json` anew.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::tests::EXAMPLES;
use super::{SCHEMA, parse_all};
use crate::id::{LauncherName, PriceTableName, WorkloadName};
use crate::prices::{Currency, Price, PriceSpec};
use crate::units::{Bytes, MilliCpu, Millis, Share};
use crate::workload::WorkloadSpec;

macro_rules! written {
    ($($kind:ident: $schema:tt)*) => {$(
        impl JsonSchema for $kind {
            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}
written! {
    Bytes: {
        "description": "An amount of bytes: 512Mi, 2Gi, or a number.",
        "anyOf": [
            { "type": "string", "pattern": "^[0-9.]+ *([kMGT]B?|[KMGT]iB?|B)?$" },
            { "type": "number", "minimum": 0 }
        ]
    }
    MilliCpu: {
        "description": "An amount of CPU: 1500m, or cores: 2, 0.5.",
        "anyOf": [{ "type": "string", "pattern": "^[0-9.]+ *m?$" }, { "type": "number", "minimum": 0 }]
    }
    Millis: {
        "description": "A length of time: 250ms, 30s, 5m, 2h, 1d.",
        "type": "string",
        "pattern": "^[0-9.]+ *(ms|s|m|min|h|d)$"
    }
    Share: {
        "description": "A share, above 0 and at most 100%: 65%, 0.65.",
        "anyOf": [
            { "type": "string", "pattern": "^[0-9.]+ *%?$" },
            { "type": "number", "exclusiveMinimum": 0, "maximum": 1 }
        ]
    }
    Currency: { "description": "Shown as it is given.", "type": "string", "minLength": 1, "maxLength": 16 }
    Price: {
        "description": "Money, with a point.",
        "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": "^[0-9.]+$" }]
    }
    WorkloadName: { "description": "A name.", "type": "string", "minLength": 1 }
    LauncherName: { "description": "A launcher of the agents.", "type": "string", "minLength": 1 }
    PriceTableName: { "description": "A name.", "type": "string", "minLength": 1 }
}

fn document(kind: &str, name: &Schema, spec: &Schema) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "const": "trimtab/v1" },
            "kind": { "const": kind },
            "metadata": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name"],
                "properties": { "name": name }
            },
            "spec": spec
        }
    })
}

fn made() -> String {
    let mut generator = SchemaGenerator::default();
    let (workload, prices) =
        (generator.subschema_for::<WorkloadName>(), generator.subschema_for::<PriceTableName>());
    let (spec, table) = (generator.subschema_for::<WorkloadSpec>(), generator.subschema_for::<PriceSpec>());
    let mut definitions = generator.take_definitions(true);
    // What is not written there is as the type says: no one value is the default.
    let behavior = &mut definitions["Behavior"]["properties"];
    behavior
        .as_object_mut()
        .unwrap()
        .values_mut()
        .for_each(|field| drop(field.as_object_mut().unwrap().remove("default")));
    for (_, definition) in &mut definitions {
        // A launcher takes what is written as text, whatever it looks like.
        if let Some(parameters) = definition.pointer_mut("/properties/parameters/additionalProperties") {
            *parameters = json!({ "type": ["string", "number", "boolean"] });
        }
    }
    definitions["WorkloadSpec"]["properties"]["behavior"].as_object_mut().unwrap().remove("default");
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A specification of Trimtab",
        "oneOf": [document("Workload", &workload, &spec), document("PriceTable", &prices, &table)],
        "$defs": definitions
    });
    serde_json::to_string_pretty(&whole).unwrap() + "\n"
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test writes the file that it compares with")]
fn the_schema_is_as_the_types_are() {
    let made = made();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/spec/schema.json"), &made).unwrap();
        return;
    }
    assert!(SCHEMA == made, "schema.json is out of date: run the test with UPDATE=1");
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn examples_hold_and_what_the_parser_refuses_by_its_form_does_not() {
    let schema = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    for (name, text) in
        EXAMPLES.into_iter().chain([("prices.yaml", include_str!("../../../examples/prices.yaml"))])
    {
        let document = yaml(text);
        let faults: Vec<String> = schema.iter_errors(&document).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, [""; 0], "{name}");
    }
    let good = EXAMPLES[1].1;
    for (what, with) in [
        ("mode: recommend", "mode: recomend"),
        ("replicas:", "replica:"),
        ("cpu: 65%", "cpu: 65 per cent"),
        ("cpu: 65%", "queueDelayP95: 20"),
        ("memory: 512Mi", "memory: 512Mb"),
        ("launcher: worker", "launcher: worker, port: 3"),
        ("kind: Workload", "kind: Workloads"),
        ("min: 1", "min: one"),
    ] {
        let bad = good.replace(what, with);
        assert_ne!(bad, good, "{what}");
        assert!(parse_all("bad.yaml", &bad).is_err(), "the parser takes `{with}`");
        assert!(!schema.is_valid(&yaml(&bad)), "the schema takes `{with}`");
    }
}

/// Each section of the schema, below `at`: its path, and the names of its fields.
fn sections(schema: &Value, at: &Value, path: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
    let below = |reference: &Value| {
        let name = reference.as_str().and_then(|text| text.strip_prefix("#/$defs/")).unwrap();
        schema["$defs"][name].clone()
    };
    if !at["$ref"].is_null() {
        return sections(schema, &below(&at["$ref"]), path, found);
    }
    for one in at["anyOf"].as_array().into_iter().flatten() {
        sections(schema, one, path, found);
    }
    let Some(fields) = at["properties"].as_object() else { return };
    found.push((path.to_owned(), fields.keys().cloned().collect()));
    for (name, field) in fields {
        sections(schema, field, &format!("{path}.{name}"), found);
    }
}

/// The parser's own list of the fields of a section, from its words about one that is unknown.
fn known(path: &str) -> BTreeSet<String> {
    let mut document =
        json!({ "apiVersion": "trimtab/v1", "kind": "Workload", "metadata": { "name": "a" }, "spec": {} });
    let pointer = path.replace('.', "/");
    let mut at = &mut document;
    for part in pointer.split('/').filter(|part| !part.is_empty()) {
        at = &mut at[part];
        if at.is_null() {
            *at = json!({});
        }
    }
    at["qqqqqqqq"] = json!(1);
    let faults = parse_all("a.json", &document.to_string()).unwrap_err();
    let fault = faults.iter().find(|fault| fault.message.contains("qqqqqqqq")).unwrap();
    let help = fault.help.clone().unwrap();
    help.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_parser_knows_the_same_fields() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut found = Vec::new();
    sections(&schema, &schema["oneOf"][0], "", &mut found);
    assert!(found.len() > 12, "{found:?}");
    for (path, fields) in found {
        assert_eq!(known(&path), fields, "fields of `{path}`");
    }
}
