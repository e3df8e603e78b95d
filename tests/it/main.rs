//! The integration tests, in one binary: one link, one place for what they share.

mod binary;

mod loops;
mod support;

mod program;

mod python;
mod smtp_server;
