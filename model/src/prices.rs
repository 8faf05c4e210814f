//! What capacity costs, as its owner says: money per core and hour, and per GiB of memory and hour.
//!
//! One pair of prices for the whole fleet, because the idle ledger is of the whole fleet: prices of single nodes would have to be averaged
//! over what happened to run, and the sum would look more exact than it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::PriceTableName;

/// Most letters of a currency.
const CURRENCY_LIMIT: usize = 16;
/// Highest price: far above what any core costs in any currency.
const PRICE_LIMIT: f64 = 1e9;

/// Prices, as they are specified.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceTable {
    /// Its name, for people.
    pub name: PriceTableName,
    /// What it says.
    pub spec: PriceSpec,
}

/// The two prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriceSpec {
    /// What both are in.
    pub currency: Currency,
    /// Of one core for an hour.
    pub per_core_hour: Price,
    /// Of one GiB of memory for an hour.
    pub per_gib_hour: Price,
}

impl PriceSpec {
    /// What so many cores and bytes of memory cost in an hour.
    #[must_use]
    pub fn per_hour(&self, cores: f64, bytes: f64) -> f64 {
        const GIB: f64 = 1_073_741_824.0;
        cores * self.per_core_hour.0 + bytes / GIB * self.per_gib_hour.0
    }
}

/// Money, as text that is shown as it was given; 1 to 16 characters that can be seen. Nothing is known of it and nothing converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(String);

impl Currency {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Currency {
    type Err = PriceError;
    fn from_str(text: &str) -> Result<Self, PriceError> {
        let steers = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        let good = !text.is_empty()
            && text.trim() == text
            && text.chars().count() <= CURRENCY_LIMIT
            && !text.chars().any(steers)
            // A number here is a price that slipped.
            && !text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','));
        if good { Ok(Self(text.to_owned())) } else { Err(PriceError::Currency(shown(text))) }
    }
}

impl TryFrom<String> for Currency {
    type Error = PriceError;
    fn try_from(text: String) -> Result<Self, PriceError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.0
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An amount of money, 0 to 10⁹. Written `0.031`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Price(pub f64);

/// Why a text is no part of a price table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PriceError {
    /// It is no text that can stand behind an amount.
    #[error("{0:?} is not a currency: write 1 to 16 characters, for example EUR")]
    Currency(String),
    /// It is no number, or one that is no price.
    #[error("{0:?} is not a price: write a number from 0 to 1000000000 with a point, for example 0.031")]
    Price(String),
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

impl FromStr for Price {
    type Err = PriceError;
    fn from_str(text: &str) -> Result<Self, PriceError> {
        let good = |price: &f64| (0.0..=PRICE_LIMIT).contains(price) && price.is_sign_positive();
        let price = text.trim().parse().ok().filter(good);
        price.map(Self).ok_or_else(|| PriceError::Price(shown(text)))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        f64::deserialize(d)?.to_string().parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn currencies_are_text_as_given_and_prices_are_numbers() {
        for good in ["EUR", "€", "US $", "Kč", "cloud credits", "EUR/2"] {
            assert_eq!(good.parse::<Currency>().unwrap().to_string(), good);
        }
        for bad in
            ["", " ", " EUR", "EUR ", "a\nb", "\u{1b}[31m", "\u{202e}RUE", "0.03", "1,5", "12345678901234567"]
        {
            assert!(bad.parse::<Currency>().is_err(), "{bad:?}");
        }
        assert_eq!("0.031".parse(), Ok(Price(0.031)));
        assert_eq!("0".parse(), Ok(Price(0.0)));
        for bad in ["", "-0", "-1", "0,03", "NaN", "inf", "1e10", "1 EUR", "free"] {
            assert!(bad.parse::<Price>().unwrap_err().to_string().contains("0.031"), "{bad}");
        }
    }

    #[test]
    fn an_hour_costs_what_its_parts_cost() {
        let spec = PriceSpec {
            currency: "EUR".parse().unwrap(),
            per_core_hour: Price(0.03),
            per_gib_hour: Price(0.004),
        };
        assert!((spec.per_hour(10.0, 5.0 * 1_073_741_824.0) - 0.32).abs() < 1e-12);
        assert_eq!(spec.per_hour(0.0, 0.0), 0.0);
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json, serde_json::json!({ "currency": "EUR", "perCoreHour": 0.03, "perGibHour": 0.004 }));
        assert_eq!(serde_json::from_value::<PriceSpec>(json.clone()).unwrap(), spec);
        for (field, bad) in
            [("perCoreHour", serde_json::json!(-1)), ("currency", serde_json::json!("a\u{7}"))]
        {
            let mut bad_spec = json.clone();
            bad_spec[field] = bad;
            assert!(serde_json::from_value::<PriceSpec>(bad_spec).is_err(), "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_price_that_is_shown_is_read_back_to_the_same_bits(price in 0.0f64..1e9) {
            let read: Price = Price(price).to_string().parse().unwrap();
            prop_assert_eq!(read.0.to_bits(), price.to_bits());
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,60}") {
            let _ = (text.parse::<Price>(), text.parse::<Currency>());
        }
    }
}
