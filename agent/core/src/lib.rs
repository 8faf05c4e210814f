//! The pure half of the agent: bytes of kernel files in, samples out; commands in, effects out.
//!
//! No IO and no clock. Read in the order of one sample and then of one command:
//!
//! | module | question |
//! |---|---|
//! | [`parse`] | what do these bytes of a kernel file say? |
//! | [`raw`] | what was read in one round? |
//! | [`classify`] | what is this cgroup? |
//! | [`container`] | which container is this cgroup, and when is its runtime asked? |
//! | [`yarn`] | what is known of a YARN container? |
//! | [`leaf`] | which processes belong into a cgroup of their own, and when is that one over? |
//! | [`table`] | what are each task's own totals, so that the node sums to 100 %? |
//! | [`receipt`] | do the ledgers agree? |
//! | [`session`] | what is sent now, what waits, what is spooled? |
//! | [`backlog`] | which spooled round is sent next? |
//! | [`guard`] | may this command run? |
//! | [`certificate`] | until when may this node speak? |
//! | [`launcher`] | which process does a start mean? |
//! | [`lifecycle`] | what happens next with this task? |
//! | [`qos`] | what may best-effort work use beside latency-critical work? |
//! | [`unit`] | which systemd unit is a task? |
//! | [`haproxy`], [`puma`], [`resource_manager`], [`name_node`], [`jolokia`] | what do their answers say? |
//! | [`advice`] | what is dangerous about a cluster, and what to do about it? |
//! | [`exclude`], [`hosts`] | what do the lists of YARN and HDFS say, and how is one entry changed? |

pub mod advice;
pub mod backlog;
pub mod certificate;
pub mod classify;
pub mod container;
pub mod crowd;
pub mod exclude;
pub mod guard;
pub mod haproxy;
pub mod hosts;
pub mod jolokia;
pub mod launcher;
pub mod leaf;
pub mod lifecycle;
pub mod name_node;
pub mod parse;
pub mod puma;
pub mod qos;
pub mod raw;
pub mod receipt;
pub mod resource_manager;
pub mod session;
pub mod table;
pub mod unit;
pub mod yarn;
