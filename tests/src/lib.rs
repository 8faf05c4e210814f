//! Entries that tests share.

pub mod fuzz;
