//! Not built yet.
pub mod config;
