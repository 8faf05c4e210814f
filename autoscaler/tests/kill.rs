//! The controller is killed at fifty random points while it works: the store opens each time, its epoch grows, every
//! command that an agent got is in the journal exactly once, and each plan follows from its inputs.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use autoscaler::replay;
use autoscaler::store::{Entry, Reader};
use model::action::Command;

use support::agent::FakeAgent;
use support::{Service, worker};

const KILLS: u32 = 50;

fn journalled(reader: &Reader) -> BTreeMap<u64, Vec<Command>> {
    let mut commands: BTreeMap<u64, Vec<Command>> = BTreeMap::new();
    let all = reader.journal(0, i64::MAX, |_, _, entry| {
        let Entry::Round(record) = entry else { return };
        for (_, command) in record.plan.into_iter().flat_map(|plan| plan.commands) {
            commands.entry(command.id.0).or_default().push(command);
        }
    });
    all.expect("every record reads back");
    commands
}

#[test]
fn a_kill_at_any_point_loses_and_doubles_no_command() {
    let state = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start("n1");
    let mut seed = 0x5eed_u64;
    let mut random = move |to: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % to
    };
    let mut epoch = 0;
    for kill in 1..=KILLS {
        let service = Service::start(state.path(), &["--log", "warn"]);
        agent.follow(&service.agents);
        let found = service.get("/api/v1/status").1["epoch"].as_u64().unwrap();
        assert!(found > epoch, "kill {kill}: the epoch grows: {epoch}, {found}");
        epoch = found;
        let written = service.put("jobs", &worker(kill, 100), &[]);
        assert!(matches!(written.status, 200 | 201), "{written:?}");
        std::thread::sleep(Duration::from_micros(random(150_000)));
        service.kill();
        let reader = Reader::of(state.path());
        let journal = journalled(&reader);
        let specs = reader.specs().unwrap();
        assert_eq!(specs[0].workload.spec.replicas.min, kill, "what was answered as written is there");
        let books = agent.books.lock().unwrap();
        assert_eq!(books.conflicting, 0);
        for (id, command) in &books.commands {
            let stored =
                journal.get(id).unwrap_or_else(|| panic!("kill {kill}: command {id} is not journalled"));
            assert_eq!(stored, std::slice::from_ref(command), "kill {kill}: journalled once, as it was sent");
        }
    }
    let service = Service::start(state.path(), &["--log", "warn"]);
    agent.follow(&service.agents);
    service.until("as many replicas as are wanted", |service| {
        let all = service.get("/api/v1/workloads").1;
        (all["items"][0]["up"].as_u64()? >= u64::from(KILLS)).then_some(())
    });
    let running = agent.books.lock().unwrap().running.len();
    assert_eq!(running, KILLS as usize, "none was started twice");
    assert_eq!(service.stop(), Some(0));
    let reader = Reader::of(state.path());
    let segments = reader.segments().unwrap();
    for (index, first) in segments.iter().enumerate() {
        let end = segments.get(index + 1).copied().unwrap_or(i64::MAX);
        let replayed = replay::segment(&reader, *first, end).unwrap().unwrap();
        assert!(replayed.plans > u64::from(KILLS));
        assert_eq!(replayed.differed, 0, "{:#?}", replayed.differences.first());
    }
}
