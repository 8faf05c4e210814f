//! YARN's exclude list: a file of XML that names hosts, each with the time that its containers get.
//!
//! It is changed one host at a time, so that what a person put there stays. The ResourceManager keeps its old list when it cannot read the
//! file, so a file that is not understood is left alone. An empty list is `<hosts></hosts>`: a file without anything is broken.

use std::fmt::Write;

use model::yarn::Excluded;

/// Most hosts that are read: above every cluster that YARN runs.
const HOSTS: usize = 20_000;
/// Longest name of a host, bytes (RFC 1123).
const HOST_LIMIT: usize = 253;

/// Why a list is not understood, or cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExcludeError {
    /// No XML.
    #[error("{0}")]
    Xml(String),
    /// XML of something else.
    #[error("its top is <{0}>, want <hosts>")]
    Top(String),
    /// An entry without a name, or with one that is none.
    #[error("{0:?} is no host name")]
    Name(String),
    /// A timeout that is no number of seconds.
    #[error("timeout {0:?} of {1} is no number of seconds")]
    Timeout(String, String),
    /// Too many.
    #[error("it has more than {HOSTS} hosts")]
    TooMany,
}

/// Whether a text can be the name or address of a host: what is written into files and URLs is never more.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    text.len() <= HOST_LIMIT
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(known)
}

/// Reads a list, in its order.
///
/// # Errors
/// [`ExcludeError`] for what YARN would not understand, or would understand otherwise.
pub fn read(text: &str) -> Result<Vec<Excluded>, ExcludeError> {
    let document = roxmltree::Document::parse(text).map_err(|e| ExcludeError::Xml(e.to_string()))?;
    let top = document.root_element();
    if !top.has_tag_name("hosts") {
        return Err(ExcludeError::Top(top.tag_name().name().to_owned()));
    }
    let entries = top.children().filter(|node| node.has_tag_name("host"));
    let list: Vec<Excluded> = entries.take(HOSTS + 1).map(entry).collect::<Result<_, _>>()?;
    if list.len() > HOSTS { Err(ExcludeError::TooMany) } else { Ok(list) }
}

fn entry(node: roxmltree::Node<'_, '_>) -> Result<Excluded, ExcludeError> {
    let child = |name: &str| {
        let found = node.children().find(|child| child.has_tag_name(name))?;
        Some(found.text().unwrap_or_default().trim().to_owned())
    };
    let host = child("name").unwrap_or_default();
    if !is_host(&host) {
        return Err(ExcludeError::Name(host));
    }
    let timeout_s = match child("timeout") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| ExcludeError::Timeout(text.clone(), host.clone()))?),
    };
    Ok(Excluded { host, timeout_s })
}

/// The list with `host` on it with this timeout, or (`None`) without it.
#[must_use]
pub fn with(mut list: Vec<Excluded>, host: &str, timeout_s: Option<u32>) -> Vec<Excluded> {
    let found = list.iter().position(|entry| entry.host == host);
    match (found, timeout_s) {
        (Some(at), Some(_)) => list[at].timeout_s = timeout_s,
        (None, Some(_)) => list.push(Excluded { host: host.to_owned(), timeout_s }),
        (Some(_), None) => list.retain(|entry| entry.host != host),
        (None, None) => {}
    }
    list
}

/// Writes a list.
#[must_use]
pub fn write(list: &[Excluded]) -> String {
    let mut text = String::from("<?xml version=\"1.0\"?>\n<hosts>\n");
    for Excluded { host, timeout_s } in list {
        let timeout = timeout_s.map(|s| format!("<timeout>{s}</timeout>")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  <host><name>{host}</name>{timeout}</host>");
    }
    text + "</hosts>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn excluded(host: &str, timeout_s: Option<u32>) -> Excluded {
        Excluded { host: host.to_owned(), timeout_s }
    }

    #[test]
    fn a_list_is_read_with_what_people_write_around_it() {
        let text = "<?xml version=\"1.0\"?>\n<!-- old machines -->\n<hosts>\n <host><name> a.example </name></host>\n\
                    <host><timeout>30</timeout><name>b</name></host>\n</hosts>";
        assert_eq!(read(text), Ok(vec![excluded("a.example", None), excluded("b", Some(30))]));
        assert_eq!(read("<hosts></hosts>"), Ok(vec![]));
        assert_eq!(read("<hosts/>"), Ok(vec![]));
    }

    #[test]
    fn what_yarn_would_not_understand_is_refused() {
        assert!(matches!(read(""), Err(ExcludeError::Xml(_))));
        assert!(matches!(read("<hosts><host></hosts>"), Err(ExcludeError::Xml(_))));
        assert_eq!(read("<configuration/>"), Err(ExcludeError::Top("configuration".into())));
        assert_eq!(read("<hosts><host><name/></host></hosts>"), Err(ExcludeError::Name(String::new())));
        let text = "<hosts><host><name>a</name><timeout>soon</timeout></host></hosts>";
        assert_eq!(read(text), Err(ExcludeError::Timeout("soon".into(), "a".into())));
    }

    #[test]
    fn entities_are_not_expanded_without_end() {
        let bomb = "<!DOCTYPE hosts [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">\
                    <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;\">]>\
                    <hosts><host><name>&d;</name></host></hosts>";
        assert!(read(bomb).is_err());
    }

    #[test]
    fn a_host_is_put_on_once_and_others_stay() {
        let list = vec![excluded("a", None), excluded("b", Some(30))];
        assert_eq!(with(list.clone(), "b", Some(60)), [excluded("a", None), excluded("b", Some(60))]);
        assert_eq!(with(list.clone(), "c", Some(60)).len(), 3);
        assert_eq!(with(list.clone(), "a", None), [excluded("b", Some(30))]);
        assert_eq!(with(list.clone(), "c", None), list);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(list in proptest::collection::vec(("[a-z0-9][a-z0-9._-]{0,20}", proptest::option::of(any::<u32>())), 0..20)) {
            let list: Vec<Excluded> = list.into_iter().map(|(host, timeout_s)| Excluded { host, timeout_s }).collect();
            prop_assert_eq!(read(&write(&list)), Ok(list));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = read(&text);
            let _ = is_host(&text);
        }
    }
}
