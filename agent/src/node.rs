//! The node's loop: one task owns the table, the session and the executor; everyone else sends it values.
//!
//! Priority when several things are ready: effects that finished, then messages of the controller, then rounds, then
//! time. So a command's outcome is never delayed by sampling, and sampling never by a slow disk of the controller.

mod certificate;
mod clusters;
mod commands;
mod containers;
mod due;
mod isolation;
mod leaves;
mod metrics;
mod reload;
mod rounds;

use std::collections::{BTreeMap, BTreeSet};

use agent_core::backlog::Backlog;
use agent_core::classify::Rules;
use agent_core::container::{Containers, Runtime};
use agent_core::crowd::Crowd;
use agent_core::receipt::Ledgers;
use agent_core::session::Session;
use agent_core::table::Table;
use anyhow::{Context, Result};
use model::action::{Outcome, TaskEvent, TaskEventKind};
use model::adapter::AdapterReport;
use model::certificate::Validity;
use model::id::{AgentEpoch, BootId, CgroupId, TaskName};
use model::node::{Container, Incarnation, Inventory};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;
use wire::batch::Encoder;
use wire::convert::{Hello, RunsHere};
use wire::pb::agent_message::Body;
use wire::pb::controller_message;

use crate::adapter::haproxy::Haproxy;
use crate::executor::systemd::Systemd;
use crate::executor::{Executor, Happened, Runner, TaskFile};
use crate::fences::Fences;
use crate::sampler::{Rounds, Sampled};
use crate::settings::{Faults, Settings};
use crate::source::{Offer, ProcessReader};
use crate::spool::Spool;
use crate::uplink::{Heard, Stream};
use crate::{clock, sampler, source};

/// Something that must arrive at the autoscaler.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Task(TaskEvent),
    Outcome(Outcome),
    Gap(model::gap::Gap),
}

/// What came of something that this loop asked others to do.
enum Done {
    Outcome(Outcome),
    Reports(Vec<AdapterReport>),
    Isolated(isolation::Isolated),
    Containers(Runtime, Result<Vec<Container>, String>),
    Renewed(Result<Validity, String>),
}

/// One stream that is up.
struct Up {
    stream: Stream,
    encoder: Encoder,
    /// Slots named on this stream.
    named: Slots,
    backlog: Backlog,
}

/// A set of slots: they are few and dense.
#[derive(Default)]
struct Slots {
    is_in: Vec<bool>,
    count: usize,
}

impl Slots {
    fn contains(&self, slot: u32) -> bool {
        self.is_in.get(slot as usize).copied().unwrap_or(false)
    }

    fn insert(&mut self, slot: u32) {
        if self.is_in.len() <= slot as usize {
            self.is_in.resize(slot as usize + 1, false);
        }
        self.count += usize::from(!std::mem::replace(&mut self.is_in[slot as usize], true));
    }

