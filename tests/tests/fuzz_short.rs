//! A short fuzzing of everything that reads bytes from outside: seeds, mutated the same way in each run.
//!
//! TRIMTAB_FUZZ_ROUNDS asks for more mutations of each target, TRIMTAB_FUZZ_SEED for other ones. A failure prints the
//! input; a hang ends by the runner's deadline.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use agent_core::{haproxy, parse, puma};
use autoscaler_core::event::Time;
use autoscaler_core::fleet::Fleet;
use model::id::{AgentEpoch, BootId, NodeId};
use model::node::{Incarnation, Inventory, Tier};
use model::sample::Values;
use model::spec::{Format, parse_as};
use model::units::{Bytes, MilliCpu, Millis, Share};
use prost::Message;
use support::mutate::Mutator;
use wire::batch::Decoder;
use wire::pb;

const ROUNDS: u64 = 20_000;

/// Gives `target` the seeds as they are, then mutations of them.
fn fuzz(seeds: &[&[u8]], words: &[&str], mut target: impl FnMut(&[u8])) {
    let rounds = std::env::var("TRIMTAB_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let seed = std::env::var("TRIMTAB_FUZZ_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut mutator = Mutator::new(seed, seeds, words);
    seeds.iter().for_each(|seed| target(seed));
    for _ in 0..rounds {
        let input = mutator.next();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input)));
        if let Err(panic) = result {
            eprintln!("input: {:?}", String::from_utf8_lossy(&input));
            eprintln!("bytes: {input:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn kernel_files() {
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
    let words = ["usage_usec", "total=", "18446744073709551616", "-1", "rbytes=", "1e9", "max", ")", "\u{0}"];
    fuzz(&seeds, &words, |bytes| {
        let mut values = Values::default();
        let _ = parse::cpu_stat(bytes, &mut values);
        let _ = parse::populated(bytes);
        let _ = parse::memory_events(bytes, &mut values);
        let _ = parse::single(bytes);
        let _ = parse::pressure(bytes);
        let _ = parse::io_stat(bytes, &mut values);
        let _ = parse::proc_stat_busy(bytes);
        let _ = parse::process_start(bytes);
    });
}

#[test]
fn answers_of_haproxy_and_puma() {
    let seeds: [&[u8]; 5] = [
        b"# pxname,svname,qcur,scur,slim,stot,hrsp_5xx,econ,eresp,status,check_status,addr,\nweb,web-1,0,1,3,9,0,0,0,UP,L7OK,127.0.0.1:20000,\nweb,BACKEND,2,3,,99,1,0,0,UP,,,\n",
        b"<134>trimtab web web-1 12 0 48 200 --\n",
        b"Uptime_sec: 120\nPid: 4\n",
        br#"{"workers":1,"phase":0,"booted_workers":1,"worker_status":[{"last_status":{"backlog":0,"running":3,"pool_capacity":2,"max_threads":3}}]}"#,
        b"New server registered.\n",
    ];
    let words =
        ["web", "BACKEND", ",", "-1", "18446744073709551615", "trimtab ", "null", "4294967296", "MAINT"];
    let task = "web-1".parse().unwrap();
    fuzz(&seeds, &words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = haproxy::stat(&text, "web");
        let _ = haproxy::request(&text);
        let _ = haproxy::uptime_seconds(&text);
        let _ = haproxy::accepted(&text);
        let _ = puma::stats(bytes, &task);
    });
}

fn spec(format: Format, seeds: &[&[u8]], words: &[&str]) {
    fuzz(seeds, words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match parse_as(format, "a", &text) {
            Ok(workloads) => {
                for workload in workloads {
                    let replicas = workload.spec.replicas;
                    assert!(replicas.min <= replicas.max, "{workload:?}");
                    // What is accepted can be written down and read again.
                    let json = serde_json::to_string(&workload).unwrap();
                    serde_json::from_str::<model::workload::Workload>(&json).unwrap();
                }
            }
            Err(faults) => assert!(!faults.is_empty(), "a refusal has a reason"),
        }
    });
}

