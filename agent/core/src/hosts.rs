//! HDFS's list of hosts: JSON that says of DataNodes how they are meant to be (`CombinedHostFileManager`).
//!
//! **Problem.** The list means two things. Without an entry that is in service, it names the exceptions and all others are in service; with
//! one such entry it names all that may be there, and the others are thrown out and end. A change must never turn one into the other.
//! And the NameNode calls a list that it cannot read a success, and lets every decommissioned node serve again.
//! **Method.** One entry is changed, as the kind of the list demands; what is not known of an entry stays in it; a list that is not
//! understood is left alone.

use model::hdfs::AdminState;
use serde_json::{Map, Value};

/// Most entries that are read.
const ENTRIES: usize = 20_000;

/// Why a list is not understood, or cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostsError {
    /// No JSON, or no list of entries.
    #[error("it is no list of hosts: {0}")]
    Json(String),
    /// An entry without a name or a port.
    #[error("entry {0} has no hostName")]
    NoName(usize),
    /// A state that is none.
    #[error("{node} has the state {state:?}, which this version does not know")]
    State {
        /// Which.
        node: String,
        /// Its state.
        state: String,
    },
    /// The list names all that may be there, and not this one.
    #[error(
        "it lists the nodes that may be there, and {0} is not among them: add it, or list the exceptions only"
    )]
    NotListed(String),
    /// It is the last one in service of a list that names all that may be there.
    #[error("{0} is the last one in service on a list of all: without it the list would mean something else")]
    LastOfAll(String),
    /// Two entries for one node.
    #[error("{0} is listed twice")]
    Twice(String),
}

/// A list, with all that stands in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hosts {
    entries: Vec<Map<String, Value>>,
}

impl Hosts {
    /// Reads a list: an array, or (as older versions write it) one object after the other. Nothing at all is no list.
    ///
    /// # Errors
    /// [`HostsError`] for what the NameNode would not read, or would read otherwise.
    pub fn read(text: &str) -> Result<Self, HostsError> {
        let json = |e: serde_json::Error| HostsError::Json(e.to_string());
        let mut entries = Vec::new();
        let mut some = false;
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            some = true;
            match value.map_err(json)? {
                Value::Array(list) => entries.extend(list),
                one => entries.push(one),
            }
        }
        if !some || entries.len() > ENTRIES {
            return Err(HostsError::Json(format!("{} entries", entries.len())));
        }
        let entries: Vec<Map<String, Value>> = entries
            .into_iter()
            .enumerate()
            .map(|(at, entry)| match entry {
                Value::Object(entry) if entry.get("hostName").is_some_and(Value::is_string) => Ok(entry),
                _ => Err(HostsError::NoName(at)),
            })
            .collect::<Result<_, _>>()?;
        let hosts = Self { entries };
        for entry in &hosts.entries {
            state(entry)?;
        }
        Ok(hosts)
    }

    /// The list as it is written.
    #[must_use]
    pub fn write(&self) -> String {
        // Maps of JSON values cannot fail to be written.
        serde_json::to_string_pretty(&self.entries).unwrap_or_default() + "\n"
    }

    /// Whether it names all that may be there.
    #[must_use]
    pub fn includes(&self) -> bool {
        self.entries.iter().any(|entry| state(entry) == Ok(AdminState::Normal))
    }

    /// Nodes that it names with their states; in a list of exceptions never one in service.
    pub fn states(&self) -> impl Iterator<Item = (String, AdminState)> {
        self.entries.iter().filter_map(|entry| Some((name(entry), state(entry).ok()?)))
    }

    /// The list with a node decommissioned or in service. It may be listed by its name or by its address (`HOST:PORT` both); a new entry
    /// has its address.
    ///
    /// # Errors
    /// [`HostsError::NotListed`], [`HostsError::LastOfAll`] or [`HostsError::Twice`].
    pub fn with(mut self, node: &str, address: &str, decommissioned: bool) -> Result<Self, HostsError> {
        let of_it = |entry: &Map<String, Value>| is(entry, node) || is(entry, address);
        let at: Vec<usize> = (0..self.entries.len()).filter(|at| of_it(&self.entries[*at])).collect();
        if at.len() > 1 {
            return Err(HostsError::Twice(node.to_owned()));
        }
        let (at, includes) = (at.first().copied(), self.includes());
        let set = |entry: &mut Map<String, Value>, state: &str| {
            entry.insert("adminState".to_owned(), Value::from(state));
            entry.remove("maintenanceExpireTimeInMS");
        };
        match (at, decommissioned) {
            (None, _) if includes => return Err(HostsError::NotListed(node.to_owned())),
            (None, false) => {}
            (None, true) => {
                let (host, port) = split(address);
                let mut entry = Map::from_iter([("hostName".to_owned(), Value::from(host))]);
                if let Some(port) = port {
                    entry.insert("port".to_owned(), Value::from(port));
                }
                set(&mut entry, DECOMMISSIONED);
                self.entries.push(entry);
            }
            (Some(at), true) => set(&mut self.entries[at], DECOMMISSIONED),
            (Some(at), false) if includes => set(&mut self.entries[at], "NORMAL"),
            (Some(at), false) => drop(self.entries.remove(at)),
        }
        if includes && !self.includes() {
            return Err(HostsError::LastOfAll(node.to_owned()));
        }
        Ok(self)
    }
}

/// The state that means "decommission it", and that it has been.
const DECOMMISSIONED: &str = "DECOMMISSIONED";

fn split(node: &str) -> (&str, Option<u16>) {
    match node.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, Some(port)),
        _ => (node, None),
    }
}

