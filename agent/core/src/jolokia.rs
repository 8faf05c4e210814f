//! A Cassandra node by its Jolokia agent: JMX as JSON over HTTP, many questions in one request.
//!
//! The status of HTTP says nothing: each answer has one of its own inside. While Cassandra starts, its beans are not there yet (404 inside).
//! An operation's return value says nothing either: a second decommission returns at once while the first one runs.
//!
//! Two requests make a report: [`questions`], some milliseconds of the node's time, and [`topology_questions`] for what seldom changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::cassandra::{CassandraMode, CassandraReport, CassandraStep, RequestTimes, RingView};
use serde_json::{Map, Value, json};

use crate::classify::display;

const STORAGE: &str = "org.apache.cassandra.db:type=StorageService";
const SNITCH: &str = "org.apache.cassandra.db:type=EndpointSnitchInfo";
/// Most members and most keyspaces of a report: rings above a thousand nodes are not advised.
pub const LIMIT: usize = 1_024;

/// Why an answer is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not the JSON that was expected.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
    /// A bean is not there: Cassandra starts, or is another version.
    #[error("it has no {0}: Cassandra starts, or is of a version that this agent does not know")]
    NotThere(&'static str),
    /// Its policy does not allow it.
    #[error("its policy forbids {0}: allow it in the file that policyLocation names")]
    Forbidden(&'static str),
    /// Cassandra says no, in its own words.
    #[error("{0}")]
    Refused(String),
    /// Something that is missing or of another kind.
    #[error("{0} is not as expected")]
    Odd(&'static str),
    /// More members or keyspaces than can be reported.
    #[error("it names {0} {1}, more than {LIMIT}")]
    TooMany(usize, &'static str),
}

/// The request whose answer [`report`] reads: eleven reads, about 5 ms of the node.
#[must_use]
pub fn questions() -> Value {
    let read =
        |mbean: &str, attribute: Value| json!({"type": "read", "mbean": mbean, "attribute": attribute});
    let latency = |scope: &str| {
        let mbean = format!("org.apache.cassandra.metrics:type=ClientRequest,scope={scope},name=Latency");
        read(&mbean, json!(["Count", "99thPercentile"]))
    };
    let storage = json!([
        "OperationMode",
        "LiveNodes",
        "UnreachableNodes",
        "JoiningNodes",
        "LeavingNodes",
        "MovingNodes",
        "TokenToEndpointMap",
        "SchemaVersion",
        "HostIdToEndpoint",
        "LocalHostId",
        "AllDataFileLocations",
        "NonLocalStrategyKeyspaces"
    ]);
    json!([
        read(STORAGE, storage),
        read("org.apache.cassandra.metrics:type=Compaction,name=PendingTasks", json!("Value")),
        latency("Read"),
        latency("Write"),
        read("org.apache.cassandra.metrics:type=DroppedMessage,scope=*,name=Dropped", json!("Count")),
        read("org.apache.cassandra.metrics:type=Storage,name=Load", json!("Count")),
        read("org.apache.cassandra.net:type=StreamManager", json!("CurrentStreams")),
        read("org.apache.cassandra.hints:type=HintsService", json!("PendingHints")),
        read("org.apache.cassandra.net:type=Gossiper", json!("Seeds")),
        read(SNITCH, json!(["Datacenter", "Rack"])),
        read("java.lang:type=Runtime", json!("StartTime")),
    ])
}

/// What each of [`questions`] is about, for its errors.
const ABOUT: [&str; 11] = [
    "StorageService",
    "pending compactions",
    "read latency",
    "write latency",
    "dropped messages",
    "load",
    "streams",
    "hints",
    "seeds",
    "data centre and rack",
    "start time",
];

/// What a report does not hold, and further questions need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beside {
    /// Keyspaces that are spread over the ring.
    pub keyspaces: Vec<String>,
    /// Directories of its data.
    pub data: Vec<String>,
}

/// Reads the answer to [`questions`]. `node` is its name in the agent's configuration's cluster; replication and disk are for the caller to
/// fill in.
///
/// # Errors
/// [`AnswerError`] with what is missing.
pub fn report(cluster: &str, body: &[u8]) -> Result<(CassandraReport, Beside), AnswerError> {
    let answers = inner(body, &ABOUT)?;
    let storage = answers[0].as_object().ok_or(AnswerError::Odd("StorageService"))?;
    let id = text(storage, "LocalHostId")?;
    let own = storage.get("HostIdToEndpoint").and_then(|map| map.get(&id)).and_then(Value::as_str);
    // A node that starts has no address in the ring yet, and one that left has none any more.
    let own = own.map(address).unwrap_or_default();
    let tokens = storage.get("TokenToEndpointMap").and_then(Value::as_object);
    let mut members: Vec<String> = tokens
        .ok_or(AnswerError::Odd("TokenToEndpointMap"))?
        .values()
        .filter_map(Value::as_str)
        .map(address)
        .collect();
    members.sort_unstable();
    members.dedup();
    let ring = RingView {
        members: few(members, "members")?,
        live: addresses(storage, "LiveNodes")?,
        unreachable: addresses(storage, "UnreachableNodes")?,
        joining: addresses(storage, "JoiningNodes")?,
        leaving: addresses(storage, "LeavingNodes")?,
        moving: addresses(storage, "MovingNodes")?,
        seeds: list(&answers[8], "Seeds")?.iter().map(|seed| address(seed)).collect(),
        schema: text(storage, "SchemaVersion")?,
    };
    let place = answers[9].as_object().ok_or(AnswerError::Odd("EndpointSnitchInfo"))?;
    let report = CassandraReport {
        cluster: cluster.to_owned(),
        address: own,
        dc: text(place, "Datacenter")?,
        rack: text(place, "Rack")?,
        started_ms: number(&answers[10], "StartTime")?,
        mode: mode(&text(storage, "OperationMode")?)?,
        ring,
        replication: BTreeMap::new(),
        pending_compactions: number(&answers[1], "PendingTasks")?,
        streams: length(&answers[6], "CurrentStreams")?,
        hints: length(&answers[7], "PendingHints")?,
        reads: times(&answers[2])?,
        writes: times(&answers[3])?,
        dropped: dropped(&answers[4])?,
        load_bytes: number(&answers[5], "Load")?,
        disk_bytes: None,
        disk_free_bytes: None,
    };
    let beside = Beside {
        keyspaces: few(texts(storage, "NonLocalStrategyKeyspaces")?, "keyspaces")?,
        data: texts(storage, "AllDataFileLocations")?,
    };
    Ok((report, beside))
}

/// The request whose answer [`replication`] reads: who owns how much of each keyspace, and where each member is.
#[must_use]
pub fn topology_questions(keyspaces: &[String], members: &[String]) -> Value {
    let exec = |mbean: &str, operation: &str, argument: &str| json!({"type": "exec", "mbean": mbean, "operation": operation, "arguments": [argument]});
    let owned = keyspaces.iter().map(|k| exec(STORAGE, "effectiveOwnership(java.lang.String)", k));
    let places = members.iter().map(|m| exec(SNITCH, "getDatacenter(java.lang.String)", m));
    Value::Array(owned.chain(places).collect())
}

/// Replicas of each keyspace in the data centre `dc`: the shares that its members own add up to it, or to their number when they are fewer.
///
/// # Errors
/// [`AnswerError`] with what is missing.
pub fn replication(
    keyspaces: &[String],
    members: &[String],
    dc: &str,
    body: &[u8],
) -> Result<BTreeMap<String, u32>, AnswerError> {
    let owned = keyspaces.iter().map(|_| "effectiveOwnership");
    let about: Vec<&'static str> = owned.chain(members.iter().map(|_| "getDatacenter")).collect();
    let answers = inner(body, &about)?;
    let (owned, places) = answers.split_at(keyspaces.len());
    let here: Vec<&String> =
        members.iter().zip(places).filter(|(_, place)| place.as_str() == Some(dc)).map(|(m, _)| m).collect();
    let of = |owned: &Value| {
        let owned = owned.as_object().ok_or(AnswerError::Odd("effectiveOwnership"))?;
        let shares = owned.iter().filter(|(name, _)| here.contains(&&address(name)));
        let sum: f64 = shares.filter_map(|(_, share)| share.as_f64()).sum();
        // Shares are single-precision numbers that add up to whole ones.
        Ok(sum.round().clamp(0.0, LIMIT as f64) as u32)
    };
    let named = keyspaces.iter().zip(owned);
    named.map(|(keyspace, owned)| Ok((display(keyspace), of(owned)?))).collect()
}

/// The requests that a step makes, one after the other.
#[must_use]
pub fn requests(step: CassandraStep, keyspaces: &[String]) -> Vec<Value> {
    let exec = |operation: &str, arguments: Value| json!({"type": "exec", "mbean": STORAGE, "operation": operation, "arguments": arguments});
    match step {
        CassandraStep::Decommission => vec![exec("decommission(boolean)", json!([false]))],
        CassandraStep::Cleanup => {
            let operation = "forceKeyspaceCleanup(int,java.lang.String,[Ljava.lang.String;)";
            keyspaces.iter().map(|keyspace| exec(operation, json!([1, keyspace, []]))).collect()
        }
    }
}

/// What an operation of a step returned.
///
/// # Errors
/// [`AnswerError::Refused`] with Cassandra's words, or [`AnswerError::Forbidden`].
pub fn returned(step: CassandraStep, body: &[u8]) -> Result<(), AnswerError> {
    let answer: Value = serde_json::from_slice(body).map_err(|e| AnswerError::Unreadable(e.to_string()))?;
    let about = match step {
        CassandraStep::Decommission => "decommission",
        CassandraStep::Cleanup => "forceKeyspaceCleanup",
    };
    let value = one(&answer, about)?;
    match (step, value.as_i64()) {
        // 0 is success, 1 was aborted, 2 could not cancel others (`CompactionManager.AllSSTableOpStatus`).
        (CassandraStep::Cleanup, Some(status)) if status != 0 => {
            Err(AnswerError::Refused(format!("the cleanup ended with status {status}")))
        }
        _ => Ok(()),
    }
}

/// The values of a request of many questions.
fn inner(body: &[u8], about: &[&'static str]) -> Result<Vec<Value>, AnswerError> {
    let answers: Value = serde_json::from_slice(body).map_err(|e| AnswerError::Unreadable(e.to_string()))?;
    let answers = match answers {
        Value::Array(answers) if answers.len() == about.len() => answers,
        Value::Array(answers) => {
            let why = format!("{} answers to {} questions", answers.len(), about.len());
            return Err(AnswerError::Unreadable(why));
        }
        // All of it was refused.
        other => {
            return one(&other, "bulk requests").and(Err(AnswerError::Odd("the answer to many questions")));
        }
    };
    answers.iter().zip(about).map(|(answer, about)| one(answer, about)).collect()
}

fn one(answer: &Value, about: &'static str) -> Result<Value, AnswerError> {
    let status = answer.get("status").and_then(Value::as_u64).ok_or(AnswerError::Odd("an inner status"))?;
    match status {
        200 => Ok(answer.get("value").cloned().unwrap_or(Value::Null)),
        403 => Err(AnswerError::Forbidden(about)),
        404 => Err(AnswerError::NotThere(about)),
        _ => {
            let why = answer.get("error").and_then(Value::as_str).unwrap_or("no reason is given");
            Err(AnswerError::Refused(display(&format!("{about}: {why}"))))
        }
    }
}

/// An address without slash and port: `/127.0.0.1:7000`, `host/127.0.0.1` and `127.0.0.1` are one.
fn address(text: &str) -> String {
    let text = text.rsplit_once('/').map_or(text, |(_, address)| address);
    let bare = text.trim_start_matches('[');
    let whole: Option<IpAddr> = text.parse().ok();
    let before = |mark: char| bare.rsplit_once(mark).and_then(|(ip, _)| ip.parse::<IpAddr>().ok());
    match whole.or_else(|| before(']')).or_else(|| before(':')) {
        Some(ip) => ip.to_string(),
        None => display(text),
    }
}

fn addresses(storage: &Map<String, Value>, name: &'static str) -> Result<Vec<String>, AnswerError> {
    few(texts(storage, name)?.iter().map(|text| address(text)).collect(), name)
}

fn texts(storage: &Map<String, Value>, name: &'static str) -> Result<Vec<String>, AnswerError> {
    list(storage.get(name).unwrap_or(&Value::Null), name)
}

fn list(value: &Value, name: &'static str) -> Result<Vec<String>, AnswerError> {
    let list = value.as_array().ok_or(AnswerError::Odd(name))?;
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn few(list: Vec<String>, what: &'static str) -> Result<Vec<String>, AnswerError> {
    if list.len() > LIMIT { Err(AnswerError::TooMany(list.len(), what)) } else { Ok(list) }
}

fn length(value: &Value, name: &'static str) -> Result<u32, AnswerError> {
    let list = value.as_array().ok_or(AnswerError::Odd(name))?;
    Ok(u32::try_from(list.len()).unwrap_or(u32::MAX))
}

fn text(map: &Map<String, Value>, name: &'static str) -> Result<String, AnswerError> {
    map.get(name).and_then(Value::as_str).map(display).ok_or(AnswerError::Odd(name))
}

fn number(value: &Value, name: &'static str) -> Result<u64, AnswerError> {
    value.as_u64().ok_or(AnswerError::Odd(name))
}

fn times(value: &Value) -> Result<RequestTimes, AnswerError> {
    let count = number(value.get("Count").unwrap_or(&Value::Null), "Count")?;
    let p99 =
        value.get("99thPercentile").and_then(Value::as_f64).filter(|p99| p99.is_finite() && *p99 >= 0.0);
    Ok(RequestTimes { count, p99_us: p99.filter(|_| count > 0).map(|p99| p99 as u64) })
}

/// One count per kind of message: `{"…scope=MUTATION_REQ…": {"Count": 0}, …}`.
fn dropped(value: &Value) -> Result<u64, AnswerError> {
    let kinds = value.as_object().ok_or(AnswerError::Odd("dropped messages"))?;
    let counts = kinds.values().filter_map(|kind| kind.get("Count").and_then(Value::as_u64));
    Ok(counts.fold(0, u64::saturating_add))
}

fn mode(text: &str) -> Result<CassandraMode, AnswerError> {
    Ok(match text {
        "STARTING" => CassandraMode::Starting,
        "NORMAL" => CassandraMode::Normal,
        "JOINING" | "JOINING_FAILED" => CassandraMode::Joining,
        "LEAVING" => CassandraMode::Leaving,
        "DECOMMISSIONED" => CassandraMode::Decommissioned,
        "DECOMMISSION_FAILED" => CassandraMode::DecommissionFailed,
        "MOVING" => CassandraMode::Moving,
        "DRAINING" => CassandraMode::Draining,
        "DRAINED" => CassandraMode::Drained,
        _ => return Err(AnswerError::Odd("OperationMode")),
    })
}

#[cfg(test)]
mod tests;