const WORDS: [&str; 12] = [
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

#[test]
fn specifications_in_yaml() {
    let service = b"apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: jobs }\nspec:\n  type: service\n  replicas: { min: 1, max: 5 }\n  target: { cpu: 65% }\n  mode: auto\n  service: { launcher: worker }\n";
    let rails = b"apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: web }\nspec:\n  type: rails\n  replicas: { min: 2, max: 9 }\n  target: { queueDelayP95: 100ms }\n  size: { mode: recommend, cpu: 300m, memory: 512Mi }\n  rails:\n    balancer: { haproxy: /run/h.sock, backend: web }\n    launcher: puma\n    workers: 1\n    threads: 3\n    ports: { from: 20000, span: 20 }\n  behavior: { growAfter: 1s, shrinkAfter: 6s, shrinkCooldown: 10s, growCooldown: 2s }\n";
    spec(Format::Yaml, &[service, rails], &WORDS);
}

#[test]
fn specifications_in_json_and_toml() {
    let json = br#"{"apiVersion":"trimtab/v1","kind":"Workload","metadata":{"name":"jobs"},"spec":{"type":"service","replicas":{"min":1,"max":5},"target":{"cpu":"65%"},"service":{"launcher":"worker"}}}"#;
    spec(Format::Json, &[json], &WORDS);
    let toml = b"apiVersion = \"trimtab/v1\"\nkind = \"Workload\"\nmetadata = { name = \"jobs\" }\n[spec]\ntype = \"service\"\nreplicas = { min = 1, max = 5 }\ntarget = { cpu = \"65%\" }\nservice = { launcher = \"worker\" }\n";
    spec(Format::Toml, &[toml], &WORDS);
}

#[test]
fn units() {
    let seeds: [&[u8]; 9] =
        [b"512Mi", b"1.5Gi", b"1500m", b"2", b"0.25", b"30s", b"1h30m", b"65%", b"18446744073709551615"];
    let words = ["Ki", "Ti", "m", "ms", "d", "%", ".", "e", "-", "+", "\u{0663}", "99999999999999999999"];
    fuzz(&seeds, &words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        // What is shown reads as what it is, where it is exact.
        if let Ok(value) = text.parse::<Millis>() {
            assert_eq!(value.to_string().parse::<Millis>().unwrap(), value, "{text:?} → {value}");
        }
        if let Ok(value) = text.parse::<MilliCpu>() {
            assert_eq!(value.to_string().parse::<MilliCpu>().unwrap(), value, "{text:?} → {value}");
        }
        let _ = text.parse::<Bytes>().map(|value| value.to_string());
        let _ = text.parse::<Share>().map(|value| value.to_string());
    });
}

fn body(appear: bool, gone: bool) -> pb::BatchBody {
    let task = |slot: u32| pb::Task {
        slot,
        cgroup: 100 + u64::from(slot),
        since_ns: 5,
        kind: "task".into(),
        name: format!("web-{slot}"),
        ..Default::default()
    };
    pb::BatchBody {
        appeared: if appear { (0..3).map(task).collect() } else { vec![] },
        gone: if gone { vec![1] } else { vec![] },
        columns: vec![pb::Column {
            metric: 0,
            slots: vec![0, 1, 1],
            rises: vec![7, 0, 99],
            ..Default::default()
        }],
        delays: vec![pb::DelayHistogram { slot: 0, buckets: vec![0, 5], counts: vec![1, 2] }],
    }
}

/// What the autoscaler does with a decoded batch.
fn ingest(fleet: &mut Fleet, decoded: &wire::batch::Decoded<'_>) {
    let node = NodeId::new("a").unwrap();
    let (now, boot_ns) = (Time(decoded.header.boot_ns / 1_000_000), decoded.header.boot_ns);
    let table = fleet.node(&node).unwrap();
    for (slot, info) in &decoded.appeared {
        table.task_appeared(*slot, info.clone(), now);
    }
    for (slot, _, values) in decoded.changed() {
        table.sample(slot, boot_ns, values, now);
    }
    for gone in &decoded.gone {
        table.task_gone(gone.slot, Some((boot_ns, &gone.values)));
    }
    table.unchanged_at(boot_ns, now);
}

