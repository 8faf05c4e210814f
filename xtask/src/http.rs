//! What is read of an HTTP interface.

use serde_json::Value;

/// The JSON at an address; `None` = nobody answers, or with something else.
pub(crate) fn json(url: &str) -> Option<Value> {
    ureq::get(url).call().ok()?.body_mut().read_json().ok()
}
