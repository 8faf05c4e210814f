//! The pure half of the autoscaler: events in, plans out.
//!
//! | module | answers |
//! |---|---|
//! | [`event`] | what the brain is told, and what it answers |
//! | [`fleet`] | what every task uses now, reduced to one digest per workload and round |
//! | [`brain`] | what to do now |
//! | [`view`] | what the brain shows of itself |

pub mod brain;
pub mod event;
pub mod fleet;
pub mod view;
