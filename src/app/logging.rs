//! tmp
#![allow(missing_docs, clippy::all)]
pub fn init(_: &super::config::Logging) -> Result<(), std::io::Error> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
