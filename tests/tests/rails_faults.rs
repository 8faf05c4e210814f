//! Real Pumas with a real Rails application behind a real HAProxy: replicas leave, die, hang; the balancer restarts.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Stage, signal};

const HAPROXY: &str = "/usr/sbin/haproxy";
const TOKEN: &str = "demo";

/// Ports that replicas may have: away from those that the kernel gives out, and other ones in each test process.
fn replica_ports() -> (u32, u32) {
    let from = 22_000 + std::process::id() % 400 * 25;
    (from, from + 24)
}

struct Shop {
    stage: Stage,
    front: SocketAddr,
    haproxy: u32,
}

impl Shop {
    /// The application with `count` replicas that serve.
    fn open(count: u32) -> Option<Self> {
        for program in [HAPROXY, "/usr/bin/puma", "/usr/bin/ruby"] {
            if !Path::new(program).exists() {
                println!("SKIP: {program} is not installed (apt install haproxy puma ruby-railties)");
                return None;
            }
        }
        let rails = "require 'rails'; require 'active_record'; require 'sqlite3'";
        if !Command::new("ruby").args(["-e", rails]).output().is_ok_and(|o| o.status.success()) {
            println!("SKIP: ruby cannot load rails, active_record and sqlite3");
            return None;
        }
        let mut stage = Stage::prepare("")?;
        let front = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        write_files(&mut stage, front);
        stage.start_autoscaler();
        stage.start_agent();
        stage.until("the log socket", |s| s.path("haproxy.log.sock").exists().then_some(()));
        let mut shop = Self { stage, front, haproxy: 0 };
        shop.start_haproxy();
        shop.replicas(count);
        shop.stage.wait_for("web", count.into());
        Some(shop)
    }

    fn start_haproxy(&mut self) {
        let config = self.stage.path("haproxy.cfg");
        self.haproxy = self.stage.run("haproxy", Command::new(HAPROXY).arg("-db").arg("-f").arg(config));
        let front = self.front;
        self.stage.until("HAProxy", |_| TcpStream::connect(front).ok());
    }

    /// Servers that HAProxy's own file names.
    fn in_file(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.stage.path("haproxy.cfg")).unwrap();
        let servers = text.lines().filter_map(|line| line.trim().strip_prefix("server "));
        servers.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
    }

    /// Asks for exactly `count` replicas.
    fn replicas(&self, count: u32) {
        let (from, to) = replica_ports();
        let socket = self.stage.path("haproxy.sock").display().to_string();
        let document = format!(
            "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: web }}\nspec:\n  type: rails\n  \
             replicas: {{ min: {count}, max: {count} }}\n  target: {{ queueDelayP95: 100ms }}\n  mode: auto\n  \
             size: {{ mode: recommend, cpu: 300m, memory: 512Mi }}\n  rails:\n    \
             balancer: {{ haproxy: {socket}, backend: web }}\n    launcher: puma-web\n    workers: 1\n    \
             threads: 3\n    ports: {{ from: {from}, span: {span} }}\n  behavior: {{ growAfter: 1s, \
             growCooldown: 1s, shrinkAfter: 1s, shrinkCooldown: 5s, stepUp: 4, stepDown: 4, \
             drainDeadline: 20s, stopGrace: 4s }}\n",
            span = (to - from).div_ceil(2)
        );
        self.stage.put("web", &document);
    }

    /// Replicas by name with their state.
    fn states(&self) -> Vec<(String, String)> {
        let status = self.stage.status("web");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let replicas = status["replicas"].as_array().cloned().unwrap_or_default();
        replicas.iter().map(|r| (text(&r["task"]), text(&r["state"]))).collect()
    }

    /// Names of the servers that HAProxy has.
    fn servers(&self) -> BTreeSet<String> {
        let Ok(mut socket) = UnixStream::connect(self.stage.path("haproxy.sock")) else {
            return BTreeSet::new();
        };
        socket.write_all(b"show servers state web\n").unwrap();
        let mut text = String::new();
        let _ = socket.read_to_string(&mut text);
        let rows = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        rows.filter_map(|row| row.split(' ').nth(3).map(str::to_owned)).collect()
    }

    /// Waits until replicas, processes and servers are `count`, and the same ones.
    fn settled(&mut self, count: u64) -> BTreeSet<String> {
        self.stage.wait_for("web", count);
        let mut same = None;
        let began = std::time::Instant::now();
        while began.elapsed() < support::PATIENCE {
            let running: BTreeSet<String> = self.stage.ledger.pids().into_keys().collect();
            let servers = self.servers();
            if running == servers && servers.len() as u64 == count {
                return servers;
            }
            same = Some((running, servers));
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("processes and servers: {same:?}\n{}", self.stage.log("agent"));
    }

    fn ask(&self) -> Option<u16> {
        Some(ureq::get(format!("http://{}/", self.front)).call().ok()?.status().as_u16())
    }
}

