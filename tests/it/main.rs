//! The integration tests, in one binary: one link, one place for what they share.

mod layering;

mod conformance;
mod mongodb;
mod sqlite;

mod breaking;
mod hostile;
mod http;
mod import;
mod loops;
mod openapi;
mod simulation;
mod smtp;
mod support;
mod web;

mod binary;
mod browser;
mod client;
mod clients;
mod endurance;
mod program;
// Limits a process that runs, and looks at it in /proc.
#[cfg(target_os = "linux")]
mod scarcity;
mod schemathesis;

mod encrypted;
mod examples;
mod packages;
mod watching;

mod certificates;
mod mongodb_server;
mod node;
mod proxy;
mod python;
mod smtp_server;
