//! The next certificate, for the one before. When is decided by [`model::certificate::Renewal`].

use std::path::PathBuf;
use std::time::Duration;

use model::certificate::Validity;
use wire::pb;
use wire::pb::identity_client::IdentityClient;

use super::{Identity, request};
use crate::settings::Remote;
use crate::tls;

/// Longest wait for the autoscaler's answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for the next certificate with a new key, and makes it this node's identity, durably. The connections that are open
/// go on with the one before.
///
/// # Errors
/// Why not, in words, with what to do. The identity before is as it was then.
pub async fn renew(remote: Remote, state: PathBuf) -> Result<Validity, String> {
    let before = Identity::open(&state).map_err(|error| error.to_string())?;
    let before = before.ok_or_else(|| format!("this node has no certificate for {remote}: join first"))?;
    let connection = tls::connect(&remote, before.client()?).await.map_err(|error| error.to_string())?;
    let said = connection.said();
    let channel = tls::channel(&remote, connection).await?;
    let (key, request) = request().map_err(|error| error.to_string())?;
    let mut client = IdentityClient::new(channel).max_decoding_message_size(wire::IDENTITY_LIMIT);
    let answer = tokio::time::timeout(PATIENCE, client.renew(pb::RenewRequest { request }))
        .await
        .map_err(|_| format!("{remote} did not answer within {PATIENCE:?}"))?
        .map_err(|status| said.or(status.message()))?;
    let next = Identity::given(key, answer.into_inner()).map_err(|error| error.to_string())?;
    if next.authority() != before.authority() {
        return Err("the new certificate is from another authority: join again".to_owned());
    }
    let validity = next.validity().ok_or("the new certificate cannot be read")?;
    let kept = tokio::task::spawn_blocking(move || next.keep(&state)).await;
    kept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(validity)
}
