use autoscaler_core::brain::Config;
use autoscaler_core::event::{Event, Followed, Plan, Time};
use autoscaler_core::fleet::EndedTask;
use model::action::{TaskEvent, TaskEventKind};
use model::decision::{Decision, DecisionId, Realised};
use model::id::{AgentEpoch, BootId, CgroupId, NodeId, TaskKey, TaskName, WorkloadName};
use model::metric::Metric;
use model::node::{Incarnation, Inventory, TaskClass, TaskInfo, Tier};
use model::sample::Values;
use model::workload::Workload;
use rusqlite::Connection;

use super::{Base, Entry, FILE, JournalSettings, Reader, Round, Store, StoreError, StoredReply};

fn workload(name: &str) -> Workload {
    let text = format!(
        "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  type: service\n  \
         replicas: {{ min: 1, max: 3 }}\n  target: {{ cpu: 33.3% }}\n  service: {{ launcher: a }}\n"
    );
    model::spec::parse("a.yaml", &text).unwrap().remove(0)
}

fn applied(name: &str) -> Event {
    Event::SpecApplied { workload: workload(name) }
}

fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

fn node_up() -> Event {
    Event::NodeUp {
        node: node(),
        incarnation: Incarnation { boot: BootId(u128::MAX - 5), agent: AgentEpoch(1) },
        inventory: Inventory {
            kernel: "6.1".into(),
            launchers: vec!["a".into()],
            acts: true,
            ..Inventory::new(2, 1 << 30, Tier::A)
        },
        tasks: vec![],
    }
}

fn round<'a>(at: u64, events: &'a [Event], plan: Option<&'a Plan>) -> Round<'a> {
    Round { at: Time(at), events, plan, idle: &[], ended: &[] }
}

fn read(reader: &Reader) -> Vec<(i64, Entry)> {
    let mut all = Vec::new();
    reader.journal(0, i64::MAX, |seq, _, entry| all.push((seq, entry))).unwrap();
    all
}

#[test]
fn what_was_committed_is_read_back_bit_for_bit_and_the_epoch_grows() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let first = store.epoch();
    let events = [applied("web"), node_up()];
    let plan = Plan { wake_at: Some(Time(7)), ..Plan::default() };
    store.commit(&round(5, &events, Some(&plan))).unwrap();
    store.commit(&round(6, &[], None)).unwrap();
    assert!(matches!(Store::open(state.path()), Err(StoreError::InUse { .. })));
    drop(store);
    let store = Store::open(state.path()).unwrap();
    assert!(store.epoch() > first);
    assert_eq!(store.last_at(), Some(Time(6)));
    let all = read(&store.reader());
    let Entry::Round(record) = &all[0].1 else { panic!("a round") };
    assert_eq!((record.events.as_slice(), record.plan.as_ref()), (events.as_slice(), Some(&plan)));
    assert_eq!(all.len(), 2);
}

#[test]
fn specs_and_pauses_follow_from_events() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let reader = store.reader();
    let name = WorkloadName::new("web").unwrap();
    let pause = |workload| Event::Paused { workload, reason: "why".into(), until: Some(Time(100)) };
    store
        .commit(&round(1, &[applied("web"), applied("shop"), pause(None), pause(Some(name.clone()))], None))
        .unwrap();
    assert_eq!(reader.specs().unwrap().len(), 2);
    assert_eq!(reader.pauses(Time(50)).unwrap().len(), 2);
    assert!(reader.pauses(Time(100)).unwrap().is_empty(), "a pause ends by itself");
    assert_eq!(reader.in_force(Time(50)).unwrap().len(), 4);
    let before = reader.spec(&name).unwrap().unwrap();
    assert_eq!(before.workload, workload("web"));
    store
        .commit(&round(
            2,
            &[Event::SpecRemoved { workload: name.clone() }, Event::Resumed { workload: None }],
            None,
        ))
        .unwrap();
    assert_eq!(reader.spec(&name).unwrap(), None);
    assert_eq!(reader.pauses(Time(50)).unwrap().len(), 1);
    store.commit(&round(3, &[applied("web")], None)).unwrap();
    assert!(reader.spec(&name).unwrap().unwrap().revision > before.revision);
}

#[test]
fn drains_follow_from_events_and_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let node = |name: &str| name.parse::<NodeId>().unwrap();
    let drained = |name: &str, why: &str| Event::NodeDrained { node: node(name), reason: why.into() };
    let events = [drained("n1", "disk"), drained("n2", "x"), drained("n2", "kernel")];
    store.commit(&round(1, &events, None)).unwrap();
    store.commit(&round(2, &[Event::NodeReturned { node: node("n1") }], None)).unwrap();
    drop(store);
    let store = Store::open(state.path()).unwrap();
    assert_eq!(store.reader().in_force(Time(50)).unwrap(), [drained("n2", "kernel")]);
}

