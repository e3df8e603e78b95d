//! The operations.
//!
//! Each is a few lines: parameters into the domain, one use case, its result into a view. What holds for all
//! of them, such as keys and unknown parameters, is the `guard`'s.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use poem_openapi::param::{Path, Query};
use poem_openapi::{OpenApi, Tags};

use super::errors::{Failure, Rejection, Statuses};
use super::params::{Flag, Text, flag, key, key_without_name, optional, recipients, required};
use super::views::{Answer, DoneView, StreamedList, TriggerAnswer, WatcherAnswer};
use crate::app::{Health, NightsWatch, UseCaseError};
use crate::domain::{
    Comment, Description, Draft, Filter, Name, Periodicity, Recipient, Search, Slug, Update,
    WatcherId,
};
use crate::ports::{Detail, Key};

/// The operations, over the use cases.
pub(super) struct Api {
    pub(super) watch: Arc<NightsWatch>,
    pub(super) health: Arc<Health>,
}

/// What an operation is, which decides what the guard demands.
#[derive(Tags)]
pub(super) enum Tag {
    /// Creating, changing and deleting watchers.
    Changes,
    /// Looking at watchers.
    Queries,
    /// Reporting that a task ran.
    Triggers,
    /// Whether the service works.
    Operation,
}

macro_rules! statuses {
    ($($set:ident: $($code:literal)*;)*) => {$(
        pub(super) struct $set;

        impl Statuses for $set {
            const CODES: &'static [u16] = &[$($code),*];
        }
    )*};
}

statuses! {
    Creating: 400 401 403 405 409 414 429 431 500 503;
    Changing: 400 401 403 404 405 409 414 429 431 500 503;
    Deleting: 400 401 403 404 405 414 429 431 500 503;
    Getting: 400 401 404 405 414 429 431 500 503;
    Listing: 400 401 405 414 429 431 500 503;
    Triggering: 400 403 404 405 414 429 431 500 503;
    Checking: 400 405 414 431 500 503;
}

