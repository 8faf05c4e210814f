//! Agents that break the rules are told why, counted, and disconnected; the others do not notice.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::id::CgroupId;
use model::metric::Metric;
use model::node::{TaskClass, TaskInfo};
use model::sample::Values;
use serde_json::json;
use wire::batch::{Encoder, Header, Input};
use wire::pb;
use wire::pb::agent_message::Body;
use wire::pb::controller_message::Body as Down;

use support::Service;
use support::agent::{Books, FakeAgent, dial, hello, up};

fn greeting(node: &str) -> pb::AgentMessage {
    up(Body::Hello(wire::convert::hello_to_pb(hello(node, &Books::default()))))
}

/// Sends messages on a new stream; returns the words with which it was closed.
async fn refused(address: &str, messages: Vec<pb::AgentMessage>) -> Option<String> {
    let mut messages = messages.into_iter();
    let (sender, mut down) = dial(address, messages.next()?).await?;
    for message in messages {
        sender.send(message).await.ok()?;
    }
    let closing = async {
        loop {
            match down.message().await {
                Ok(Some(pb::ControllerMessage { body: Some(Down::Refusal(refusal)) })) => {
                    return Some(refusal.why);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closing).await.ok().flatten()
}

fn batch(encoder: &mut Encoder, seq: u64, cpu_us: u64, first: bool, gone: bool) -> pb::SampleBatch {
    let class = TaskClass::new("service", "a.service");
    let info = TaskInfo { cgroup: CgroupId(9), since_ns: 1, class };
    let mut values = Values::default();
    values.set(Metric::CpuTime, cpu_us);
    let appeared = if first { vec![(0, info)] } else { vec![] };
    let header = Header { seq, boot_ns: autoscaler::clock::boot_ns(), wall_offset_ns: 0 };
    let ends: &[u32] = if gone { &[0] } else { &[] };
    let input = Input { appeared: &appeared, tasks: &[(0, &values)], gone: ends, delays: &[] };
    encoder.encode(header, &input, false).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn violations_close_the_stream_with_a_reason() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let good = FakeAgent::start("good");
    good.follow(&service.agents);
    let at = service.agents.clone();

    let mut encoder = Encoder::new().unwrap();
    let first = batch(&mut encoder, 5, 100, true, false);
    let old = pb::SampleBatch { seq: 4, ..batch(&mut encoder, 6, 200, false, false) };
    let why = refused(&at, vec![greeting("a"), up(Body::Batch(first.clone())), up(Body::Batch(old))]).await;
    assert_eq!(why.as_deref(), Some("batch 4 after batch 5"));

    let why = refused(&at, vec![up(Body::Batch(first.clone()))]).await;
    assert_eq!(why.as_deref(), Some("the first message must be Hello"));

    let mut future = wire::convert::hello_to_pb(hello("a", &Books::default()));
    future.version = Some(pb::Version { major: 9, minor: 0 });
    let why = refused(&at, vec![up(Body::Hello(future))]).await.unwrap();
    assert!(why.contains("9.0") && why.contains("upgrade"), "{why}");

    let mut named = wire::convert::hello_to_pb(hello("a", &Books::default()));
    named.node = "../../etc".into();
    assert!(refused(&at, vec![up(Body::Hello(named))]).await.unwrap().contains("node"));

    let bomb = pb::SampleBatch { body_bytes: u32::MAX, ..first.clone() };
    let why = refused(&at, vec![greeting("a"), up(Body::Batch(bomb))]).await.unwrap();
    assert!(why.contains("over the limit"), "{why}");

    let broken = pb::SampleBatch { body: vec![7; 40], ..first.clone() };
    assert!(refused(&at, vec![greeting("a"), up(Body::Batch(broken))]).await.is_some());

    let long = pb::Gap { kind: 1, from_ns: 0, to_ns: 1, cause: "x".repeat(300) };
    assert!(refused(&at, vec![greeting("a"), up(Body::Gap(long))]).await.unwrap().contains("gap cause"));

    let huge = pb::SampleBatch { body: vec![0; 2 << 20], ..first };
    refused(&at, vec![greeting("a"), up(Body::Batch(huge))]).await;

    let metrics = tokio::task::block_in_place(|| service.request("GET", "/metrics", &[], "").body);
    for reason in ["out_of_order", "hello", "version", "invalid", "over_limit"] {
        let line = format!("trimtab_streams_closed_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let node = tokio::task::block_in_place(|| service.get("/api/v1/nodes/good").1);
    assert_eq!(node["connected"], true, "a good agent beside them is not disturbed");
    assert!(good.books.lock().unwrap().refusals.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn final_totals_are_exact_live_and_from_the_spool() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let (sender, mut down) = dial(&service.agents, greeting("a")).await.unwrap();
    let mut encoder = Encoder::new().unwrap();
    sender.send(up(Body::Batch(batch(&mut encoder, 1, 1_000, true, false)))).await.unwrap();
    sender.send(up(Body::Batch(batch(&mut encoder, 2, 987_654_321, false, true)))).await.unwrap();
    // A task that lived and ended while the controller was away.
    let class = TaskClass::new("job", "b");
    let info = TaskInfo { cgroup: CgroupId(11), since_ns: 1, class };
    let mut values = Values::default();
    values.set(Metric::CpuTime, 55_555);
    let header = Header { seq: 77, boot_ns: 1_000_000, wall_offset_ns: 0 };
    let input = Input { appeared: &[(3, info)], tasks: &[(3, &values)], gone: &[3], delays: &[] };
    let spooled = Encoder::encode_alone(header, &input).unwrap();
    assert!(spooled.backlog);
    sender.send(up(Body::Batch(spooled))).await.unwrap();
    let mut acknowledged = BTreeMap::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) && acknowledged.len() < 2 {
        if let Ok(Some(pb::ControllerMessage { body: Some(Down::Ack(ack)) })) = down.message().await
            && matches!(ack.seq, 2 | 77)
        {
            acknowledged.insert(ack.seq, ());
        }
    }
    assert_eq!(acknowledged.len(), 2);
    // What was acknowledged is durable: it is there after a kill.
    tokio::task::block_in_place(|| service.kill());
    let service = tokio::task::block_in_place(|| Service::start(state.path(), &[]));
    let ended = tokio::task::block_in_place(|| service.get("/api/v1/tasks?state=ended").1);
    let total = |cgroup: u64| {
        let items = ended["items"].as_array().unwrap();
        items.iter().find(|t| t["cgroup"] == cgroup).map(|t| t["cpuTotalUs"].clone())
    };
    assert_eq!(total(9), Some(json!(987_654_321)), "{ended}");
    assert_eq!(total(11), Some(json!(55_555)), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_agent_is_gone_counts_as_lost_after_ten_seconds_and_not_before() {
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("a.toml");
    std::fs::write(&config, "node_dead_after = \"2s\"\n").unwrap();
    let service = Service::start(state.path(), &["--config", config.to_str().unwrap()]);
    let (sender, down) = dial(&service.agents, greeting("a")).await.unwrap();
    let connected = |service: &Service| service.get("/api/v1/nodes/a").1["connected"] == true;
    tokio::task::block_in_place(|| service.until("the node", |s| connected(s).then_some(())));
    drop((sender, down));
    tokio::task::block_in_place(|| service.until("its end", |s| (!connected(s)).then_some(())));
    let lost = |state: &std::path::Path| {
        let reader = autoscaler::store::Reader::of(state);
        let mut found = false;
        reader
            .journal(0, i64::MAX, |_, _, entry| {
                if let autoscaler::store::Entry::Round(record) = entry {
                    found |= record
                        .events
                        .iter()
                        .any(|e| matches!(e, autoscaler_core::event::Event::NodeDown { .. }));
                }
            })
            .unwrap();
        found
    };
    assert!(!lost(state.path()), "a stream that just ended is not a lost node");
    tokio::task::block_in_place(|| service.until("the loss", |s| lost(&s.state).then_some(())));
}
