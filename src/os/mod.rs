//! System calls, each behind a function that says what it is for: the only `unsafe` of the crate.
//!
//! Nothing here decides anything or knows the protocol.

pub(crate) mod cgroup;
pub(crate) mod children;
pub(crate) mod descriptor;
pub(crate) mod environment;
pub(crate) mod fault;
pub(crate) mod landlock;
pub(crate) mod page;
pub(crate) mod pidfd;
pub(crate) mod process;
pub(crate) mod resource;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod socket;
