//! Every command that the documentation names is one that this program understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::Arguments;

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    for (folder, ending) in [("docs", "md"), ("docs/guide", "md"), ("examples", "yaml")] {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|found| found == ending)));
    }
    pages
}

/// Commands of a page: between backticks, or at the start of a line of a block or of a comment.
fn commands(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let lines = text.lines().flat_map(|line| line.trim_start_matches("# ").split("; "));
    let all = quoted.chain(lines).map(|one| one.strip_prefix("sudo ").unwrap_or(one));
    let ours = all.filter(|one| one.starts_with("trimtab ") && !one.contains(['`', '\u{2026}', '|', '\n']));
    ours.map(|one| one.split(" #").next().unwrap_or_default().trim_end_matches(['.', ',']).to_owned())
        .collect()
}

/// As a shell would split it, with single quotes.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(n, part)| match n % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    // A placeholder for a number.
    words.map(|word| if word == "N" { "1".to_owned() } else { word }).collect()
}

#[test]
fn what_the_documentation_tells_people_to_type_is_understood() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages() {
        for command in commands(&fs::read_to_string(&page).unwrap()) {
            seen += 1;
            let words = words(&command);
            let Err(error) = Arguments::try_parse_from(&words) else { continue };
            // Help is an error in this sense; a command may be named without all that it needs.
            let named = words.len() == 2
                && matches!(
                    error.kind(),
                    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingRequiredArgument
                );
            if error.use_stderr() && !named {
                wrong.push(format!("{}: `{command}`: {error}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 80, "only {seen} commands were found");
}
