//! What a page shows: which part of the house somebody looks at, and what is there.

use std::time::Duration;

use poem::Request;
use poem::http::header;

use super::forms::query;
use super::views::Icon;
use super::{PAGE, Rejection};
use crate::app::config::BaseUrl;
use crate::app::{NightsWatch, Overview, Place, Selection, UseCaseError};
use crate::domain::{Search, Slug, Standing};
use crate::ports::{Census, DeliveryReport, Key, Record};

/// What somebody looks at, as the address of the page says.
pub(super) enum Scene {
    /// All watchers, or those that were chosen.
    Overview {
        selection: Selection,
        /// What is searched for, as it was typed.
        words: String,
    },
    /// One watcher.
    Watcher {
        slug: Slug,
        /// Where triggers go: the address of this service as its users know it.
        base: String,
        /// Whether all of the history is listed.
        is_whole: bool,
    },
}

/// What is there to be seen.
pub(super) enum Shown {
    Overview {
        overview: Overview,
        counts: Census,
    },
    Watcher {
        record: Record,
        deliveries: Vec<DeliveryReport>,
    },
}

/// How a standing is written in addresses.
pub(super) const fn code(standing: Standing) -> &'static str {
    match standing {
        Standing::Late => "late",
        Standing::OnTime => "on-time",
        Standing::Paused => "paused",
    }
}

fn wrong(name: &str, why: &str) -> Rejection {
    Rejection::bad_request(format!("\"{name}\" in the address {why}"))
}

fn standing(text: &str) -> Option<Standing> {
    Standing::ALL
        .into_iter()
        .find(|standing| code(*standing) == text)
}

impl Scene {
    /// The overview that a request asks for.
    ///
    /// # Errors
    ///
    /// If it asks for what there cannot be.
    pub(super) fn overview(request: &Request) -> Result<Self, Rejection> {
        let given = |name| query(request, name).filter(|value| !value.trim().is_empty());
        let of = match given("state") {
            Some(text) => Some(
                standing(&text).ok_or_else(|| wrong("state", "is not late, on-time or paused"))?,
            ),
            None => None,
        };
        let after = match given("after") {
            Some(text) => {
                let place = text.split_once(':').and_then(|(code, slug)| {
                    Some(Place {
                        standing: standing(code)?,
                        slug: Slug::from_text(slug.to_owned()),
                    })
                });
                Some(place.ok_or_else(|| wrong("after", "is not a place in the list"))?)
            }
            None => None,
        };
        let words = given("q").unwrap_or_default().trim().to_owned();
        let search = if words.is_empty() {
            None
        } else {
            let search = Search::containing(&words);
            Some(search.map_err(|error| wrong("q", &error.to_string()))?)
        };
        Ok(Self::Overview {
            selection: Selection {
                standing: of,
                search,
                after,
            },
            words,
        })
    }

    /// The page of a watcher. Where `base_url` does not say how the service is reached, the request does.
    pub(super) fn watcher(request: &Request, slug: Slug, base_url: Option<&BaseUrl>) -> Self {
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let base = base_url.map_or_else(
            || format!("http://{}", host.unwrap_or("localhost")),
            |url| url.as_str().to_owned(),
        );
        Self::Watcher {
            slug,
            base,
            is_whole: query(request, "history").is_some_and(|history| history == "all"),
        }
    }

    /// Whether it is to go on by itself: a whole history is long, and looked at for what was.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::Watcher { is_whole: true, .. })
    }
}

impl Shown {
    /// Looks. Counts may be as old as said.
    ///
    /// # Errors
    ///
    /// If there is nothing of the kind, or the store fails.
    pub(super) async fn load(
        watch: &NightsWatch,
        scene: &Scene,
        max_age: Duration,
    ) -> Result<Self, Rejection> {
        Ok(match scene {
            Scene::Overview { selection, .. } => Self::Overview {
                overview: watch
                    .overview(selection, PAGE)
                    .await
                    .map_err(|error| match error {
                        UseCaseError::SearchTooLong => {
                            wrong("q", "takes too long to find among so many watchers")
                        }
                        error => error.into(),
                    })?,
                counts: watch.counts(max_age).await?,
            },
            Scene::Watcher { slug, .. } => {
                let record = watch.get(&Key::Slug(slug.clone())).await?;
                let deliveries = watch.deliveries(&record.watcher.id).await?;
                Self::Watcher { record, deliveries }
            }
        })
    }

    /// Whether the same is to be seen. Each event changes when the newest one was, so nobody compares histories.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Overview { overview, counts },
                Self::Overview {
                    overview: others,
                    counts: their_counts,
                },
            ) => overview == others && counts == their_counts,
            (
                Self::Watcher { record, deliveries },
                Self::Watcher {
                    record: other,
                    deliveries: others,
                },
            ) => record.watcher == other.watcher && deliveries == others,
            _ => false,
        }
    }

    /// The same, to be remembered: a history is long.
    pub(super) fn without_history(mut self) -> Self {
        if let Self::Watcher { record, .. } = &mut self {
            record.history = Vec::new();
        }
        self
    }

    /// The title of the page: what matters most comes first, since tabs are narrow.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Overview { counts, .. } if counts.late > 0 => format!("{} late", counts.late),
            Self::Overview { .. } => String::new(),
            Self::Watcher { record, .. } => {
                let watcher = &record.watcher;
                let words = watcher.state.standing().words();
                format!("{} ({words})", watcher.name)
            }
        }
    }

    /// How the watcher stands, if it is about one.
    pub(super) fn standing(&self) -> Option<Standing> {
        match self {
            Self::Overview { .. } => None,
            Self::Watcher { record, .. } => Some(record.watcher.state.standing()),
        }
    }

    /// The icon of the page.
    pub(super) fn icon(&self) -> Icon {
        let is_late = match self {
            Self::Overview { counts, .. } => counts.late > 0,
            Self::Watcher { record, .. } => record.watcher.state.is_late(),
        };
        if is_late { Icon::Late } else { Icon::Calm }
    }
}
