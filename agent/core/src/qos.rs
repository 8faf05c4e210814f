//! Isolation.
pub mod standing;
