use autoscaler_core::idle::{Amount, Idle};

use super::super::schema;
use super::*;

const MINUTE: u64 = 60_000;

fn amount(cores: f64, gib: f64, ms: u64) -> Amount {
    Amount { cpu_millicore_ms: (cores * 1e3) as u64 * ms, memory_kib_ms: (gib * 1_048_576.0) as u64 * ms }
}

/// A minute of 8 cores and 16 GiB that ends at `to`: so many used, so many unknown; the rest has no demand.
fn page(to: u64, used: f64, dark: f64) -> Page {
    let (from, ms) = (Time(to - MINUTE), MINUTE);
    let mut idle =
        vec![Idle { cause: Cause::NoDemand, amount: amount(8.0 - used - dark, 16.0 - used - dark, ms) }];
    if dark > 0.0 {
        idle.push(Idle { cause: Cause::NoData, amount: amount(dark, dark, ms) });
    }
    Page { from, to: Time(to), capacity: amount(8.0, 16.0, ms), used: amount(used, used, ms), idle }
}

fn store(pages: &[Page]) -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let db = Connection::open(&path).unwrap();
    schema::prepare(&db, &path).unwrap();
    pages.iter().for_each(|page| note(&db, page).unwrap());
    (directory, db)
}

/// Use and causes are all there was, and causes are of the same time as the rest.
fn whole(usage: &Usage) {
    let (cpu, memory) = usage.mean.unwrap();
    let of = |part: fn(&Share) -> f64| usage.idle.iter().map(part).sum::<f64>();
    assert!((cpu.used / cpu.capacity + of(|share| share.cpu) - 1.0).abs() < 1e-9, "{usage:?}");
    assert!((memory.used / memory.capacity + of(|share| share.memory) - 1.0).abs() < 1e-9, "{usage:?}");
}

#[test]
fn use_and_causes_of_a_range_are_all_that_there_was() {
    let day = 86_400_000;
    let pages: Vec<Page> = (1..=180).map(|n| page(day + n * MINUTE, (n % 8) as f64, 0.0)).collect();
    let (_directory, db) = store(&pages);
    let now = day + 180 * MINUTE;
    for minutes in [1, 9, 10, 11, 60, 95, 180, 600] {
        let usage = read(&db, Time(now - minutes * MINUTE), Time(now), 60).unwrap();
        whole(&usage);
        assert!(usage.covered_ms >= minutes.min(180) * MINUTE && usage.to == Time(now));
    }
    let usage = read(&db, Time(day), Time(now), 60).unwrap();
    let (cpu, memory) = usage.mean.unwrap();
    assert!((cpu.capacity - 8.0).abs() < 1e-9 && (memory.capacity - 16.0 * 1_073_741_824.0).abs() < 1.0);
    assert!((cpu.used - 3.5).abs() < 0.05, "{}", cpu.used);
    assert_eq!(usage.used_p95.0, Some(7.0));
    assert_eq!((usage.step_ms, usage.points.len()), (3 * MINUTE, 60));
}

#[test]
fn what_is_not_known_is_neither_used_nor_idle_and_no_page_is_no_number() {
    let day = 86_400_000;
    let (_directory, db) = store(&[
        page(day + MINUTE, 2.0, 0.0),
        page(day + 2 * MINUTE, 1.0, 4.0),
        // Nothing ran for half an hour.
        page(day + 32 * MINUTE, 6.0, 0.0),
    ]);
    let usage = read(&db, Time(day), Time(day + 32 * MINUTE), 32).unwrap();
    whole(&usage);
    assert_eq!(usage.covered_ms, 3 * MINUTE);
    assert_eq!(usage.used_p95.0, Some(6.0), "the minute in the dark is not among them");
    let used: Vec<Option<f64>> = usage.points.iter().map(|point| point.map(|(cpu, _)| cpu.used)).collect();
    assert_eq!(
        (used[0], used[1], used[2], used[30], used[31]),
        (Some(2.0), Some(1.0), None, None, Some(6.0))
    );
    assert_eq!(usage.points[1].map(|(cpu, _)| cpu.dark), Some(4.0));

    let never = read(&db, Time(7 * day), Time(8 * day), 10).unwrap();
    assert_eq!(
        (never.mean, never.used_p95, never.idle.len(), never.points.len()),
        (None, (None, None), 0, 0)
    );
}

#[test]
fn pages_of_an_older_file_count() {
    let day = 86_400_000;
    let pages =
        [page(day + MINUTE, 2.0, 0.0), page(day + 10 * MINUTE, 1.0, 4.0), page(day + 11 * MINUTE, 3.0, 0.0)];
    let (_made, new) = store(&pages);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let old = Connection::open(&path).unwrap();
    schema::prepare_before(&old, "idle_causes");
    for page in &pages {
        let body = serde_json::to_string(page).unwrap();
        old.execute("INSERT INTO idle (at_ms, body) VALUES (?1, ?2)", params![integer(page.to.0), body])
            .unwrap();
    }
    schema::prepare(&old, &path).unwrap();
    let of = |db: &Connection| read(db, Time(day), Time(day + 11 * MINUTE), 11).unwrap();
    assert_eq!(of(&old), of(&new));
}

#[test]
fn amounts_of_any_size_are_kept_at_the_largest() {
    let all = Amount { cpu_millicore_ms: u64::MAX, memory_kib_ms: u64::MAX };
    let idle = vec![Idle { cause: Cause::NoDemand, amount: all }];
    let page =
        |to| Page { from: Time(0), to: Time(to), capacity: all, used: Amount::default(), idle: idle.clone() };
    let (_directory, db) = store(&[page(1), page(2), page(3)]);
    let usage = read(&db, Time(0), Time(10), 10).unwrap();
    assert!(usage.idle[0].cpu <= 1.0, "{usage:?}");
}
