//! A headless Chromium with a profile of its own, driven by way of `chromedriver`.
//!
//! What a test wants of a page is tried until it comes true, with [`PATIENCE`]: the pages change by themselves, and
//! what was found may be gone by the time it is clicked. What never comes true is reported with the line of the
//! test, the address and the text of the page. So no step of a test needs a pause before or after it.

use std::panic::Location;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::error::WebDriverResult;
use thirtyfour::{By, Capabilities, TypingData, WebDriver, WebElement};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::program::{PATIENCE, directory};

/// How soon what did not come true is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// A browser with one page at first. It ends when this is dropped.
pub(crate) struct Browser {
    // In this order: the driver is told to end the browser, ends itself, and then the profile goes.
    page: WebDriver,
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// A browser as people have it.
    pub(crate) async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// A browser that runs no script of a page.
    pub(crate) async fn start_without_scripts() -> Self {
        let blocked = json!({ "profile.managed_default_content_settings.javascript": 2 });
        Self::start_with(blocked).await
    }

    /// # Panics
    ///
    /// Panics if there is no browser or no driver: tests are not skipped.
    async fn start_with(preferences: Value) -> Self {
        let profile = directory();
        let (driver, port) = driver(profile.path()).await;
        let mut wanted = Capabilities::new();
        let options = json!({ "args": arguments(profile.path()), "prefs": preferences });
        for (key, value) in [
            ("browserName", json!("chrome")),
            ("goog:chromeOptions", options),
            ("goog:loggingPrefs", json!({ "browser": "INFO" })),
        ] {
            wanted.set(key, value).expect("it is JSON already");
        }
        let page = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await;
        let page = page.expect("chromedriver needs Chromium, and starts it");
        let patient = page.set_script_timeout(PATIENCE).await;
        patient.expect("it takes a time-out");
        Self {
            page,
            _driver: driver,
            _profile: profile,
        }
    }

    /// Goes to an address, and waits until the page is loaded.
    pub(crate) async fn open(&self, url: &str) {
        self.page.goto(url).await.expect("it is loaded");
    }

    /// The address of the page.
    pub(crate) async fn url(&self) -> String {
        self.page.current_url().await.expect("an address").into()
    }

    /// The text of the page that is to be seen.
    pub(crate) async fn text(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().expect("text").to_owned()
    }

    /// Goes back to the page before.
    pub(crate) async fn back(&self) {
        self.page.back().await.expect("there is one");
    }

    /// Forgets all cookies, as when their time is over.
    pub(crate) async fn forget(&self) {
        let forgotten = self.page.delete_all_cookies().await;
        forgotten.expect("it can forget");
    }

    /// Goes on in a new tab, which hides the page that was seen until now.
    pub(crate) async fn open_tab(&self) {
        let tab = self.page.new_tab().await.expect("a tab");
        let seen = self.page.switch_to_window(tab).await;
        seen.expect("it is there");
    }

    /// Goes back to the tab that was there first.
    pub(crate) async fn return_to_first_tab(&self) {
        let tabs = self.page.windows().await.expect("tabs");
        let seen = self.page.switch_to_window(tabs[0].clone()).await;
        seen.expect("it is there");
    }

