//! The pure half of the autoscaler: events in, plans out.
//!
//! | module | answers |
//! |---|---|
//! | [`event`] | what the brain is told, and what it answers |
//! | [`fleet`] | what every task uses now, reduced to one digest per workload and round |
//! | [`brain`] | what to do now |
//! | [`view`] | what the brain shows of itself |

pub mod assess;
pub mod brain;
pub mod check;
mod controller;
pub mod decide;
pub mod estimate;
pub mod event;
pub mod fleet;
pub mod forecast;
pub mod horizontal;
pub mod hpa;
pub mod place;
pub mod rails;
pub mod replica;
pub mod rollout;
pub mod service;
pub mod signal;
pub mod simulate;
pub mod stabilise;
#[cfg(test)]
mod testing;
pub mod view;
