//! What capacity costs: the price table, and amounts of it as money where there is one.

use autoscaler::api::{PriceTable, Prices, PricesApplied};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::output::{self, Rows, moment};
use crate::specs;

const PATH: &str = "/api/v1/prices";
const GIB: f64 = 1_073_741_824.0;

/// How a table is set, for those who have none.
pub(crate) const HINT: &str = "no prices are set, so nothing is shown as money: write a file of `kind: PriceTable` (currency, perCoreHour, perGibHour) and `trimtab apply -f FILE`";

/// The answer about the table in force.
pub(crate) fn read(client: &Client) -> Result<Prices, Failure> {
    client.get(PATH)
}

/// The table in force; `None` when there is none, or the autoscaler is older than prices.
pub(crate) fn in_force(client: &Client) -> Result<Option<PriceTable>, Failure> {
    match read(client) {
        Ok(prices) => Ok(prices.table),
        Err(failure) if failure.kind() == Kind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

pub(crate) fn rows(prices: &Prices) -> Rows {
    let mut rows = Rows::new(&[
        ("name", false, false),
        ("currency", false, false),
        ("per_core_hour", true, false),
        ("per_gib_hour", true, false),
        ("since", false, false),
        ("revision", true, true),
    ]);
    if let Some(table) = &prices.table {
        rows.push(vec![
            table.name.clone(),
            table.currency.clone(),
            table.per_core_hour.to_string(),
            table.per_gib_hour.to_string(),
            moment(table.applied_ms),
            table.revision.to_string(),
        ]);
    }
    rows
}

/// What so many cores and bytes cost in an hour.
pub(crate) fn per_hour(table: &PriceTable, cores: f64, bytes: f64) -> f64 {
    cores * table.per_core_hour + bytes / GIB * table.per_gib_hour
}

/// An amount of money, or a dash.
pub(crate) fn money(table: &PriceTable, amount: Option<f64>) -> String {
    amount.map_or_else(|| "-".to_owned(), |amount| format!("{} {}", rounded(amount), table.currency))
}

/// Two decimals, fewer of what is large, and two digits of what is small: an amount that is not 0 never looks like it.
fn rounded(amount: f64) -> String {
    match amount.abs() {
        0.0 => "0".to_owned(),
        small if small < 0.01 => {
            let decimals = (-small.log10()).ceil().clamp(2.0, 18.0) as usize + 1;
            format!("{amount:.decimals$}")
        }
        large if large >= 10_000.0 => format!("{amount:.0}"),
        _ => format!("{amount:.2}"),
    }
}

/// Applies a table, or says what that would change.
pub(crate) fn put(client: &Client, document: &Value, dry_run: bool) -> Result<PricesApplied, Failure> {
    let path = format!("{PATH}{}", if dry_run { "?dryRun=true" } else { "" });
    let headers = [("content-type", "application/json")];
    let answer = client.send(Method::PUT, &path, &headers, Bytes::from(document.to_string()))?;
    Ok(serde_json::from_slice(&answer.body)?)
}

pub(crate) fn delete(client: &Client, yes: bool) -> Result<(), Failure> {
    if !yes && !specs::confirmed("Withdraw the prices? Nothing is shown as money then.")? {
        return Err(Failure::new(Kind::Error, "nothing was withdrawn"));
    }
    client.send(Method::DELETE, PATH, &[], Bytes::new())?;
    output::print("prices: withdrawn\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_and_never_away() {
        for (amount, shown) in [
            (0.0, "0"),
            (0.000_423_9, "0.00042"),
            (0.009_99, "0.0100"),
            (0.01, "0.01"),
            (1.005, "1.00"),
            (1.5, "1.50"),
            (9_999.994, "9999.99"),
            (123_456.7, "123457"),
            (1e-30, "0.0000000000000000000"),
        ] {
            assert_eq!(rounded(amount), shown, "{amount}");
        }
    }
}
