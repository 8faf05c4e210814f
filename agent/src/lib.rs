//! The node agent's shell: reads the kernel, carries out effects, talks to the autoscaler. Decisions are in
//! [`agent_core`].
//!
//! | module | question |
//! |---|---|
//! | [`settings`] | what did the node's owner configure? |
//! | [`source`] | how is one round read from this host? |
//! | [`sampler`] | when is a round read? |
//! | [`node`] | who owns the core, and in which order does it act? |
//! | [`uplink`] | how does the stream to the autoscaler live? |
//! | [`tls`] | how is an autoscaler on another machine reached, and what went wrong? |
//! | [`identity`] | who is this node there, and how does it stay so? |
//! | [`spool`] | where do rounds wait while the autoscaler is away? |
//! | [`fences`] | what survives on disk so that no command runs twice? |
//! | [`executor`] | how do tasks start, outlive the agent, and end? |
//! | [`leaf`] | how does a YARN container get a cgroup of its own? |
//! | [`deadman`] | who freezes best-effort work when the agent is gone? |
//! | [`adapter`] | how are HAProxy and Puma read and told? |
//! | [`http`] | `/metrics`, `/qos`, `/livez`, `/readyz` |
//! | [`qos_report`] | what does `trimtab-agent qos` say? |
//! | [`install`] | how does this program become a service where there are no packages? |
//! | [`record`] | how are raw rounds kept and played again? |

pub mod adapter;
pub mod clock;
pub mod deadman;
pub mod durable;
pub mod executor;
pub mod fences;
pub mod http;
pub mod identity;
pub mod install;
pub mod leaf;
pub mod node;
pub mod qos_report;
pub mod record;
pub mod sampler;
pub mod settings;
pub mod source;
pub mod spool;
pub mod tls;
pub mod uplink;