fn is(entry: &Map<String, Value>, node: &str) -> bool {
    let (host, port) = split(node);
    let listed = entry.get("port").and_then(Value::as_u64).filter(|port| *port > 0);
    let same_port = match (listed, port) {
        (Some(listed), Some(port)) => listed == u64::from(port),
        // An entry without a port is about every DataNode of its host.
        _ => true,
    };
    entry.get("hostName").and_then(Value::as_str) == Some(host) && same_port
}

fn name(entry: &Map<String, Value>) -> String {
    let host = entry.get("hostName").and_then(Value::as_str).unwrap_or_default();
    match entry.get("port").and_then(Value::as_u64).filter(|port| *port > 0) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// An entry without a state is in service, as the NameNode takes it.
fn state(entry: &Map<String, Value>) -> Result<AdminState, HostsError> {
    Ok(match entry.get("adminState") {
        None | Some(Value::Null) => AdminState::Normal,
        Some(Value::String(text)) if text == "NORMAL" => AdminState::Normal,
        Some(Value::String(text)) if text == DECOMMISSIONED => AdminState::Decommissioned,
        Some(Value::String(text)) if text == "IN_MAINTENANCE" => AdminState::InMaintenance,
        Some(other) => return Err(HostsError::State { node: name(entry), state: other.to_string() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(text: &str) -> Hosts {
        Hosts::read(text).unwrap()
    }

    fn states(hosts: &Hosts) -> Vec<(String, AdminState)> {
        hosts.states().collect()
    }

    #[test]
    fn a_list_of_exceptions_stays_one() {
        let list = hosts("[]").with("127.0.0.1:9903", "127.0.0.1:9903", true).unwrap();
        assert_eq!(states(&list), [("127.0.0.1:9903".to_owned(), AdminState::Decommissioned)]);
        assert!(!list.includes());
        let list = list.with("127.0.0.1:9903", "127.0.0.1:9903", false).unwrap();
        assert_eq!(list, hosts("[]"), "in service is not to be listed there");
        assert_eq!(list.clone().with("127.0.0.1:9903", "127.0.0.1:9903", false), Ok(list));
    }

    #[test]
    fn a_node_is_found_by_its_name_and_listed_by_its_address() {
        let list = hosts("[]").with("w3.example:9866", "192.0.2.3:9866", true).unwrap();
        assert_eq!(states(&list), [("192.0.2.3:9866".to_owned(), AdminState::Decommissioned)]);
        let named = hosts(r#"[{"hostName":"w3.example","port":9866,"adminState":"DECOMMISSIONED"}]"#);
        assert_eq!(named.with("w3.example:9866", "192.0.2.3:9866", false), Ok(hosts("[]")));
    }

    #[test]
    fn a_list_of_all_stays_one_and_gets_nobody_new() {
        let all = r#"[{"hostName":"a","port":1},{"hostName":"b","adminState":"NORMAL","upgradeDomain":"u"}]"#;
        let list = hosts(all).with("b:9866", "b:9866", true).unwrap();
        assert!(list.includes(), "a is still in service");
        assert!(list.write().contains("upgradeDomain"), "what others wrote stays");
        let list = list.with("b:9866", "b:9866", false).unwrap();
        assert_eq!(states(&list)[1], ("b".to_owned(), AdminState::Normal));
        assert_eq!(hosts(all).with("c:1", "c:1", true), Err(HostsError::NotListed("c:1".into())));
    }

    #[test]
    fn the_last_one_of_a_list_of_all_would_make_it_a_list_of_exceptions() {
        let list = hosts(r#"[{"hostName":"a","port":1}]"#).with("a:1", "a:1", true);
        assert_eq!(list, Err(HostsError::LastOfAll("a:1".into())));
    }

    #[test]
    fn what_the_name_node_would_call_a_success_is_refused() {
        for text in ["", "  \n", "[", "{]", "3", "[3]", r#"[{"port":1}]"#] {
            assert!(Hosts::read(text).is_err(), "{text:?}");
        }
        let odd = Hosts::read(r#"[{"hostName":"a","adminState":"GONE"}]"#);
        assert!(matches!(odd, Err(HostsError::State { .. })), "{odd:?}");
        let older = "{\"hostName\":\"a\",\"adminState\":\"DECOMMISSIONED\"}\n{\"hostName\":\"b\",\"adminState\":\"DECOMMISSIONED\"}";
        assert_eq!(states(&hosts(older)).len(), 2);
    }

    #[test]
    fn a_maintenance_that_becomes_a_decommission_does_not_expire() {
        let text =
            r#"[{"hostName":"a","port":1,"adminState":"IN_MAINTENANCE","maintenanceExpireTimeInMS":5}]"#;
        let list = hosts(text).with("a:1", "a:1", true).unwrap();
        assert!(!list.write().contains("maintenanceExpireTimeInMS"), "{}", list.write());
    }

    proptest! {
        #[test]
        fn no_change_turns_one_kind_into_the_other(
            list in proptest::collection::vec(("[ab]", 1u16..4, 0usize..3), 0..6), node in "[abc]:[1-4]", out: bool,
        ) {
            let entry = |(host, port, state): &(String, u16, usize)| {
                let state = ["NORMAL", "DECOMMISSIONED", "IN_MAINTENANCE"][*state];
                serde_json::json!({"hostName": host, "port": port, "adminState": state})
            };
            let before = hosts(&Value::Array(list.iter().map(entry).collect()).to_string());
            if let Ok(after) = before.clone().with(&node, &node, out) {
                prop_assert_eq!(after.includes(), before.includes());
                prop_assert_eq!(&Hosts::read(&after.write()).unwrap(), &after);
                let of = |hosts: &Hosts| states(hosts).into_iter().filter(|(name, _)| *name != node).collect::<Vec<_>>();
                prop_assert_eq!(of(&after), of(&before), "others are as they were");
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = Hosts::read(&text);
        }
    }
}
