//! From settings to a collection, and the indexes that have to be there.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{
    Acknowledgment, ClientOptions, DatabaseOptions, IndexOptions, ReadPreference,
    SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

use super::calls::{CALL, Failure, Patience};
use super::table::Table;
use crate::ports::StoreError;

/// How long the start waits for the server.
const START: Duration = Duration::from_secs(15);
/// How long an index may take that is made over many watchers of the reference program.
const BUILDING: Duration = Duration::from_mins(10);
/// How long an operation waits for a server that can do it, unless the settings say otherwise.
const SELECTION: Duration = Duration::from_millis(2_500);
/// How often the driver looks after its servers. One that fell silent is found out after this and the time that
/// connecting may take; one that became the primary, after this.
const HEARTBEAT: Duration = Duration::from_secs(2);
const POOL: u32 = 64;
const CONNECTING: u32 = 8;
const APP: &str = "nights-watch";

/// How the server is reached.
#[derive(Clone, Debug)]
pub struct MongoSettings {
    /// A connection string, or `host` and `host:port` separated by commas.
    pub hosts: SecretString,
    /// The database; without it, the one in the connection string.
    pub database: Option<String>,
    /// Who connects. Unless an option says otherwise, the database that `hosts` or `database` names knows them.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// The name of the replica set.
    pub replica_set: Option<String>,
    /// Further options of a connection string, by their names.
    pub options: BTreeMap<String, SecretString>,
}

/// Why a database cannot be used. None of its forms shows a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings make no sense to the driver.
    #[error("{0}")]
    Settings(String),
    /// Neither the settings nor the connection string name a database.
    #[error("database is missing: the name of the database")]
    NoDatabase,
    /// The server does not let us in, or is out of reach.
    #[error("the database cannot be used")]
    Unusable(#[source] Box<dyn Error + Send + Sync>),
    /// An index that the program cannot do without cannot be made.
    #[error("the index {0} of the collection watchers cannot be made")]
    Index(&'static str, #[source] Box<dyn Error + Send + Sync>),
    /// There is an index where a unique one is needed.
    #[error(
        "the index {0} of the collection watchers is not unique; drop it, and a unique one is made"
    )]
    NotUnique(&'static str),
}

const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn encoded(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, VALUE)
}

impl MongoSettings {
    /// The options of the driver, and the name of the database.
    pub(super) async fn options(&self) -> Result<(ClientOptions, String), OpenError> {
        let parsing = ClientOptions::parse(self.connection_string()?);
        let parsed = tokio::time::timeout(START, parsing).await;
        let mut options = match parsed {
            Ok(parsed) => parsed.map_err(|error| match *error.kind {
                ErrorKind::InvalidArgument { message, .. } => {
                    OpenError::Settings(without_values(&message))
                }
                kind => OpenError::Unusable(kind.into()),
            })?,
            Err(_) => return Err(StoreError::from(Failure::Silence).into()),
        };
        let named = self.database.clone().or(options.default_database.clone());
        let database = named.ok_or(OpenError::NoDatabase)?;
        options.app_name.get_or_insert_with(|| APP.to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION);
        options.connect_timeout.get_or_insert(CALL);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        options.max_pool_size.get_or_insert(POOL);
        options.max_connecting.get_or_insert(CONNECTING);
        Ok((options, database))
    }

    fn connection_string(&self) -> Result<String, OpenError> {
        let hosts = self.hosts.expose_secret().trim();
        let (scheme, rest) = hosts.split_once("://").unwrap_or(("mongodb", hosts));
        // A list may have a space behind each comma.
        let rest: String = rest.split_whitespace().collect();
        let (before, query) = rest.split_once('?').unwrap_or((&rest, ""));
        let (hosts, path) = before.split_once('/').unwrap_or((before, ""));
        let path = match (&self.database, path) {
            (Some(database), "") => encoded(database).to_string(),
            _ => path.to_owned(),
        };
        let user = match (&self.username, hosts.contains('@')) {
            (None, _) => String::new(),
            (Some(_), true) => {
                let problem = "username is set, and hosts has a user name in it as well";
                return Err(OpenError::Settings(problem.to_owned()));
            }
            (Some(username), false) => {
                let password = self.password.as_ref();
                let password =
                    password.map(|password| format!(":{}", encoded(password.expose_secret())));
                format!("{}{}@", encoded(username), password.unwrap_or_default())
            }
        };
        let replica_set = self
            .replica_set
            .iter()
            .map(|name| ("replicaSet", name.as_str()));
        let others = self
            .options
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose_secret()));
        let added = replica_set.chain(others);
        let added = added.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let given = (!query.is_empty()).then(|| query.to_owned());
        let query: Vec<String> = given.into_iter().chain(added).collect();
        Ok(format!(
            "{scheme}://{user}{hosts}/{path}?{}",
            query.join("&")
        ))
    }
}

/// A complaint of the driver without what it complains of: that may be a secret, or the part of a password
/// that comes after an unencoded slash or question mark.
fn without_values(complaint: &str) -> String {
    let quoted = [", got ", "' pair: "]
        .iter()
        .filter_map(|sign| complaint.find(sign));
    let end = quoted.min().unwrap_or(complaint.len());
    complaint[..end].to_owned()
}

