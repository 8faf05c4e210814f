//! Clusters of daemons that keep their own list of members: one topology change at a time, each a state machine of its kind.
//!
//! | module | answers |
//! |---|---|
//! | [`change`] | a machine of any kind with the order that its state asks for |
//! | [`need`] | how many NodeManagers a YARN cluster needs |
//! | [`space`] | how many DataNodes or Cassandra nodes the data needs |
//! | [`room`] | what a node can give to containers |
//! | `valley` | when does a ring have least to do? |
//! | [`price`] | what a change is expected to cost |
//! | `controller` | one cluster: its members, its change, its decisions |
//! | [`gate`] | what must hold before a change is asked for |
//! | [`yarn`] | how a NodeManager leaves or comes without a killed container |
//! | [`hdfs`] | how a DataNode leaves or comes without a block in danger |
//! | [`cassandra`] | how a node leaves or joins the ring without a lost row |
//!
//! All three have the house form: a state asks for at most one step, a step is ordered again until it is answered, every verb is idempotent,
//! and what nobody expected is said and changes nothing. A change ends in `Done`, `Cancelled` or `Failed`; only then may the next one begin.

pub mod cassandra;
pub mod change;
mod controller;
pub mod gate;
pub mod hdfs;
pub mod need;
pub mod price;
pub mod room;
pub mod space;
mod valley;
pub mod yarn;

pub(crate) use controller::Controller;
pub use controller::{Memory, Own, Past, Remembered};

#[cfg(test)]
mod dot;
#[cfg(test)]
mod testing;
