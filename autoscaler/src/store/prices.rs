//! The price table in force. It is no part of what the brain knows: no decision depends on it, and no journal has it.

use autoscaler_core::event::Time;
use model::prices::PriceTable;
use rusqlite::{OptionalExtension, params};

use super::queries::parsed;
use super::schema::integer;
use super::{Reader, Store, StoreError, project, revisions};

/// The table in force.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceRow {
    /// What it says.
    pub table: PriceTable,
    /// Changes with each application; the entity tag.
    pub revision: i64,
    /// When it was applied.
    pub at: Time,
}

impl Reader {
    /// The price table in force.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn prices(&self) -> Result<Option<PriceRow>, StoreError> {
        self.ask(|db| {
            db.query_row("SELECT name, spec, revision, at_ms FROM prices", [], |row| {
                Ok(PriceRow {
                    table: PriceTable { name: parsed(row, 0)?, spec: parsed(row, 1)? },
                    revision: row.get(2)?,
                    at: Time(row.get::<_, i64>(3)?.unsigned_abs()),
                })
            })
            .optional()
        })
    }
}

impl Store {
    /// Brings a table into force instead of the one before, durably; `None` withdraws it. The new revision, or 0.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses; the one before stays in force then.
    pub fn set_prices(&mut self, table: Option<&PriceTable>, at: Time) -> Result<i64, StoreError> {
        let path = self.path.clone();
        let mut set = || -> Result<i64, rusqlite::Error> {
            let transaction = self.db.transaction()?;
            transaction.execute("DELETE FROM prices", [])?;
            let mut revision = 0;
            if let Some(table) = table {
                revision = revisions::next(&transaction)?;
                transaction.execute(
                    "INSERT INTO prices (id, name, spec, revision, at_ms) VALUES (1, ?1, ?2, ?3, ?4)",
                    params![
                        project::json(&table.name)?,
                        project::json(&table.spec)?,
                        revision,
                        integer(at.0)
                    ],
                )?;
            }
            transaction.commit()?;
            Ok(revision)
        };
        set().map_err(|error| StoreError::Sqlite { path, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::spec::{Format, parse_prices_as};

    fn table(core: &str) -> PriceTable {
        let text = format!(
            "apiVersion: trimtab/v1\nkind: PriceTable\nmetadata: {{ name: default }}\n\
             spec: {{ currency: EUR, perCoreHour: {core}, perGibHour: 0.1 }}"
        );
        parse_prices_as(Format::Yaml, "a", &text).unwrap()
    }

    #[test]
    fn one_table_is_in_force_also_after_a_restart_and_each_has_its_number() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Store::open(state.path()).unwrap();
        let reader = store.reader();
        assert_eq!(reader.prices().unwrap(), None);
        assert_eq!(store.set_prices(Some(&table("0.3")), Time(5)).unwrap(), 1);
        assert_eq!(store.set_prices(Some(&table("0.1")), Time(7)).unwrap(), 2);
        drop(store);
        let mut store = Store::open(state.path()).unwrap();
        let row = PriceRow { table: table("0.1"), revision: 2, at: Time(7) };
        assert_eq!(reader.prices().unwrap(), Some(row));
        assert_eq!(store.set_prices(None, Time(8)).unwrap(), 0);
        assert_eq!(reader.prices().unwrap(), None);
        assert_eq!(store.set_prices(Some(&table("0.3")), Time(9)).unwrap(), 3, "no number comes twice");
    }
}