/// What is behind an error: that the store is not available goes without saying at the start.
fn cause(error: StoreError) -> Box<dyn Error + Send + Sync> {
    match error {
        StoreError::Unavailable(cause) | StoreError::OutcomeUnknown(cause) => cause,
        error @ StoreError::Corrupt(_) => error.into(),
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Unusable(cause(error))
    }
}

fn majority() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).build()
}

/// A database whose changes are those of the majority, and that is read where it is changed.
pub(super) fn database(client: &Client, name: &str) -> Database {
    let mut majority = majority();
    // Before our own patience ends, which would cost the connection.
    majority.w_timeout = Some(CALL * 3 / 4);
    let options = DatabaseOptions::builder()
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .write_concern(majority)
        .build();
    client.database_with_options(name, options)
}

/// An index: its name, its fields, and what it is like.
struct Index {
    name: &'static str,
    fields: &'static [&'static str],
    is_unique: bool,
    is_sparse: bool,
}

const fn index(name: &'static str, fields: &'static [&'static str]) -> Index {
    Index {
        name,
        fields,
        is_unique: false,
        is_sparse: false,
    }
}

impl Index {
    const fn unique(self) -> Self {
        Self {
            is_unique: true,
            ..self
        }
    }

    const fn sparse(self) -> Self {
        Self {
            is_sparse: true,
            ..self
        }
    }

    fn keys(&self) -> Document {
        self.fields
            .iter()
            .map(|field| ((*field).to_owned(), Bson::Int32(1)))
            .collect()
    }

    fn model(&self) -> IndexModel {
        let options = IndexOptions::builder()
            .name(self.name.to_owned())
            .unique(self.is_unique.then_some(true))
            .sparse(self.is_sparse.then_some(true))
            .build();
        IndexModel::builder()
            .keys(self.keys())
            .options(options)
            .build()
    }
}

/// | index | what it serves |
/// | --- | --- |
/// | `id` | every change and question by identifier, settlements, claims of one watcher; uniqueness |
/// | `slug` | questions by slug, lists without a condition on the state; uniqueness |
/// | `name` | questions by name |
/// | `late_paused_deadline` | the next deadline, who is overdue, how many there are in each state |
/// | `late_paused_slug` | lists of those in one state |
/// | `due` | the next delivery, what is due, how many are owed |
/// | `by` | the claims of a server that died |
/// | `refused` | how many were refused |
const INDEXES: [Index; 8] = [
    index("id", &["id"]).unique(),
    index("slug", &["slug"]).unique(),
    index("name", &["name"]),
    index("late_paused_deadline", &["late", "paused", "deadline"]),
    index("late_paused_slug", &["late", "paused", "slug"]),
    index("due", &["nw.due"]).sparse(),
    index("by", &["nw.owed.by"]).sparse(),
    index("refused", &["nw.refused.to"]).sparse(),
];

/// Another index on the same fields, or one of the same name.
const CONFLICTS: [i32; 2] = [85, 86];

/// Makes the indexes that are not there. One on the same fields by another name will do.
pub(super) async fn make_indexes(table: &Table) -> Result<(), OpenError> {
    let mut patience = Patience::of(START);
    let watchers = &table.collection();
    let look = || table.first(doc! { "id": "" }, doc! { "id": 1 });
    if let Err(failure) = patience.call(look()).await {
        // Settings are the more likely reason than an election: whoever starts the program wants to know.
        if failure.finds_no_server() {
            return Err(StoreError::from(failure).into());
        }
        patience.insist(look).await?;
    }
    for index in &INDEXES {
        make(watchers, index).await?;
    }
    Ok(())
}

/// Makes an index, unless it is there: so this can be repeated.
async fn make(watchers: &Collection<Document>, index: &Index) -> Result<(), OpenError> {
    let mut patience = Patience::of(START);
    loop {
        let making = watchers
            .create_index(index.model())
            .write_concern(majority());
        let made = match tokio::time::timeout(BUILDING, making).await {
            Ok(made) => made.map_err(Failure::from),
            Err(_) => Err(Failure::Silence),
        };
        match made {
            Ok(_) => return Ok(()),
            Err(failure) if failure.has_code(&CONFLICTS) => {
                if index.is_unique && !has_unique(watchers, index).await? {
                    return Err(OpenError::NotUnique(index.name));
                }
                return Ok(());
            }
            Err(failure) => {
                let another = patience.another(failure).await;
                another.map_err(|error| OpenError::Index(index.name, cause(error)))?;
            }
        }
    }
}

async fn has_unique(watchers: &Collection<Document>, wanted: &Index) -> Result<bool, OpenError> {
    let list = || {
        let watchers = watchers.clone();
        async move { watchers.list_indexes().await?.try_collect().await }
    };
    let indexes: Vec<IndexModel> = Patience::new().insist(list).await?;
    let fits = |index: &IndexModel| {
        let fields: Vec<&str> = index.keys.keys().map(String::as_str).collect();
        let options = index.options.clone().unwrap_or_default();
        let is_whole = options.partial_filter_expression.is_none();
        fields == wanted.fields && options.unique == Some(true) && is_whole
    };
    Ok(indexes.iter().any(fits))
}
