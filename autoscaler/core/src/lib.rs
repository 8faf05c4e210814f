//! The pure half of the autoscaler: events in, plans out.
//!
//! Read in this order:
//!
//! | module | answers |
//! |---|---|
//! | [`event`] | what the brain is told, and what it answers |
//! | [`brain`] | the two methods: take a fact in, say what to do |
//! | [`decide`] | the policy in one place: wishes, bounds, patience, gates |
//! | [`fleet`] | what every task uses now, reduced to one digest per workload and round |
//! | [`signal`] | what a workload carries now |
//! | [`forecast`] | what it will carry when a decision takes effect |
//! | [`horizontal`] | how many replicas carry that |
//! | [`estimate`], [`vpa`] | how large a task should be: pooled quantile regression, and the VPA's rule |
//! | [`joint`] | that replicas and sizes never fight |
//! | [`rails`], [`service`] | what is particular to a kind of workload |
//! | [`assess`] | the one form in which kinds say what they need |
//! | [`hpa`] | the Horizontal Pod Autoscaler's rule |
//! | [`stabilise`] | when a wish becomes a change |
//! | [`place`] | on which node |
//! | [`room`] | how much of both resources there is |
//! | [`check`] | what must hold whatever a policy thinks |
//! | [`replica`] | the life of one replica |
//! | [`cluster`] | how members of YARN, HDFS and Cassandra come and go |
//! | [`resize`] | another size for replicas that run |
//! | [`order`] | what is sent once per try, until it is answered |
//! | [`rollout`] | its steps as fenced commands, sent until answered |
//! | [`idle`] | why capacity is idle |
//! | [`neighbours`] | with whose CPU a workload's waits move |
//! | [`course`] | how a workload went, minute by minute |
//! | [`survive`] | whether the loss of a node or a rack is survived, and what has room |
//! | [`view`] | what the brain shows of itself |
//! | [`simulate`] | the scoring games, played by the same parts |
//! | [`what_if`] | recorded load, played by the same parts with other settings |

pub mod assess;
pub mod brain;
pub mod check;
pub mod cluster;
mod controller;
pub mod course;
pub mod decide;
pub mod estimate;
pub mod event;
pub mod fleet;
pub mod forecast;
pub mod horizontal;
pub mod hpa;
pub mod idle;
pub mod joint;
pub mod neighbours;
pub mod order;
pub mod place;
pub mod rails;
mod record;
pub mod replica;
pub mod resize;
pub mod rollout;
pub mod room;
pub mod service;
pub mod signal;
pub mod simulate;
pub mod stabilise;
pub mod survive;
#[cfg(test)]
mod testing;
mod uses;
pub mod view;
pub mod vpa;
pub mod what_if;
