//! Amounts, and how people write them: `1500m`, `512Mi`, `30s`, `65%`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// Not a number followed by one of the units.
    #[error("{text:?} is not {what}: write for example {example}")]
    Malformed {
        /// What was read.
        text: String,
        /// What was expected.
        what: &'static str,
        /// A good one.
        example: &'static str,
    },
    /// A number, but outside what makes sense.
    #[error("{text:?} is out of range: {range}")]
    OutOfRange {
        /// What was read.
        text: String,
        /// What is allowed.
        range: &'static str,
    },
}

/// An amount of memory or disk, in bytes. Written `512Mi`, `2Gi`, `1500MB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

/// CPU in thousandths of a core. Written `1500m`, `2`, `0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MilliCpu(pub u32);

/// A length of time in ms. Written `250ms`, `30s`, `5m`, `2h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

/// A share, 0 < x ≤ 1. Written `65%`, `0.65`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Share(pub f64);

/// Splits `text` into a finite, non-negative decimal and what follows it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, &text[end..]))
}

fn scaled(
    text: &str,
    units: &[(&str, f64)],
    what: &'static str,
    example: &'static str,
    limit: f64,
    range: &'static str,
) -> Result<f64, UnitError> {
    let malformed = || UnitError::Malformed { text: text.chars().take(40).collect(), what, example };
    let (number, unit) = split(text).ok_or_else(malformed)?;
    let (_, factor) = units.iter().find(|(u, _)| *u == unit.trim()).ok_or_else(malformed)?;
    let value = number * factor;
    if value.is_finite() && value <= limit {
        Ok(value)
    } else {
        Err(UnitError::OutOfRange { text: text.chars().take(40).collect(), range })
    }
}

impl std::str::FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const UNITS: &[(&str, f64)] = &[
            ("", 1.0),
            ("B", 1.0),
            ("k", 1e3),
            ("kB", 1e3),
            ("M", 1e6),
            ("MB", 1e6),
            ("G", 1e9),
            ("GB", 1e9),
            ("T", 1e12),
            ("TB", 1e12),
            ("Ki", 1024.0),
            ("KiB", 1024.0),
            ("Mi", 1_048_576.0),
            ("MiB", 1_048_576.0),
            ("Gi", 1_073_741_824.0),
            ("GiB", 1_073_741_824.0),
            ("Ti", 1_099_511_627_776.0),
            ("TiB", 1_099_511_627_776.0),
        ];
        // 2^50: above it a double no longer holds each byte, and no task has a PiB of memory.
        let v = scaled(text, UNITS, "an amount of bytes", "512Mi", 2f64.powi(50), "at most 1024 TiB")?;
        Ok(Bytes(v.round() as u64))
    }
}

impl std::str::FromStr for MilliCpu {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let v =
            scaled(text, &[("m", 1.0), ("", 1e3)], "an amount of CPU", "1500m", 1e7, "at most 10000 cores")?;
        Ok(MilliCpu(v.round() as u32))
    }
}

impl std::str::FromStr for Millis {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const UNITS: &[(&str, f64)] =
            &[("ms", 1.0), ("s", 1e3), ("m", 6e4), ("min", 6e4), ("h", 3.6e6), ("d", 8.64e7)];
        let v = scaled(text, UNITS, "a duration", "30s", 8.64e7 * 366.0, "at most 366 days")?;
        Ok(Millis(v.round() as u64))
    }
}

impl std::str::FromStr for Share {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let v = scaled(text, &[("%", 0.01), ("", 1.0)], "a share", "65%", 1.0, "above 0 and at most 100%")?;
        // Twelve digits are kept, as many as are printed: what is printed is then read back to the same bits.
        let v = (v * 1e12).round() / 1e12;
        if v > 0.0 {
            Ok(Share(v))
        } else {
            Err(UnitError::OutOfRange { text: text.to_owned(), range: "above 0 and at most 100%" })
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        for (unit, shift) in UNITS {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ten digits: enough for what a person writes, few enough to hide binary fractions.
        let percent = format!("{:.10}", self.0 * 100.0);
        write!(f, "{}%", percent.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Accepts a plain number as well as a text with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u64),
    Decimal(f64),
    Text(String),
}

impl Written {
    fn into_text(self) -> String {
        match self {
            Written::Whole(n) => n.to_string(),
            Written::Decimal(n) => n.to_string(),
            Written::Text(text) => text,
        }
    }
}

macro_rules! as_text {
    ($($unit:ident),*) => {$(
        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Written::deserialize(d)?.into_text().parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(Bytes, MilliCpu, Millis, Share);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_amounts_in_these_forms() {
        assert_eq!("512Mi".parse(), Ok(Bytes(512 << 20)));
        assert_eq!("1.5Gi".parse(), Ok(Bytes(3 << 29)));
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        assert_eq!("1500m".parse(), Ok(MilliCpu(1500)));
        assert_eq!("0.5".parse(), Ok(MilliCpu(500)));
        assert_eq!("20ms".parse(), Ok(Millis(20)));
        assert_eq!("5m".parse(), Ok(Millis(300_000)));
        assert_eq!("65%".parse(), Ok(Share(0.65)));
        assert_eq!("0.65".parse(), Ok(Share(0.65)));
    }

    #[test]
    fn absurd_amounts_are_refused_with_an_example() {
        for text in ["", "Mi", "-1Mi", "1e9Gi", "12 parsecs", "NaN", "inf", "1.2.3", "99999999999999999Ti"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        for text in ["0%", "101%", "1.5", "-3%", "∞%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert!("30".parse::<Millis>().unwrap_err().to_string().contains("30s"), "a duration needs its unit");
        assert!("400d".parse::<Millis>().is_err());
    }

    proptest! {
        #[test]
        fn a_share_that_was_read_keeps_its_bits(percent in 0.001f64..100.0) {
            let share: Share = format!("{percent}%").parse().unwrap();
            prop_assert_eq!(share.to_string().parse(), Ok(share));
        }

        #[test]
        fn what_is_printed_is_read_back(bytes in 0u64..1 << 50, cpu in 0u32..10_000_000, ms in 0u64..31_622_400_000) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
            prop_assert_eq!(MilliCpu(cpu).to_string().parse(), Ok(MilliCpu(cpu)));
            prop_assert_eq!(Millis(ms).to_string().parse(), Ok(Millis(ms)));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,60}") {
            let _ = (text.parse::<Bytes>(), text.parse::<MilliCpu>(), text.parse::<Millis>(), text.parse::<Share>());
        }
    }
}
