//! The central service: agents stream to it, it journals, asks the brain, and sends commands.

pub mod clock;
pub mod config;
pub mod control;
pub mod history;
pub mod listen;
pub mod metrics;
pub mod replay;
pub mod store;
