//! System calls, each behind a function that says what it is for: the only `unsafe` of the crate.
//!
//! Nothing here decides anything or knows the protocol.

#[cfg(feature = "daemon")]
pub(crate) mod cgroup;
#[cfg(feature = "daemon")]
pub(crate) mod children;
#[cfg(feature = "daemon")]
pub(crate) mod descriptor;
#[cfg(feature = "daemon")]
pub(crate) mod environment;
#[cfg(feature = "daemon")]
pub(crate) mod execution;
#[cfg(feature = "daemon")]
pub(crate) mod fault;
#[cfg(feature = "daemon")]
pub(crate) mod fork;
#[cfg(feature = "daemon")]
pub(crate) mod landlock;
pub(crate) mod map;
#[cfg(feature = "daemon")]
pub mod page;
#[cfg(feature = "daemon")]
pub(crate) mod pidfd;
#[cfg(feature = "daemon")]
pub(crate) mod process;
#[cfg(feature = "daemon")]
pub(crate) mod resource;
#[cfg(feature = "daemon")]
pub(crate) mod seccomp;
#[cfg(feature = "daemon")]
pub(crate) mod signal;
#[cfg(feature = "daemon")]
pub(crate) mod socket;
