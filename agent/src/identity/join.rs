//! `trimtab-agent join`: a token buys this node's first certificate.
//!
//! The order matters: the autoscaler shows an authority with the token's hash, or nothing is sent; the disk takes a file
//! of this size, or the token is not spent; the certificate is durable, or the identity before stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::certificate::Validity;
use model::id::NodeId;
use wire::pb;
use wire::pb::identity_client::IdentityClient;
use wire::token::{JoinToken, hex};

use super::{Identity, IdentityError, request, verify};
use crate::durable::{self, DurableError};
use crate::settings::{self, Remote};
use crate::tls;

/// Longest wait for the autoscaler's answer: it makes durable that the token was used.
const PATIENCE: Duration = Duration::from_secs(20);
/// An identity takes about 1,500 bytes; an owner's own may be longer.
const TRIAL: usize = 4096;
/// The file in the agent's own folder beside the configuration that says where the autoscaler is.
const CONFIG: &str = "joined.toml";
const HEADER: &str =
    "# Written by `trimtab-agent join`: where this node's autoscaler is, and the name in its certificate.\n";

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The connection, before anything was sent.
    #[error("{0}; the token was not sent")]
    Connection(String),
    /// The other end is not who the token says.
    #[error(
        "{remote} shows no authority with the token's hash ({hash}): it is another service, or somebody in between; the token \
         was not sent"
    )]
    Authority {
        /// Who was asked.
        remote: Remote,
        /// The token's hash, hexadecimal.
        hash: String,
    },
    /// The autoscaler says no.
    #[error("the autoscaler refuses: {0}")]
    Refused(String),
    /// The answer did not come, or does not hold.
    #[error("{0}; the token may count as used: make another (trimtab node join-token NAME)")]
    Answer(String),
    /// The disk, before anything was sent.
    #[error("{0}; nothing was sent")]
    Disk(DurableError),
    /// No key could be made.
    #[error(transparent)]
    Key(IdentityError),
}

/// Joins `remote` as `node`. After `Ok` the identity is durable in `state`; after an error the one before is as it was.
///
/// # Errors
/// [`JoinError`], which says whether the token was sent.
pub async fn join(
    remote: &Remote,
    token: &JoinToken,
    node: &NodeId,
    state: &Path,
) -> Result<Validity, JoinError> {
    durable::try_secret(&state.join(super::FILE), TRIAL).map_err(JoinError::Disk)?;
    let (key, request) = request().map_err(JoinError::Key)?;
    let config = verify::client(token.authority).map_err(JoinError::Connection)?;
    let connection = tls::connect(remote, config).await.map_err(|error| {
        if error.is_unknown_authority() {
            JoinError::Authority { remote: remote.clone(), hash: hex(&token.authority) }
        } else {
            JoinError::Connection(error.to_string())
        }
    })?;
    let said = connection.said();
    let channel = tls::channel(remote, connection).await.map_err(JoinError::Connection)?;
    let question = pb::JoinRequest {
        version: Some(wire::VERSION),
        node: node.to_string(),
        secret: token.secret.to_vec(),
        request,
    };
    let mut client = IdentityClient::new(channel).max_decoding_message_size(wire::IDENTITY_LIMIT);
    let answer = tokio::time::timeout(PATIENCE, client.join(question))
        .await
        .map_err(|_| JoinError::Answer(format!("{remote} did not answer within {PATIENCE:?}")))?
        .map_err(|status| {
            let why = said.or(status.message());
            // What the other end says has no cause on this side.
            match std::error::Error::source(&status) {
                Some(_) => JoinError::Answer(format!("{remote}: {why}")),
                None => JoinError::Refused(why),
            }
        })?;
    let identity = Identity::given(key, answer.into_inner()).map_err(|e| JoinError::Answer(e.to_string()))?;
    if verify::sha256(identity.authority()) != token.authority {
        return Err(JoinError::Answer(
            "the certificate is from another authority than the token says".to_owned(),
        ));
    }
    identity.keep(state).map_err(|error| JoinError::Answer(error.to_string()))?;
    identity.validity().ok_or_else(|| JoinError::Answer("the certificate cannot be read".to_owned()))
}

/// Writes where the autoscaler is into `agent.d` beside the configuration file `agent.toml`. The same content again changes nothing;
/// a file of that name that the owner wrote is left alone.
///
/// # Errors
/// Why not, in words.
pub fn configure(configuration: &Path, remote: &Remote, node: &NodeId) -> Result<PathBuf, String> {
    let path = settings::own_folder(configuration).join(CONFIG);
    let text = format!("{HEADER}{}", lines(remote, node));
    match std::fs::read_to_string(&path) {
        Ok(found) if found == text => return Ok(path),
        Ok(found) if !found.starts_with(HEADER) => {
            return Err(format!("{} was written by somebody else and is left alone", path.display()));
        }
        _ => {}
    }
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.map_err(|error| format!("{}: {error}", path.display()))?;
    durable::replace(&path, text.as_bytes(), 0o644).map_err(|error| error.to_string())?;
    Ok(path)
}

/// The settings that a node needs after joining.
#[must_use]
pub fn lines(remote: &Remote, node: &NodeId) -> String {
    format!("node = \"{node}\"\nautoscaler = \"{remote}\"\n")
}
