//! Everything that reads bytes from outside, one entry each: for `tests/fuzz_short.rs`, which mutates seeds the same way
//! in each run, and for `cargo xtask fuzz`, which looks for inputs that reach new code.
//!
//! An entry panics on a fault. It says whether the input was accepted, so that a test can tell that its mutations still
//! get through.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod identity;
mod ingest;

use agent_core::{haproxy, parse, puma};
use model::sample::Values;
use model::spec::{Format, parse_as, parse_prices_as, prices_document};
use model::units::{Bytes, MilliCpu, Millis, Share};
use prost::Message;
use wire::batch::Decoder;
use wire::pb;

pub use identity::identities;
pub use ingest::batches;

/// What is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of the program in `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Reads an input; true when it was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are good.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that mutations put in.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "kernel_files", run: kernel_files, seeds: kernel_file_seeds, words: &KERNEL_WORDS },
    Target { name: "answers", run: answers, seeds: answer_seeds, words: &ANSWER_WORDS },
    Target { name: "specifications", run: specifications, seeds: specification_seeds, words: &SPEC_WORDS },
    Target { name: "units", run: units, seeds: unit_seeds, words: &UNIT_WORDS },
    Target { name: "batches", run: batches, seeds: ingest::seeds, words: &["\u{ff}\u{ff}", "task"] },
    Target { name: "identities", run: identities, seeds: identity::seeds, words: &identity::WORDS },
    Target { name: "messages", run: messages, seeds: message_seeds, words: &["web-", "/../", "\u{0}"] },
];

const KERNEL_WORDS: [&str; 9] =
    ["usage_usec", "total=", "18446744073709551616", "-1", "rbytes=", "1e9", "max", ")", "\u{0}"];

fn kernel_file_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 8] = [
        b"usage_usec 4077\nuser_usec 3000\nsystem_usec 1077\nnr_periods 3\nnr_throttled 1\nthrottled_usec 77\n",
        b"populated 1\nfrozen 0\n",
        b"low 0\nhigh 0\nmax 0\noom 2\noom_kill 1\noom_group_kill 0\n",
        b"max\n",
        b"some avg10=0.12 avg60=1.00 avg300=0.00 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n",
        b"8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n253:1 rbytes=1 wbytes=2 rios=3 wios=4\n",
        b"cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n",
        b"42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7 18446744073709551615\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Files of cgroups, PSI and processes.
pub fn kernel_files(bytes: &[u8]) -> bool {
    let mut values = Values::default();
    let read = [
        parse::cpu_stat(bytes, &mut values).is_ok(),
        parse::populated(bytes).is_ok(),
        parse::memory_events(bytes, &mut values).is_ok(),
        parse::single(bytes).is_ok(),
        parse::pressure(bytes).is_ok(),
        parse::io_stat(bytes, &mut values).is_ok(),
        parse::proc_stat_busy(bytes).is_ok(),
        parse::process_start(bytes).is_ok(),
        parse::meminfo(bytes).is_ok(),
    ];
    read.contains(&true)
}

const ANSWER_WORDS: [&str; 9] =
    ["web", "BACKEND", ",", "-1", "18446744073709551615", "trimtab ", "null", "4294967296", "MAINT"];

fn answer_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 5] = [
        b"# pxname,svname,qcur,scur,slim,stot,hrsp_5xx,econ,eresp,status,check_status,addr,\nweb,web-1,0,1,3,9,0,0,0,UP,L7OK,127.0.0.1:20000,\nweb,BACKEND,2,3,,99,1,0,0,UP,,,\n",
        b"<134>trimtab web web-1 12 0 48 200 --\n",
        b"Uptime_sec: 120\nPid: 4\n",
        br#"{"workers":1,"phase":0,"booted_workers":1,"worker_status":[{"last_status":{"backlog":0,"running":3,"pool_capacity":2,"max_threads":3}}]}"#,
        b"New server registered.\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// What HAProxy and Puma answer.
pub fn answers(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let task = "web-1".parse().unwrap();
    let stat = haproxy::stat(&text, "web").is_ok();
    let _ = haproxy::request(&text);
    let _ = haproxy::uptime_seconds(&text);
    let _ = haproxy::accepted(&text);
    puma::stats(bytes, &task).is_ok() || stat
}

const SPEC_WORDS: [&str; 12] = [
    "replicas",
    "min",
    "max",
    "4294967295",
    "-1",
    "100%",
    "1e999",
    "spec",
    "0ms",
    "&a",
    "*a",
    "9999999999999Gi",
];

fn specification_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 5] = [
        b"apiVersion: trimtab/v1\nkind: PriceTable\nmetadata: { name: default }\nspec: { currency: EUR, perCoreHour: 0.031, perGibHour: 0.004 }\n",
        b"apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: jobs }\nspec:\n  type: service\n  replicas: { min: 1, max: 5 }\n  target: { cpu: 65% }\n  mode: auto\n  service: { launcher: worker }\n",
        b"apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: web }\nspec:\n  type: rails\n  replicas: { min: 2, max: 9 }\n  target: { queueDelayP95: 100ms }\n  size: { mode: recommend, cpu: 300m, memory: 512Mi }\n  rails:\n    balancer: { haproxy: /run/h.sock, backend: web }\n    launcher: puma\n    workers: 1\n    threads: 3\n    ports: { from: 20000, span: 20 }\n  behavior: { growAfter: 1s, shrinkAfter: 6s, shrinkCooldown: 10s, growCooldown: 2s }\n",
        br#"{"apiVersion":"trimtab/v1","kind":"Workload","metadata":{"name":"jobs"},"spec":{"type":"service","replicas":{"min":1,"max":5},"target":{"cpu":"65%"},"service":{"launcher":"worker"}}}"#,
        b"apiVersion = \"trimtab/v1\"\nkind = \"Workload\"\nmetadata = { name = \"jobs\" }\n[spec]\ntype = \"service\"\nreplicas = { min = 1, max = 5 }\ntarget = { cpu = \"65%\" }\nservice = { launcher = \"worker\" }\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Specifications of workloads, in each format.
pub fn specifications(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut accepted = false;
    for format in [Format::Yaml, Format::Json, Format::Toml] {
        match parse_as(format, "a", &text) {
            Ok(workloads) => {
                for workload in workloads {
                    accepted = true;
                    let replicas = workload.spec.replicas;
                    assert!(replicas.min <= replicas.max, "{workload:?}");
                    // What is accepted can be written down and read again.
                    let json = serde_json::to_string(&workload).unwrap();
                    serde_json::from_str::<model::workload::Workload>(&json).unwrap();
                }
            }
            Err(faults) => assert!(!faults.is_empty(), "a refusal has a reason"),
        }
        match parse_prices_as(format, "a", &text) {
            Ok(table) => {
                accepted = true;
                let document = prices_document(&table).to_string();
                assert_eq!(parse_prices_as(Format::Json, "a", &document).unwrap(), table);
            }
            Err(faults) => assert!(!faults.is_empty(), "a refusal has a reason"),
        }
    }
    accepted
}

const UNIT_WORDS: [&str; 12] =
    ["Ki", "Ti", "m", "ms", "d", "%", ".", "e", "-", "+", "\u{0663}", "99999999999999999999"];

fn unit_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 9] =
        [b"512Mi", b"1.5Gi", b"1500m", b"2", b"0.25", b"30s", b"1h30m", b"65%", b"18446744073709551615"];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Sizes, CPUs, durations and shares as people write them.
