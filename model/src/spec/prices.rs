//! The `spec` section of a price table.

use super::fault::Faults;
use super::section::Section;
use super::tree::Node;
use crate::prices::PriceSpec;

const SPEC: &[&str] = &["currency", "perCoreHour", "perGibHour"];

/// Reads and checks the section.
pub(super) fn read_spec(node: &Node, faults: &mut Faults<'_>) -> Option<PriceSpec> {
    let spec = Section::open(node, "spec", SPEC, faults)?;
    let currency = spec.required("currency", "currency: EUR", faults);
    let core = spec.required("perCoreHour", "perCoreHour: 0.031", faults);
    let gib = spec.required("perGibHour", "perGibHour: 0.004", faults);
    let read = PriceSpec { currency: currency?, per_core_hour: core?, per_gib_hour: gib? };
    if read.per_hour(1.0, 1.0) <= 0.0 {
        let message = "both prices are 0: such a table says nothing".to_owned();
        spec.fault(
            "perCoreHour",
            message,
            "give one of them, or withdraw the table: `trimtab delete prices`",
            faults,
        );
    }
    Some(read)
}
