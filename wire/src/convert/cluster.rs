//! Reports and steps of clusters: YARN, HDFS, Cassandra.

mod cassandra;
mod hdfs;
mod yarn;

pub(super) use cassandra::{cassandra_verb, cassandra_verb_to_pb};
pub(super) use hdfs::{hdfs_verb, hdfs_verb_to_pb};
pub(super) use yarn::{yarn_verb, yarn_verb_to_pb};

/// Most nodes of one report.
const NODES: usize = 4_096;
/// Most keyspaces of one report.
const KEYSPACES: usize = 1_024;

#[cfg(test)]
mod tests;
