//! Reading specification files, and `trimtab validate`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use model::prices::PriceTable;
use model::spec::{FILE_LIMIT, SpecFault, parse_all};
use model::workload::Workload;
use serde_json::json;

use crate::arguments::Output;
use crate::failure::{Failure, Kind};
use crate::output;

/// Everything that the files specify, in their order.
pub(crate) struct Specified {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) prices: Option<PriceTable>,
    pub(crate) files: usize,
}

/// Reads files and directories; all faults of all files are found.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Result<Specified, Vec<SpecFault>>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        expand(path, &mut files)?;
    }
    let (mut workloads, mut faults): (Vec<Workload>, Vec<SpecFault>) = (Vec::new(), Vec::new());
    let mut prices = None;
    for file in &files {
        let (name, text) = contents(file)?;
        match parse_all(&name, &text) {
            Ok(more) if more.prices.is_some() && prices.is_some() => {
                let message =
                    format!("{name}: there is a price table in another file, too, and one is in force");
                return Err(Failure::new(Kind::Validation, message).next("keep one of them"));
            }
            Ok(more) => {
                workloads.extend(more.workloads);
                prices = prices.or(more.prices);
            }
            Err(more) => faults.extend(more),
        }
    }
    for (index, workload) in workloads.iter().enumerate() {
        if workloads[..index].iter().any(|earlier| earlier.name == workload.name) {
            let message = format!("workload `{}` is specified in two files", workload.name);
            return Err(Failure::new(Kind::Validation, message).next("keep one of them"));
        }
    }
    Ok(if faults.is_empty() { Ok(Specified { workloads, prices, files: files.len() }) } else { Err(faults) })
}

fn expand(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let unreadable =
        |error: std::io::Error| Failure::new(Kind::Error, format!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let ending = file.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("yaml" | "yml" | "toml" | "json")) {
            found.push(file);
        }
    }
    if found.is_empty() {
        let message = format!("{}: no .yaml, .toml or .json file is there", path.display());
        return Err(Failure::new(Kind::NotFound, message));
    }
    found.sort();
    files.append(&mut found);
    Ok(())
}

fn contents(file: &Path) -> Result<(String, String), Failure> {
    let mut bytes = Vec::new();
    let limit = FILE_LIMIT as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)?;
        let name = "stdin".to_owned();
        return utf8(&name, bytes).map(|text| (name, text));
    }
    let shown = file.display().to_string();
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Error };
        Failure::new(kind, format!("{shown}: {error}"))
    };
    std::fs::File::open(file).and_then(|open| open.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    utf8(&shown, bytes).map(|text| (shown.clone(), text))
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(Kind::Validation, format!("{name}: byte {at} is not UTF-8: specifications are text"))
    })
}

/// Faults as a failure, after they were shown on standard error.
pub(crate) fn refused(faults: &[SpecFault]) -> Failure {
    for fault in faults {
        eprintln!("{fault}\n");
    }
    let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
    Failure::new(Kind::Validation, count).next("correct the lines above and try again")
}

pub(crate) fn validate(files: &[PathBuf], output: Output) -> Result<(), Failure> {
    let result = read(files)?;
    if matches!(output, Output::Json | Output::Yaml) {
        let (valid, names, faults) = match &result {
            Ok(good) => (true, good.workloads.iter().map(|w| w.name.to_string()).collect(), Vec::new()),
            Err(faults) => (false, Vec::new(), faults.clone()),
        };
        let mut answer =
            json!({ "apiVersion": "trimtab/v1", "valid": valid, "workloads": names, "faults": faults });
        if let Some(prices) = result.as_ref().ok().and_then(|good| good.prices.as_ref()) {
            answer["prices"] = json!(prices.name);
        }
        output::print(&output::structured(&answer, output)?)?;
        return match result {
            Ok(_) => Ok(()),
            Err(faults) => Err(Failure::new(Kind::Validation, format!("faults: {}", faults.len()))),
        };
    }
    let good = result.map_err(|faults| refused(&faults))?;
    let mut names: Vec<&str> = good.workloads.iter().map(|workload| workload.name.as_str()).collect();
    names.extend(good.prices.as_ref().map(|_| "prices"));
    output::print(&format!("{} good: {}\n", plural(good.files, "file"), names.join(", ")))
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun} is") } else { format!("{count} {noun}s are") }
}

/// Asks a person at the terminal.
pub(crate) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, "nobody is there to ask").next("add --yes"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