#[test]
fn what_followed_is_put_beside_what_was_predicted() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let text = include_str!("../../../model/src/decision.json");
    let decision: Decision = serde_json::from_str(text).unwrap();
    let other = Decision { id: DecisionId(decision.id.0 + 1), ..decision.clone() };
    let plan = Plan { decisions: vec![decision.clone(), other.clone()], ..Plan::default() };
    store.commit(&round(1, &[], Some(&plan))).unwrap();
    let realised = Realised { after_ms: 4_100, utilisation: 0.6, load: 2.1, serving: 4 };
    let (workload, at_ms) = (decision.workload.clone(), decision.at_ms);
    let followed = |decision| Followed { decision, workload: workload.clone(), at_ms, realised };
    // One that is not stored (any more) is no fault.
    let plan =
        Plan { realised: vec![followed(decision.id), followed(DecisionId(1 << 40))], ..Plan::default() };
    store.commit(&round(2, &[], Some(&plan))).unwrap();
    let rows = store.reader().decisions(None, false, None, 9).unwrap().items;
    let stored: Vec<_> = rows.into_iter().map(|row| row.decision).collect();
    assert_eq!(stored, vec![other, Decision { realised: Some(realised), ..decision }]);
}

fn ended(cpu_us: Option<u64>) -> (NodeId, EndedTask) {
    let class = TaskClass::new("task", "web-1");
    let totals = cpu_us.map(|us| {
        let mut values = Values::default();
        values.set(Metric::CpuTime, us);
        values
    });
    let key = TaskKey { boot: BootId(u128::MAX - 5), cgroup: CgroupId(9) };
    (
        node(),
        EndedTask {
            key,
            info: TaskInfo { cgroup: CgroupId(9), since_ns: 1, class },
            totals,
            boot_ns: Some(1),
        },
    )
}

#[test]
fn the_final_total_of_a_task_never_falls_whichever_report_comes_first() {
    let exit = Event::Task {
        node: node(),
        event: TaskEvent {
            task: TaskName::new("web-1").unwrap(),
            workload: WorkloadName::new("web").unwrap(),
            cgroup: CgroupId(9),
            kind: TaskEventKind::Ended {
                status: Some(0),
                signal: None,
                cpu_total_us: Some(1_000_001),
                asked: true,
            },
            at_ns: 1,
        },
    };
    for exit_first in [true, false] {
        let state = tempfile::tempdir().unwrap();
        let mut store = Store::open(state.path()).unwrap();
        store.commit(&round(1, &[node_up()], None)).unwrap();
        let events = [exit.clone()];
        let by_exit = round(2, &events, None);
        let samples = [ended(Some(1_000_000)), ended(Some(999))];
        let by_samples = Round { ended: &samples, ..round(2, &[], None) };
        let rounds = if exit_first { [by_exit, by_samples] } else { [by_samples, by_exit] };
        rounds.iter().for_each(|round| store.commit(round).unwrap());
        let page = store.reader().ended_tasks(None, None, None, 10).unwrap();
        assert_eq!(page.items.len(), 1, "one task, one row: {page:?}");
        let task = &page.items[0];
        assert_eq!((task.cpu_total_us, task.status, task.asked), (Some(1_000_001), Some(0), Some(true)));
        assert_eq!((task.workload.as_deref(), task.task.as_deref()), (Some("web"), Some("web-1")));
    }
}

#[test]
fn a_damaged_record_is_named_and_a_newer_schema_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let reader = store.reader();
    (1..=3).for_each(|at| store.commit(&round(at, &[applied("web")], None)).unwrap());
    drop(store);
    let db = Connection::open(state.path().join(FILE)).unwrap();
    db.execute("UPDATE journal SET body = substr(body, 2) WHERE seq = 2", []).unwrap();
    let error = reader.journal(0, i64::MAX, |_, _, _| {}).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { seq: 2, .. }), "{error}");
    db.pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(state.path()).unwrap_err().to_string();
    assert!(error.contains("99") && error.contains("upgrade"), "{error}");
}

#[test]
fn old_segments_and_records_are_dropped_and_the_open_segment_is_not() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let base = Base { config: Config::default().into(), events: vec![], warm_from: None };
    for at in [0u64, 1_000, 2_000] {
        store.begin_segment(Time(at), &base).unwrap();
        (1..=5).for_each(|n| store.commit(&round(at + n, &[applied("web")], None)).unwrap());
    }
    store.commit(&Round { ended: &[ended(None)], ..round(2_006, &[], None) }).unwrap();
    let reply = StoredReply { fingerprint: "f".into(), status: 200, body: "{}".into() };
    store.remember_reply("k", &reply, Time(2_006)).unwrap();
    let keep = |retain_ms, max_bytes| JournalSettings {
        retain_ms,
        replay_ms: 1,
        max_bytes,
        tasks_retain_ms: 10_000,
        decisions_retain_ms: 10_000,
    };
    let reader = store.reader();
    store.retain(&keep(1_500, 1 << 30), Time(2_600)).unwrap();
    assert_eq!(reader.segments().unwrap().len(), 2, "the first ended 1.6 s ago");
    store.retain(&keep(u64::MAX, 1), Time(2_600)).unwrap();
    assert_eq!(reader.segments().unwrap().len(), 1, "too large: only the open one is left");
    assert_eq!(read(&reader).len(), 7);
    assert_eq!(reader.ended_tasks(None, None, None, 1).unwrap().items.len(), 1);
    assert_eq!(reader.reply("k").unwrap(), Some(reply));
    store.retain(&keep(u64::MAX, 1 << 30), Time(90_000_000)).unwrap();
    assert!(reader.ended_tasks(None, None, None, 1).unwrap().items.is_empty());
    assert_eq!(reader.reply("k").unwrap(), None);
}
