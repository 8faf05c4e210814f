//! Identities. A name that came from outside is a type of its own once it was checked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than the limit of its kind, in bytes.
    #[error("a name has at most {limit} bytes, this one has {length}")]
    TooLong {
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character outside the allowed set, or at a place where it is not allowed.
    #[error("{found:?} at byte {at} is not allowed: use a-z, 0-9 and inner '-'")]
    BadCharacter {
        /// The character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

/// Longest workload, task, launcher or backend name in bytes (a DNS label, RFC 1123).
pub const NAME_LIMIT: usize = 63;
/// Longest node name in bytes (a DNS name, RFC 1123).
pub const NODE_LIMIT: usize = 253;

fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_LIMIT {
        return Err(NameError::TooLong { length: text.len(), limit: NAME_LIMIT });
    }
    let last = text.len() - 1;
    for (at, found) in text.char_indices() {
        let inner = found == '-' && at != 0 && at != last;
        if !(found.is_ascii_lowercase() || found.is_ascii_digit() || inner) {
            return Err(NameError::BadCharacter { found, at });
        }
    }
    Ok(())
}

fn check_node(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NODE_LIMIT {
        return Err(NameError::TooLong { length: text.len(), limit: NODE_LIMIT });
    }
    for (at, found) in text.char_indices() {
        let inner = matches!(found, '-' | '.' | '_') && at != 0;
        if !(found.is_ascii_alphanumeric() || inner) {
            return Err(NameError::BadCharacter { found, at });
        }
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long, or has a character that is not allowed.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A machine that runs an agent: its host name, or what its certificate says.
    NodeId,
    check_node
);
name!(
    /// A rack, room or zone whose nodes may be lost together, as the nodes' owner names it.
    RackName,
    check_node
);
name!(
    /// A workload, as its specification names it. Unique in a fleet.
    WorkloadName,
    check_label
);
name!(
    /// A task that Trimtab started: `<workload>-<number>`. Never used twice in a fleet.
    TaskName,
    check_label
);
name!(
    /// What a node's owner allows to be started, by name.
    LauncherName,
    check_label
);
name!(
    /// A table of prices, as its specification names it.
    PriceTableName,
    check_label
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// Identifies one command; assigned by the controller, unique for the life of its store.
    CommandId
);
number!(
    /// The version of one workload's desired state on a node. Only ever grows.
    Generation
);
number!(
    /// The version of a controller: taken from the store at each start, only ever grows. Fences commands of an
    /// earlier controller.
    ControllerEpoch
);
number!(
    /// One run of an agent: its start in milliseconds since the Unix epoch.
    AgentEpoch
);
number!(
    /// A cgroup's inode number in the unified hierarchy; unique for the life of one boot on a 64-bit kernel.
    CgroupId
);

/// One boot of a kernel (`/proc/sys/kernel/random/boot_id`), as a number; 32 hex digits in JSON, where no number is
/// that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(pub u128);

impl From<BootId> for String {
    fn from(boot: BootId) -> String {
        boot.to_string()
    }
}

impl TryFrom<String> for BootId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a boot id has 32 hex digits")
    }
}

impl BootId {
    /// Parses the kernel's form, a UUID with or without dashes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut value = 0u128;
        let mut digits = 0;
        for c in text.trim().chars().filter(|c| *c != '-') {
            value = value << 4 | u128::from(c.to_digit(16)?);
            digits += 1;
        }
        (digits == 32).then_some(Self(value))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A task: one cgroup in one boot of one node. Two tasks never share a key: cgroup ids are not reused within a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The boot that the cgroup id belongs to.
    pub boot: BootId,
    /// The cgroup.
    pub cgroup: CgroupId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_are_refused() {
        for text in
            ["", "../etc", "a/b", "$(id)", "a\nb", "a\0b", "A", "-a", "a-", "ü", "\u{202e}a", &"a".repeat(64)]
        {
            assert!(WorkloadName::new(text).is_err(), "{text:?}");
            assert!(TaskName::new(text).is_err(), "{text:?}");
        }
        for text in ["", "..", ".a", "a/b", "a b", "$(id)", &"a".repeat(254)] {
            assert!(NodeId::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_boot_id_is_32_hex_digits() {
        let boot = BootId::parse("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n").unwrap();
        assert_eq!(boot.to_string(), "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
        assert_eq!(BootId::parse("0f1e"), None);
        assert_eq!(BootId::parse("zz"), None);
    }

    proptest! {
        #[test]
        fn a_name_that_passes_is_safe_as_a_path_component(text in ".{0,80}") {
            if let Ok(name) = TaskName::new(text) {
                prop_assert!(!name.as_str().contains(['/', '.', '\0']));
            }
        }
    }
}
