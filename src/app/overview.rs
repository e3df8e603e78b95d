//! All watchers at a glance: the most urgent first, page by page.

use super::{NightsWatch, UseCaseError};
use crate::domain::{Filter, Search, Slug, Standing, Watcher};
use crate::ports::{Detail, Record};

/// What an overview is of.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only those of this standing.
    pub standing: Option<Standing>,
    /// Only those in which this is found.
    pub search: Option<Search>,
    /// Only those after this place.
    pub after: Option<Place>,
}

/// A place in an overview: that of a watcher, whether there still is one or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How the watcher stands.
    pub standing: Standing,
    /// Its slug.
    pub slug: Slug,
}

/// A page of an overview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The watchers: the late ones first, then those on time, then the paused ones, each by slug.
    pub watchers: Vec<Watcher>,
    /// Where the next page begins, if there is one.
    pub next: Option<Place>,
}

impl NightsWatch {
    /// A page of at most `limit` watchers (1 or more).
    ///
    /// It costs what its own watchers cost, however many there are, unless something is searched for. A watcher
    /// whose state changes between two pages may be on both or on neither.
    ///
    /// # Errors
    ///
    /// [`UseCaseError::Store`] if the store fails, [`UseCaseError::SearchTooLong`] if the search takes too long.
    pub async fn overview(
        &self,
        selection: &Selection,
        limit: usize,
    ) -> Result<Overview, UseCaseError> {
        let mut watchers: Vec<Watcher> = Vec::new();
        let place = selection.after.as_ref();
        let standings = Standing::ALL
            .into_iter()
            .filter(|standing| selection.standing.is_none_or(|only| only == *standing))
            .skip_while(|standing| place.is_some_and(|place| place.standing != *standing));
        for standing in standings {
            let filter = Filter::of(standing, selection.search.clone());
            let after = place.filter(|place| place.standing == standing);
            let after = after.map(|place| &place.slug);
            // One more than is shown tells whether there is a next page.
            let missing = limit + 1 - watchers.len();
            let page = self.page(&filter, after, missing, Detail::Summary).await?;
            watchers.extend(page.into_iter().map(|Record { watcher, .. }| watcher));
            if watchers.len() > limit {
                break;
            }
        }
        let has_next = watchers.len() > limit;
        watchers.truncate(limit);
        let next = watchers.last().filter(|_| has_next).map(|last| Place {
            standing: last.state.standing(),
            slug: last.slug.clone(),
        });
        Ok(Overview { watchers, next })
    }
}
