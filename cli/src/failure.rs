//! How a command fails: what happened, what to do next, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// A kind of failure; its number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything else.
    Error = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Somebody else changed it in between.
    Conflict = 4,
    /// A specification or a value is wrong.
    Validation = 5,
    /// Not allowed.
    NotAuthorised = 6,
    /// It did not come about in time.
    Timeout = 7,
    /// The autoscaler cannot be reached.
    Unreachable = 8,
}

/// The exit code of `plan --detailed-exitcode` when something would change.
pub(crate) const CHANGES: u8 = 10;

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    next: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), next: None }
    }

    /// Adds what to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::Error, error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(Kind::Error, format!("an answer is not as expected: {error}"))
            .next("compare `trimtab version` with `trimtab get status`: versions may differ")
    }
}
