//! Which program this is.

/// The release, as the package and the OpenAPI document have it.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from; empty if nobody knows.
pub const COMMIT: &str = env!("PROGRAM_COMMIT");

/// Both, for people: `0.1.0 (1a2b3c4)`, or `0.1.0`.
pub const FULL: &str = env!("PROGRAM_VERSION");
