//! Synthetic agents for `cargo xtask bench ingest`: each speaks the real protocol over a unix socket, once a second.
//!
//! `e2e-fleet SOCKET AGENTS TASKS SECONDS` prints what it saw as one JSON object.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use model::id::{AgentEpoch, BootId, CgroupId};
use model::metric::Metric;
use model::node::{Incarnation, Inventory, TaskClass, TaskInfo, Tier};
use model::sample::Values;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wire::batch::{Encoder, Header, Input};
use wire::pb::agent_message::Body;
use wire::pb::{AgentMessage, controller_message};

#[derive(Default)]
struct Seen {
    samples: AtomicU64,
    connected: AtomicU64,
    slowest_ack_ms: AtomicU64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (Some(socket), &[agents, tasks, seconds]) = (arguments.first(), numbers.as_slice()) else {
        eprintln!("usage: e2e-fleet SOCKET AGENTS TASKS SECONDS");
        return ExitCode::from(2);
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let seen = Arc::new(Seen::default());
    let end = Instant::now() + Duration::from_secs(seconds + 10);
    runtime.block_on(async {
        let mut running = Vec::new();
        for number in 0..agents {
            let (socket, seen) = (PathBuf::from(socket), Arc::clone(&seen));
            running.push(tokio::spawn(async move {
                // Spread over the first seconds, as a fleet's jitter does.
                tokio::time::sleep(Duration::from_millis(number % 1000 * 5)).await;
                if let Err(why) = agent(number, tasks, socket, end, &seen).await {
                    eprintln!("agent {number}: {why}");
                }
            }));
        }
        for one in running {
            let _ = one.await;
        }
    });
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    println!(
        "{{\"samples\": {}, \"connected_at_end\": {}, \"slowest_ack_ms\": {}, \"cpu_us\": {}}}",
        seen.samples.load(Ordering::Relaxed),
        seen.connected.load(Ordering::Relaxed),
        seen.slowest_ack_ms.load(Ordering::Relaxed),
        used.tv_sec * 1_000_000 + used.tv_nsec / 1000
    );
    ExitCode::SUCCESS
}

fn hello(number: u64) -> Result<wire::pb::Hello, String> {
    let inventory = Inventory {
        cpus: 8,
        memory_bytes: 32 << 30,
        kernel: "synthetic".into(),
        tier: Tier::A,
        features: vec![],
        unavailable: vec![],
        launchers: vec![],
        acts: false,
    };
    Ok(wire::convert::hello_to_pb(wire::convert::Hello {
        node: format!("node-{number:05}").parse().map_err(|e| format!("{e}"))?,
        incarnation: Incarnation { boot: BootId(u128::from(number) + 1), agent: AgentEpoch(1) },
        inventory,
        tasks: vec![],
        boot_ns: 0,
        wall_ms: 0,
    }))
}

async fn agent(number: u64, tasks: u64, socket: PathBuf, end: Instant, seen: &Seen) -> Result<(), String> {
    let endpoint = tonic::transport::Endpoint::from_static("http://autoscaler");
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|e| e.to_string())?;
    let (sender, receiver) = mpsc::channel(16);
    let send = async |body| sender.send(AgentMessage { body: Some(body) }).await.map_err(|e| e.to_string());
    send(Body::Hello(hello(number)?)).await?;
    let mut client = wire::pb::session_client::SessionClient::new(channel);
    let mut answers =
        client.open(ReceiverStream::new(receiver)).await.map_err(|e| e.to_string())?.into_inner();
    let mut encoder = Encoder::new().map_err(|e| e.to_string())?;
    let mut rows: Vec<(u32, Values)> = (0..tasks as u32).map(|slot| (slot, Values::default())).collect();
    let class = |slot: u64| TaskClass {
        kind: "service".into(),
        name: format!("s{slot}.service"),
        workload: None,
        task: None,
    };
    let appeared: Vec<(u32, TaskInfo)> = (0..tasks)
        .map(|slot| (slot as u32, TaskInfo { cgroup: CgroupId(100 + slot), since_ns: 1, class: class(slot) }))
        .collect();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let (mut seq, mut asked) = (0u64, Instant::now());
    while Instant::now() < end {
        tokio::select! {
            _ = ticks.tick() => {
                seq += 1;
                work(&mut rows, number.wrapping_mul(31).wrapping_add(seq));
                let header = Header { seq, boot_ns: seq * 1_000_000_000, wall_offset_ns: 0 };
                let named: &[(u32, TaskInfo)] = if seq % 60 == 1 { &appeared } else { &[] };
                let columns: Vec<(u32, &Values)> = rows.iter().map(|(slot, values)| (*slot, values)).collect();
                let input = Input { appeared: named, tasks: &columns, gone: &[], delays: &[] };
                let batch = encoder.encode(header, &input, seq % 60 == 1).map_err(|e| e.to_string())?;
                asked = Instant::now();
                send(Body::Batch(batch)).await?;
                seen.samples.fetch_add(tasks, Ordering::Relaxed);
            }
            answer = answers.next() => match answer {
                Some(Ok(message)) => if let Some(controller_message::Body::Ack(ack)) = message.body && ack.seq == seq {
                    seen.slowest_ack_ms.fetch_max(asked.elapsed().as_millis() as u64, Ordering::Relaxed);
                },
                Some(Err(status)) => return Err(status.message().to_owned()),
                None => return Err("the autoscaler ended the stream".to_owned()),
            },
        }
    }
    seen.connected.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// What a busy task adds in a second: CPU, its split, the switch ledger, waits, a stall now and then, memory.
fn work(rows: &mut [(u32, Values)], seed: u64) {
    for (slot, values) in rows {
        let noise = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(*slot) << 17))
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            >> 40;
        let mut add = |metric, n| values.set(metric, values.get(metric).unwrap_or(0) + n);
        add(Metric::CpuTime, 20_000 + noise % 9_000);
        add(Metric::CpuUser, 15_000 + noise % 7_000);
        add(Metric::CpuSystem, 5_000 + noise % 2_000);
        add(Metric::OnCpu, 20_000_000 + noise * 113 % 9_000_000);
        add(Metric::RunDelay, 300_000 + noise * 7 % 100_000);
        add(Metric::RunCount, 100 + noise % 40);
        add(Metric::CpuStall, noise % 900);
        values.set(Metric::MemoryCurrent, (64 << 20) + (noise % 64) * 4096);
    }
}