fn batch(seq: u64, body: &[u8]) -> pb::SampleBatch {
    pb::SampleBatch {
        seq,
        boot_ns: seq.wrapping_mul(1_000_000_000),
        snapshot: seq == 1,
        backlog: seq == 9,
        body_bytes: u32::try_from(body.len()).unwrap(),
        body: zstd::bulk::compress(body, 1).unwrap(),
        ..Default::default()
    }
}

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    let inventory = Inventory {
        cpus: 2,
        memory_bytes: 1 << 30,
        kernel: String::new(),
        tier: Tier::A,
        features: vec![],
        unavailable: vec![],
        launchers: vec![],
        acts: true,
    };
    let incarnation = Incarnation { boot: BootId(1), agent: AgentEpoch(1) };
    fleet.node_up(NodeId::new("a").unwrap(), incarnation, inventory, Time(0));
    fleet
}

/// A whole stream in each input: a good snapshot, then what the mutation made of a body; alone and in the stream.
#[test]
fn bodies_of_batches_into_the_fleet() {
    let seeds = [
        body(true, false).encode_to_vec(),
        body(false, false).encode_to_vec(),
        body(false, true).encode_to_vec(),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let first = batch(1, seeds[0]);
    let (mut taken, mut fleet) = (0u64, fleet());
    fuzz(&seeds, &["\u{ff}\u{ff}", "task"], |bytes| {
        let mut decoder = Decoder::new().unwrap();
        for batch in [first.clone(), batch(2, bytes), batch(9, bytes), batch(3, bytes)] {
            match decoder.decode(&batch) {
                Ok(decoded) => {
                    ingest(&mut fleet, &decoded);
                    taken += 1;
                }
                Err(error) => {
                    assert!(error.to_string().len() < 1000, "{error}");
                    break;
                }
            }
        }
        assert!(fleet.take_ended().len() <= autoscaler_core::fleet::ENDED_LIMIT);
        let _ = fleet.tasks(None, Time(5));
        let _ = fleet.nodes(Time(5));
    });
    assert!(taken > 1000, "mutations that change something get through: {taken}");
}

#[test]
fn messages_of_agents() {
    use pb::agent_message::Body;
    let first = batch(1, &body(true, false).encode_to_vec());
    let event = pb::TaskEvent { task: "web-1".into(), workload: "web".into(), ..Default::default() };
    let gap = pb::Gap { kind: 2, from_ns: 1, to_ns: 9, cause: "x".into() };
    let hello = pb::Hello { node: "a".into(), boot_id: vec![7; 16], ..Default::default() };
    let receipt = pb::Receipt { interval_ns: 10, kernel_us: 5, switch_us: Some(5), ..Default::default() };
    let all =
        [Body::Batch(first), Body::Task(event), Body::Gap(gap), Body::Hello(hello), Body::Receipt(receipt)];
    let seeds: Vec<Vec<u8>> =
        all.into_iter().map(|body| pb::AgentMessage { body: Some(body) }.encode_to_vec()).collect();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    fuzz(&seeds, &["web-", "/../", "\u{0}"], |bytes| {
        let Ok(pb::AgentMessage { body: Some(body) }) = pb::AgentMessage::decode(bytes) else { return };
        match body {
            Body::Batch(m) => drop(Decoder::new().unwrap().decode(&m).map(|decoded| decoded.appeared.len())),
            Body::Outcome(m) => drop(model::action::Outcome::try_from(m)),
            Body::Adapter(m) => drop(model::adapter::AdapterReport::try_from(m)),
            Body::Receipt(m) => drop(model::node::Receipt::from(m).error_ratio()),
            Body::Gap(m) => drop(model::gap::Gap::try_from(m)),
            Body::Task(m) => drop(model::action::TaskEvent::try_from(m)),
            Body::Hello(m) => drop(wire::convert::hello(m)),
        }
    });
}
