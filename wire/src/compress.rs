//! zstd in a context that lives as long as the stream: each batch is short, but much like the one before it.
//!
//! Level 1. The window bounds what the receiver keeps for each of thousands of agents (three times the window, and
//! about 30 KB), so it is as large as the stream needs and no larger: [`Compressor::fit`].

use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::WireError;

/// log2 of the window, bytes: the smallest, and the largest, which holds two batches of 1,000 active tasks.
const WINDOW_LOG: (u32, u32) = (12, 15);
const LEVEL: i32 = 1;

pub(crate) struct Compressor {
    encoder: Encoder<'static>,
    window_log: u32,
    /// A frame was begun in the encoder.
    begun: bool,
    /// What ends the frame before; it goes in front of the next batch.
    before: Vec<u8>,
}

impl Compressor {
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG.0))?;
        Ok(Self { encoder, window_log: WINDOW_LOG.0, begun: false, before: Vec::new() })
    }

    /// Makes room for a stream whose snapshots have so many bytes: two of them, which are four and more of the batches
    /// between. A window that has become too small is given up with its frame. For the time before a snapshot, which
    /// has little in common with what was sent.
    pub(crate) fn fit(&mut self, snapshot: usize) -> std::io::Result<()> {
        let wanted = (2 * snapshot).next_power_of_two().ilog2().clamp(WINDOW_LOG.0, WINDOW_LOG.1);
        if wanted <= self.window_log {
            return Ok(());
        }
        if std::mem::take(&mut self.begun) {
            let mut end = [0; 64];
            let mut part = OutBuffer::around(&mut end[..]);
            // All input was flushed, so that this is one empty block: three bytes.
            if self.encoder.finish(&mut part, true)? > 0 {
                return Err(std::io::Error::other("the end of a frame is longer than 64 bytes"));
            }
            let written = part.pos();
            self.before.extend_from_slice(&end[..written]);
        }
        self.encoder.set_parameter(CParameter::WindowLog(wanted))?;
        self.window_log = wanted;
        Ok(())
    }

    /// Compresses `input` so that the receiver can expand all of it at once.
    pub(crate) fn compress(&mut self, input: &[u8]) -> std::io::Result<Vec<u8>> {
        self.begun = true;
        let mut out = std::mem::take(&mut self.before);
        let mut written = out.len();
        out.resize(written + input.len() / 2 + 256, 0);
        let mut read = InBuffer::around(input);
        while read.pos() < input.len() {
            let mut part = OutBuffer::around_pos(&mut out, written);
            self.encoder.run(&mut read, &mut part)?;
            written = part.pos();
            grow_when_full(&mut out, written);
        }
        loop {
            let mut part = OutBuffer::around_pos(&mut out, written);
            let left = self.encoder.flush(&mut part)?;
            written = part.pos();
            if left == 0 {
                out.truncate(written);
                return Ok(out);
            }
            grow_when_full(&mut out, written);
        }
    }
}

fn grow_when_full(out: &mut Vec<u8>, written: usize) {
    if written == out.len() {
        out.resize(out.len() * 2, 0);
    }
}

pub(crate) struct Decompressor(Decoder<'static>);

impl Decompressor {
    pub(crate) fn new() -> Result<Self, WireError> {
        let mut decoder = Decoder::new().map_err(compression)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG.1)).map_err(compression)?;
        Ok(Self(decoder))
    }

    /// Expands `input` into `out`, which becomes exactly `length` bytes long.
    pub(crate) fn expand(&mut self, input: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
        // One byte more than promised, so that a longer body shows.
        out.clear();
        out.resize(length + 1, 0);
        let mut read = InBuffer::around(input);
        let mut written = 0;
        loop {
            let before = (read.pos(), written);
            let mut part = OutBuffer::around_pos(out, written);
            self.0.run(&mut read, &mut part).map_err(compression)?;
            written = part.pos();
            if written > length {
                return Err(WireError::Compression(format!("longer than the {length} bytes it says")));
            }
            // What is left in the context would have gone into the free room.
            let all = read.pos() == input.len() && written < out.len();
            if all || before == (read.pos(), written) {
                break;
            }
        }
        if written != length || read.pos() != input.len() {
            return Err(WireError::Compression(format!("{written} bytes, but it says {length}")));
        }
        out.truncate(length);
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn compression(error: std::io::Error) -> WireError {
    WireError::Compression(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_resemble_each_other_get_smaller() {
        let (mut c, mut d) = (Compressor::new().unwrap(), Decompressor::new().unwrap());
        let first: Vec<u8> = (0..8000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut out = Vec::new();
        let mut sizes = Vec::new();
        c.fit(first.len()).unwrap();
        for round in 0..4u8 {
            let mut body = first.clone();
            body[usize::from(round)] ^= 0xff;
            let sent = c.compress(&body).unwrap();
            sizes.push(sent.len());
            d.expand(&sent, body.len(), &mut out).unwrap();
            assert_eq!(out, body);
        }
        assert!(sizes[3] * 20 < sizes[0], "{sizes:?}");
    }

    #[test]
    fn a_window_that_grows_loses_nothing() {
        let (mut c, mut d) = (Compressor::new().unwrap(), Decompressor::new().unwrap());
        let noise = |n: u32| (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
        let mut out = Vec::new();
        for size in [0, 10, 3_000, 3_000, 9_000, 9_000, 9_000, 100, 40_000, 40_000] {
            let body = noise(size);
            c.fit(body.len()).unwrap();
            d.expand(&c.compress(&body).unwrap(), body.len(), &mut out).unwrap();
            assert!(out == body, "{size}");
        }
        assert_eq!(c.window_log, WINDOW_LOG.1);
        let again = c.compress(&noise(9_000)).unwrap();
        assert!(again.len() < 200, "the window holds what was sent before: {}", again.len());
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let sent = Compressor::new().unwrap().compress(&[7; 1000]).unwrap();
        let mut out = Vec::new();
        for length in [0, 999, 1001] {
            assert!(Decompressor::new().unwrap().expand(&sent, length, &mut out).is_err(), "{length}");
        }
        assert!(Decompressor::new().unwrap().expand(b"not zstd", 8, &mut out).is_err());
    }
}
