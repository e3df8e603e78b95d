//! Moving to another store.

use crate::domain::Filter;
use crate::ports::{Detail, InsertError, Key, Record, StoreError, WatcherStore};

/// What was done with the watchers of the other store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// So many were copied.
    pub copied: u64,
    /// So many were there already, the very same: an import that was interrupted can be begun again.
    pub present: u64,
}

/// Why an import was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Notices are not copied, so they have to be delivered first.
    #[error(
        "{0} notices are still owed, which cannot be copied: let the service deliver them first, or give them \
         up with --without-notices"
    )]
    Owes(u64),
    /// Another watcher is in the way. None is copied if that is so from the beginning.
    #[error("the identifier or the name of {0:?} is taken by another watcher")]
    Taken(String),
    /// The store that is copied from failed.
    #[error("cannot read what is to be copied")]
    Reading(#[source] StoreError),
    /// The store that is copied to failed. What was copied before stays.
    #[error("cannot write the copy")]
    Writing(#[source] StoreError),
}

/// Whether there is a place for a watcher.
enum Place {
    Free,
    /// The very same one is there.
    Same,
    Taken,
}

/// Copies all watchers with their identifiers and histories. What is owed is not copied: unless `without_notices`,
/// that is refused.
///
/// # Errors
///
/// [`ImportError`]; nothing was copied if a watcher was in the way or notices were owed at the beginning.
pub async fn import(
    from: &dyn WatcherStore,
    to: &dyn WatcherStore,
    without_notices: bool,
) -> Result<Imported, ImportError> {
    let owed = from.census().await.map_err(ImportError::Reading)?.owed;
    if owed > 0 && !without_notices {
        return Err(ImportError::Owes(owed));
    }
    each(from, async |record| match place(to, &record).await? {
        Place::Taken => Err(taken(&record)),
        Place::Free | Place::Same => Ok(()),
    })
    .await?;
    let mut imported = Imported::default();
    each(from, async |record| {
        match place(to, &record).await? {
            Place::Free => {
                to.insert(&record).await.map_err(|error| match error {
                    InsertError::Store(error) => ImportError::Writing(error),
                    InsertError::IdTaken | InsertError::SlugTaken => taken(&record),
                })?;
                imported.copied += 1;
            }
            Place::Same => imported.present += 1,
            Place::Taken => return Err(taken(&record)),
        }
        Ok(())
    })
    .await?;
    // So that the time of the move counts as an outage.
    let watched = from.last_watch().await.map_err(ImportError::Reading)?;
    let there = to.last_watch().await.map_err(ImportError::Writing)?;
    if let Some(at) = watched
        && there < watched
    {
        to.keep_watch(at).await.map_err(ImportError::Writing)?;
    }
    Ok(imported)
}

/// Hands every watcher of a store to `visit`, with its history.
async fn each(
    store: &dyn WatcherStore,
    mut visit: impl AsyncFnMut(Record) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    const PAGE: usize = 10;
    let mut last = None;
    loop {
        let page = store
            .list(&Filter::default(), last.as_ref(), PAGE, Detail::Full)
            .await
            .map_err(ImportError::Reading)?;
        let is_last = page.len() < PAGE;
        last = page.last().map(|record| record.watcher.slug.clone());
        for record in page {
            visit(record).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}

async fn place(store: &dyn WatcherStore, record: &Record) -> Result<Place, ImportError> {
    let find = async |key| store.find(&key).await.map_err(ImportError::Writing);
    Ok(match find(Key::Id(record.watcher.id)).await? {
        Some(there) if there == *record => Place::Same,
        Some(_) => Place::Taken,
        None => match find(Key::Slug(record.watcher.slug.clone())).await? {
            Some(_) => Place::Taken,
            None => Place::Free,
        },
    })
}

fn taken(record: &Record) -> ImportError {
    ImportError::Taken(record.watcher.name.as_str().to_owned())
}
