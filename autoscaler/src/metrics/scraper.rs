//! One scrape, whoever wants it: a scraper's request, or what is sent by remote write.

use std::time::Duration;

use super::{Format, Metrics, Stored};
use crate::control::Handle;
use crate::store::Reader;

/// The control loop must answer within this time; without it the fleet is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for everything that is told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scraper {
    control: Handle,
    reader: Reader,
    metrics: Metrics,
}

impl Scraper {
    /// Asks these.
    #[must_use]
    pub fn new(control: Handle, reader: Reader, metrics: Metrics) -> Self {
        Self { control, reader, metrics }
    }

    /// Everything as it is now, in one of the formats.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn scrape(&self, format: Format) -> Result<String, tokio::task::JoinError> {
        // Whoever watches this service must hear of it also when its loop is stuck.
        let facts = tokio::time::timeout(PATIENCE, self.control.facts()).await.ok().and_then(Result::ok);
        let (now, reader, metrics) = (self.control.now(), self.reader.clone(), self.metrics.clone());
        // What losses would mean takes its time in a large fleet, and others want answers, too.
        let written = tokio::task::spawn_blocking(move || {
            let stored = reader.pauses(now).and_then(|pauses| {
                let prices = reader.prices()?.map(|row| row.table.spec);
                Ok(Stored { pauses, page: reader.idle(1)?.into_iter().next(), prices })
            });
            metrics.scrape(format, facts.as_ref(), stored.ok().as_ref())
        });
        written.await
    }
}