pub fn units(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut accepted = false;
    // What is shown reads as what it is, where it is exact.
    if let Ok(value) = text.parse::<Millis>() {
        accepted = true;
        assert_eq!(value.to_string().parse::<Millis>().unwrap(), value, "{text:?} → {value}");
    }
    if let Ok(value) = text.parse::<MilliCpu>() {
        accepted = true;
        assert_eq!(value.to_string().parse::<MilliCpu>().unwrap(), value, "{text:?} → {value}");
    }
    accepted |= text.parse::<Bytes>().map(|value| value.to_string()).is_ok();
    accepted |= text.parse::<Share>().map(|value| value.to_string()).is_ok();
    accepted
}

fn message_seeds() -> Vec<Vec<u8>> {
    use pb::agent_message::Body;
    let first = ingest::batch(1, &ingest::seeds()[0]);
    let event = pb::TaskEvent { task: "web-1".into(), workload: "web".into(), ..Default::default() };
    let gap = pb::Gap { kind: 2, from_ns: 1, to_ns: 9, cause: "x".into() };
    let hello = pb::Hello { node: "a".into(), boot_id: vec![7; 16], ..Default::default() };
    let receipt = pb::Receipt { interval_ns: 10, kernel_us: 5, switch_us: Some(5), ..Default::default() };
    let all =
        [Body::Batch(first), Body::Task(event), Body::Gap(gap), Body::Hello(hello), Body::Receipt(receipt)];
    all.into_iter().map(|body| pb::AgentMessage { body: Some(body) }.encode_to_vec()).collect()
}

/// Any message of an agent.
pub fn messages(bytes: &[u8]) -> bool {
    use pb::agent_message::Body;
    let Ok(pb::AgentMessage { body: Some(body) }) = pb::AgentMessage::decode(bytes) else { return false };
    match body {
        Body::Batch(m) => Decoder::new().unwrap().decode(&m).is_ok(),
        Body::Outcome(m) => model::action::Outcome::try_from(m).is_ok(),
        Body::Adapter(m) => model::adapter::AdapterReport::try_from(m).is_ok(),
        Body::Receipt(m) => model::node::Receipt::from(m).error_ratio().is_some(),
        Body::Gap(m) => model::gap::Gap::try_from(m).is_ok(),
        Body::Task(m) => model::action::TaskEvent::try_from(m).is_ok(),
        Body::Hello(m) => wire::convert::hello(m).is_ok(),
    }
}
