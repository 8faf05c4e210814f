//! What capacity costs, as its owner said.

use model::spec::prices_document;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::PriceRow;

/// The price table in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// `trimtab/v1`.
    pub api_version: String,
    /// It; null = nobody said what capacity costs, and nothing is said of money.
    pub table: Option<PriceTable>,
}

/// A price table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceTable {
    /// Its name.
    pub name: String,
    /// Its revision; the entity tag.
    pub revision: i64,
    /// When it was applied.
    pub applied_ms: u64,
    /// What prices are in, as it was given.
    pub currency: String,
    /// Price of a core for an hour.
    pub per_core_hour: f64,
    /// Price of a GiB of memory for an hour.
    pub per_gib_hour: f64,
    /// The document that specifies it.
    #[schema(value_type = Object)]
    pub document: serde_json::Value,
}

/// What applying a price table changes, or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PricesApplied {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// There was none before.
    pub created: bool,
    /// It is as it was.
    pub unchanged: bool,
    /// The revision in force, unless this was a dry run with changes.
    pub revision: Option<i64>,
    /// The document before.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// The document after.
    #[schema(value_type = Object)]
    pub after: serde_json::Value,
}

impl From<PriceRow> for PriceTable {
    fn from(row: PriceRow) -> Self {
        let document = prices_document(&row.table);
        let spec = row.table.spec;
        Self {
            name: row.table.name.to_string(),
            revision: row.revision,
            applied_ms: row.at.0,
            currency: spec.currency.to_string(),
            per_core_hour: spec.per_core_hour.0,
            per_gib_hour: spec.per_gib_hour.0,
            document,
        }
    }
}
