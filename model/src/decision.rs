//! One act or non-act, with everything needed to judge it later.

use serde::{Deserialize, Serialize};

/// A decision about one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {}
