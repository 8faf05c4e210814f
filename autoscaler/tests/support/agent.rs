//! An agent that speaks the real protocol, and starts tasks only in its own books.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::action::{Command, Outcome, OutcomeKind, TaskEvent, TaskEventKind, Verb};
use model::adapter::AdapterReport;
use model::id::{AgentEpoch, BootId, CgroupId, Generation, NodeId, RackName, TaskName, WorkloadName};
use model::metric::Metric;
use model::node::{Incarnation, Inventory, TaskClass, TaskInfo, Tier};
use model::sample::Values;
use tokio_stream::wrappers::ReceiverStream;
use wire::batch::{Encoder, Header, Input};
use wire::convert::{Hello, RunsHere};
use wire::pb;

/// What the agent knows; it lives through restarts of the controller.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Commands by their number.
    pub(crate) commands: BTreeMap<u64, Command>,
    /// Commands that came again with other content.
    pub(crate) conflicting: u64,
    /// Epochs that were welcomed, in order.
    pub(crate) epochs: Vec<u64>,
    /// Running tasks: name, workload, cgroup, generation.
    pub(crate) running: BTreeMap<TaskName, (WorkloadName, CgroupId, Generation)>,
    /// The last batch that was acknowledged.
    pub(crate) acknowledged: u64,
    /// Ended by the controller with these words.
    pub(crate) refusals: Vec<String>,
    /// The rack that it says it is in.
    pub(crate) rack: Option<RackName>,
    /// What it says of a cluster, with each batch.
    pub(crate) cluster: Option<AdapterReport>,
    next_cgroup: u64,
    seq: u64,
}

pub(crate) type Shared = Arc<Mutex<Books>>;

pub(crate) fn hello(node: &str, books: &Books) -> Hello {
    Hello {
        node: NodeId::new(node).unwrap(),
        incarnation: Incarnation { boot: BootId(77), agent: AgentEpoch(1) },
        inventory: Inventory {
            kernel: "6.1".into(),
            launchers: vec!["worker".into()],
            acts: true,
            rack: books.rack.clone(),
            ..Inventory::new(64, 64 << 30, Tier::A)
        },
        tasks: books
            .running
            .iter()
            .map(|(task, (workload, cgroup, generation))| RunsHere {
                task: task.clone(),
                workload: workload.clone(),
                cgroup: *cgroup,
                generation: *generation,
                healthy: true,
                class: None,
            })
            .collect(),
        boot_ns: autoscaler::clock::boot_ns(),
        wall_ms: autoscaler::clock::wall_ms(),
    }
}

pub(crate) fn up(body: pb::agent_message::Body) -> pb::AgentMessage {
    pb::AgentMessage { body: Some(body) }
}

pub(crate) async fn dial(
    address: &str,
    first: pb::AgentMessage,
) -> Option<(tokio::sync::mpsc::Sender<pb::AgentMessage>, tonic::Streaming<pb::ControllerMessage>)> {
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{address}")).ok()?.connect().await.ok()?;
    let mut client = pb::session_client::SessionClient::new(channel);
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    sender.send(first).await.ok()?;
    let down = client.open(ReceiverStream::new(receiver)).await.ok()?.into_inner();
    Some((sender, down))
}

fn samples(books: &mut Books, encoder: &mut Encoder, named: &mut BTreeMap<CgroupId, u32>) -> pb::SampleBatch {
    let mut appeared = Vec::new();
    let mut tasks = Vec::new();
    for (task, (workload, cgroup, _)) in &books.running {
        let next = u32::try_from(named.len()).unwrap();
        let fresh = !named.contains_key(cgroup);
        let slot = *named.entry(*cgroup).or_insert(next);
        if fresh {
            let class = TaskClass {
                workload: Some(workload.clone()),
                task: Some(task.clone()),
                ..TaskClass::new("task", task.as_str())
            };
            appeared.push((slot, TaskInfo { cgroup: *cgroup, since_ns: 1, class }));
        }
        let mut values = Values::default();
        values.set(Metric::CpuTime, autoscaler::clock::boot_ns() / 2000);
        values.set(Metric::MemoryCurrent, 1 << 20);
        tasks.push((slot, values));
    }
    tasks.sort_by_key(|(slot, _)| *slot);
    books.seq += 1;
    let header = Header { seq: books.seq, boot_ns: autoscaler::clock::boot_ns(), wall_offset_ns: 0 };
    let tasks: Vec<(u32, &Values)> = tasks.iter().map(|(slot, values)| (*slot, values)).collect();
    let input = Input { appeared: &appeared, tasks: &tasks, ..Input::default() };
    encoder.encode(header, &input, false).unwrap()
}

