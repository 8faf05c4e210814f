//! The central service: agents stream to it, it journals, asks the brain, and sends commands.
//!
//! | module | answers |
//! |---|---|
//! | [`service`] | what runs, in which order it starts and stops |
//! | [`control`] | the one loop that owns the brain, the fleet and the journal |
//! | [`listen`] | agents' streams |
//! | [`tls`] | who this service is, who an agent is, and how certificates are made |
//! | [`ingest`] | from a batch to the fleet, also without sockets |
//! | [`rest`], [`api`] | the REST interface, and the types it speaks |
//! | [`store`], [`replay`] | what is durable, and how it becomes a brain again |
//! | [`durable`] | small secret files |
//! | [`session`] | the secret of pages that may write |
//! | [`history`] | use over time |
//! | [`remote_write`] | samples on their way to others |
//! | [`what_if`] | what would have been, had something else been asked |
//! | [`config`], [`clock`], [`metrics`] | settings, controller time, what the service says of itself |

pub mod api;
#[cfg(feature = "service")]
pub mod clock;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod control;
#[cfg(feature = "service")]
pub mod durable;
#[cfg(feature = "service")]
pub mod history;
#[cfg(feature = "service")]
pub mod ingest;
#[cfg(feature = "service")]
pub mod listen;
#[cfg(feature = "service")]
pub mod metrics;
#[cfg(feature = "service")]
pub mod remote_write;
pub mod replay;
#[cfg(feature = "service")]
#[allow(unused_qualifications, reason = "the OpenAPI macros write full paths")]
pub mod rest;
#[cfg(feature = "service")]
pub mod service;
pub mod session;
pub mod store;
#[cfg(feature = "service")]
pub mod tls;
#[cfg(feature = "service")]
pub mod what_if;
