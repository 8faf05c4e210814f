//! What an autoscaler wrote to Prometheus by remote write is what Prometheus scraped from it.
//!
//! Both are taken once a second, not at the same instant. So the series must be the same, one by one; a value that did not
//! change while it was watched must be the same to the last bit; one that changed must have been in the same range; and an age, which is another one at each
//! instant between two samples, in that range or within a second of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::prometheus::Prometheus;

/// The job of what is written.
pub(super) const JOB: &str = "trimtab-written";

/// Both are taken so often, s.
const INTERVAL_S: f64 = 1.0;
/// Longer than a few intervals, so that each series has several samples.
const WATCHED: &str = "15s";
/// Values that change less than once in a while may change just at an end of what is watched: then it is looked again.
const PATIENCE: Duration = Duration::from_secs(90);

/// A series without its job and instance, as text.
type Series = BTreeMap<String, Vec<f64>>;

/// Compares what is written under [`JOB`] with what was scraped as `scraped`.
pub(super) fn check(prometheus: &Prometheus, scraped: &str, stop: &Arc<AtomicBool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (one, other) = (watched(prometheus, scraped)?, watched(prometheus, JOB)?);
        match differences(&one, &other) {
            Ok((same, moving)) => {
                println!(
                    "    remote write: {same} series as scraped to the last bit, {moving} that move are in range"
                );
                return Ok(());
            }
            Err(faults) if Instant::now() > deadline => {
                bail!("written is not as scraped:\n{}", faults.join("\n"))
            }
            Err(_) => {}
        }
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn watched(prometheus: &Prometheus, job: &str) -> Result<Series> {
    let found = prometheus.query(&format!("{{job=\"{job}\",__name__=~\"trimtab_.*\"}}[{WATCHED}]"))?;
    let all = found.iter().map(|series| {
        let labels = series["metric"].as_object().into_iter().flatten();
        let own = labels.filter(|(name, _)| !["job", "instance"].contains(&name.as_str()));
        let name: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
        let values = series["values"].as_array().into_iter().flatten();
        let values = values.filter_map(|pair: &Value| pair[1].as_str()?.parse().ok());
        (name.join(","), values.collect())
    });
    Ok(all.collect())
}

/// How many series are the same, and how many move alike; or what differs.
fn differences(scraped: &Series, written: &Series) -> Result<(usize, usize), Vec<String>> {
    let mut faults = Vec::new();
    let (mut same, mut moving) = (0, 0);
    for name in written.keys().filter(|name| !scraped.contains_key(*name)) {
        faults.push(format!("  {name} is written, and not scraped"));
    }
    for (name, values) in scraped {
        let Some(others) = written.get(name).filter(|others| others.len() > 2 && values.len() > 2) else {
            faults.push(format!("  {name} is scraped, and hardly written"));
            continue;
        };
        let ((low, high), (least, most)) = (range(values), range(others));
        if low.to_bits() == high.to_bits() && least.to_bits() == most.to_bits() {
            same += 1;
            if low.to_bits() != least.to_bits() {
                faults.push(format!("  {name}: {least} is written, and {low} scraped"));
            }
        } else {
            moving += 1;
            let apart_s = if name.contains("_age_seconds\"") { INTERVAL_S } else { 0.0 };
            if most + apart_s < low || high + apart_s < least {
                faults.push(format!("  {name}: {least} to {most} is written, and {low} to {high} scraped"));
            }
        }
    }
    if faults.is_empty() && (same == 0 || moving == 0) {
        faults.push("  nothing moves, or nothing rests: that is no fleet".to_owned());
    }
    if faults.is_empty() { Ok((same, moving)) } else { Err(faults) }
}

fn range(values: &[f64]) -> (f64, f64) {
    let ends = |(low, high): (f64, f64), value: &f64| (low.min(*value), high.max(*value));
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(all: &[(&str, &[f64])]) -> Series {
        all.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect()
    }

    #[test]
    fn each_difference_is_found() {
        let scraped = series(&[("a", &[1.5, 1.5, 1.5]), ("b", &[1.0, 2.0, 3.0])]);
        assert_eq!(differences(&scraped, &series(&[("a", &[1.5; 4]), ("b", &[2.5, 3.5, 4.5])])), Ok((1, 1)));
        for (written, word) in [
            (series(&[("a", &[1.5; 4])]), "b is scraped, and hardly"),
            (series(&[("a", &[1.5; 4]), ("b", &[2.0])]), "b is scraped, and hardly"),
            (series(&[("a", &[1.500_000_1; 4]), ("b", &[1.0, 2.0, 3.0])]), "a: 1.5000001 is written"),
            (series(&[("a", &[1.5; 4]), ("b", &[4.0, 5.0, 6.0])]), "b: 4 to 6 is written"),
            (series(&[("a", &[1.5; 4]), ("b", &[1.0, 2.0, 3.0]), ("c", &[1.0])]), "c is written, and not"),
        ] {
            let faults = differences(&scraped, &written).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains(word), "{faults:?}");
        }
        let age = |values: &[f64]| {
            series(&[("a", &[1.5; 4]), ("__name__=\"trimtab_node_sample_age_seconds\"", values)])
        };
        assert_eq!(
            differences(&age(&[0.42, 0.45, 0.46]), &age(&[0.34, 0.38, 0.37])),
            Ok((1, 1)),
            "asked at other instants"
        );
        assert!(differences(&age(&[0.42, 0.45, 0.46]), &age(&[1.54, 1.58, 1.57])).is_err());
        let still = series(&[("a", &[1.5; 4])]);
        assert!(differences(&still, &still).unwrap_err()[0].contains("no fleet"));
    }
}
