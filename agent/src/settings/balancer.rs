//! `[[balancer]]`: a HAProxy on this host.

use std::path::PathBuf;

use serde::Deserialize;

/// A HAProxy on this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancerFragment {
    /// Its runtime socket.
    pub socket: PathBuf,
    /// Its backends that Trimtab may read and change.
    pub backends: Vec<String>,
    /// A datagram socket that this agent makes, for HAProxy's request log.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// Its configuration file, where servers that are added at run time are written, too, between the lines
    /// `# begin trimtab BACKEND` and `# end trimtab BACKEND`, so that a reload keeps them.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// The program that says whether that file is good (`-c -f FILE`).
    #[serde(default = "haproxy")]
    pub program: PathBuf,
}

fn haproxy() -> PathBuf {
    PathBuf::from("/usr/sbin/haproxy")
}
