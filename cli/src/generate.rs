//! Completions, manual pages, version.

use std::path::Path;

use clap::CommandFactory;
use serde_json::json;

use crate::arguments::{Arguments, Output};
use crate::failure::Failure;
use crate::output;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "trimtab", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

pub(crate) fn man(directory: Option<&Path>) -> Result<(), Failure> {
    match directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)?;
            clap_mangen::generate_to(Arguments::command(), directory)?;
            Ok(())
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
            output::print(&String::from_utf8_lossy(&page))
        }
    }
}

pub(crate) fn version(output: Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match output {
        Output::Json | Output::Yaml => {
            let answer =
                json!({ "apiVersion": "trimtab/v1", "version": version, "specVersions": ["trimtab/v1"] });
            output::print(&output::structured(&answer, output)?)
        }
        _ => output::print(&format!("trimtab {version}\n")),
    }
}
