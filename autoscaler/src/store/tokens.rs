//! Join tokens: only their hashes, each good once.

use autoscaler_core::event::Time;
use model::id::NodeId;
use rusqlite::{OptionalExtension, params};

use super::schema::integer;
use super::{Store, StoreError};

/// A join token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// Who may use it.
    pub node: NodeId,
    /// Until when.
    pub expires: Time,
}

/// What came of using a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spent {
    /// It was good, and never is again.
    Now,
    /// There is none with this secret.
    Unknown,
    /// It was used before.
    Before,
    /// Its time is over.
    Expired,
    /// It is for this node; it stays good.
    OtherNode(String),
}

impl Store {
    /// Stores a token, durably. It replaces an unused one for the same node.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses; nothing is stored then.
    pub fn add_token(&mut self, token: &TokenRow) -> Result<(), StoreError> {
        let error = |error| StoreError::Sqlite { path: self.path.clone(), error };
        let transaction = self.db.transaction().map_err(error)?;
        let node = token.node.as_str();
        transaction
            .execute("DELETE FROM join_tokens WHERE node = ?1 AND used_ms IS NULL", [node])
            .and_then(|_| {
                let row = params![token.hash, node, integer(token.expires.0)];
                transaction
                    .execute("INSERT INTO join_tokens (hash, node, expires_ms) VALUES (?1, ?2, ?3)", row)
            })
            .map_err(error)?;
        transaction.commit().map_err(error)
    }

    /// Uses a token for `node`; when the answer is [`Spent::Now`] it is durable that it was used.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses; the token is as it was then.
    pub fn spend_token(&mut self, hash: [u8; 32], node: &NodeId, now: Time) -> Result<Spent, StoreError> {
        let error = |error| StoreError::Sqlite { path: self.path.clone(), error };
        let transaction = self.db.transaction().map_err(error)?;
        let row: Option<(String, i64, Option<i64>)> = transaction
            .query_row("SELECT node, expires_ms, used_ms FROM join_tokens WHERE hash = ?1", [hash], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
            .map_err(error)?;
        let spent = match row {
            None => Spent::Unknown,
            Some((_, _, Some(_))) => Spent::Before,
            Some((_, expires, None)) if integer(now.0) >= expires => Spent::Expired,
            Some((of, _, None)) if of != node.as_str() => Spent::OtherNode(of),
            Some(_) => {
                transaction
                    .execute(
                        "UPDATE join_tokens SET used_ms = ?2 WHERE hash = ?1",
                        params![hash, integer(now.0)],
                    )
                    .map_err(error)?;
                transaction.commit().map_err(error)?;
                Spent::Now
            }
        };
        Ok(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(byte: u8, node: &str) -> TokenRow {
        TokenRow { hash: [byte; 32], node: node.parse().unwrap(), expires: Time(1000) }
    }

    #[test]
    fn a_token_is_good_once_for_its_node_in_its_time_also_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut store = Store::open(dir.path()).unwrap();
        store.add_token(&row(1, "a")).unwrap();
        store.add_token(&row(2, "b")).unwrap();
        assert_eq!(store.spend_token([9; 32], &a, Time(1)).unwrap(), Spent::Unknown);
        assert_eq!(store.spend_token([1; 32], &b, Time(1)).unwrap(), Spent::OtherNode("a".to_owned()));
        drop(store);
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.spend_token([1; 32], &a, Time(999)).unwrap(), Spent::Now);
        assert_eq!(store.spend_token([2; 32], &b, Time(1000)).unwrap(), Spent::Expired);
        drop(store);
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.spend_token([1; 32], &a, Time(1)).unwrap(), Spent::Before);
        assert_eq!(store.spend_token([1; 32], &b, Time(1)).unwrap(), Spent::Before);
    }

    #[test]
    fn a_new_token_replaces_the_unused_one_of_its_node_only() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut store = Store::open(dir.path()).unwrap();
        for (byte, node) in [(1, "a"), (2, "b"), (3, "a")] {
            store.add_token(&row(byte, node)).unwrap();
        }
        assert_eq!(store.spend_token([1; 32], &a, Time(1)).unwrap(), Spent::Unknown);
        assert_eq!(store.spend_token([2; 32], &b, Time(1)).unwrap(), Spent::Now);
        assert_eq!(store.spend_token([3; 32], &a, Time(1)).unwrap(), Spent::Now);
    }
}
