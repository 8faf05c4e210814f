//! Clusters of daemons that keep their own list of members: one topology change at a time, each a state machine of its kind.
//!
//! | module | answers |
//! |---|---|
//! | [`change`] | a machine of any kind with the order that its state asks for |
//! | [`need`] | how many NodeManagers a YARN cluster needs |
//! | [`gate`] | what must hold before a change is asked for |
//! | [`yarn`] | how a NodeManager leaves or comes without a killed container |
//! | [`hdfs`] | how a DataNode leaves or comes without a block in danger |
//! | [`cassandra`] | how a node leaves or joins the ring without a lost row |
//!
//! All three have the house form: a state asks for at most one step, a step is ordered again until it is answered, every verb is idempotent,
//! and what nobody expected is said and changes nothing. A change ends in `Done`, `Cancelled` or `Failed`; only then may the next one begin.

pub mod cassandra;
pub mod change;
pub mod gate;
pub mod hdfs;
pub mod need;
pub mod yarn;

#[cfg(test)]
mod dot;
