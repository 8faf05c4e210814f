//! Files that hold what is put in and what came of it: played again, each must read as before.

use std::path::Path;

/// Plays each file of a folder beside the tests, `least` or more; with UPDATE set in the environment, writes what came of it instead.
#[allow(clippy::disallowed_methods, reason = "a test writes its golden file when it is asked to")]
pub(crate) fn replay(folder: &str, least: usize, play: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= least, "{files:?}");
    for file in files {
        println!("{}", file.display());
        let text = std::fs::read_to_string(&file).unwrap();
        let played = play(&text);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, played).unwrap();
        } else {
            assert!(text == played, "{} differs; UPDATE=1 accepts:\n{played}", file.display());
        }
    }
}
