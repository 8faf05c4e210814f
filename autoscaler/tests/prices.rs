//! What capacity costs: read, applied, compared, withdrawn, and still there after a kill.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use serde_json::{Value, json};

use support::{Answer, Service, worker};

const PATH: &str = "/api/v1/prices";

fn table(core: &str) -> String {
    format!(
        "apiVersion: trimtab/v1\nkind: PriceTable\nmetadata: {{ name: default }}\n\
         spec: {{ currency: EUR, perCoreHour: {core}, perGibHour: 0.0042 }}\n"
    )
}

fn put(service: &Service, query: &str, document: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = headers.to_vec();
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        all.push(("content-type", "application/yaml"));
    }
    service.request("PUT", &format!("{PATH}{query}"), &all, document)
}

#[test]
fn one_table_is_in_force_and_is_there_after_a_kill() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let none = service.request("GET", PATH, &[], "");
    assert_eq!((none.status, none.header("etag")), (200, None));
    assert_eq!(none.json(), json!({ "apiVersion": "trimtab/v1", "table": null }));

    let planned = put(&service, "?dryRun=true", &table("0.03"), &[]);
    assert_eq!(planned.status, 200, "{}", planned.body);
    let said = planned.json();
    assert_eq!(
        (&said["created"], &said["unchanged"], &said["revision"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    assert_eq!(service.get(PATH).1["table"], Value::Null, "nothing was changed");

    let first = put(&service, "", &table("0.03"), &[("if-none-match", "*")]);
    assert_eq!(first.status, 201, "{}", first.body);
    let tag = first.header("etag").unwrap().to_owned();
    let (_, read) = service.get(PATH);
    assert_eq!(read["table"]["perCoreHour"], 0.03);
    assert_eq!((&read["table"]["currency"], &read["table"]["name"]), (&json!("EUR"), &json!("default")));
    let again =
        put(&service, "", &read["table"]["document"].to_string(), &[("content-type", "application/json")]);
    assert_eq!(again.status, 200, "{}", again.body);
    let unchanged = put(&service, "", &table("0.03"), &[]);
    assert_eq!(
        (unchanged.json()["unchanged"].clone(), unchanged.header("etag")),
        (json!(true), Some(tag.as_str()))
    );
    assert_eq!(service.request("GET", PATH, &[("if-none-match", &tag)], "").status, 304);

    let changed = put(&service, "", &table("0.05"), &[("if-match", &tag)]);
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.json()["before"]["spec"]["perCoreHour"], 0.03);
    for (query, headers) in [("", ("if-match", tag.as_str())), ("?dryRun=true", ("if-none-match", "*"))] {
        let stale = put(&service, query, &table("0.07"), &[headers]);
        assert_eq!(stale.status, 412, "{}", stale.body);
        assert!(stale.body.contains("price table"), "{}", stale.body);
    }
    assert_eq!(service.request("DELETE", PATH, &[("if-match", &tag)], "").status, 412);
    service.kill();

    let service = Service::start(state.path(), &[]);
    assert_eq!(service.get(PATH).1["table"]["perCoreHour"], 0.05);
    assert_eq!(service.request("DELETE", PATH, &[], "").status, 204);
    assert_eq!(service.request("DELETE", PATH, &[], "").status, 404);
    service.kill();
    let service = Service::start(state.path(), &[]);
    assert_eq!(service.get(PATH).1["table"], Value::Null);
}

#[test]
fn what_is_no_price_table_is_refused_with_its_place() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let bad = put(&service, "", &table("cheap"), &[]);
    assert_eq!(bad.status, 422);
    let fault = &bad.json()["faults"][0];
    assert_eq!((&fault["field"], &fault["line"]), (&json!("spec.perCoreHour"), &json!(4)), "{}", bad.body);
    assert!(bad.body.contains("0.031"), "it says what to write: {}", bad.body);
    let misspelt = put(&service, "", &table("1").replace("currency", "curency"), &[]);
    assert!(misspelt.body.contains("did you mean `currency`"), "{}", misspelt.body);
    assert_eq!(put(&service, "", &worker(1, 2), &[]).status, 422);
    assert_eq!(put(&service, "", &format!("{}---\n{}", table("1"), worker(1, 2)), &[]).status, 422);
    assert_eq!(put(&service, "", &table("1"), &[("content-type", "text/html")]).status, 415);
    let wrong_place = service.put("jobs", &table("1"), &[]);
    assert!(wrong_place.status == 422 && wrong_place.body.contains("PriceTable"), "{}", wrong_place.body);
    assert_eq!(service.get(PATH).1["table"], Value::Null);
}
