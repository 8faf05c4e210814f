//! A controller that decides nothing: it orders what a test says, and keeps what the agent answers. The agent and what it acts on are real.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::action::{Command, Outcome, Verb};
use model::adapter::AdapterReport;
use model::id::{CommandId, ControllerEpoch, Generation};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};
use wire::pb;
use wire::pb::agent_message::Body;
use wire::pb::controller_message::Body as Down;
use wire::pb::session_server::{Session, SessionServer};

/// Longest wait for an answer: a cluster's tool may take a minute, and what it asks for as long again.
const PATIENCE: Duration = Duration::from_secs(300);

type Message = Result<pb::ControllerMessage, Status>;

#[derive(Default)]
struct Heard {
    /// Each with when it came.
    reports: Vec<(Instant, AdapterReport)>,
    outcomes: Vec<Outcome>,
    to_agent: Option<mpsc::Sender<Message>>,
}

/// The controller, on a unix socket.
pub(crate) struct Controller {
    runtime: tokio::runtime::Runtime,
    heard: Arc<Mutex<Heard>>,
    generation: u64,
}

struct Service(Arc<Mutex<Heard>>);

#[tonic::async_trait]
impl Session for Service {
    type OpenStream = ReceiverStream<Message>;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, receiver) = mpsc::channel(256);
        let (mut up, heard) = (request.into_inner(), Arc::clone(&self.0));
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                let answer = match message.body {
                    Some(Body::Hello(_)) => {
                        let welcome = pb::Welcome {
                            version: Some(wire::VERSION),
                            controller_epoch: 1,
                            controller_ms: 1,
                            acknowledged_seq: 0,
                            interval_ms: 1_000,
                        };
                        let _ = sender.send(Ok(message_of(Down::Welcome(welcome)))).await;
                        heard.lock().unwrap().to_agent = Some(sender.clone());
                        None
                    }
                    Some(Body::Batch(batch)) => {
                        let credit = pb::Credit { bytes: wire::CREDIT / 8 };
                        let _ = sender.send(Ok(message_of(Down::Credit(credit)))).await;
                        Some(Down::Ack(pb::Ack { seq: batch.seq }))
                    }
                    Some(Body::Adapter(report)) => {
                        let report = AdapterReport::try_from(report).unwrap();
                        heard.lock().unwrap().reports.push((Instant::now(), report));
                        None
                    }
                    Some(Body::Outcome(outcome)) => {
                        heard.lock().unwrap().outcomes.push(Outcome::try_from(outcome).unwrap());
                        None
                    }
                    _ => None,
                };
                if let Some(body) = answer {
                    let _ = sender.send(Ok(message_of(body))).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn message_of(body: Down) -> pb::ControllerMessage {
    pb::ControllerMessage { body: Some(body) }
}

impl Controller {
    /// Listens on a socket.
    pub(crate) fn serve(socket: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let service = SessionServer::new(Service(Arc::clone(&heard)));
        let listener = runtime.block_on(async { UnixListener::bind(socket).unwrap() });
        let router = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { runtime, heard, generation: 0 }
    }

    /// Orders a verb about a task and waits for the answer.
    pub(crate) fn order(&mut self, task: &str, verb: Verb) -> Outcome {
        let id = self.send(task, verb);
        self.until(&format!("an answer about {task}"), |heard| {
            heard.outcomes.iter().find(|outcome| outcome.command == id).cloned()
        })
    }

    /// Orders a verb about a task.
    pub(crate) fn send(&mut self, task: &str, verb: Verb) -> CommandId {
        self.generation += 1;
        let command = Command {
            id: CommandId(self.generation),
            epoch: ControllerEpoch(1),
            generation: Generation(self.generation),
            workload: "lab".parse().unwrap(),
            task: task.parse().unwrap(),
            verb,
            deadline_ms: u64::MAX / 2,
        };
        let id = command.id;
        let to_agent = self.until("the agent", |heard| heard.to_agent.clone().filter(|to| !to.is_closed()));
        let message = message_of(Down::Command(command.into()));
        self.runtime.block_on(async { to_agent.send(Ok(message)).await.unwrap() });
        id
    }

    /// The first report from now on that answers `question`.
    pub(crate) fn report<T>(&self, what: &str, question: impl Fn(&AdapterReport) -> Option<T>) -> T {
        let from = Instant::now();
        self.until(what, |heard| {
            let new = heard.reports.iter().filter(|(at, _)| *at >= from);
            new.map(|(_, report)| report).find_map(&question)
        })
    }

    fn until<T>(&self, what: &str, question: impl Fn(&Heard) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let mut heard = self.heard.lock().unwrap();
            if let Some(answer) = question(&heard) {
                return answer;
            }
            let last = heard.reports.last().cloned();
            // What was looked at in vain is not looked at again and again.
            if heard.reports.len() > 10_000 {
                heard.reports.clear();
            }
            drop(heard);
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}; the last report is {last:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
