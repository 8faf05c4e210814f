use proptest::prelude::*;

use super::*;

/// What Hadoop 3.5.0 answered while a job of three maps ran on three nodes, without parts that are not read.
const INFO: &[u8] = include_bytes!("info.json");
const METRICS: &[u8] = include_bytes!("metrics.json");
const NODES_ANSWER: &[u8] = include_bytes!("nodes.json");
const APPS: &[u8] = include_bytes!("apps.json");

fn recorded() -> Answers<'static> {
    Answers { info: INFO, metrics: METRICS, nodes: NODES_ANSWER, apps: APPS }
}

fn read_recorded() -> YarnReport {
    report("batch", &recorded(), Some(Vec::new())).unwrap()
}

#[test]
fn what_hadoop_answered_is_read() {
    let report = read_recorded();
    assert_eq!((report.cluster.as_str(), report.started_ms), ("batch", 1_795_336_338_114));
    assert_eq!((report.apps_running, report.labels), (1, false));
    let of = |host: &str| report.nodes.iter().find(|node| node.host == host).unwrap();
    let (first, second, third) = (of("127.0.0.11"), of("127.0.0.12"), of("127.0.0.13"));
    assert_eq!((first.containers, first.masters), (1, 0));
    assert_eq!((second.containers, second.masters), (3, 1), "the master's node is told apart");
    assert_eq!((third.containers, third.used), (0, Resources::default()));
    assert_eq!(first.port, Some(8041));
    assert!(report.nodes.iter().all(|node| node.total == Resources { memory_mib: 1_024, vcores: 4 }));
    assert!(report.nodes.iter().all(|node| node.state == YarnState::Running && node.health.is_empty()));
}

fn with(apps: &str, nodes: &str) -> Result<YarnReport, AnswerError> {
    let answers = Answers { apps: apps.as_bytes(), nodes: nodes.as_bytes(), ..recorded() };
    report("batch", &answers, None)
}

fn node(state: &str, more: &str) -> String {
    format!(
        r#"{{"nodes":{{"node":[{{"id":"w1:-1","nodeHostName":"w1","state":"{state}","numContainers":2,"usedMemoryMB":512,
        "usedVirtualCores":2,"availMemoryMB":-256,"availableVirtualCores":-1{more}}}]}}}}"#
    )
}

#[test]
fn what_may_be_away_is_away() {
    for apps in [r#"{"apps":{}}"#, r#"{"apps":null}"#, r#"{"apps":{"app":[{"id":"a","state":"RUNNING"}]}}"#] {
        assert!(with(apps, r#"{"nodes":null}"#).unwrap().nodes.is_empty(), "{apps}");
    }
    let lost = with(r#"{"apps":{}}"#, &node("LOST", "")).unwrap().nodes.remove(0);
    assert_eq!((lost.port, lost.state), (None, YarnState::Lost), "a host that comes back without a port");
    let half = Resources { memory_mib: 256, vcores: 1 };
    assert_eq!(lost.total, half, "an over-committed node has less than it uses");
    let negative = with("{\"apps\":{}}", &node("RUNNING", r#","totalResource":{"memory":-5,"vCores":1}"#));
    assert_eq!(negative.unwrap().nodes[0].total, Resources { memory_mib: 0, vcores: 1 });
    let ill =
        with("{\"apps\":{}}", &node("UNHEALTHY", r#","healthReport":"1/1 local-dirs are bad\u001b[2J""#));
    assert!(!ill.unwrap().nodes[0].health.contains('\u{1b}'));
    let labels = with("{\"apps\":{}}", &node("RUNNING", r#","nodeLabels":["gpu"]"#));
    assert!(labels.unwrap().labels);
}

#[test]
fn a_standby_and_nonsense_are_refused() {
    let standby = String::from_utf8_lossy(INFO).replace("\"ACTIVE\"", "\"STANDBY\"");
    let answers = Answers { info: standby.as_bytes(), ..recorded() };
    assert_eq!(report("batch", &answers, None), Err(AnswerError::NotActive("STANDBY".into())));
    let html = Answers { nodes: b"<html>", ..recorded() };
    assert!(matches!(report("batch", &html, None), Err(AnswerError::Unreadable("nodes", _))));
}

#[test]
fn a_request_for_resources_is_always_whole_and_never_kills() {
    let (path, body) = advertise("127.0.0.11", 8041, Resources { memory_mib: 2_048, vcores: 8 });
    assert_eq!(path, "/ws/v1/cluster/nodes/127.0.0.11:8041/resource");
    assert_eq!(body, r#"{"resource":{"memory":2048,"vCores":8},"overCommitTimeout":-1}"#);
}

#[test]
fn a_step_is_done_when_the_resource_manager_shows_it() {
    let mut report = read_recorded();
    let host = || "127.0.0.13".to_owned();
    let exclude = YarnStep::Exclude { host: host(), timeout_s: 60 };
    let include = YarnStep::Include { host: host() };
    let total =
        |memory_mib| YarnStep::Advertise { host: host(), resources: Resources { memory_mib, vcores: 4 } };
    assert!(read_back(&report, &total(1_024)).is_ok() && read_back(&report, &total(512)).is_err());
    assert!(read_back(&report, &include).is_ok());
    report.excluded = Some(vec![Excluded { host: host(), timeout_s: Some(60) }]);
    let said = |report: &YarnReport, step: &YarnStep| read_back(report, step).unwrap_err().to_string();
    assert!(said(&report, &exclude).contains("running: the list was not read"));
    report.nodes.iter_mut().for_each(|node| node.state = YarnState::Unhealthy);
    assert!(said(&report, &exclude).contains("unhealthy: the list was not read"));
    report.nodes.iter_mut().for_each(|node| node.state = YarnState::Decommissioning);
    assert!(read_back(&report, &exclude).is_ok());
    let longer = YarnStep::Exclude { host: host(), timeout_s: 61 };
    assert!(said(&report, &longer).contains("not on the exclude list with 61 s"));
    assert!(said(&report, &include).contains("still on the exclude list"));
    report.excluded = Some(Vec::new());
    assert!(said(&report, &include).contains("off the exclude list and still decommissioning"));
    // One that is to start there need not be known.
    let unknown = YarnStep::Include { host: "127.0.0.19".to_owned() };
    assert_eq!(read_back(&report, &unknown), Ok(None));
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(at in 0usize..3_000, byte: u8, which in 0usize..4) {
        let mut bodies = [INFO, METRICS, NODES_ANSWER, APPS].map(<[u8]>::to_vec);
        let body = &mut bodies[which];
        let at = at % body.len();
        body[at] = byte;
        let [info, metrics, nodes, apps] = &bodies;
        let _ = report("batch", &Answers { info, metrics, nodes, apps }, None);
    }
}
