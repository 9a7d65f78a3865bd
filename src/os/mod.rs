//! System calls that need more than a safe wrapper: the only part of the crate with `unsafe`.

pub mod pidfd;
pub mod socket;
