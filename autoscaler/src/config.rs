//! Configuration in three types: a [`Fragment`] is one source as it was written, an [`Input`] all of them merged with
//! each value's origin, [`Settings`] what was checked. Every fault is collected; all are reported at once.

mod address;
mod fragment;
mod input;
mod keys;
mod remote_write;
mod settings;
mod tls;

pub use address::Address;
pub use fragment::Fragment;
pub use input::{Input, load};
#[cfg(test)]
pub(crate) use remote_write::OWN_LABELS;
pub use remote_write::{Endpoint, Login, RemoteWriteSettings};
pub use settings::{HistorySettings, LimitSettings, Settings};
pub use tls::{Source, TlsSettings};

use std::fmt;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct ConfigFault {
    /// Where.
    pub origin: Origin,
    /// What is wrong, and what to do.
    pub message: String,
}

/// All that is wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = if self.0.len() == 1 { "1 fault" } else { "faults" };
        write!(f, "the configuration has {faults}:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigFaults {}
