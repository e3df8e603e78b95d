//! The story that each generated client plays against a running server: `story URL KEY`.

use std::fmt::Debug;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use types::{ErrorAnswer, ErrorStatus, ListAnswer, Status};

progenitor::generate_api!(
    spec = "../../../openapi/nights-watch.json",
    interface = Builder,
    inner_type = crate::Key,
);

type Refusal = Error<ErrorAnswer>;

/// How a client gives the key, if it does.
#[derive(Clone, Debug)]
enum Key {
    None,
    Header(String),
    Query(String),
}

impl ClientHooks<Key> for Client {
    async fn pre<E>(
        &self,
        request: &mut reqwest::Request,
        _: &OperationInfo,
    ) -> Result<(), Error<E>> {
        if let Key::Query(key) = self.inner() {
            request
                .url_mut()
                .query_pairs_mut()
                .append_pair("auth_key", key);
        }
        Ok(())
    }
}

fn client(url: &str, key: Key) -> Client {
    match &key {
        Key::Header(value) => {
            let value = format!("Bearer {value}");
            client_with_header(url, AUTHORIZATION, &value, key)
        }
        Key::None | Key::Query(_) => Client::new_with_client(url, reqwest::Client::new(), key),
    }
}

fn client_with_header(url: &str, name: HeaderName, value: &str, key: Key) -> Client {
    let value = HeaderValue::from_str(value).expect("letters");
    let headers = HeaderMap::from_iter([(name, value)]);
    let http = reqwest::Client::builder().default_headers(headers);
    Client::new_with_client(url, http.build().expect("a client"), key)
}

/// Checks that the server refused with a typed answer.
#[track_caller]
fn check_refused<T: Debug>(result: Result<ResponseValue<T>, Refusal>, status: u16, words: &str) {
    let Err(Error::ErrorResponse(answer)) = result else {
        panic!("{status} was expected, not {result:?}")
    };
    assert_eq!(answer.status().as_u16(), status, "{answer:?}");
    assert_eq!(answer.status, ErrorStatus::Error);
    assert!(answer.error.contains(words), "{answer:?}");
}

