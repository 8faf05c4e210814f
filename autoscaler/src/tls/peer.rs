//! Who is at the other end of a TLS connection: its certificate says so, and nothing else.

use model::id::NodeId;

/// A node's certificate has one alternative name that begins with this; the node's name follows.
pub const NODE_URI: &str = "trimtab://node/";

/// The other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// It showed no certificate: it may only join.
    Stranger,
    /// A node, by a certificate that its authority signed.
    Node(NodeId),
    /// A certificate of the right authority that names no node.
    Nameless(NamelessError),
}

/// Why a certificate names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamelessError {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Not exactly one name of the form.
    #[error("the certificate has {0} alternative names of the form {NODE_URI}NAME, where one is needed")]
    Count(usize),
    /// The name is none.
    #[error("the certificate's node name is none: {0}")]
    Name(String),
}

/// The node that a certificate (X.509, DER) is for.
///
/// # Errors
/// [`NamelessError`] when it is for none.
pub fn node_of(certificate: &[u8]) -> Result<NodeId, NamelessError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| NamelessError::Unreadable)?;
    let names = parsed.subject_alternative_name().map_err(|_| NamelessError::Unreadable)?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let nodes: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            x509_parser::extensions::GeneralName::URI(uri) => uri.strip_prefix(NODE_URI),
            _ => None,
        })
        .collect();
    match nodes[..] {
        [name] => name.parse().map_err(|error: model::id::NameError| NamelessError::Name(error.to_string())),
        _ => Err(NamelessError::Count(nodes.len())),
    }
}

impl Peer {
    /// From the first certificate that the other end showed, if any.
    #[must_use]
    pub fn of(certificate: Option<&[u8]>) -> Self {
        match certificate.map(node_of) {
            None => Peer::Stranger,
            Some(Ok(node)) => Peer::Node(node),
            Some(Err(error)) => Peer::Nameless(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(names.iter().map(|n| SanType::URI((*n).try_into().unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn exactly_one_good_name_is_a_node() {
        assert_eq!(node_of(&certificate(&["trimtab://node/n1"])), Ok("n1".parse().unwrap()));
        assert_eq!(node_of(&certificate(&[])), Err(NamelessError::Count(0)));
        let two = certificate(&["trimtab://node/n1", "trimtab://node/n2"]);
        assert_eq!(node_of(&two), Err(NamelessError::Count(2)));
        for bad in ["trimtab://node/", "trimtab://node/../etc", "trimtab://node/n1/x"] {
            assert!(matches!(node_of(&certificate(&[bad])), Err(NamelessError::Name(_))), "{bad}");
        }
        assert_eq!(Peer::of(None), Peer::Stranger);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = node_of(&bytes);
        }
    }
}
