//! What lets a node in.

use autoscaler::api::JoinToken;
use hyper::Method;
use hyper::body::Bytes;

use crate::arguments::Output;
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{self, safe};

pub(crate) fn join_token(client: &Client, name: &str, output: Output) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{}/join-token", escaped(name));
    let answer = client.send(Method::POST, &path, &[], Bytes::new())?;
    let made: JoinToken = serde_json::from_slice(&answer.body)?;
    if matches!(output, Output::Json | Output::Yaml) {
        return output::print(&output::structured(&made, output)?);
    }
    let (node, token, autoscaler) = (safe(&made.node), safe(&made.token), safe(&made.autoscaler));
    output::print(&format!("{token}\n"))?;
    output::remark(&format!("good once, until {} UTC; on {node} run", output::moment(made.expires_ms)));
    output::remark(&format!("  trimtab-agent join --node {node} --autoscaler {autoscaler} {token}"));
    output::remark(
        "or leave the token out there and paste it when asked: then it is not in the list of processes",
    );
    Ok(())
}
