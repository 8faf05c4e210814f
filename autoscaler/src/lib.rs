//! The central service: agents stream to it, it journals, asks the brain, and sends commands.

pub mod api;
pub mod clock;
pub mod config;
pub mod control;
pub mod history;
pub mod listen;
pub mod metrics;
pub mod replay;
#[allow(unused_qualifications, reason = "the OpenAPI macros write full paths")]
pub mod rest;
pub mod service;
pub mod store;
