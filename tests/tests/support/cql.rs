//! A load of writes and reads on a ring, and what it saw.

#[path = "../../../xtask/src/lab/cql.rs"]
mod client;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::Session;

/// What a load saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) written: AtomicU32,
    pub(crate) read: AtomicU32,
    /// Tries that failed; each was repeated at another node.
    pub(crate) retried: AtomicU32,
    /// Requests that failed at every node.
    pub(crate) errors: AtomicU32,
    /// What they were.
    pub(crate) why: Mutex<Vec<String>>,
    pub(crate) lost_rows: AtomicU32,
    pub(crate) wrong_rows: AtomicU32,
    /// Longest request, µs.
    pub(crate) slowest_us: AtomicU64,
}

/// A load of writes and reads with QUORUM, at whichever of some nodes answers.
pub(crate) struct Load {
    pub(crate) tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
    nodes: Vec<String>,
}

fn value(id: u32) -> String {
    format!("{:08x}", id.wrapping_mul(2_654_435_761))
}

/// At one of the nodes, tried one after the other.
fn at_any(
    nodes: &[String],
    from: usize,
    sessions: &mut [Option<Session>],
    text: &str,
    tally: &Tally,
) -> Result<Option<String>, String> {
    let mut why = String::new();
    for n in 0..nodes.len() * 2 {
        let at = (from + n) % nodes.len();
        if sessions[at].is_none() {
            sessions[at] = Session::open(&nodes[at]).ok();
        }
        let Some(session) = &mut sessions[at] else { continue };
        match session.query(text) {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                tally.retried.fetch_add(1, Ordering::Relaxed);
                (sessions[at], why) = (None, error);
            }
        }
    }
    Err(why)
}

impl Tally {
    /// A request failed at every node.
    fn failed(&self, why: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.why.lock().unwrap().push(why);
    }
}

/// Waits until all nodes that answer know the same tables: until then a write fails at each of them.
fn agree(nodes: &[&str]) {
    let began = Instant::now();
    loop {
        let version = |node: &&str| {
            let mut session = Session::open(node).ok()?;
            Some(session.query("SELECT CAST(schema_version AS text) FROM system.local"))
        };
        let versions: Vec<_> = nodes.iter().filter_map(version).collect();
        if versions.iter().all(|version| matches!(version, Ok(Some(_))) && *version == versions[0]) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "the ring does not agree on its tables: {versions:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Load {
    /// Makes the table, waits until all know it, and begins.
    pub(crate) fn start(nodes: &[&str]) -> Self {
        let mut session = Session::open(nodes[0]).unwrap();
        for text in [
            "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}",
            "CREATE TABLE IF NOT EXISTS shop.items (id int PRIMARY KEY, v text)",
        ] {
            session.query(text).unwrap();
        }
        agree(nodes);
        let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
        let (tally, stop) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let (of, until, at) = (Arc::clone(&tally), Arc::clone(&stop), nodes.clone());
        let thread = std::thread::spawn(move || {
            let mut sessions: Vec<Option<Session>> = at.iter().map(|_| None).collect();
            let mut id = 0;
            while !until.load(Ordering::Relaxed) {
                id += 1;
                let began = Instant::now();
                let text = format!("INSERT INTO shop.items (id, v) VALUES ({id}, '{}')", value(id));
                match at_any(&at, id as usize, &mut sessions, &text, &of) {
                    Ok(_) => drop(of.written.fetch_add(1, Ordering::Relaxed)),
                    Err(why) => {
                        of.failed(format!("write {id}: {why}"));
                        // It may be there, or not: it is not looked for.
                        id -= 1;
                    }
                }
                if id > 0 {
                    let back = 1 + id.wrapping_mul(40_503) % id;
                    look(&at, back, &mut sessions, &of);
                }
                let took = began.elapsed().as_micros() as u64;
                of.slowest_us.fetch_max(took, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(4));
            }
            id
        });
        Self { tally, stop, thread: Some(thread), nodes }
    }

    /// Ends, and reads every row that was ever written.
    pub(crate) fn finish(mut self) -> Arc<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let last = self.thread.take().unwrap().join().unwrap();
        let mut sessions: Vec<Option<Session>> = self.nodes.iter().map(|_| None).collect();
        for id in 1..=last {
            look(&self.nodes, id, &mut sessions, &self.tally);
        }
        println!("{last} rows: {:?}", self.tally);
        Arc::clone(&self.tally)
    }
}

fn look(nodes: &[String], id: u32, sessions: &mut [Option<Session>], tally: &Tally) {
    match at_any(
        nodes,
        id as usize + 1,
        sessions,
        &format!("SELECT v FROM shop.items WHERE id = {id}"),
        tally,
    ) {
        Ok(Some(found)) if found == value(id) => drop(tally.read.fetch_add(1, Ordering::Relaxed)),
        Ok(Some(_)) => drop(tally.wrong_rows.fetch_add(1, Ordering::Relaxed)),
        Ok(None) => drop(tally.lost_rows.fetch_add(1, Ordering::Relaxed)),
        Err(why) => tally.failed(format!("read {id}: {why}")),
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
