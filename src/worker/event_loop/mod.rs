//! The loop of one worker: what poll reported, the inbox, deadlines, broadcasts.

#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod arriving;
mod backlog;
mod broadcast;
mod by_connection;
mod closing;
mod commands;
mod decode_any;
mod direct;
mod drain;
mod drain_plan;
mod drain_state;
pub(crate) mod drive;
mod failure;
#[cfg(test)]
mod failure_tests;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod hand_over;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod held;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod held_state;
mod list;
mod memory;
pub(crate) mod new_connection;
mod parts;
pub(crate) mod poll_task;
mod poll_timer;
mod ready;
mod received;
mod register;
pub(crate) mod run;
#[cfg(test)]
mod tests;
mod topics;
mod turn;
mod undecoded;
pub(crate) mod worker;
