//! Join tokens, made and used through the loop that owns the store.

use autoscaler_core::event::Time;
use model::id::NodeId;

use super::handle::{Handle, Unreachable};
use crate::store::{Spent, TokenRow};

/// How long a join token is good, ms.
const TOKEN_MS: u64 = 15 * 60_000;

/// A token that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenMade {
    /// Until when it is good.
    pub expires: Time,
}

/// Why a token does not let a node in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No such secret.
    #[error("the token is not known here: it is from another service, or was replaced by a newer one")]
    Unknown,
    /// It was used.
    #[error("the token was used before: each is good once; make another (trimtab node join-token NAME)")]
    Used,
    /// Its time is over.
    #[error(
        "the token has expired: make another (trimtab node join-token NAME), and use it within 15 minutes"
    )]
    Expired,
    /// It is bound to another name.
    #[error(
        "the token is for node `{of}`, not for `{node}`: make one for `{node}`, or join with --node {of}"
    )]
    OtherNode {
        /// Whose it is.
        of: String,
        /// Who came with it.
        node: NodeId,
    },
    /// That it was used could not be made durable.
    #[error("the store of the service cannot be written ({0}): try again when it can")]
    NotDurable(String),
}

impl Handle {
    /// Stores a token's hash, durably.
    ///
    /// # Errors
    /// [`TokenRefused::NotDurable`].
    pub async fn make_token(&self, hash: [u8; 32], node: NodeId) -> Result<TokenMade, TokenRefused> {
        let made = self.ask(move |control, now| {
            let expires = now.after(TOKEN_MS);
            let stored = control.store.add_token(&TokenRow { hash, node, expires });
            stored.map(|()| TokenMade { expires })
        });
        let not_durable = |why: String| TokenRefused::NotDurable(why);
        let stored = made.await.map_err(|error: Unreachable| not_durable(error.to_string()))?;
        stored.map_err(|error| not_durable(error.to_string()))
    }

    /// Uses a token for `node`; after `Ok` it is durable that it was used.
    ///
    /// # Errors
    /// [`TokenRefused`] when the node may not join with it.
    pub async fn spend_token(&self, hash: [u8; 32], node: NodeId) -> Result<(), TokenRefused> {
        let asked = node.clone();
        let spent = self.ask(move |control, now| control.store.spend_token(hash, &asked, now));
        let spent = spent.await.map_err(|error| TokenRefused::NotDurable(error.to_string()))?;
        match spent.map_err(|error| TokenRefused::NotDurable(error.to_string()))? {
            Spent::Now => Ok(()),
            Spent::Unknown => Err(TokenRefused::Unknown),
            Spent::Before => Err(TokenRefused::Used),
            Spent::Expired => Err(TokenRefused::Expired),
            Spent::OtherNode(of) => Err(TokenRefused::OtherNode { of, node }),
        }
    }
}
