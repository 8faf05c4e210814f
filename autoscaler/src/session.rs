//! The secret that lets a page in a browser of this host change something (docs/decisions/0038).
//!
//! A file of the state directory that only its owner reads. It is kept over restarts, so that an open page goes on;
//! whoever removes it ends all sessions with the next start.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
#[cfg(feature = "service")]
use subtle::ConstantTimeEq;

/// The session's file in the state directory.
pub const FILE: &str = "session";

/// Bytes of the secret: too many to be guessed.
const BYTES: usize = 32;
/// Its hexadecimal digits.
const DIGITS: usize = 2 * BYTES;

/// The secret as it is sent: 64 hexadecimal digits.
#[derive(Clone)]
pub struct Token(String);

/// Why there is no session to be had from a state directory.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is there and cannot be trusted, or is no session.
    #[error("{path}: {why}; the next start of the autoscaler makes a new one")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no randomness.
    #[error("the system gives no randomness for a session")]
    NoRandomness,
}

impl Token {
    /// Reads the session of a state directory; `None` when there is none.
    ///
    /// # Errors
    /// [`SessionError`] when it cannot be read, others may read it, or it is none.
    pub fn read(state: &Path) -> Result<Option<Self>, SessionError> {
        let path = state.join(FILE);
        let unusable = |why: String| SessionError::Unusable { path: path.clone(), why };
        // Neither a link that leads elsewhere nor a pipe that never ends.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(unusable("it is a link".to_owned()));
            }
            Err(error) => return Err(SessionError::File { path, error }),
        };
        let fault = |error| SessionError::File { path: path.clone(), error };
        let metadata = file.metadata().map_err(fault)?;
        if !metadata.is_file() {
            return Err(unusable("it is no file".to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(unusable(format!("others may read or write it (mode {mode:04o}, not 0600)")));
        }
        let mut bytes = Vec::new();
        file.take(2 * DIGITS as u64).read_to_end(&mut bytes).map_err(fault)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        if text.len() != DIGITS || !text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(unusable(format!("it does not hold {DIGITS} hexadecimal digits")));
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// The secret itself, for whom it is made.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "service")]
impl Token {
    /// The session of a state directory; a new one when there is none or the one there cannot be trusted.
    ///
    /// # Errors
    /// [`SessionError`] when the file cannot be read or written.
    pub fn open(state: &Path) -> Result<Self, SessionError> {
        match Self::read(state) {
            Ok(Some(token)) => return Ok(token),
            Ok(None) => {}
            Err(SessionError::Unusable { path, why }) => {
                tracing::warn!(path = %path.display(), why, "the session of dashboards is made anew: open pages no longer write");
            }
            Err(error) => return Err(error),
        }
        let token = Self::new()?;
        let path = state.join(FILE);
        let written = crate::durable::write_secret(&path, format!("{}\n", token.0).as_bytes());
        written.map_err(|error| SessionError::File { path, error })?;
        Ok(token)
    }

    fn new() -> Result<Self, SessionError> {
        use ring::rand::{SecureRandom, SystemRandom};
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SessionError::NoRandomness)?;
        Ok(Self(wire::token::hex(&bytes)))
    }

    /// Whether `given` is the secret; how long that takes says nothing of where they differ.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    /// Without the secret: values are logged this way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("session::Token")
    }
}

#[cfg(feature = "service")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_session_is_its_owners_only_kept_and_made_anew_when_it_is_gone() {
        let state = tempfile::tempdir().unwrap();
        assert!(Token::read(state.path()).unwrap().is_none());
        let first = Token::open(state.path()).unwrap();
        let file = state.path().join(FILE);
        assert_eq!((first.secret().len(), mode(&file)), (64, 0o600));
        assert_eq!(Token::open(state.path()).unwrap().secret(), first.secret());
        assert_eq!(Token::read(state.path()).unwrap().unwrap().secret(), first.secret());
        fs::remove_file(&file).unwrap();
        assert_ne!(Token::open(state.path()).unwrap().secret(), first.secret());
    }

    #[test]
    fn what_cannot_be_trusted_is_said_and_replaced() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join(FILE);
        let good = Token::open(state.path()).unwrap();
        let set = |text: &str, mode: u32| {
            let _ = fs::remove_file(&file);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        let short = &good.secret()[1..];
        let (upper, long) = (good.secret().to_uppercase() + "A", format!("{}0", good.secret()));
        for (text, mode, why) in [
            (good.secret(), 0o644, "mode 0644"),
            (good.secret(), 0o620, "mode 0620"),
            ("", 0o600, "64 hexadecimal digits"),
            (short, 0o600, "64 hexadecimal digits"),
            (&upper[1..], 0o600, "64 hexadecimal digits"),
            (long.as_str(), 0o600, "64 hexadecimal digits"),
        ] {
            set(text, mode);
            let said = Token::read(state.path()).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("session"), "{said}");
            assert!(text.is_empty() || !said.contains(text), "the secret is in no word: {said}");
            let new = Token::open(state.path()).unwrap();
            assert_ne!(new.secret(), good.secret());
            assert_eq!(self::mode(&file), 0o600);
        }
        let elsewhere = state.path().join("elsewhere");
        fs::write(&elsewhere, good.secret()).unwrap();
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert!(Token::read(state.path()).unwrap_err().to_string().contains("it is a link"));
        Token::open(state.path()).unwrap();
        assert!(!fs::symlink_metadata(&file).unwrap().is_symlink());
        assert_eq!(
            fs::read_to_string(&elsewhere).unwrap(),
            good.secret(),
            "what the link led to is left alone"
        );
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(matches!(Token::read(state.path()), Err(SessionError::Unusable { .. })));
        assert!(matches!(Token::open(state.path()), Err(SessionError::File { .. })));
    }

    #[test]
    fn only_the_whole_secret_is_it_and_it_is_never_shown() {
        let token = Token("0123".repeat(16));
        assert!(token.is(&"0123".repeat(16)));
        for other in ["", "0123", &"0123".repeat(17), &"0124".repeat(16), &format!("{} ", token.secret())] {
            assert!(!token.is(other), "{other:?}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }
}
