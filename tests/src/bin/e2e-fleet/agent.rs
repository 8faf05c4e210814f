//! One synthetic agent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agent_core::session::Session;
use hyper_util::rt::TokioIo;
use model::id::{AgentEpoch, BootId, CgroupId};
use model::metric::Metric;
use model::node::{Incarnation, Inventory, TaskClass, TaskInfo, Tier};
use model::sample::Values;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use wire::batch::{Encoder, Header, Input};
use wire::pb::agent_message::Body;
use wire::pb::{AgentMessage, controller_message};

use crate::Seen;

/// Rounds between two snapshots.
const SNAPSHOT: u64 = 60;

/// Tasks of one agent, and where it is in its rounds.
struct Agent {
    number: u64,
    seq: u64,
    rows: Vec<(u32, Values)>,
    appeared: Vec<(u32, TaskInfo)>,
}

/// Connects, streams, and connects again after a pause as long as an agent's, for ever.
pub(crate) async fn run(number: u64, tasks: u32, address: String, seen: Arc<Seen>) {
    // Spread over the first seconds, as a fleet's jitter does.
    tokio::time::sleep(Duration::from_millis(number % 1000 * 5)).await;
    let began = Instant::now();
    let now_ms = || began.elapsed().as_millis() as u64;
    let mut session: Session<()> = Session::new(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut agent = Agent::new(number, tasks);
    loop {
        if !session.dial(now_ms()) {
            let wait = session.retry_at_ms().unwrap_or_default().saturating_sub(now_ms());
            tokio::time::sleep(Duration::from_millis(wait)).await;
            continue;
        }
        let mut up = false;
        let why = agent.stream(&address, &seen, || {
            up = true;
            session.welcomed(wire::CREDIT);
        });
        let why = why.await;
        if up {
            seen.connected.fetch_sub(1, Ordering::Relaxed);
            seen.reconnects.fetch_add(1, Ordering::Relaxed);
            eprintln!("agent {number}: {why}");
        }
        session.lost(now_ms());
    }
}

impl Agent {
    fn new(number: u64, tasks: u32) -> Self {
        let class = |slot: u32| TaskClass::new("service", format!("s{slot}.service"));
        let info =
            |slot: u32| TaskInfo { cgroup: CgroupId(100 + u64::from(slot)), since_ns: 1, class: class(slot) };
        Self {
            number,
            seq: 0,
            rows: (0..tasks).map(|slot| (slot, Values::default())).collect(),
            appeared: (0..tasks).map(|slot| (slot, info(slot))).collect(),
        }
    }

    /// Streams until the stream breaks; says why.
    async fn stream(&mut self, address: &str, seen: &Seen, welcomed: impl FnOnce()) -> String {
        match self.try_stream(address, seen, welcomed).await {
            Ok(()) => "the autoscaler ended the stream".to_owned(),
            Err(why) => why,
        }
    }

    async fn try_stream(
        &mut self,
        address: &str,
        seen: &Seen,
        welcomed: impl FnOnce(),
    ) -> Result<(), String> {
        let channel = connect(address).await?;
        let (sender, receiver) = mpsc::channel(16);
        let send =
            async |body| sender.send(AgentMessage { body: Some(body) }).await.map_err(|e| e.to_string());
        send(Body::Hello(hello(self.number)?)).await?;
        let mut client = wire::pb::session_client::SessionClient::new(channel);
        let mut answers = client
            .open(ReceiverStream::new(receiver))
            .await
            .map_err(|e| e.message().to_owned())?
            .into_inner();
        match answers.next().await {
            Some(Ok(message)) if matches!(message.body, Some(controller_message::Body::Welcome(_))) => {}
            other => return Err(format!("{other:?} instead of a welcome")),
        }
        welcomed();
        seen.connected.fetch_add(1, Ordering::Relaxed);
        let mut encoder = Encoder::new().map_err(|e| e.to_string())?;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let (mut on_stream, mut waiting) = (0u64, VecDeque::new());
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let batch = self.round(&mut encoder, on_stream.is_multiple_of(SNAPSHOT)).map_err(|e| e.to_string())?;
                    let sent = Instant::now();
                    waiting.push_back((self.seq, sent));
                    send(Body::Batch(batch)).await?;
                    on_stream += 1;
                    seen.samples.fetch_add(self.rows.len() as u64, Ordering::Relaxed);
                    seen.probe.sent(self.number, sent, on_stream * self.rows.len() as u64);
                }
                answer = answers.next() => match answer {
                    Some(Ok(message)) => if let Some(controller_message::Body::Ack(ack)) = message.body {
                        while let Some((_, sent)) = waiting.pop_front_if(|(seq, _)| *seq <= ack.seq) {
                            seen.slowest_ack_ms.fetch_max(sent.elapsed().as_millis() as u64, Ordering::Relaxed);
                        }
                    },
                    Some(Err(status)) => return Err(status.message().to_owned()),
                    None => return Ok(()),
                },
            }
        }
    }

    fn round(&mut self, encoder: &mut Encoder, snapshot: bool) -> std::io::Result<wire::pb::SampleBatch> {
        self.seq += 1;
        work(&mut self.rows, self.number.wrapping_mul(31).wrapping_add(self.seq));
        let boot_ns = self.seq * 1_000_000_000;
        let wall_ns = i64::try_from(autoscaler::clock::wall_ms() * 1_000_000).unwrap_or(i64::MAX);
        let header = Header { seq: self.seq, boot_ns, wall_offset_ns: wall_ns - boot_ns.cast_signed() };
        let appeared: &[(u32, TaskInfo)] = if snapshot { &self.appeared } else { &[] };
        let tasks: Vec<(u32, &Values)> = self.rows.iter().map(|(slot, values)| (*slot, values)).collect();
        encoder.encode(header, &Input { appeared, tasks: &tasks, gone: &[], delays: &[] }, snapshot)
    }
}

async fn connect(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_static("http://autoscaler");
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let address = address.clone();
        async move {
            match address.strip_prefix("unix:") {
                Some(path) => UnixStream::connect(path).await.map(|s| TokioIo::new(Either::Unix(s))),
                None => {
                    let stream = TcpStream::connect(&address).await?;
                    stream.set_nodelay(true)?;
                    Ok(TokioIo::new(Either::Tcp(stream)))
                }
            }
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(|e| e.to_string())
}

/// A connection of either kind.
enum Either {
    Unix(UnixStream),
    Tcp(TcpStream),
}

mod io {
    use std::io::Result;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Either;

    impl AsyncRead for Either {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            match self.get_mut() {
                Either::Unix(stream) => Pin::new(stream).poll_read(cx, into),
                Either::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            }
        }
    }

    impl AsyncWrite for Either {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            match self.get_mut() {
                Either::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
                Either::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            match self.get_mut() {
                Either::Unix(stream) => Pin::new(stream).poll_flush(cx),
                Either::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            match self.get_mut() {
                Either::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
                Either::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            }
        }
    }
}

fn hello(number: u64) -> Result<wire::pb::Hello, String> {
    let inventory = Inventory { kernel: "synthetic".into(), ..Inventory::new(8, 32 << 30, Tier::A) };
    Ok(wire::convert::hello_to_pb(wire::convert::Hello {
        node: format!("node-{number:05}").parse().map_err(|e| format!("{e}"))?,
        incarnation: Incarnation { boot: BootId(u128::from(number) + 1), agent: AgentEpoch(1) },
        inventory,
        tasks: vec![],
        boot_ns: 0,
        wall_ms: 0,
    }))
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
