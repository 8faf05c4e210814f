//! What the tests of this crate share.

/// Compares `actual` with a committed file; with UPDATE set in the environment, writes the file instead.
#[allow(clippy::disallowed_methods, reason = "a test writes its golden file when it is asked to")]
pub(crate) fn golden(path: &str, committed: &str, actual: &str) {
    if std::env::var_os("UPDATE").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        std::fs::write(&path, actual).unwrap();
        return;
    }
    assert!(
        committed == actual,
        "{path} differs (run with UPDATE=1 to accept):\n--- committed\n{committed}\n--- now\n{actual}"
    );
}