fn names(list: &ListAnswer) -> Vec<&str> {
    let watchers = list.watchers.iter();
    watchers.map(|watcher| watcher.name.as_str()).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Refusal> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(key)) = (arguments.next(), arguments.next()) else {
        panic!("usage: story URL KEY")
    };
    let watch = client(&url, Key::Header(key.clone()));

    assert_eq!(watch.is_alive().send().await?.status, Status::Ok);
    assert_eq!(watch.is_ready().send().await?.status, Status::Ok);

    // Create.
    let created = watch
        .create_watcher()
        .name("My First Watcher")
        .periodicity(3600)
        .description("The nightly dump of db1")
        .email(addresses(&["ops@example.com", "ann@example.com"]))
        .send()
        .await?
        .into_inner();
    assert_eq!(created.status, Status::Ok);
    let watcher = created.watcher;
    let id = watcher.id.as_str();
    assert_eq!(watcher.name, "My First Watcher");
    assert_eq!(watcher.slug, "my-first-watcher");
    assert_eq!(watcher.description, "The nightly dump of db1");
    assert_eq!(watcher.periodicity, 3600.0);
    assert_eq!(watcher.emails, ["ops@example.com", "ann@example.com"]);
    assert!(!watcher.late && !watcher.paused);
    let [[at, what]] = &watcher.history[..] else {
        panic!("one event: {watcher:?}")
    };
    assert_eq!(what, "Watcher created");
    let at: chrono::DateTime<chrono::Utc> = at.parse().expect("an instant");
    assert_eq!(watcher.deadline, Some(at + Duration::from_secs(3600)));
    let asleep = watch.create_watcher().name("Asleep").periodicity(60);
    let asleep = asleep.paused(true).send().await?.into_inner().watcher;
    assert!(asleep.paused && asleep.deadline.is_none());
    let restless = watch.create_watcher().name("Restless").periodicity(0.001);
    restless.send().await?;

    // List with filters.
    let late = async {
        while names(&*watch.list_watchers().late(true).send().await?) != ["Restless"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Refusal>(())
    };
    let late = tokio::time::timeout(Duration::from_secs(60), late).await;
    late.expect("it should become late")?;
    let all = watch.list_watchers().send().await?.into_inner();
    assert_eq!(names(&all), ["Asleep", "My First Watcher", "Restless"]);
    assert_eq!(all.watchers[1].id, watcher.id);
    assert_eq!(all.watchers[1].slug, None);
    let paused = watch.list_watchers().paused(true).send().await?;
    assert_eq!(names(&paused), ["Asleep"]);
    let timely = watch.list_watchers().late(false).paused(false);
    assert_eq!(names(&*timely.send().await?), ["My First Watcher"]);
    let found = watch.list_watchers().search("^my-").verbose(true);
    let found = found.send().await?.into_inner();
    assert_eq!(names(&found), ["My First Watcher"]);
    assert_eq!(found.watchers[0].history, watcher.history);

    // Trigger.
    let by_id = watch
        .trigger_watcher()
        .id(id)
        .comment("long form trigger url");
    let by_id = by_id.send().await?;
    assert!(!by_id.recovered && !by_id.unpaused);
    let by_slug = watch
        .trigger_watcher()
        .slug("my-first-watcher")
        .m("by slug");
    by_slug.send().await?;
    let by_name = watch.post_trigger_watcher().name("My First Watcher");
    by_name.send().await?;
    let short = watch.trigger_by_id().id(id);
    short.comment("short form trigger url").send().await?;
    let posted = watch.post_trigger_by_id().id(id);
    posted.send().await?;
    assert!(
        watch
            .trigger_watcher()
            .name("Restless")
            .send()
            .await?
            .recovered
    );
    assert!(watch.trigger_watcher().id(asleep.id).send().await?.unpaused);

    // Pause and unpause.
    let paused = watch.pause_watcher().slug("my-first-watcher");
    let paused = paused.comment("holiday").send().await?.into_inner().watcher;
    assert!(paused.paused && paused.deadline.is_none());
    let again = watch.pause_watcher().id(id).send().await;
    check_refused(again, 409, "paused");
    let unpaused = watch.unpause_watcher().name("My First Watcher");
    let unpaused = unpaused.send().await?.into_inner().watcher;
    assert!(!unpaused.paused && unpaused.deadline.is_some());
    let again = watch.unpause_watcher().id(id).send().await;
    check_refused(again, 409, "not paused");

    // Update.
    let three = ["a@example.com", "b@example.com", "c@example.com"];
    let updated = watch
        .update_watcher()
        .id(id)
        .name("My Second Watcher")
        .periodicity(90.5)
        .description("")
        .email(addresses(&three));
    let updated = updated.send().await?.into_inner().watcher;
    assert_eq!(updated.slug, "my-second-watcher");
    assert_eq!(updated.periodicity, 90.5);
    assert_eq!(updated.description, "");
    assert_eq!(updated.emails, three);
    let cleared = watch.update_watcher().slug("my-second-watcher");
    let cleared = cleared.email(addresses(&["-"])).send().await?;
    assert!(cleared.watcher.emails.is_empty());
    let nothing = watch.update_watcher().id(id).send().await;
    check_refused(nothing, 400, "update");

    // Get with history.
    let found = watch.get_watcher().id(id).send().await?;
    let events: Vec<_> = found.watcher.history.iter().map(|[_, what]| what).collect();
    assert_eq!(
        events,
        [
            "Unpaused",
            "Paused (holiday)",
            "Triggered",
            "Triggered (short form trigger url)",
            "Triggered",
            "Triggered (by slug)",
            "Triggered (long form trigger url)",
            "Watcher created",
        ]
    );

    // Errors.
    let contradictory = watch.get_watcher().id(id).name("Asleep");
    check_refused(contradictory.send().await, 400, "only one");
    let wrong = watch.list_watchers().search("(").send().await;
    check_refused(wrong, 400, "search");
    let taken = watch.create_watcher().name("asleep").periodicity(60);
    check_refused(taken.send().await, 409, "taken");
    let unknown = watch.trigger_by_id().id("aaaaaaaa").send().await;
    check_refused(unknown, 404, "no such watcher");
    // As many characters as there may be, but each of them is nine bytes of a URL.
    let long = watch.update_watcher().id(id).description("€".repeat(4000));
    check_refused(long.send().await, 414, "path and query");
    let purpose = HeaderName::from_static("purpose");
    let prefetching = client_with_header(&url, purpose, "prefetch", Key::None);
    let prefetch = prefetching.trigger_by_id().id(id).send().await;
    check_refused(prefetch, 403, "prefetches");
    let (x_long, value) = (HeaderName::from_static("x-long"), "x".repeat(16 * 1024));
    let wordy = client_with_header(&url, x_long, &value, Key::None);
    check_refused(wordy.is_alive().send().await, 431, "headers");

    // Authentication.
    let anonymous = client(&url, Key::None);
    check_refused(anonymous.list_watchers().send().await, 401, "auth_key");
    let wrong = client(&url, Key::Header("wrong".to_owned()));
    check_refused(wrong.list_watchers().send().await, 401, "auth_key");
    let by_query = client(&url, Key::Query(key));
    let found = by_query.list_watchers().search("second").send().await?;
    assert_eq!(names(&found), ["My Second Watcher"]);
    anonymous.trigger_watcher().id(id).send().await?;

    // Delete.
    let deleted = watch.delete_watcher().slug("my-second-watcher");
    assert_eq!(deleted.send().await?.status, Status::Ok);
    let gone = watch.get_watcher().id(id).send().await;
    check_refused(gone, 404, "no such watcher");

    // Guessing. It is the end: from then on this address has to wait before it names anything new.
    let refused = async {
        let mut n = 0;
        loop {
            let guess = anonymous.trigger_watcher().name(format!("Nobody {n}"));
            match guess.send().await {
                Err(Error::ErrorResponse(answer)) if answer.status().as_u16() == 404 => n += 1,
                other => return other,
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), refused).await;
    let refused = refused.expect("it should have to wait");
    if let Err(Error::ErrorResponse(answer)) = &refused {
        let wait = answer.headers()[RETRY_AFTER].to_str().expect("letters");
        assert!(wait.parse::<u32>().expect("a number") > 0);
    }
    check_refused(refused, 429, "too many");
    Ok(())
}

fn addresses(texts: &[&str]) -> Vec<types::Recipient> {
    let addresses = texts.iter().map(|text| text.parse());
    addresses.collect::<Result<_, _>>().expect("addresses")
}
