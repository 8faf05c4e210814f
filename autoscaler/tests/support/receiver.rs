//! A receiver of remote write that answers what a test wants, and keeps what it was sent.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it does with the next request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    /// A status, and the line of a further header.
    Status(u16, &'static str),
    /// Closes the connection without a word.
    Cut,
    /// Says nothing for longer than anybody waits.
    Hang,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// It was answered with a success.
    pub(crate) taken: bool,
}

/// A sample with all its labels, as text.
pub(crate) type Sample = (String, i64, f64);

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

impl Sent {
    /// What is in it; every series has its labels in order of their names.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let plain = snap::raw::Decoder::new().decompress_vec(&self.body).unwrap();
        let request: WriteRequest = prost::Message::decode(plain.as_slice()).unwrap();
        let mut all = Vec::new();
        for one in request.timeseries {
            assert!(one.labels.is_sorted_by(|a, b| a.name < b.name), "{one:?}");
            assert!(one.labels.iter().all(|label| !label.value.is_empty()), "{one:?}");
            let labels: Vec<String> =
                one.labels.iter().map(|l| format!("{}={:?}", l.name, l.value)).collect();
            assert_eq!(one.samples.len(), 1);
            all.extend(one.samples.iter().map(|sample| (labels.join(","), sample.timestamp, sample.value)));
        }
        all
    }
}

#[derive(Debug, Default)]
struct Books {
    script: VecDeque<Reply>,
    sent: Vec<Sent>,
}

/// It serves until the test ends.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    books: Arc<Mutex<Books>>,
}

impl Receiver {
    /// Replies in this order, and then takes everything.
    pub(crate) fn start(script: &[Reply], tls: Option<Arc<ServerConfig>>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script, tls)
    }

    pub(crate) fn on(listener: TcpListener, script: &[Reply], tls: Option<Arc<ServerConfig>>) -> Self {
        let books = Books { script: script.iter().copied().collect(), sent: Vec::new() };
        let receiver = Self { address: listener.local_addr().unwrap(), books: Arc::new(Mutex::new(books)) };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serving, tls) = (serving.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serving.serve(stream),
                    Some(tls) => serving.serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream)),
                });
            }
        });
        receiver
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.books.lock().unwrap().sent.clone()
    }

    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some((head, body)) = request(&mut stream) {
            let reply = {
                let mut books = self.books.lock().unwrap();
                let reply = books.script.pop_front().unwrap_or(Reply::Status(204, "x-none: 1"));
                let taken = matches!(reply, Reply::Status(200..=299, _));
                books.sent.push(Sent { at: Instant::now(), head, body, taken });
                reply
            };
            match reply {
                Reply::Status(status, header) => {
                    let said = if status < 300 { "" } else { "because the test says so\n" };
                    let text = format!(
                        "HTTP/1.1 {status} x\r\n{header}\r\ncontent-length: {}\r\n\r\n{said}",
                        said.len()
                    );
                    let text =
                        if status == 204 { format!("HTTP/1.1 204 x\r\n{header}\r\n\r\n") } else { text };
                    if stream.get_mut().write_all(text.as_bytes()).is_err() {
                        return;
                    }
                }
                Reply::Cut => return,
                Reply::Hang => std::thread::sleep(super::PATIENCE),
            }
        }
    }
}

fn request(stream: &mut BufReader<impl Read>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}
