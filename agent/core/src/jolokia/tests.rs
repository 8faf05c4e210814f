use proptest::prelude::*;

use super::*;

/// What the first of four nodes of Cassandra 5.0.9 answered, with three of the kinds of dropped messages.
const ANSWER: &str = include_str!("answer.json");
/// What it answered about who owns how much of three keyspaces, and where four members are.
const TOPOLOGY: &str = include_str!("topology.json");

const MEMBERS: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

fn changed(path: &str, value: Value) -> Result<(CassandraReport, Beside), AnswerError> {
    let mut answer: Value = serde_json::from_str(ANSWER).unwrap();
    *answer.pointer_mut(path).unwrap() = value;
    report("ring", answer.to_string().as_bytes())
}

#[test]
fn what_cassandra_answered_is_read() {
    let (report, beside) = report("ring", ANSWER.as_bytes()).unwrap();
    assert_eq!((report.cluster.as_str(), report.address.as_str()), ("ring", "127.0.0.1"));
    assert_eq!(
        (report.dc.as_str(), report.rack.as_str(), report.mode),
        ("dc1", "rack1", CassandraMode::Normal)
    );
    assert_eq!(report.ring.members, MEMBERS);
    assert_eq!(report.ring.live, MEMBERS);
    assert!(report.ring.joining.is_empty() && report.ring.unreachable.is_empty());
    assert_eq!((report.streams, report.hints, report.pending_compactions, report.dropped), (0, 0, 0, 0));
    assert_eq!((report.load_bytes, report.reads.count), (122_508, 2));
    assert_eq!(report.replication, BTreeMap::new(), "that is another question");
    assert_eq!(beside.keyspaces, ["system_traces", "system_distributed", "system_auth"]);
    assert_eq!(beside.data.len(), 1);
}

#[test]
fn replicas_are_what_the_shares_of_a_data_centre_add_up_to() {
    let keyspaces = texts(&["system_traces", "system_distributed", "system_auth"]);
    let of = |dc: &str| replication(&keyspaces, &texts(&MEMBERS), dc, TOPOLOGY.as_bytes()).unwrap();
    let here = of("dc1");
    assert_eq!((here["system_traces"], here["system_distributed"], here["system_auth"]), (2, 3, 1));
    assert!(of("elsewhere").values().all(|replicas| *replicas == 0));
    let questions = topology_questions(&keyspaces, &texts(&MEMBERS));
    assert_eq!(questions.as_array().unwrap().len(), 7);
    assert!(replication(&keyspaces, &[], "dc1", TOPOLOGY.as_bytes()).is_err(), "answers to other questions");
}

#[test]
fn the_status_inside_counts() {
    let said = |answer: Value| report("ring", answer.to_string().as_bytes()).unwrap_err();
    let mut all: Vec<Value> = serde_json::from_str(ANSWER).unwrap();
    all[1] = json!({"status": 404, "error_type": "javax.management.InstanceNotFoundException", "error": "no bean"});
    assert_eq!(said(Value::Array(all.clone())), AnswerError::NotThere("pending compactions"));
    all[1] = json!({"status": 403});
    assert_eq!(said(Value::Array(all.clone())), AnswerError::Forbidden("pending compactions"));
    all[1] = json!({"status": 500, "error": "java.lang.IllegalStateException : \u{1b}[31m down"});
    assert!(said(Value::Array(all)).to_string().contains("IllegalStateException"));
    assert_eq!(said(json!({"status": 403})), AnswerError::Forbidden("bulk requests"));
}

#[test]
fn an_operation_that_returns_is_not_yet_a_success() {
    let returned = |step, answer: Value| returned(step, answer.to_string().as_bytes());
    let refusal = "java.lang.UnsupportedOperationException : Not enough live nodes to maintain replication factor \
                   in keyspace system_distributed (RF = 3, N = 3). Perform a forceful decommission to ignore.";
    let no = returned(CassandraStep::Decommission, json!({"status": 500, "error": refusal}));
    assert!(no.unwrap_err().to_string().contains("Not enough live nodes"));
    let cleanup = |status: i64| returned(CassandraStep::Cleanup, json!({"status": 200, "value": status}));
    assert_eq!(cleanup(0), Ok(()));
    assert!(cleanup(2).unwrap_err().to_string().contains("status 2"));
    assert_eq!(returned(CassandraStep::Decommission, json!({"status": 200, "value": null})), Ok(()));
}

#[test]
fn nothing_is_ever_forced() {
    let leave = requests(CassandraStep::Decommission, &[]);
    assert_eq!(leave.len(), 1);
    assert_eq!(
        (&leave[0]["operation"], &leave[0]["arguments"]),
        (&json!("decommission(boolean)"), &json!([false]))
    );
    let cleanup = requests(CassandraStep::Cleanup, &texts(&["a", "b"]));
    assert_eq!(cleanup[1]["arguments"], json!([1, "b", []]), "one job, one keyspace after the other");
}

#[test]
fn an_address_is_one_however_it_is_written() {
    for text in ["127.0.0.1", "/127.0.0.1", "/127.0.0.1:7000", "db1.example/127.0.0.1", "127.0.0.1:7000"] {
        assert_eq!(address(text), "127.0.0.1", "{text}");
    }
    for text in ["2001:db8::1", "[2001:db8::1]", "/[2001:db8::1]:7000", "2001:0db8:0::1"] {
        assert_eq!(address(text), "2001:db8::1", "{text}");
    }
}

#[test]
fn a_node_that_starts_has_no_address_yet_and_odd_answers_are_refused() {
    let (starting, _) = changed("/0/value/HostIdToEndpoint", json!({})).unwrap();
    assert_eq!(starting.address, "");
    let mut answer: Value = serde_json::from_str(ANSWER).unwrap();
    answer[0]["value"].as_object_mut().unwrap().remove("AllDataFileLocations");
    let without = report("ring", answer.to_string().as_bytes());
    assert_eq!(without.unwrap_err(), AnswerError::Odd("AllDataFileLocations"));
    assert_eq!(
        changed("/0/value/OperationMode", json!("DANCING")).unwrap_err(),
        AnswerError::Odd("OperationMode")
    );
    assert_eq!(changed("/1/value", json!(-1)).unwrap_err(), AnswerError::Odd("PendingTasks"));
    let tokens: Map<String, Value> =
        (0..=LIMIT).map(|n| (n.to_string(), json!(format!("10.0.{}.{}", n / 256, n % 256)))).collect();
    let many = changed("/0/value/TokenToEndpointMap", Value::Object(tokens));
    assert_eq!(many.unwrap_err(), AnswerError::TooMany(LIMIT + 1, "members"));
    let (before, _) = changed("/2/value", json!({"Count": 0, "99thPercentile": 0.0})).unwrap();
    assert_eq!(before.reads.p99_us, None, "nothing was read: that is no time of 0");
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(at in 0usize..4_000, byte: u8) {
        let mut body = ANSWER.as_bytes().to_vec();
        let at = at % body.len();
        body[at] = byte;
        let _ = report("ring", &body);
        let _ = replication(&texts(&["a"]), &texts(&["b"]), "dc1", &body);
    }

    #[test]
    fn any_text_is_an_address_that_disturbs_nobody(text in "\\PC{0,60}") {
        let said = address(&text);
        prop_assert!(!said.chars().any(char::is_control));
    }
}
