//! The join token: one text that carries who the autoscaler is, and a secret that lets one node in once.
//!
//! `trimtab1_AUTHORITY_SECRET_SUM`: the SHA-256 of the authority's certificate (64 hexadecimal digits), the secret (32)
//! and a CRC-32 of all before it (8). The node compares the first part with what the autoscaler presents before it sends
//! the second. The sum only tells a token that was copied badly from one that is refused.

use std::fmt;
use std::str::FromStr;

/// What every token begins with; the number is the form's version.
const PREFIX: &str = "trimtab1_";
/// Bytes of the secret. 128 bits cannot be guessed over a network, so that a plain hash of it may be stored.
pub const SECRET: usize = 16;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the authority's certificate (DER).
    pub authority: [u8; 32],
    /// What only the bearer of the token knows.
    pub secret: [u8; SECRET],
}

/// Why a text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins with something else.
    #[error("this is no join token: one begins with {PREFIX}")]
    Foreign,
    /// A part is missing, or has another length, or a character that is no hexadecimal digit.
    #[error("the token is incomplete or has a wrong character: copy it again as a whole")]
    Malformed,
    /// All is there, and something of it is wrong.
    #[error("a character of the token is wrong: copy it again as a whole")]
    Sum,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = format!("{PREFIX}{}_{}", hex(&self.authority), hex(&self.secret));
        write!(f, "{body}_{:08x}", crc32fast::hash(body.as_bytes()))
    }
}

impl fmt::Debug for JoinToken {
    /// Without the secret: values are logged this way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken {{ authority: {}, .. }}", hex(&self.authority))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    /// Parses what [`fmt::Display`] writes; white space around it does not matter.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let parts = text.strip_prefix(PREFIX).ok_or(TokenError::Foreign)?;
        let (authority, rest) = parts.split_once('_').ok_or(TokenError::Malformed)?;
        let (secret, sum) = rest.split_once('_').ok_or(TokenError::Malformed)?;
        let body = &text[..text.len() - sum.len() - 1];
        let token = Self {
            authority: unhex(authority).ok_or(TokenError::Malformed)?,
            secret: unhex(secret).ok_or(TokenError::Malformed)?,
        };
        let sum = u32::from_be_bytes(unhex(sum).ok_or(TokenError::Malformed)?);
        if sum == crc32fast::hash(body.as_bytes()) { Ok(token) } else { Err(TokenError::Sum) }
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        // Lower case only: a token has one form.
        let digit = |d: u8| matches!(d, b'0'..=b'9' | b'a'..=b'f').then(|| char::from(d).to_digit(16));
        let (high, low) = (digit(pair[0])??, digit(pair[1])??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken { authority: [0xab; 32], secret: [7; SECRET] }
    }

    #[test]
    fn a_token_has_one_form_and_does_not_show_its_secret_by_accident() {
        let text = token().to_string();
        assert_eq!(text.len(), 9 + 64 + 1 + 32 + 1 + 8);
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!("\n {text} \n").parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("0707"));
        assert_eq!(text.to_uppercase().parse::<JoinToken>(), Err(TokenError::Foreign));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let text = token().to_string();
        assert_eq!("eyJhbGciOi".parse::<JoinToken>(), Err(TokenError::Foreign));
        assert_eq!("".parse::<JoinToken>(), Err(TokenError::Foreign));
        assert_eq!(text[..text.len() - 1].parse::<JoinToken>(), Err(TokenError::Malformed));
        assert_eq!(text.replacen('7', "8", 1).parse::<JoinToken>(), Err(TokenError::Sum));
        assert_eq!(text.replacen("abab", "ABAB", 1).parse::<JoinToken>(), Err(TokenError::Malformed));
    }

    proptest! {
        /// Every token comes back as it was.
        #[test]
        fn what_is_written_is_read(authority: [u8; 32], secret: [u8; SECRET]) {
            let token = JoinToken { authority, secret };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        /// No text makes the parser panic, and what it accepts is written back the same.
        #[test]
        fn any_text_is_parsed_or_refused(text in "(trimtab1_)?[0-9a-fA-F_é]{0,130}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.to_string(), text.trim());
            }
        }

        /// One changed character is noticed.
        #[test]
        fn a_changed_character_is_refused(authority: [u8; 32], secret: [u8; SECRET], at in 0usize..115, to in "[0-9a-f_]") {
            let text = JoinToken { authority, secret }.to_string();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            prop_assert!(changed == text || changed.parse::<JoinToken>().is_err());
        }
    }
}
