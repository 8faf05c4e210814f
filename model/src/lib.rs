//! The vocabulary of Trimtab: what every part means by a task, a sample, a verb, a reason.
//!
//! Pure data with its invariants: no IO, no clock, no protocol. Read in this order:
//!
//! | module | answers |
//! |---|---|
//! | [`id`] | who is meant: node, workload, task, command, generation |
//! | [`units`] | how much: bytes, CPU, durations, shares, and how people write them |
//! | [`metric`] | what is measured of a task, in which unit, from where, how exactly |
//! | [`sample`] | cumulative values of a task at one instant, and usage derived from two of them |
//! | [`histogram`] | the one layout of delays, shared with the kernel |
//! | [`gap`] | why a number is missing: stale, lost, restarted, partial, clock-stepped |
//! | [`node`] | what a node is, and which tier of measurement it gives |
//! | [`certificate`] | until when a certificate is valid, and when the next one is asked for |
//! | [`adapter`] | what an agent reads from a balancer, an application server or a cluster |
//! | [`yarn`], [`hdfs`], [`cassandra`] | what a cluster of that kind is seen to be, and what can be asked of it |
//! | [`action`] | the closed set of verbs, commands with their fence, outcomes |
//! | [`workload`] | what an owner asks for |
//! | [`prices`] | what capacity costs |
//! | [`reason`] | why something was done, or not |
//! | [`decision`] | one act or non-act with everything needed to judge it |

pub mod action;
pub mod adapter;
pub mod cassandra;
pub mod certificate;
pub mod decision;
pub mod gap;
pub mod hdfs;
pub mod histogram;
pub mod id;
pub mod metric;
pub mod node;
pub mod prices;
pub mod reason;
pub mod sample;
#[cfg(feature = "spec")]
pub mod spec;
pub mod units;
pub mod workload;
pub mod yarn;