fn write_files(stage: &mut Stage, front: SocketAddr) {
    let d = stage.dir.path().display().to_string();
    let app = stage.path("app");
    fs::create_dir(&app).unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/demo");
    for file in ["config.ru", "puma.rb", "seed.rb"] {
        fs::copy(demo.join(file), app.join(file)).unwrap();
    }
    let seeded = Command::new("ruby").arg(app.join("seed.rb")).arg(app.join("shop.db")).status().unwrap();
    assert!(seeded.success(), "the database could not be made");
    let (from, to) = replica_ports();
    let launcher = format!(
        r#"command = ["/usr/bin/puma", "-C", "{d}/app/puma.rb"]
directory = "{d}/app"
user = "nobody"
[environment]
DATABASE = "{d}/app/shop.db"
PORT = "{{port}}"
CONTROL_PORT = "{{control_port}}"
WORKERS = "{{workers}}"
THREADS = "{{threads}}"
TOKEN = "{TOKEN}"
[parameters]
port = {{ type = "port", from = {from}, to = {to} }}
control_port = {{ type = "port", from = {from}, to = {to} }}
workers = {{ type = "number", from = 1, to = 4 }}
threads = {{ type = "number", from = 1, to = 16 }}
[limits]
cpu = "300m"
memory = "512Mi"
[health]
http = "http://127.0.0.1:{{port}}/up"
[puma]
address = "127.0.0.1:{{control_port}}"
token = "{TOKEN}"
listener = "127.0.0.1:{{port}}"
"#
    );
    fs::write(stage.path("launch.d/puma-web.toml"), launcher).unwrap();
    let haproxy = format!(
        r#"global
  stats socket {d}/haproxy.sock mode 600 level admin
  log {d}/haproxy.log.sock format raw local0
  maxconn 1000

defaults
  mode http
  log global
  log-format "trimtab %b %s %Tw %Tr %Ta %ST %ts"
  option http-keep-alive
  option redispatch
  retries 3
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 30s

frontend front
  bind {front}
  http-request set-header X-Request-Start t=%[date(0,ms)]
  default_backend web

backend web
  balance leastconn
  option httpchk GET /stats?token={TOKEN}
  # begin trimtab web
  # end trimtab web
"#
    );
    fs::write(stage.path("haproxy.cfg"), haproxy).unwrap();
    stage.configure(&format!(
        "[[balancer]]\nsocket = \"{d}/haproxy.sock\"\nbackends = [\"web\"]\nlog = \"{d}/haproxy.log.sock\"\n\
         config = \"{d}/haproxy.cfg\"\n"
    ));
}

/// Clients that ask one request after the other, until they are told to stop.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(front: SocketAddr) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            std::thread::spawn(move || {
                let agent: ureq::Agent = ureq::Agent::config_builder()
                    .timeout_global(Some(Duration::from_secs(30)))
                    .build()
                    .into();
                let mut errors = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let got = agent.get(format!("http://{front}/")).call();
                    match got.and_then(|mut answer| answer.body_mut().read_to_vec()) {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => errors.push(error.to_string()),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                errors
            })
        };
        let clients = (0..4).map(client).collect();
        Self { over, answered, clients }
    }

    /// Answers, and what went wrong.
    fn finish(self) -> (u64, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let errors = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.answered.load(Ordering::Relaxed), errors)
    }
}

