//! Peers on the agents' socket that speak nonsense, repeat themselves, or come from the future: they are sent away, and
//! a real agent beside them does not notice.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use model::id::{AgentEpoch, BootId, CgroupId};
use model::metric::Metric;
use model::node::{Incarnation, Inventory, TaskClass, TaskInfo, Tier};
use model::sample::Values;
use support::Stage;
use support::mutate::Mutator;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wire::batch::{Encoder, Header, Input};
use wire::pb;
use wire::pb::agent_message::Body;
use wire::pb::controller_message::Body as Down;

fn hello(node: &str) -> Body {
    let inventory = Inventory { kernel: "6.1".into(), ..Inventory::new(8, 32 << 30, Tier::B) };
    Body::Hello(wire::convert::hello_to_pb(wire::convert::Hello {
        node: node.parse().unwrap(),
        incarnation: Incarnation { boot: BootId(9), agent: AgentEpoch(1) },
        inventory,
        tasks: vec![],
        boot_ns: 1,
        wall_ms: 1,
    }))
}

/// A batch with one task.
fn batch(encoder: &mut Encoder, seq: u64, boot_ns: u64) -> Body {
    let class = TaskClass::new("service", "a.service");
    let info = TaskInfo { cgroup: CgroupId(9), since_ns: 1, class };
    let mut values = Values::default();
    values.set(Metric::CpuTime, seq * 1000);
    let appeared = if seq == 1 { vec![(0, info)] } else { vec![] };
    let header = Header { seq, boot_ns, wall_offset_ns: 0 };
    let input = Input { appeared: &appeared, tasks: &[(0, &values)], gone: &[], delays: &[] };
    Body::Batch(encoder.encode(header, &input, seq == 1).unwrap())
}

/// Sends messages on a new stream and returns what was said when it ended; `None` when it stays open for a while.
async fn speak(socket: PathBuf, messages: Vec<Body>) -> Option<String> {
    let endpoint = tonic::transport::Endpoint::from_static("http://autoscaler");
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    for body in messages {
        sender.send(pb::AgentMessage { body: Some(body) }).await.unwrap();
    }
    let mut client = pb::session_client::SessionClient::new(channel);
    let mut answers = client.open(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let ending = async {
        let mut why = String::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(pb::ControllerMessage { body: Some(Down::Refusal(refusal)) }) => why = refusal.why,
                Ok(_) => {}
                Err(status) => return format!("{why}{}", status.message()),
            }
        }
        why
    };
    let ended = tokio::time::timeout(Duration::from_secs(3), ending).await.ok();
    drop(sender);
    ended
}

/// The real agent is served: its samples go on.
fn served(stage: &mut Stage) {
    let samples = |s: &Stage| s.get("/nodes/n1")["samples"].as_u64();
    let before = stage.until("the node", |s| samples(s));
    stage.until("more samples of the real agent", |s| (samples(s)? > before).then_some(()));
    assert_eq!(stage.get("/nodes/n1")["connected"], true);
    assert!(stage.lives("autoscaler") && stage.lives("agent"));
    let connected = stage.log("agent").matches("connected to the autoscaler").count();
    assert_eq!(connected, 1, "its stream never broke:\n{}", stage.log("agent"));
}

#[test]
fn noise_on_the_socket_disturbs_nobody() {
    let Some(mut stage) = Stage::start() else { return };
    let socket = stage.path("agents.sock");
    let seeds: [&[u8]; 3] = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    let mut mutator = Mutator::new(5, &seeds, &["PRI", "\u{0}\u{0}\u{ff}"]);
    // Silent ones stay open beside those that talk.
    let silent: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for _ in 0..300 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let _ = stream.write_all(&mutator.next());
        let _ = stream.read(&mut [0; 64]);
    }
    served(&mut stage);
    drop(silent);
    served(&mut stage);
}

#[test]
fn repeated_and_future_messages_harm_only_their_sender() {
    let Some(mut stage) = Stage::start() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let speak = |stage: &Stage, messages| runtime.block_on(speak(stage.path("agents.sock"), messages));

    let mut encoder = Encoder::new().unwrap();
    let (first, second) = (batch(&mut encoder, 1, 1_000_000_000), batch(&mut encoder, 2, 2_000_000_000));
    let why = speak(&stage, vec![hello("x1"), first.clone(), second.clone(), second.clone()]).unwrap();
    assert!(why.contains("batch 2 after batch 2"), "a repeated batch: {why}");
    let why = speak(&stage, vec![hello("x1"), second]).unwrap();
    assert!(why.contains("snapshot"), "a batch that nothing came before: {why}");
    let why = speak(&stage, vec![hello("x1"), first, hello("x1")]).unwrap();
    assert!(why.contains("Hello"), "two introductions: {why}");

    // Times that no clock shows: nothing overflows, and what is asked of the past is still answered.
    let mut encoder = Encoder::new().unwrap();
    let far = vec![
        hello("x2"),
        batch(&mut encoder, 1, u64::MAX - 1),
        batch(&mut encoder, 2, u64::MAX),
        batch(&mut encoder, 3, 5),
    ];
    let said = speak(&stage, far);
    println!("from the end of time: {said:?}");
    served(&mut stage);
    let log = stage.log("autoscaler");
    assert!(!log.contains("panicked"), "{log}");
    assert!(stage.get("/nodes/x2")["name"].is_string(), "it is shown as it is");
}
