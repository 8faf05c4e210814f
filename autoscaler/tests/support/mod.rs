//! The real binary on ports that the kernel chooses, and a plain HTTP client.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod agent;
pub(crate) mod receiver;
pub(crate) mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab-autoscaler"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A running service; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) agents: String,
    pub(crate) api: String,
    pub(crate) state: PathBuf,
    log: Arc<Mutex<String>>,
}

impl Service {
    pub(crate) fn start(state: &Path, more: &[&str]) -> Self {
        Self::start_with(binary(), state, more)
    }

    pub(crate) fn start_with(command: Command, state: &Path, more: &[&str]) -> Self {
        let endpoints = state.join("endpoints.json");
        let _ = std::fs::remove_file(&endpoints);
        let mut service = Self::spawn(command, state, more);
        service.find(&endpoints);
        service
    }

    /// For a command that gives the service a file system of its own: its files are seen through its process.
    pub(crate) fn start_behind(command: Command, state: &Path, more: &[&str]) -> Self {
        let mut service = Self::spawn(command, state, more);
        service.find(Path::new(&format!("/proc/{}/root{}/endpoints.json", service.pid(), state.display())));
        service
    }

    fn spawn(mut command: Command, state: &Path, more: &[&str]) -> Self {
        let state_text = state.display().to_string();
        command.args(["--state", &state_text]);
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !more.contains(&"--api") {
            command.args(["--api", "127.0.0.1:0"]);
        }
        let mut child = command.args(more).stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().unwrap();
        let show = std::env::var_os("SHOW_LOG").is_some();
        let logged = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&logged);
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if show {
                    eprintln!("service: {line}");
                }
                *written.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, agents: String::new(), api: String::new(), state: state.to_owned(), log: logged }
    }

    fn find(&mut self, endpoints: &Path) {
        let began = Instant::now();
        loop {
            let read =
                std::fs::read(endpoints).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(found) = read {
                found["agents"][0].as_str().unwrap().clone_into(&mut self.agents);
                found["api"][0].as_str().unwrap().clone_into(&mut self.api);
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the service ended at its start");
            assert!(began.elapsed() < PATIENCE, "the service did not start in time");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has logged so far.
    pub(crate) fn logged(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Asks it to read its configuration anew.
    pub(crate) fn reload(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and returns its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        status.code()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.request("GET", path, &[], "");
        (answer.status, answer.json())
    }

    pub(crate) fn put(&self, name: &str, document: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/yaml")];
        all.extend(headers);
        self.request("PUT", &format!("/api/v1/workloads/{name}"), &all, document)
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        request(&self.api, method, path, headers, body)
    }

    /// Waits until `question` has an answer.
    pub(crate) fn until<T>(&self, what: &str, mut question: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = question(self) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines();
        let found = lines.filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    Answer { status, headers: head.to_owned(), body }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 || rest.len() < length {
            break;
        }
        whole += &rest[..length];
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

/// A service workload that needs no balancer.
pub(crate) fn worker(min: u32, max: u32) -> String {
    format!(
        "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: jobs }}\nspec:\n  type: service\n  \
         replicas: {{ min: {min}, max: {max} }}\n  target: {{ cpu: 65% }}\n  mode: auto\n  service: {{ launcher: worker }}\n"
    )
}