#[test]
fn replicas_leave_under_load_and_no_client_notices() {
    let Some(mut shop) = Shop::open(3) else { return };
    let before = shop.settled(3);
    let load = Load::start(shop.front);
    let answered = Arc::clone(&load.answered);
    shop.stage.until("load", |_| (answered.load(Ordering::Relaxed) > 20).then_some(()));
    shop.replicas(1);
    let after = shop.settled(1);
    assert!(after.is_subset(&before), "{after:?} of {before:?}");
    shop.replicas(2);
    shop.settled(2);
    let (answered, errors) = load.finish();
    assert!(answered > 50, "{answered} answers");
    assert!(errors.is_empty(), "{} errors: {errors:?}", errors.len());
    shop.stage.compare_ended("web", 2);
}

#[test]
fn haproxy_restarts_in_the_middle_of_a_drain() {
    let Some(mut shop) = Shop::open(3) else { return };
    let before = shop.settled(3);
    assert_eq!(shop.in_file(), before);
    let load = Load::start(shop.front);
    shop.replicas(2);
    let leaving = |shop: &Shop| {
        shop.states().into_iter().find(|(_, state)| ["draining", "term", "maint"].contains(&state.as_str()))
    };
    let began = std::time::Instant::now();
    while leaving(&shop).is_none() {
        assert!(began.elapsed() < support::PATIENCE, "nobody leaves: {:?}", shop.states());
        std::thread::sleep(Duration::from_millis(20));
    }
    shop.stage.end(shop.haproxy);
    shop.start_haproxy();
    // The new process knows the servers from its file: those that stay are in use, the one that leaves drains again.
    let after = shop.settled(2);
    assert!(after.is_subset(&before), "the replicas that stayed: {after:?} of {before:?}");
    assert_eq!(shop.in_file(), after, "HAProxy's own file names who is there");
    let began = std::time::Instant::now();
    while shop.ask() != Some(200) {
        assert!(began.elapsed() < support::PATIENCE, "requests are answered again");
        std::thread::sleep(Duration::from_millis(100));
    }
    load.finish();
    assert_eq!(shop.stage.ledger.seen().len(), 3, "no replica was started for it");
    shop.stage.compare_ended("web", 1);
}

#[test]
fn a_puma_that_dies_is_replaced() {
    let Some(mut shop) = Shop::open(2) else { return };
    let before = shop.settled(2);
    let (name, _) = shop.stage.ledger.pids().pop_first().unwrap();
    // The master is the first process of the task.
    let master = shop.stage.ledger.now().into_values().find(|t| t.name == name).unwrap().pids[0];
    signal(master, Signal::KILL);
    shop.stage.until("a replacement", |s| (s.ledger.seen().len() == 3).then_some(()));
    let after = shop.settled(2);
    assert!(!after.contains(&name) && after.intersection(&before).count() == 1, "{before:?} → {after:?}");
    assert_eq!(shop.ask(), Some(200));
    shop.stage.compare_ended("web", 1);
}

#[test]
fn a_puma_that_hangs_while_it_leaves_is_killed_and_removed() {
    let Some(mut shop) = Shop::open(2) else { return };
    shop.settled(2);
    shop.replicas(1);
    let began = std::time::Instant::now();
    let victim = loop {
        let leaves = |state: &str| ["draining", "term"].contains(&state);
        if let Some((name, _)) = shop.states().into_iter().find(|(_, state)| leaves(state)) {
            break name;
        }
        assert!(began.elapsed() < support::PATIENCE, "nobody leaves: {:?}", shop.states());
        std::thread::sleep(Duration::from_millis(10));
    };
    // Stopped, it hears no SIGTERM.
    let task = shop.stage.ledger.now().into_values().find(|t| t.name == victim).unwrap();
    task.pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
    let after = shop.settled(1);
    assert!(!after.contains(&victim));
    assert_eq!(shop.ask(), Some(200));
    shop.stage.compare_ended("web", 1);
    let ended = shop.stage.ended("web").into_iter().find(|t| t["task"] == *victim).unwrap();
    assert_eq!((ended["signal"].as_i64(), ended["asked"].as_bool()), (Some(9), Some(true)), "{ended}");
}
