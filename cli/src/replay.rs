//! `trimtab replay`: the journal run again, offline.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use autoscaler::replay::{Replayed, segment};
use autoscaler::store::{FILE, Reader};
use serde_json::json;

use crate::client::state_directories;
use crate::failure::{Failure, Kind};
use crate::output;

pub(crate) fn run(path: Option<&Path>, as_json: bool) -> Result<ExitCode, Failure> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => state_directories().into_iter().find(|dir| dir.join(FILE).exists()).ok_or_else(|| {
            Failure::new(Kind::NotFound, "no store is on this host").next("name one: trimtab replay PATH")
        })?,
    };
    let file = if path.is_dir() { path.join(FILE) } else { path.clone() };
    if !file.is_file() {
        let message = format!("{}: no store is there", file.display());
        return Err(
            Failure::new(Kind::NotFound, message).next("name a state directory or a copy of its trimtab.db")
        );
    }
    let segments = replayed(&path).map_err(|error| Failure::new(Kind::Error, error.to_string()))?;
    let differed: u64 = segments.iter().map(|(_, replayed)| replayed.differed).sum();
    output::print(&if as_json {
        as_text_json(&segments, differed)?
    } else {
        for_people(&segments, differed)
    })?;
    Ok(if differed == 0 { ExitCode::SUCCESS } else { ExitCode::from(Kind::Error as u8) })
}

type Segments = Vec<(i64, Replayed)>;

fn replayed(path: &Path) -> Result<Segments, autoscaler::store::StoreError> {
    let reader = Reader::of(path);
    let firsts = reader.segments()?;
    let mut segments = Vec::new();
    for (index, first) in firsts.iter().enumerate() {
        let end = firsts.get(index + 1).copied().unwrap_or(i64::MAX);
        segments.extend(segment(&reader, *first, end)?.map(|replayed| (*first, replayed)));
    }
    Ok(segments)
}

fn as_text_json(segments: &Segments, differed: u64) -> Result<String, Failure> {
    let items: Vec<_> = segments
        .iter()
        .map(|(first, r)| {
            json!({ "first": first, "rounds": r.rounds, "plans": r.plans, "differed": r.differed, "differences": r.differences })
        })
        .collect();
    let answer = json!({ "apiVersion": "trimtab/v1", "identical": differed == 0, "differed": differed, "segments": items });
    Ok(serde_json::to_string_pretty(&answer)? + "\n")
}

fn for_people(segments: &Segments, differed: u64) -> String {
    let mut text = String::new();
    for (first, replayed) in segments {
        let _ = writeln!(
            text,
            "segment from record {first}: {} rounds, {} plans, {} differ",
            replayed.rounds, replayed.plans, replayed.differed
        );
        for difference in &replayed.differences {
            let _ = writeln!(text, "record {} at {}:", difference.seq, output::moment(difference.at_ms));
            let pretty = |value| serde_json::to_string_pretty(value).unwrap_or_default();
            let (stored, now) = (pretty(&difference.stored), pretty(&difference.replayed));
            for change in similar::TextDiff::from_lines(&stored, &now).iter_all_changes() {
                let sign = match change.tag() {
                    similar::ChangeTag::Delete => "stored  ",
                    similar::ChangeTag::Insert => "replayed",
                    similar::ChangeTag::Equal => continue,
                };
                let _ = writeln!(text, "  {sign} {}", output::safe(change.value().trim()));
            }
        }
    }
    let verdict =
        if differed == 0 { "identical: every plan follows from its inputs" } else { "plans DIFFER" };
    let _ = writeln!(text, "{verdict}");
    text
}
