//! The rules of Night's Watch, and nothing else.
//!
//! Everything here is pure: no I/O, no clock, no randomness, no knowledge of JSON, SQL or mail.
//! The present is an argument (`now`), so every rule can be tested by calling it.
//! Start at [`watcher`]: it holds the state table and the one function that changes a watcher.

pub mod watcher;

pub mod filter;
pub mod history;
pub mod id;
pub mod name;
pub mod notice;
pub mod periodicity;
pub mod recipient;
pub mod timeline;
pub mod timestamp;

pub use filter::{Filter, InvalidSearch, Search};
pub use history::{Comment, Event, EventKind, HistoryPolicy, InvalidComment};
pub use id::{InvalidId, WatcherId};
pub use name::{Description, InvalidDescription, InvalidName, Name, Slug};
pub use notice::{Content, Notice, NoticeId, NoticeKind};
pub use periodicity::{InvalidPeriodicity, Periodicity};
pub use recipient::{InvalidRecipient, Recipient};
pub use timeline::{Interval, Stretch, Timeline};
pub use timestamp::Timestamp;
pub use watcher::{Action, Change, Draft, Outage, Refusal, Standing, State, Update, Watcher};
