//! Opening a database file: settings, schema versions, and who may have it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// What makes a file one of ours: `NWch`.
const APPLICATION_ID: i32 = 0x4e57_6368;

/// The steps from each schema version to the next: the first makes version 1 of an empty file.
const MIGRATIONS: [&str; 5] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

/// Why a database file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another Night's Watch", .0.display())]
    InUse(PathBuf),
    /// It is a database of some other program.
    #[error("{} is the database of another program", .0.display())]
    Foreign(PathBuf),
    /// A later release wrote it.
    #[error("{} has schema version {found}, but this release knows only up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The last version that this release knows.
        known: usize,
    },
    /// The file system refused.
    #[error("cannot open {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// SQLite refused.
    #[error("cannot use {} as a database", .0.display())]
    Database(PathBuf, #[source] rusqlite::Error),
}

/// Takes the database at `path` for this process, for as long as the returned file is open; makes the file
/// if there is none.
///
/// The lock is on the file itself, by whatever name it is reached. It is of another kind than `SQLite`'s
/// own, which last from one statement to the next and do not disturb it. This file has to be closed last,
/// since closing any takes `SQLite`'s locks away.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let refused = |error| OpenError::File(path.to_owned(), error);
    // The files beside it get the permissions of this one. It holds addresses and trigger URLs.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// Opens the one connection that writes, and brings the schema up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let database = |error| OpenError::Database(path.to_owned(), error);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(database)?;
    // Nothing is written to a file that is not ours, not even how its journal is kept.
    let version = version(&connection, path)?;
    configure(&connection).map_err(database)?;
    migrate(connection, path, version)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Opens a connection that moves the journal into the database, and does nothing else.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// A connection that one thread uses at a time, and that waits a while for the others.
fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // Else a statement that is kept is planned anew with each use, if a value such as a limit could change the plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Small pages: a trigger dirties one page of timings, wherever that is, and the last one of events.
    connection.pragma_update(None, "page_size", 1024)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Which schema the database has: 0 if it is new.
fn version(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let database = |error| OpenError::Database(path.to_owned(), error);
    let application: i32 = pragma(connection, "application_id").map_err(database)?;
    let found: i64 = pragma(connection, "user_version").map_err(database)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(database)?;
    let is_new = application == 0 && found == 0 && tables == 0;
    if !is_new && application != APPLICATION_ID {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    match usize::try_from(found) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: MIGRATIONS.len(),
        }),
    }
}

fn migrate(
    mut connection: Connection,
    path: &Path,
    version: usize,
) -> Result<Connection, OpenError> {
    let database = |error| OpenError::Database(path.to_owned(), error);
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction().map_err(database)?;
        transaction
            .execute_batch(sql)
            .and_then(|()| transaction.pragma_update(None, "application_id", APPLICATION_ID))
            .and_then(|()| transaction.pragma_update(None, "user_version", step + 1))
            .and_then(|()| transaction.commit())
            .map_err(database)?;
    }
    Ok(connection)
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn statements_are_not_planned_anew_with_each_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("nights-watch.db");
        drop(lock(&path).expect("a file"));
        let writer = open_writer(&path).expect("a database");
        for connection in [&writer, &open_reader(&path).expect("a database")] {
            for sql in [
                "SELECT row FROM watchers WHERE wake < ?1 ORDER BY wake LIMIT ?2",
                "SELECT row FROM watchers WHERE slug > ?1 AND state = ?2 ORDER BY slug",
            ] {
                for value in 0..10 {
                    let mut statement = connection.prepare_cached(sql).expect("a statement");
                    assert!(!statement.exists([value, value]).expect("it answers"));
                    assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
                }
            }
        }
    }
}
