//! Samples as Prometheus remote write 1.0 has them: protobuf, compressed as one block of Snappy.

use axum::body::Bytes;

use super::queue::Chunk;
use super::series::Series;

/// Samples of one request: what Prometheus itself sends at most.
const SAMPLES: usize = 2_000;

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// ms since the Unix epoch.
    #[prost(int64, tag = "2")]
    at_ms: i64,
}

/// Requests that carry all samples of one instant, as they are sent. Labels are in order of their names, as the protocol
/// wants them.
pub(super) fn chunks(all: Vec<Series>, at_ms: u64) -> impl Iterator<Item = Chunk> {
    let at = i64::try_from(at_ms).unwrap_or(i64::MAX);
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let series: Vec<TimeSeries> = all.by_ref().take(SAMPLES).map(|one| time_series(one, at)).collect();
        let samples = series.len();
        (samples > 0).then(|| Chunk {
            body: packed(&WriteRequest { series }),
            samples: samples as u64,
            at_ms,
        })
    })
}

fn time_series(one: Series, at_ms: i64) -> TimeSeries {
    let labels = one.labels.into_iter().map(|(name, value)| Label { name, value }).collect();
    TimeSeries { labels, samples: vec![Sample { value: one.value, at_ms }] }
}

fn packed(request: &WriteRequest) -> Bytes {
    let plain = prost::Message::encode_to_vec(request);
    // Fails above 4 GiB only, and a request has 2,000 samples; one that were empty would be refused and counted.
    snap::raw::Encoder::new().compress_vec(&plain).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn unpacked(chunk: &Chunk) -> WriteRequest {
        let plain = snap::raw::Decoder::new().decompress_vec(&chunk.body).unwrap();
        prost::Message::decode(plain.as_slice()).unwrap()
    }

    #[test]
    fn every_sample_is_in_one_request_with_its_labels_in_order() {
        let series = |index: usize| Series {
            labels: BTreeMap::from([
                ("workload".to_owned(), format!("w{index}")),
                ("__name__".to_owned(), "trimtab_a".to_owned()),
                ("job".to_owned(), "t".to_owned()),
            ]),
            value: index as f64,
        };
        let all: Vec<Chunk> = chunks((0..SAMPLES + 3).map(series).collect(), 1_700_000_000_123).collect();
        assert_eq!(all.iter().map(|chunk| chunk.samples).collect::<Vec<_>>(), [SAMPLES as u64, 3]);
        let first = unpacked(&all[0]);
        let names: Vec<&str> = first.series[7].labels.iter().map(|label| label.name.as_str()).collect();
        assert_eq!(names, ["__name__", "job", "workload"]);
        assert_eq!(first.series[7].samples, [Sample { value: 7.0, at_ms: 1_700_000_000_123 }]);
        assert_eq!(unpacked(&all[1]).series[2].labels[2].value, format!("w{}", SAMPLES + 2));
        assert_eq!(chunks(Vec::new(), 1).count(), 0, "nothing is no request");
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        // By hand, from prometheus.WriteRequest: tags 0x0a, lengths, and the value's eight bytes.
        let one = Series { labels: BTreeMap::from([("__name__".to_owned(), "a".to_owned())]), value: 1.0 };
        let chunk = chunks(vec![one], 5).next().unwrap();
        let plain = snap::raw::Decoder::new().decompress_vec(&chunk.body).unwrap();
        let mut wanted = vec![0x0a, 0x1c, 0x0a, 0x0d, 0x0a, 8];
        wanted.extend(b"__name__");
        wanted.extend([0x12, 1, b'a', 0x12, 0x0b, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 5]);
        assert_eq!(plain, wanted);
    }
}
