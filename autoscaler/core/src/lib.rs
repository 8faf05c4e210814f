//! The pure half of the autoscaler: events in, plans out.

pub mod event;
