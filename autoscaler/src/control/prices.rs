//! The price table, changed through the loop that owns the store, and known to nothing else of it.

use autoscaler_core::event::Time;
use model::prices::PriceTable;

use super::Control;
use super::handle::Handle;
use super::writes::{Expect, WriteError};

/// A change of the price table that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricesWritten {
    /// The revision in force now; 0 = none.
    pub revision: i64,
    /// There was none before.
    pub created: bool,
    /// Nothing had to be changed.
    pub unchanged: bool,
}

impl Handle {
    /// Brings a table into force, or withdraws it; returns when that is durable.
    ///
    /// # Errors
    /// [`WriteError`] when it did not go through.
    pub async fn set_prices(
        &self,
        table: Option<PriceTable>,
        expect: Expect,
    ) -> Result<PricesWritten, WriteError> {
        let set = self.ask(move |control, now| control.set_prices(table.as_ref(), expect, now));
        set.await.map_err(|ended| WriteError::Frozen(ended.to_string()))?
    }
}

impl Control {
    fn set_prices(
        &mut self,
        table: Option<&PriceTable>,
        expect: Expect,
        now: Time,
    ) -> Result<PricesWritten, WriteError> {
        if let Some(frozen) = self.durable.frozen() {
            return Err(WriteError::Frozen(frozen.why.clone()));
        }
        let before = self.reader.prices()?;
        let found = before.as_ref().map_or(0, |row| row.revision);
        if !expect.fits(found) {
            return Err(WriteError::OtherPrices { found });
        }
        match (table, &before) {
            (None, None) => return Err(WriteError::NoPrices),
            (Some(table), Some(row)) if row.table == *table => {
                return Ok(PricesWritten { revision: found, created: false, unchanged: true });
            }
            _ => {}
        }
        let revision = self.store.set_prices(table, now).map_err(|error| match error {
            full if full.is_transient() => WriteError::Frozen(full.to_string()),
            other => WriteError::Store(other),
        })?;
        Ok(PricesWritten { revision, created: before.is_none(), unchanged: false })
    }
}
