//! What Puma's control server says (`GET /stats`).
//!
//! Only workers and threads are taken from it: its `backlog` reads 0 at any overload, because a worker waits for a free
//! thread before it accepts; the queue is in the kernel's accept queue.

use model::adapter::PumaReport;
use model::id::TaskName;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cluster {
    workers: u32,
    booted_workers: u32,
    worker_status: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    last_status: Option<Threads>,
}

/// A worker that has not reported yet has an empty status.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Threads {
    max_threads: Option<u32>,
    pool_capacity: Option<u32>,
    busy_threads: Option<u32>,
}

impl Threads {
    fn busy(&self) -> u32 {
        let by_capacity = || Some(self.max_threads?.saturating_sub(self.pool_capacity?));
        self.busy_threads.or_else(by_capacity).unwrap_or(0)
    }
}

/// Reads the answer of a cluster, or of a single-mode Puma (which counts as one worker).
///
/// # Errors
/// The JSON reader's words when the answer is neither.
pub fn stats(body: &[u8], task: &TaskName) -> Result<PumaReport, String> {
    let report = |workers, booted_workers, threads: &[Threads]| PumaReport {
        task: task.clone(),
        booted_workers,
        workers,
        max_threads: threads.iter().filter_map(|t| t.max_threads).sum(),
        busy_threads: threads.iter().map(Threads::busy).sum(),
        accept_queue: None,
    };
    match serde_json::from_slice::<Cluster>(body) {
        Ok(c) => {
            let threads: Vec<Threads> = c.worker_status.into_iter().filter_map(|w| w.last_status).collect();
            Ok(report(c.workers, c.booted_workers, &threads))
        }
        Err(why) => {
            let single: Threads = serde_json::from_slice(body).map_err(|e| e.to_string())?;
            if single.max_threads.is_none() {
                return Err(why.to_string());
            }
            Ok(report(1, 1, &[single]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cluster_with_a_worker_that_still_boots() {
        let body = br#"{"started_at":"2026-01-01T00:00:00Z","workers":2,"phase":0,"booted_workers":1,"old_workers":0,
            "worker_status":[{"pid":5,"index":0,"booted":true,"last_status":{"backlog":0,"running":4,"pool_capacity":1,"max_threads":4,"requests_count":9}},
            {"pid":6,"index":1,"booted":false,"last_status":{}}]}"#;
        let r = stats(body, &"web-1".parse().unwrap()).unwrap();
        assert_eq!((r.workers, r.booted_workers, r.max_threads, r.busy_threads), (2, 1, 4, 3));
    }

    #[test]
    fn single_mode_and_nonsense() {
        let task = "web-1".parse().unwrap();
        let r = stats(
            br#"{"backlog":0,"running":2,"pool_capacity":2,"max_threads":4,"requests_count":1}"#,
            &task,
        )
        .unwrap();
        assert_eq!((r.workers, r.max_threads, r.busy_threads), (1, 4, 2));
        for bad in [&b""[..], b"{}", b"[]", b"<html>", b"{\"workers\":-1}"] {
            assert!(stats(bad, &task).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = stats(&body, &"web-1".parse().unwrap());
        }
    }
}
