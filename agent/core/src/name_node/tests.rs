use proptest::prelude::*;

use super::*;

/// What Hadoop 3.5.0 answered in the second after a decommission of the third of three nodes, without parts that are not read.
const SYSTEM: &[u8] = include_bytes!("system.json");
const STATE: &[u8] = include_bytes!("state.json");
const INFO: &[u8] = include_bytes!("info.json");
const REPLICATION: &[u8] = include_bytes!("replication.xml");

fn recorded() -> Answers<'static> {
    Answers { system: SYSTEM, state: STATE, info: INFO, replication: Some(REPLICATION) }
}

#[test]
fn what_hadoop_answered_is_read() {
    let report = report("store", &recorded()).unwrap();
    assert_eq!((report.cluster.as_str(), report.blocks, report.replication), ("store", 18, Some(2)));
    assert_eq!((report.missing_blocks, report.corrupt_blocks, report.under_replicated_blocks), (0, 0, 0));
    assert!(report.safe_mode.is_empty() && report.started_ms > 1_700_000_000_000);
    let names: Vec<&str> = report.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.11:9901", "127.0.0.12:9902", "127.0.0.13:9903"]);
    let third = &report.nodes[2];
    assert_eq!((third.state, third.blocks, third.alive), (AdminState::Decommissioning, 12, true));
    assert_eq!(third.address, "127.0.0.1:9903", "the list of hosts knows it by where it came from");
    assert!(report.nodes.iter().all(|node| node.rack == "/default-rack"));
}

fn changed(from: &str, to: &str) -> Result<HdfsReport, AnswerError> {
    let text = String::from_utf8_lossy(INFO).into_owned();
    assert!(text.contains(from), "{from}");
    report("store", &Answers { info: text.replace(from, to).as_bytes(), ..recorded() })
}

#[test]
fn a_dead_node_has_its_state_and_no_space() {
    let dead = r#"\"w4:9866\":{\"lastContact\":700,\"decommissioned\":true,\"adminState\":\"Decommissioned\",\"uuid\":\"u\",\"location\":\"/r\",\"xferaddr\":\"192.0.2.4:9866\"}"#;
    let report = changed(r#""DeadNodes": "{}""#, &format!(r#""DeadNodes": "{{{dead}}}""#)).unwrap();
    let node = report.nodes.iter().find(|node| node.name == "w4:9866").unwrap();
    assert_eq!((node.alive, node.state, node.capacity_bytes), (false, AdminState::Decommissioned, 0));
    assert_eq!(node.address, "192.0.2.4:9866");
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let states = changed("Decommission In Progress", "Gone");
    assert!(matches!(states, Err(AnswerError::Unreadable("a node's state", _))), "{states:?}");
    let safe = changed(r#""Safemode": """#, r#""Safemode": "Safe mode is ON.""#).unwrap();
    assert_eq!(safe.safe_mode, "Safe mode is ON.");
    let none = report("store", &Answers { replication: None, ..recorded() }).unwrap();
    assert_eq!(none.replication, None);
    let page = report("store", &Answers { replication: Some(b"<html/>"), ..recorded() }).unwrap();
    assert_eq!(page.replication, None);
}

#[test]
fn a_standby_a_start_and_nonsense_are_refused() {
    let standby = String::from_utf8_lossy(SYSTEM).replace("\"active\"", "\"standby\"");
    let said = report("store", &Answers { system: standby.as_bytes(), ..recorded() });
    assert_eq!(said, Err(AnswerError::NotActive("standby".into())));
    let starting = report("store", &Answers { info: br#"{"beans":[]}"#, ..recorded() });
    assert_eq!(starting, Err(AnswerError::Starting("NameNodeInfo")));
    let html = report("store", &Answers { system: b"<html>", ..recorded() });
    assert!(matches!(html, Err(AnswerError::Unreadable("FSNamesystem", _))));
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(at in 0usize..4_000, byte: u8, which in 0usize..4) {
        let mut bodies = [SYSTEM, STATE, INFO, REPLICATION].map(<[u8]>::to_vec);
        let body = &mut bodies[which];
        let at = at % body.len();
        body[at] = byte;
        let [system, state, info, replication] = &bodies;
        let _ = report("store", &Answers { system, state, info, replication: Some(replication) });
    }
}