    /// Runs the body of a function in the page, even where no script of the page runs, and returns what it returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let returned = self.page.execute(script, Vec::new()).await;
        returned.expect("a script without errors").json().clone()
    }

    /// The same for a function that says by its last argument, a function, that it is done.
    pub(crate) async fn run_until_done(&self, script: &str) -> Value {
        let returned = self.page.execute_async(script, Vec::new()).await;
        returned.expect("a script without errors").json().clone()
    }

    /// Sends a command of the Chrome `DevTools` Protocol.
    pub(crate) async fn command(&self, name: &str, parameters: Value) {
        let answer = self.page.cdp().send_raw(name, parameters).await;
        answer.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// What the console of the page has said since it was asked last, without mere hints.
    pub(crate) async fn console(&self) -> Vec<String> {
        let entries = self.page.browser_log().await.expect("a log");
        let entries = entries.into_iter();
        entries
            .map(|entry| format!("{}: {}", entry.level, entry.message))
            .collect()
    }

    /// Types text, or keys, to whatever has the focus.
    pub(crate) async fn types(&self, keys: impl Into<TypingData>) {
        let typed = self.page.action_chain().send_keys(keys).perform().await;
        typed.expect("they are typed");
    }

    /// A picture of what is to be seen, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        self.page.screenshot_as_png().await.expect("a picture")
    }

    /// Waits until the text that is to be seen has `text` in it.
    #[track_caller]
    pub(crate) fn sees(&self, text: &str) -> impl Future<Output = ()> {
        self.insist(format!("it should say “{text}”"), async move || {
            let body = self.page.find(By::Tag("body")).await?;
            Ok(body.text().await?.contains(text).then_some(()))
        })
    }

    /// Waits until `css` selects something that is to be seen.
    #[track_caller]
    pub(crate) fn find(&self, css: &str) -> impl Future<Output = WebElement> {
        self.visible(By::Css(css))
    }

    /// Waits until `css` selects something, if only in the head.
    #[track_caller]
    pub(crate) fn has(&self, css: &str) -> impl Future<Output = ()> {
        self.insist(format!("there should be {css}"), async move || {
            self.page.find(By::Css(css)).await.map(|_| Some(()))
        })
    }

    /// What is to be read in what `css` selects first.
    pub(crate) async fn read(&self, css: &str) -> WebDriverResult<String> {
        self.page.find(By::Css(css)).await?.text().await
    }

    /// Waits until what `css` selects first says `text`, and nothing else.
    #[track_caller]
    pub(crate) fn reads(&self, css: &str, text: &str) -> impl Future<Output = ()> {
        self.insist(format!("{css} should say “{text}”"), async move || {
            Ok((self.read(css).await? == text).then_some(()))
        })
    }

    /// Waits until the title of the page is this.
    #[track_caller]
    pub(crate) fn is_titled(&self, title: &str) -> impl Future<Output = ()> {
        self.insist(
            format!("its title should be “{title}”"),
            async move || Ok((self.page.title().await? == title).then_some(())),
        )
    }

    /// Clicks the button that says `text`. If that asks for another page, it waits for it to be loaded.
    #[track_caller]
    pub(crate) fn press(&self, text: &str) -> impl Future<Output = ()> {
        self.click(By::XPath(format!("//button[normalize-space()='{text}']")))
    }

    /// Clicks the link that says `text`, likewise.
    #[track_caller]
    pub(crate) fn follow(&self, text: &str) -> impl Future<Output = ()> {
        self.click(By::XPath(format!("//a[normalize-space()='{text}']")))
    }

    /// Waits for the control whose label begins with `label`.
    #[track_caller]
    pub(crate) fn field(&self, label: &str) -> impl Future<Output = WebElement> {
        let labels = format!("//label[starts-with(normalize-space(), '{label}')]");
        self.visible(By::XPath(format!("//*[@id = {labels}/@for]")))
    }

    /// Writes `text` into that control, in place of what is there.
    #[track_caller]
    pub(crate) fn fill(&self, label: &str, text: &str) -> impl Future<Output = ()> {
        let field = self.field(label);
        async move {
            let field = field.await;
            field.clear().await.expect("a field to write in");
            field.send_keys(text).await.expect("a field to write in");
        }
    }

    /// Tries until it succeeds. An error counts as `None`, for the page may be changing.
    #[track_caller]
    pub(crate) fn insist<T>(
        &self,
        what: String,
        mut attempt: impl AsyncFnMut() -> WebDriverResult<Option<T>>,
    ) -> impl Future<Output = T> {
        let caller = Location::caller();
        async move {
            let mut last = None;
            let success = async {
                loop {
                    match attempt().await {
                        Ok(Some(success)) => return success,
                        Ok(None) => last = None,
                        Err(error) => last = Some(error),
                    }
                    sleep(PAUSE).await;
                }
            };
            if let Ok(success) = timeout(PATIENCE, success).await {
                return success;
            }
            let (url, text) = (self.url().await, self.text().await);
            panic!("{caller}: {what}; {url} says, with {last:?}:\n{text}");
        }
    }

    #[track_caller]
    fn visible(&self, by: By) -> impl Future<Output = WebElement> {
        self.insist(format!("there should be {by:?}"), async move || {
            self.first_visible(&by).await
        })
    }

    #[track_caller]
    fn click(&self, by: By) -> impl Future<Output = ()> {
        self.insist(
            format!("there should be {by:?} to click"),
            async move || {
                let Some(element) = self.first_visible(&by).await? else {
                    return Ok(None);
                };
                element.click().await.map(Some)
            },
        )
    }

    async fn first_visible(&self, by: &By) -> WebDriverResult<Option<WebElement>> {
        for element in self.page.find_all(by.clone()).await? {
            if element.is_displayed().await? {
                return Ok(Some(element));
            }
        }
        Ok(None)
    }
}

/// Starts a driver that keeps what it has to keep in `home`, and returns the port on which it listens.
async fn driver(home: &Path) -> (Child, u16) {
    let driver = Command::new("chromedriver")
        .arg("--port=0")
        .env("HOME", home)
        .env("TMPDIR", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut driver = driver.unwrap_or_else(|error| {
        panic!(
            "the tests need Chromium and its driver on PATH, on Debian the packages chromium and \
             chromium-driver: cannot run chromedriver: {error}"
        )
    });
    let mut stdout = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
    let port = async {
        while let Some(line) = stdout.next_line().await.expect("a readable pipe") {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return port.trim_end_matches('.').parse().expect("a port");
            }
        }
        panic!("chromedriver ended at once");
    };
    let port = timeout(PATIENCE, port).await.expect("it starts in time");
    // It would not survive to write to a pipe that is closed.
    driver.stdout = Some(stdout.into_inner().into_inner());
    (driver, port)
}

fn arguments(profile: &Path) -> [String; 10] {
    let profile = format!("--user-data-dir={}", profile.display());
    [
        "--headless",
        // These want what a container does not have.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        // It is to talk to the program alone.
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-quic",
        "--disable-sync",
        "--no-first-run",
        &profile,
    ]
    .map(str::to_owned)
}
