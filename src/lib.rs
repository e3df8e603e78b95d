//! Night's Watch notices when a scheduled task goes silent, and tells people.
//!
//! The house, from the inside out; each floor knows only those above it in this list:
//!
//! - [`domain`]: the rules. Pure: no I/O, no async, no clock, no randomness.
//! - [`ports`]: what the rules need of the world, as contracts.
//! - [`app`]: the use cases, the loops that work by themselves, settings, and the wiring.
//! - [`adapters`]: the contracts fulfilled, and the HTTP interface.
//! - [`client`]: the service from a shell. It knows the HTTP interface as any client does, and of these only the
//!   durations of the domain.
//! - [`cli`]: the command line.

pub mod domain;

pub mod ports;

pub mod app;

pub mod adapters;

pub mod client;

pub mod cli;

mod http_client;
mod ini;
