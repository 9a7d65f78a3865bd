//! The wire: what exact bytes mean, where messages begin and end, and that no bytes do harm.

#[path = "wire/descriptors.rs"]
mod descriptors;
#[path = "wire/framing.rs"]
mod framing;
#[path = "wire/golden.rs"]
mod golden;
#[path = "wire/hostile.rs"]
mod hostile;
#[path = "wire/memory.rs"]
mod memory;
#[path = "wire/programs.rs"]
mod programs;
#[path = "wire/samples.rs"]
mod samples;
