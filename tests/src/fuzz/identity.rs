//! What says who somebody is: join tokens and certificates.

use agent_core::certificate::validity;
use autoscaler::tls::peer::node_of;
use wire::token::JoinToken;

pub(super) const WORDS: [&str; 4] = ["trimtab://node/", "trimtab1_", "261121211050Z", "\u{0}"];

/// A token, and a certificate of a node (made with openssl).
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let token = JoinToken { authority: [0xa5; 32], secret: [0x5a; 16] };
    vec![token.to_string().into_bytes(), include_bytes!("node.der").to_vec()]
}

/// Tokens and certificates, of agents and of the autoscaler.
pub fn identities(bytes: &[u8]) -> bool {
    let token = String::from_utf8_lossy(bytes).parse::<JoinToken>();
    if let Ok(token) = &token {
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
    }
    let named = node_of(bytes);
    let valid = validity(bytes);
    token.is_ok() || named.is_ok() || valid.is_some()
}
