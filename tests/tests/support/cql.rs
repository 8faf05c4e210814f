//! A client of Cassandra's protocol (version 4), as small as the load of a test needs it, and that load.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const QUORUM: u16 = 4;
const VERSION: u8 = 0x04;
const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
/// Kind of a result with rows.
const ROWS: i32 = 2;
/// Do not describe columns.
const SKIP_METADATA: u8 = 0x02;

/// A connection to one node.
pub(crate) struct Session(TcpStream);

impl Session {
    pub(crate) fn open(address: &str) -> Result<Self, String> {
        let address = format!("{address}:9042").parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut session = Self(stream);
        let mut body = 1_u16.to_be_bytes().to_vec();
        for text in ["CQL_VERSION", "3.0.0"] {
            body.extend((text.len() as u16).to_be_bytes());
            body.extend(text.as_bytes());
        }
        session.ask(STARTUP, &body)?;
        Ok(session)
    }

    fn ask(&mut self, opcode: u8, body: &[u8]) -> Result<(u8, Vec<u8>), String> {
        let mut frame = vec![VERSION, 0, 0, 0, opcode];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        self.0.write_all(&frame).map_err(|error| error.to_string())?;
        let mut head = [0; 9];
        self.0.read_exact(&mut head).map_err(|error| error.to_string())?;
        let length = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let mut answer = vec![0; length as usize];
        self.0.read_exact(&mut answer).map_err(|error| error.to_string())?;
        if head[4] == ERROR {
            return Err(String::from_utf8_lossy(&answer[6..]).into_owned());
        }
        Ok((head[4], answer))
    }

    /// Asks with QUORUM: the first column of the first row, if there is one.
    pub(crate) fn query(&mut self, text: &str) -> Result<Option<String>, String> {
        let mut body = (text.len() as u32).to_be_bytes().to_vec();
        body.extend(text.as_bytes());
        body.extend(QUORUM.to_be_bytes());
        body.push(SKIP_METADATA);
        let (opcode, answer) = self.ask(QUERY, &body)?;
        let int = |at: usize| i32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
        // Kind, flags, columns, rows, and the length of the first value.
        if opcode != RESULT || int(0) != ROWS || int(12) == 0 || int(16) < 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&answer[20..20 + int(16) as usize]).into_owned()))
    }
}

/// What a load saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) written: AtomicU32,
    pub(crate) read: AtomicU32,
    /// Tries that failed; each was repeated at another node.
    pub(crate) retried: AtomicU32,
    /// Requests that failed at every node.
    pub(crate) errors: AtomicU32,
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

impl Load {
    /// Makes the table and begins.
    pub(crate) fn start(nodes: &[&str]) -> Self {
        let mut session = Session::open(nodes[0]).unwrap();
        for text in [
            "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}",
            "CREATE TABLE IF NOT EXISTS shop.items (id int PRIMARY KEY, v text)",
        ] {
            session.query(text).unwrap();
        }
        let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
        let (tally, stop) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let (of, until, at) = (Arc::clone(&tally), Arc::clone(&stop), nodes.clone());
        let thread = std::thread::spawn(move || {
            let mut sessions: Vec<Option<Session>> = at.iter().map(|_| None).collect();
            let mut id = 0;
            while !until.load(Ordering::Relaxed) {
                id += 1;
                let began = std::time::Instant::now();
                let text = format!("INSERT INTO shop.items (id, v) VALUES ({id}, '{}')", value(id));
                match at_any(&at, id as usize, &mut sessions, &text, &of) {
                    Ok(_) => drop(of.written.fetch_add(1, Ordering::Relaxed)),
                    Err(why) => {
                        println!("write {id}: {why}");
                        of.errors.fetch_add(1, Ordering::Relaxed);
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
        Err(why) => {
            println!("read {id}: {why}");
            tally.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
