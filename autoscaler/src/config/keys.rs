//! Every key that can be set, with its default and what it means.

/// One key.
pub(super) struct Key {
    /// Its name; a dot separates section and key.
    pub(super) name: &'static str,
    /// Its default, as it would be written.
    pub(super) default: &'static str,
    /// What it means, with its unit.
    pub(super) help: &'static str,
}

const fn key(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, default, help }
}

/// All keys, in the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    key("state", "", "directory of the store; default $STATE_DIRECTORY, then $XDG_STATE_HOME/trimtab"),
    key(
        "listen",
        "127.0.0.1:7781",
        "where agents connect: addresses, https://ADDRESS or unix:PATH, separated by commas",
    ),
    key("api", "127.0.0.1:7780", "where the REST interface listens: addresses or unix:PATH, this host only"),
    key("log", "info", "log filter: a level, or target=level, separated by commas"),
    key("round", "1s", "distance of rounds: usage is reduced and decisions are taken once in it"),
    key("node_dead_after", "10s", "an agent that sent nothing for this long counts as lost"),
    key(
        "reconnect",
        "30s",
        "after a start, an agent may take this long to come back before it counts as lost",
    ),
    key("risk", "50%", "one setting for all workloads: 1% saves most, 100% is most cautious"),
    key("journal.retain", "7d", "closed parts of the journal are kept this long"),
    key("journal.replay", "2h", "a start replays at most this much of the journal"),
    key("journal.max_bytes", "2Gi", "closed parts of the journal are dropped above this size"),
    key("tasks.retain", "7d", "totals of ended tasks are kept this long"),
    key("decisions.retain", "90d", "decisions and the idle ledger are kept this long"),
    key(
        "history.flush",
        "1m",
        "samples are written this often: a crash loses at most so much resolution, no totals",
    ),
    key("history.retain_1s", "6h", "history at a resolution of 1 s is kept this long"),
    key("history.retain_10s", "2d", "history at a resolution of 10 s is kept this long"),
    key("history.retain_1m", "14d", "history at a resolution of 1 min is kept this long"),
    key("history.retain_10m", "366d", "history at a resolution of 10 min is kept this long"),
    key("history.max_bytes", "8Gi", "the oldest of the finest history is dropped above this size"),
    key("limits.agents", "20000", "agents connected at once"),
    key(
        "limits.agent_queue",
        "256",
        "messages that wait for one agent; an agent that falls further behind is disconnected",
    ),
    key("limits.api_body", "1Mi", "largest body of a request"),
    key("limits.streams", "256", "live streams (Server-Sent Events) at once"),
    key(
        "tls.names",
        "",
        "names and addresses by which agents reach https:// listeners; default this host's name and the listeners' addresses",
    ),
    key(
        "tls.lifetime",
        "1d",
        "certificates of the built-in authority last this long; renewed after two thirds of it",
    ),
    key(
        "tls.certificate",
        "",
        "certificate chain of this service (PEM), instead of the built-in authority's",
    ),
    key("tls.key", "", "its private key (PEM)"),
    key("tls.agents_ca", "", "authority that signs agents' certificates (PEM), with tls.certificate"),
    key(
        "remote_write.url",
        "",
        "where the samples of /metrics are sent (Prometheus remote write 1.0); empty = nowhere",
    ),
    key("remote_write.interval", "15s", "distance of the samples that are sent"),
    key("remote_write.timeout", "30s", "a request that takes longer has failed, and is tried again"),
    key(
        "remote_write.max_bytes",
        "64Mi",
        "what waits while the receiver is away; above it the oldest is dropped",
    ),
    key(
        "remote_write.labels",
        "",
        "labels on every sample, NAME=VALUE; default job=trimtab-autoscaler and instance=this host's name",
    ),
    key("remote_write.bearer_token_file", "", "file with a token that is sent as `Authorization: Bearer`"),
    key("remote_write.basic_auth_file", "", "file with one line USER:PASSWORD, instead of a token"),
    key(
        "remote_write.ca",
        "",
        "authorities that may sign the receiver's certificate (PEM); default the host's",
    ),
    key(
        "remote_write.allow_plain_http",
        "false",
        "true lets http:// lead to other hosts, readable by everybody between",
    ),
];

/// The names of all keys.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}