#[OpenApi]
impl Api {
    /// Create a watcher
    ///
    /// It is on time from now on, and late if it is not triggered within the periodicity.
    #[oai(
        path = "/nights-watch/v1/watcher/create",
        method = "get",
        operation_id = "createWatcher",
        tag = "Tag::Changes"
    )]
    async fn create(
        &self,
        /// What people call it. The slug that is made of it must be unique.
        name: Query<Text<Name>>,
        /// How many seconds it may stay silent; people may also write a duration, such as `15m`, `7d` or `1h30m`.
        periodicity: Query<Text<Periodicity>>,
        /// What it is for; mails show it.
        description: Query<Option<Text<Description>>>,
        /// Who is told; give it several times for several addresses.
        email: Query<Option<Vec<Text<Recipient>>>>,
        /// Whether it begins paused.
        paused: Query<Option<Text<Flag>>>,
    ) -> Result<Answer<WatcherAnswer>, Failure<Creating>> {
        let draft = Draft {
            name: required("name", &name)?,
            periodicity: required("periodicity", &periodicity)?,
            description: optional("description", description.as_ref())?.unwrap_or_default(),
            recipients: recipients(email.as_deref().unwrap_or_default())?,
            paused: flag("paused", paused.as_ref())?,
        };
        Ok(self.watch.create(draft).await?.into())
    }

    /// Delete a watcher
    ///
    /// Its history goes with it, and whatever was still to be told of it.
    #[oai(
        path = "/nights-watch/v1/watcher/delete",
        method = "get",
        operation_id = "deleteWatcher",
        tag = "Tag::Changes"
    )]
    async fn delete(
        &self,
        /// The watcher's identifier.
        id: Query<Option<Text<WatcherId>>>,
        /// The watcher's slug.
        slug: Query<Option<Text<Slug>>>,
        /// The watcher's name.
        name: Query<Option<Text<Name>>>,
    ) -> Result<Answer<DoneView>, Failure<Deleting>> {
        self.watch.delete(&key(id.0, slug.0, name.0)?).await?;
        Ok(Answer::done())
    }

    /// Update a watcher
    ///
    /// What is not given stays. A new periodicity counts from the newest event, which can make the watcher
    /// late or end its lateness.
    #[oai(
        path = "/nights-watch/v1/watcher/update",
        method = "get",
        operation_id = "updateWatcher",
        tag = "Tag::Changes"
    )]
    async fn update(
        &self,
        /// The watcher's identifier.
        id: Query<Option<Text<WatcherId>>>,
        /// The watcher's slug.
        slug: Query<Option<Text<Slug>>>,
        /// The new name, and with it a new slug.
        name: Query<Option<Text<Name>>>,
        /// The new periodicity: seconds, or a duration such as `1h30m`.
        periodicity: Query<Option<Text<Periodicity>>>,
        /// The new description.
        description: Query<Option<Text<Description>>>,
        /// The addresses instead of the present ones; a single `-` for none.
        email: Query<Option<Vec<Text<Recipient>>>>,
    ) -> Result<Answer<WatcherAnswer>, Failure<Changing>> {
        let key = key_without_name(id.0, slug.0)?;
        let update = Update {
            name: optional("name", name.as_ref())?,
            periodicity: optional("periodicity", periodicity.as_ref())?,
            description: optional("description", description.as_ref())?,
            recipients: email.as_deref().map(recipients).transpose()?,
        };
        Ok(self.watch.update(&key, update).await?.into())
    }

    /// Pause a watcher
    ///
    /// It has no deadline, and nobody is told anything, until it is unpaused or triggered.
    #[oai(
        path = "/nights-watch/v1/watcher/pause",
        method = "get",
        operation_id = "pauseWatcher",
        tag = "Tag::Changes"
    )]
    async fn pause(
        &self,
        /// The watcher's identifier.
        id: Query<Option<Text<WatcherId>>>,
        /// The watcher's slug.
        slug: Query<Option<Text<Slug>>>,
        /// The watcher's name.
        name: Query<Option<Text<Name>>>,
        /// Why; kept in the history.
        comment: Query<Option<Text<Comment>>>,
    ) -> Result<Answer<WatcherAnswer>, Failure<Changing>> {
        let key = key(id.0, slug.0, name.0)?;
        let comment = optional("comment", comment.as_ref())?.unwrap_or_default();
        Ok(self.watch.pause(&key, comment).await?.into())
    }

    /// Unpause a watcher
    ///
    /// It is on time again, and has the whole periodicity from now.
    #[oai(
        path = "/nights-watch/v1/watcher/unpause",
        method = "get",
        operation_id = "unpauseWatcher",
        tag = "Tag::Changes"
    )]
    async fn unpause(
        &self,
        /// The watcher's identifier.
        id: Query<Option<Text<WatcherId>>>,
        /// The watcher's slug.
        slug: Query<Option<Text<Slug>>>,
        /// The watcher's name.
        name: Query<Option<Text<Name>>>,
        /// Why; kept in the history.
        comment: Query<Option<Text<Comment>>>,
    ) -> Result<Answer<WatcherAnswer>, Failure<Changing>> {
        let key = key(id.0, slug.0, name.0)?;
        let comment = optional("comment", comment.as_ref())?.unwrap_or_default();
        Ok(self.watch.unpause(&key, comment).await?.into())
    }

    /// Get a watcher
    #[oai(
        path = "/nights-watch/v1/watcher/get",
        method = "get",
        operation_id = "getWatcher",
        tag = "Tag::Queries"
    )]
    async fn get(
        &self,
        /// The watcher's identifier.
        id: Query<Option<Text<WatcherId>>>,
        /// The watcher's slug.
        slug: Query<Option<Text<Slug>>>,
        /// The watcher's name.
        name: Query<Option<Text<Name>>>,
    ) -> Result<Answer<WatcherAnswer>, Failure<Getting>> {
        Ok(self.watch.get(&key(id.0, slug.0, name.0)?).await?.into())
    }

    /// List watchers
    ///
    /// Ordered by slug. Conditions that are not given hold for all.
    #[oai(
        path = "/nights-watch/v1/watcher/list",
        method = "get",
        operation_id = "listWatchers",
        tag = "Tag::Queries"
    )]
    async fn list(
        &self,
        /// Whether each watcher is shown with all that `get` shows.
        verbose: Query<Option<Text<Flag>>>,
        /// Only paused ones, or only those that are not.
        paused: Query<Option<Text<Flag>>>,
        /// Only late ones, or only those that are not.
        late: Query<Option<Text<Flag>>>,
        /// A regular expression that is found in the name, slug, identifier or an address.
        search: Query<Option<Text<Search>>>,
    ) -> Result<StreamedList, Failure<Listing>> {
        let filter = Filter {
            late: optional("late", late.as_ref())?.map(|Flag(late)| late),
            paused: optional("paused", paused.as_ref())?.map(|Flag(paused)| paused),
            search: optional("search", search.as_ref())?,
        };
        let verbose = flag("verbose", verbose.as_ref())?;
        let detail = if verbose {
            Detail::Full
        } else {
            Detail::Summary
        };
        let mut pages = Box::pin(self.watch.list(filter, detail));
        // The first page comes before the answer begins: most that can go wrong goes wrong there.
        let first = pages.try_next().await?;
        let first = stream::iter(first.map(Ok::<_, UseCaseError>));
        Ok(StreamedList::new(
            detail,
            first.chain(pages).map_err(std::io::Error::other),
        ))
    }

    /// Trigger a watcher
    ///
    /// Its task ran: it is on time, and has the whole periodicity from now. No key is needed.
    #[oai(
        path = "/nights-watch/v1/watcher/trigger",
        method = "get",
        operation_id = "triggerWatcher",
        tag = "Tag::Triggers"
    )]
    async fn trigger(
        &self,
        /// The watcher's identifier.
        id: Query<Option<Text<WatcherId>>>,
        /// The watcher's slug.
        slug: Query<Option<Text<Slug>>>,
        /// The watcher's name.
        name: Query<Option<Text<Name>>>,
        /// What there is to say; kept in the history.
        comment: Query<Option<Text<Comment>>>,
        /// Short for `comment`.
        m: Query<Option<Text<Comment>>>,
        /// Ignored: a trigger needs no key.
        #[oai(name = "auth_key")]
        _auth_key: Query<Option<String>>,
    ) -> Result<Answer<TriggerAnswer>, Failure<Triggering>> {
        self.do_trigger(&key(id.0, slug.0, name.0)?, comment.0, m.0)
            .await
    }

    /// Trigger a watcher by POST
    ///
    /// The same as by GET, for clients that want to say that they change something. The body is ignored.
    #[oai(
        path = "/nights-watch/v1/watcher/trigger",
        method = "post",
        operation_id = "postTriggerWatcher",
        tag = "Tag::Triggers"
    )]
    async fn post_trigger(
        &self,
        /// The watcher's identifier.
        id: Query<Option<Text<WatcherId>>>,
        /// The watcher's slug.
        slug: Query<Option<Text<Slug>>>,
        /// The watcher's name.
        name: Query<Option<Text<Name>>>,
        /// What there is to say; kept in the history.
        comment: Query<Option<Text<Comment>>>,
        /// Short for `comment`.
        m: Query<Option<Text<Comment>>>,
        /// Ignored: a trigger needs no key.
        #[oai(name = "auth_key")]
        _auth_key: Query<Option<String>>,
    ) -> Result<Answer<TriggerAnswer>, Failure<Triggering>> {
        self.do_trigger(&key(id.0, slug.0, name.0)?, comment.0, m.0)
            .await
    }

    /// Trigger a watcher by its short URL
    #[oai(
        path = "/:id",
        method = "get",
        operation_id = "triggerById",
        tag = "Tag::Triggers"
    )]
    async fn short_trigger(
        &self,
        /// The watcher's identifier.
        id: Path<Text<WatcherId>>,
        /// What there is to say; kept in the history.
        comment: Query<Option<Text<Comment>>>,
        /// Short for `comment`.
        m: Query<Option<Text<Comment>>>,
        /// Ignored: a trigger needs no key.
        #[oai(name = "auth_key")]
        _auth_key: Query<Option<String>>,
    ) -> Result<Answer<TriggerAnswer>, Failure<Triggering>> {
        self.do_trigger(&key(Some(id.0), None, None)?, comment.0, m.0)
            .await
    }

    /// Trigger a watcher by its short URL and POST
    ///
    /// The same as by GET. The body is ignored.
    #[oai(
        path = "/:id",
        method = "post",
        operation_id = "postTriggerById",
        tag = "Tag::Triggers"
    )]
    async fn post_short_trigger(
        &self,
        /// The watcher's identifier.
        id: Path<Text<WatcherId>>,
        /// What there is to say; kept in the history.
        comment: Query<Option<Text<Comment>>>,
        /// Short for `comment`.
        m: Query<Option<Text<Comment>>>,
        /// Ignored: a trigger needs no key.
        #[oai(name = "auth_key")]
        _auth_key: Query<Option<String>>,
    ) -> Result<Answer<TriggerAnswer>, Failure<Triggering>> {
        self.do_trigger(&key(Some(id.0), None, None)?, comment.0, m.0)
            .await
    }

    /// Is the process alive?
    #[oai(
        path = "/healthz",
        method = "get",
        operation_id = "isAlive",
        tag = "Tag::Operation"
    )]
    #[expect(
        clippy::unused_async,
        reason = "an operation is asynchronous, whatever it does"
    )]
    async fn alive(&self) -> Result<Answer<DoneView>, Failure<Checking>> {
        Ok(Answer::done())
    }

    /// Does the service do its work?
    ///
    /// It does if the store can be read and written, the loops that watch deadlines and deliver notices turn, and
    /// no notice has been owed for too long.
    #[oai(
        path = "/readyz",
        method = "get",
        operation_id = "isReady",
        tag = "Tag::Operation"
    )]
    async fn ready(&self) -> Result<Answer<DoneView>, Failure<Checking>> {
        let readiness = self.health.readiness().await;
        let complaints: Vec<_> = readiness
            .parts()
            .into_iter()
            .filter_map(|(part, complaint)| Some(format!("the {part} {}", complaint?)))
            .collect();
        if complaints.is_empty() {
            return Ok(Answer::done());
        }
        let unavailable = poem::http::StatusCode::SERVICE_UNAVAILABLE;
        Err(Rejection::new(unavailable, complaints.join("; ")).into())
    }
}

impl Api {
    async fn do_trigger(
        &self,
        key: &Key,
        comment: Option<Text<Comment>>,
        m: Option<Text<Comment>>,
    ) -> Result<Answer<TriggerAnswer>, Failure<Triggering>> {
        if comment.is_some() && m.is_some() {
            let message =
                "the parameters \"comment\" and \"m\" are the same; only one of them can be given";
            return Err(Rejection::bad_request(message).into());
        }
        let (name, text) = if m.is_some() {
            ("m", m)
        } else {
            ("comment", comment)
        };
        let comment = optional(name, text.as_ref())?.unwrap_or_default();
        Ok(self.watch.trigger(key, comment).await?.into())
    }
}
