//! Those who are told that the program does its work.

pub mod systemd;
pub mod url;
