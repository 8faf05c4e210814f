//! A client of Cassandra's protocol (version 4), as small as a load needs it. The end-to-end tests use this file, too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const QUORUM: u16 = 4;
const VERSION: u8 = 0x04;
const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
/// Kind of a result with rows.
const ROWS: u32 = 2;
/// Do not describe columns.
const SKIP_METADATA: u8 = 0x02;

/// A connection to one node.
pub(crate) struct Session(TcpStream);

impl Session {
    pub(crate) fn open(address: &str) -> Result<Self, String> {
        let address: SocketAddr = format!("{address}:9042").parse().map_err(|error| format!("{error}"))?;
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: std::io::Error| error.to_string())?;
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
        let mut answer = vec![0; number(&head, 5).unwrap_or(0) as usize];
        self.0.read_exact(&mut answer).map_err(|error| error.to_string())?;
        if head[4] == ERROR {
            return Err(String::from_utf8_lossy(answer.get(6..).unwrap_or_default()).into_owned());
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
        // Kind, flags, columns, rows, and the length of the first value; less than nothing stands for none.
        let rows = opcode == RESULT && number(&answer, 0) == Some(ROWS) && number(&answer, 12) > Some(0);
        let length = number(&answer, 16).filter(|length| rows && length.cast_signed() >= 0);
        let first = length.and_then(|length| answer.get(20..20 + length as usize));
        Ok(first.map(|first| String::from_utf8_lossy(first).into_owned()))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