    fn remove(&mut self, slot: u32) {
        if let Some(is_in) = self.is_in.get_mut(slot as usize) {
            self.count -= usize::from(std::mem::replace(is_in, false));
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

struct Node {
    settings: Settings,
    inventory: Inventory,
    incarnation: Incarnation,
    table: Table,
    rules: Rules,
    processes: ProcessReader,
    session: Session<Event>,
    spool: Spool,
    fences: Fences,
    executor: Executor,
    isolation: isolation::Isolation,
    crowd: Crowd,
    haproxies: Vec<Haproxy>,
    clusters: clusters::Clusters,
    /// The stream that is dialing or up, by number.
    dialed: Option<(u64, Stream)>,
    streams: u64,
    up: Option<Up>,
    /// Controller time − boot clock, ms.
    controller_offset_ms: Option<i64>,
    heard: mpsc::Sender<Heard>,
    done: mpsc::Sender<Done>,
    paths: BTreeMap<CgroupId, String>,
    leaves: leaves::Leaves,
    containers: Containers,
    /// What went wrong when a runtime was asked last.
    runtime_faults: BTreeMap<Runtime, String>,
    ledgers: Option<Ledgers>,
    /// The last round's rows were copied, or nobody needs them.
    rows_kept: bool,
    /// Rounds since the last receipt.
    since_receipt: u64,
    receipt: Option<model::node::Receipt>,
    health: source::Health,
    /// When the last round was read, boot ms.
    read_ms: u64,
    wire_bytes: u64,
    /// When balancers and application servers are read next, boot ms.
    adapt_at_ms: u64,
    /// When clusters are read next, boot ms.
    clusters_at_ms: u64,
    why_down: String,
    certificate: certificate::Certificate,
}

/// Runs the agent until a signal asks it to end; tasks keep running. `read` reads the configuration anew, for SIGHUP.
///
/// # Errors
/// When the agent cannot start: its state, its cgroups or its address cannot be had.
pub async fn run(settings: Settings, read: impl Fn() -> Result<Settings, Faults>) -> Result<()> {
    std::fs::create_dir_all(&settings.state)
        .with_context(|| format!("making the state directory {}", settings.state.display()))?;
    let lock = lock(&settings)?;
    let alive = crate::deadman::alive(&settings.state).await?;
    let mut source = source::Source::open(&settings).context("opening this host's sources")?;
    if settings.measure_programs {
        source.measure_programs(true).context("measuring the kernel programs")?;
    }
    let incarnation = incarnation()?;
    let (happened_sender, mut happened) = mpsc::channel::<Happened>(1024);
    let (heard_sender, mut heard) = mpsc::channel::<Heard>(256);
    let (done_sender, mut done) = mpsc::channel::<Done>(1024);
    let (job_sender, mut jobs) = mpsc::channel(16);
    let (asker, mut questions) = crate::http::questions();
    let offer = source.offer().clone();
    report_start(&settings, &offer);
    let seed = incarnation.agent.0 ^ (incarnation.boot.0 as u64) ^ u64::from(std::process::id());
    let mut rounds: Rounds =
        sampler::start(source, settings.interval_ms, seed).context("starting the sampler")?;
    let cgroups = crate::executor::cgroup::Cgroups::find(&settings.cgroup, &settings.slice);
    let runner = runner(&settings).await?;
    let mut executor = Executor::open(&settings.state, cgroups, runner, happened_sender)?;
    let haproxies: Vec<Haproxy> =
        settings.balancers.iter().map(Haproxy::open).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    let clusters = clusters::Clusters::new(&settings.clusters, job_sender);
    if let Some(address) = settings.http {
        let bound =
            crate::http::serve(address, asker).await.with_context(|| format!("listening on {address}"))?;
        tracing::info!(%bound, "metrics and health");
        std::fs::write(settings.state.join("http.address"), bound.to_string())
            .context("noting the HTTP address")?;
    }
    let counts = offer.features.iter().any(|feature| *feature == agent_bpf::Feature::RunQueue.to_string());
    let inventory = inventory(&settings, offer);
    let isolation = isolation::Isolation::new(&settings, inventory.cpus, &executor, counts);
    if settings.act {
        if let Some(froze) = crate::deadman::take_froze(&settings.state) {
            tracing::warn!(?froze, "the dead-man froze best-effort work while no agent was here");
        }
        executor.settle_found(settings.qos.enabled);
    }
    let own_leaves = settings.launchers.values().any(|launcher| launcher.leaves);
    let rules =
        Rules::new(settings.rules.clone(), &settings.slice).with_leaves_of(&settings.leaves, own_leaves);
    let (leaves, mut moved) = leaves::Leaves::start(&settings);
    let processes = ProcessReader {
        root: settings.cgroup.clone(),
        env_keys: rules.env_keys().into_iter().map(str::to_owned).collect(),
    };
    let mut node = Node {
        inventory,
        incarnation,
        table: Table::default(),
        rules,
        processes,
        session: Session::new(seed),
        spool: Spool::open(&settings.state, incarnation.agent.0, settings.spool_bytes)?,
        fences: Fences::open(&settings.state)?,
        executor,
        isolation,
        crowd: Crowd::default(),
        haproxies,
        clusters,
        dialed: None,
        streams: 0,
        up: None,
        controller_offset_ms: None,
        heard: heard_sender,
        done: done_sender,
        paths: BTreeMap::new(),
        leaves,
        containers: Containers::default(),
        runtime_faults: BTreeMap::new(),
        ledgers: None,
        rows_kept: true,
        since_receipt: 0,
        receipt: None,
        health: source::Health::default(),
        read_ms: 0,
        wire_bytes: 0,
        adapt_at_ms: 0,
        clusters_at_ms: 0,
        why_down: "not connected yet".to_owned(),
        certificate: certificate::Certificate::default(),
        settings,
    };
    let unreported = node.executor.unreported();
    node.tell_all(unreported);
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut hangup = tokio::signal::unix::signal(SignalKind::hangup())?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut changed = true;
    loop {
        if changed {
            node.watch_again(&rounds);
        }
        changed = true;
        tokio::select! {
            biased;
            Some(event) = happened.recv() => { let reports = node.executor.on(event); node.tell_all(reports); }
            Some(done) = done.recv() => node.done(done),
            Some(job) = jobs.recv() => node.start_job(job),
            Some(report) = moved.recv() => node.leaf_reported(report),
            Some(heard) = heard.recv() => node.heard(heard),
            sampled = rounds.next() => match sampled {
                Some(Sampled::Round(mut reading)) => { node.round(&mut reading); rounds.give_back(reading); }
                Some(Sampled::Glance(seen)) => { node.glanced(&seen); changed = false; }
                None => anyhow::bail!("sampling ended"),
            },
            Some(question) = questions.next() => { let said = node.said(question.about); question.answer(said); },
            () = due::sleep(node.due_ms()) => node.on_time(),
            _ = hangup.recv() => node.reload(read()),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    tracing::info!(tasks = node.executor.count(), "ending; tasks keep running");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    drop((lock, alive));
    Ok(())
}

/// Who runs tasks here, as the owner says or as this host is.
async fn runner(settings: &Settings) -> Result<Runner> {
    if !settings.executor.is_systemd() {
        return Ok(Runner::Shim);
    }
    let systemd = Systemd::new(&settings.slice);
    if settings.act {
        systemd.check().await.context(
            "asking systemd, which runs tasks here, over D-Bus: is the package dbus installed? `executor = \"direct\"` does without",
        )?;
    }
    Ok(Runner::Systemd(systemd))
}

/// Two agents on one state directory would act twice: the second one refuses to start.
fn lock(settings: &Settings) -> Result<std::fs::File> {
    let path = settings.state.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => anyhow::bail!(
            "another agent uses {}: stop it, or set another state directory",
            settings.state.display()
        ),
    }
}

fn incarnation() -> Result<Incarnation> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
    let boot = BootId::parse(&text).context("the boot id is no UUID")?;
    Ok(Incarnation { boot, agent: AgentEpoch(clock::wall_ms()) })
}

fn inventory(settings: &Settings, offer: Offer) -> Inventory {
    let info = rustix::system::sysinfo();
    Inventory {
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_bytes: (info.totalram as u64).saturating_mul(u64::from(info.mem_unit)),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        tier: offer.tier,
        features: offer.features,
        unavailable: offer.unavailable,
        launchers: settings.launchers.keys().cloned().collect(),
        acts: settings.act,
        rack: settings.rack.clone(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    }
}

fn report_start(settings: &Settings, offer: &Offer) {
    let acting = if settings.act { "acts" } else { "observes only" };
    tracing::info!(node = %settings.node, tier = %offer.tier, features = ?offer.features, "the agent starts and {acting}");
    for missing in &offer.unavailable {
        tracing::info!(what = %missing.what, why = %missing.why, "not available");
    }
}

impl Node {
    /// Tells the autoscaler what happened to tasks.
    fn tell_all(&mut self, events: Vec<TaskEvent>) {
        if events.is_empty() {
            return;
        }
        for event in events {
            if clusters::Clusters::is_job(&event.workload) {
                self.job_event(&event);
            } else {
                self.session.event(Event::Task(event));
            }
        }
        self.send_events();
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Outcome(outcome) => self.answer(outcome),
            Done::Isolated(isolated) => self.not_isolated(isolated),
            Done::Containers(runtime, list) => self.runtime_answered(runtime, list),
            Done::Renewed(outcome) => self.renewed(outcome),
            Done::Reports(reports) => {
                let Some(up) = &self.up else { return };
                for report in reports {
                    // A report that does not fit is replaced by the next one in a second.
                    let _ = up.stream.send(Body::Adapter((clock::boot_ns(), report).into()));
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        let own = |file: &TaskFile| !clusters::Clusters::is_job(&file.workload);
        let tasks =
            self.executor.running().filter(|(file, _, _)| own(file)).map(|(file, _, healthy)| RunsHere {
                task: file.task.clone(),
                workload: file.workload.clone(),
                cgroup: CgroupId(file.cgroup),
                generation: file.generation,
                healthy,
                class: Some(file.class),
            });
        Hello {
            node: self.settings.node.clone(),
            incarnation: self.incarnation,
            inventory: self.inventory.clone(),
            tasks: tasks.collect(),
            boot_ns: clock::boot_ns(),
            wall_ms: clock::wall_ms(),
        }
    }

    fn heard(&mut self, heard: Heard) {
        let current = self.dialed.as_ref().map(|(number, _)| *number);
        match heard {
            Heard::Message { stream, message } if Some(stream) == current => {
                if let Some(body) = message.body {
                    self.message(body);
                }
            }
            Heard::Closed { stream, why } if Some(stream) == current => self.lost(&why),
            _ => {}
        }
    }

    fn message(&mut self, body: controller_message::Body) {
        use controller_message::Body as B;
        match body {
            B::Welcome(welcome) => self.welcomed(&welcome),
            B::Ack(ack) => self.acknowledged(ack.seq),
            B::Credit(credit) => self.session.granted(credit.bytes),
            B::Ping(ping) => self.set_controller_clock(ping.controller_ms),
            B::Command(command) => self.command(command),
            B::Refusal(refusal) => self.lost(&format!("the autoscaler refuses: {}", refusal.why)),
        }
    }

    /// A round arrived. A spooled one answers for itself only: the autoscaler need not have its events on disk.
    fn acknowledged(&mut self, seq: u64) {
        if let Some(key) = self.up.as_mut().and_then(|up| up.backlog.acknowledged(seq)) {
            return self.spool.done(key);
        }
        for event in self.session.acknowledged(seq) {
            if let Event::Task(TaskEvent { task, kind: TaskEventKind::Ended { .. }, .. }) = event {
                self.executor.acknowledged(&task);
            }
        }
    }

    fn welcomed(&mut self, welcome: &wire::pb::Welcome) {
        if let Err(why) = wire::check_version(welcome.version.as_ref()) {
            return self.lost(&why.to_string());
        }
        self.set_controller_clock(welcome.controller_ms);
        let Some((_, stream)) = &self.dialed else { return };
        match Encoder::new() {
            Ok(encoder) => {
                let stream = stream.clone();
                self.up = Some(Up { stream, encoder, named: Slots::default(), backlog: Backlog::default() });
                self.session.welcomed(wire::CREDIT);
                self.why_down.clear();
                if let Some(gap) = self.spool.take_gap() {
                    self.session.event(Event::Gap(gap));
                }
                tracing::info!(epoch = welcome.controller_epoch, "connected to the autoscaler");
                self.send_events();
            }
            Err(error) => self.lost(&format!("no compression: {error}")),
        }
    }

    fn set_controller_clock(&mut self, controller_ms: u64) {
        self.controller_offset_ms = Some(controller_ms.cast_signed() - clock::boot_ms().cast_signed());
    }

    /// The autoscaler's clock as this node knows it, ms.
    fn controller_ms(&self) -> u64 {
        let offset = self.controller_offset_ms.unwrap_or(0);
        clock::boot_ms().saturating_add_signed(offset)
    }

    fn lost(&mut self, why: &str) {
        self.dialed = None;
        self.keep_rows();
        let was_up = self.up.take().is_some();
        if was_up || self.why_down != why {
            tracing::warn!(why, "no stream to the autoscaler; measuring goes on");
        }
        self.why_down = why.to_owned();
        for round in self.session.lost(clock::boot_ms()) {
            self.spool_round(&round);
        }
    }

    /// Sends what must arrive and was not sent on this stream.
    fn send_events(&mut self) {
        let Some(up) = &self.up else { return };
        let mut fits = true;
        for event in self.session.due_events() {
            let body = match event {
                Event::Task(event) => Body::Task(event.into()),
                Event::Outcome(outcome) => Body::Outcome(outcome.into()),
                Event::Gap(gap) => Body::Gap(gap.into()),
            };
            fits &= up.stream.send(body);
        }
        if !fits {
            self.lost("the stream is slower than the events that must be sent");
        }
    }

    fn task_names(&self) -> BTreeSet<TaskName> {
        self.executor.running().map(|(file, _, _)| file.task.clone()).collect()
    }
}
