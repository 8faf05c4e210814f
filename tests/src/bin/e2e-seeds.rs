//! The seeds of a target of `e2e::fuzz` as files: `e2e-seeds TARGET DIRECTORY`. Without arguments: the targets' names.

use std::path::Path;
use std::process::ExitCode;

use e2e::fuzz::TARGETS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory] = arguments.as_slice() else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return ExitCode::SUCCESS;
    };
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("there is no target {name}");
        return ExitCode::from(2);
    };
    let write = |(number, seed): (usize, &Vec<u8>)| {
        std::fs::write(Path::new(directory).join(format!("seed-{number}")), seed)
    };
    match (target.seeds)().iter().enumerate().try_for_each(write) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{directory}: {error}");
            ExitCode::FAILURE
        }
    }
}
