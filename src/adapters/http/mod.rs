//! The HTTP interface, for programs and for people: the one family that knows JSON and poem.
//!
//! A request passes, from the outside in:
//!
//! - `server`: connections, their limits, and their end; `unread` for what is no request.
//! - `site`: what is served where; the log line, the limits and the error envelope that all answers share;
//!   `scrape` for what Prometheus reads.
//! - `guard`: what holds for each operation, read off its own description: who may, which parameters; and
//!   `guesses`: how often somebody may be wrong.
//! - `api`: the operations themselves, with their `params`, `views` and `errors`.
//!
//! Beside them, `web` has the pages for people.
//!
//! What the operations say of themselves for client generators is the `document`.

mod server;

mod unread;

mod site;

mod scrape;

mod guard;

mod guesses;

mod api;

mod params;

mod views;

mod errors;

mod document;

mod web;

pub use document::openapi_document;
pub use server::serve;
pub use site::Site;