/// One session, until the controller is gone. Obeys every command at once.
pub(crate) async fn session(address: &str, node: &str, shared: &Shared) {
    let first = wire::convert::hello_to_pb(hello(node, &shared.lock().unwrap()));
    let Some((sender, mut down)) = dial(address, up(pb::agent_message::Body::Hello(first))).await else {
        return;
    };
    let mut encoder = Encoder::new().unwrap();
    let mut named = BTreeMap::new();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            message = down.message() => match message {
                Ok(Some(message)) => {
                    let answers = take(message, &mut shared.lock().unwrap());
                    for answer in answers {
                        if sender.send(answer).await.is_err() { return }
                    }
                }
                _ => return,
            },
            _ = tick.tick() => {
                let cluster = shared.lock().unwrap().cluster.clone();
                if let Some(report) = cluster {
                    let report = pb::AdapterReport::from((1, report));
                    if sender.send(up(pb::agent_message::Body::Adapter(report))).await.is_err() { return }
                }
                let batch = samples(&mut shared.lock().unwrap(), &mut encoder, &mut named);
                if sender.send(up(pb::agent_message::Body::Batch(batch))).await.is_err() { return }
            }
        }
    }
}

fn take(message: pb::ControllerMessage, books: &mut Books) -> Vec<pb::AgentMessage> {
    use pb::controller_message::Body;
    match message.body {
        Some(Body::Welcome(welcome)) => books.epochs.push(welcome.controller_epoch),
        Some(Body::Ack(ack)) => books.acknowledged = books.acknowledged.max(ack.seq),
        Some(Body::Refusal(refusal)) => books.refusals.push(refusal.why),
        Some(Body::Command(command)) => return obey(&command.try_into().unwrap(), books),
        _ => {}
    }
    Vec::new()
}

fn obey(command: &Command, books: &mut Books) -> Vec<pb::AgentMessage> {
    if books.commands.insert(command.id.0, command.clone()).is_some_and(|before| before != *command) {
        books.conflicting += 1;
    }
    let mut kind = OutcomeKind::Applied;
    let mut events = Vec::new();
    match &command.verb {
        Verb::Start { .. } if books.running.contains_key(&command.task) => kind = OutcomeKind::Already,
        Verb::Start { .. } => {
            books.next_cgroup += 1;
            let cgroup = CgroupId(1000 + books.next_cgroup);
            books
                .running
                .insert(command.task.clone(), (command.workload.clone(), cgroup, command.generation));
            events.push((cgroup, TaskEventKind::Started { pid: 4000 }));
            events.push((cgroup, TaskEventKind::Healthy));
        }
        Verb::Stop { .. } => {
            if let Some((_, cgroup, _)) = books.running.remove(&command.task) {
                let cpu_total_us = Some(123_456);
                events.push((
                    cgroup,
                    TaskEventKind::Ended { status: Some(0), signal: None, cpu_total_us, asked: true },
                ));
            } else {
                kind = OutcomeKind::Already;
            }
        }
        _ => {}
    }
    let outcome = Outcome {
        command: command.id,
        generation: command.generation,
        task: command.task.clone(),
        kind,
        why: String::new(),
        read_back: BTreeMap::new(),
    };
    let mut answers = vec![up(pb::agent_message::Body::Outcome(outcome.into()))];
    answers.extend(events.into_iter().map(|(cgroup, kind)| {
        let at_ns = autoscaler::clock::boot_ns();
        let (task, workload) = (command.task.clone(), command.workload.clone());
        up(pb::agent_message::Body::Task(TaskEvent { task, workload, cgroup, kind, at_ns }.into()))
    }));
    answers
}

/// An agent in its own thread that follows the controller to each new address.
pub(crate) struct FakeAgent {
    pub(crate) books: Shared,
    address: tokio::sync::watch::Sender<String>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeAgent {
    pub(crate) fn start(node: &'static str) -> Self {
        let books = Shared::default();
        let (address, mut current) = tokio::sync::watch::channel(String::new());
        let shared = books.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                loop {
                    let address = current.borrow_and_update().clone();
                    if address == "end" {
                        return;
                    }
                    let changed = async {
                        let _ = current.changed().await;
                    };
                    tokio::select! {
                        () = changed => {}
                        () = async {
                            if !address.is_empty() {
                                session(&address, node, &shared).await;
                            }
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        } => {}
                    }
                }
            });
        });
        Self { books, address, thread: Some(thread) }
    }

    pub(crate) fn follow(&self, address: &str) {
        self.address.send_replace(address.to_owned());
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.address.send_replace("end".to_owned());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
