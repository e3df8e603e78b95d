//! Moving from one store to another.

use std::sync::Arc;
use std::time::Duration;

use nights_watch::adapters::storage::memory::MemoryStore;
use nights_watch::app::import::{ImportError, Imported, import};
use nights_watch::domain::{
    Action, Comment, Description, Draft, Filter, HistoryPolicy, Name, Periodicity, Recipient,
    Timestamp, Watcher, WatcherId,
};
use nights_watch::ports::{Detail, Key, Record, WatcherStore};

use crate::program::run;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_426_730_924_885).after(Duration::from_secs(seconds))
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(HistoryPolicy::default()))
}

async fn insert(store: &MemoryStore, letters: &str, name: &str) -> WatcherId {
    let draft = Draft {
        name: Name::parse(name).expect("a name"),
        description: Description::default(),
        periodicity: Periodicity::from_seconds(60.0).expect("a periodicity"),
        recipients: vec![Recipient::parse("a@x.example").expect("an address")],
        paused: false,
    };
    let id = WatcherId::parse(letters).expect("letters");
    let record = Watcher::create(id, draft, at(0)).into();
    store.insert(&record).await.expect("it can be inserted");
    id
}

async fn act(store: &MemoryStore, id: WatcherId, action: Action, now: Timestamp) {
    let key = Key::Id(id);
    let done = store.transact(&key, &action, now, Detail::Summary);
    done.await.expect("it can be done");
}

async fn all(store: &MemoryStore) -> Vec<Record> {
    let filter = Filter::default();
    let all = store.list(&filter, None, 1_000, Detail::Full);
    all.await.expect("it answers")
}

/// A store of 25 watchers, some of which have a history.
async fn full() -> Arc<MemoryStore> {
    let full = store();
    for number in 0..25_u8 {
        let letters = format!("aaaaaaa{}", char::from(b'a' + number));
        let id = insert(&full, &letters, &format!("Job {number}")).await;
        for second in 0..u64::from(number % 5) {
            let comment = Comment::parse("ran").expect("a comment");
            act(&full, id, Action::Trigger(comment), at(second)).await;
        }
    }
    full
}

#[tokio::test]
async fn everything_is_copied_once() {
    let (from, to) = (full().await, store());
    insert(&to, "zzzzzzzz", "Already here").await;
    let done = import(&*from, &*to, false).await.expect("it is done");
    let expected = Imported {
        copied: 25,
        present: 0,
    };
    assert_eq!(done, expected);
    let mut copied = all(&to).await;
    copied.retain(|record| record.watcher.name.as_str() != "Already here");
    assert_eq!(copied, all(&from).await);

    insert(&from, "yyyyyyyy", "One more").await;
    let again = import(&*from, &*to, false).await.expect("it is done");
    let expected = Imported {
        copied: 1,
        present: 25,
    };
    assert_eq!(again, expected);
}

#[tokio::test]
async fn nothing_is_copied_if_a_watcher_is_in_the_way() {
    for (letters, name) in [("zzzzzzzz", "job-24"), ("aaaaaaay", "Another")] {
        let (from, to) = (full().await, store());
        insert(&to, letters, name).await;
        let before = all(&to).await;
        let refused = import(&*from, &*to, false).await;
        let is_named = matches!(&refused, Err(ImportError::Taken(name)) if name == "Job 24");
        assert!(is_named, "{refused:?}");
        assert_eq!(all(&to).await, before);
    }
}

#[tokio::test]
async fn what_is_owed_is_not_lost_by_accident() {
    let (from, to) = (full().await, store());
    let late = WatcherId::parse("aaaaaaaa").expect("letters");
    act(&from, late, Action::PassDeadline, at(61)).await;
    let refused = import(&*from, &*to, false).await;
    assert!(matches!(refused, Err(ImportError::Owes(1))), "{refused:?}");
    assert_eq!(all(&to).await, []);
    import(&*from, &*to, true).await.expect("it is done");
    assert_eq!(all(&to).await, all(&from).await);
    assert_eq!(to.census().await.expect("it answers").owed, 0);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["text", "nights-watch.db"] {
        let text = "not a database\n".repeat(99);
        std::fs::write(folder.path().join(file), text).expect("a file");
    }
    for (file, line) in [
        (
            "absent.db",
            "nights-watch: cannot read absent.db: No such file",
        ),
        ("text", "nights-watch: nothing can be imported: "),
        (
            "./nights-watch.db",
            "nights-watch: ./nights-watch.db is the store that is configured",
        ),
    ] {
        let output = run(folder.path(), &["import", file]).await;
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said: Vec<&str> = said
            .lines()
            .filter(|said| !said.contains(" WARN "))
            .collect();
        assert!(said.len() == 1 && said[0].starts_with(line), "{said:?}");
    }
    assert!(!folder.path().join("absent.db").exists());
}
