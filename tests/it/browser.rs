//! The pages in a real browser, which is where they have to work.

mod checks;
mod pages;
mod pictures;

mod session;

use session::Browser;

use crate::program::{Program, directory};

/// A page whose markup says all that it has to say.
fn page(body: &str) -> String {
    let head = "<title>A page</title><meta http-equiv=Content-Security-Policy content=\"script-src 'self'\">";
    let html = format!("<!doctype html><html lang=en>{head}<main><h1>A page</h1>{body}</main>");
    let html = percent_encoding::utf8_percent_encode(&html, percent_encoding::NON_ALPHANUMERIC);
    format!("data:text/html,{html}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checks_find_what_is_wrong_with_a_page() {
    let browser = Browser::start().await;
    browser.open(&page("<p>All is well.")).await;
    assert_eq!(browser.faults().await, [""; 0]);
    for (body, fault) in [
        ("<img src=data:,>", "critical: image-alt"),
        ("<p style=color:#ccc>Pale.", "serious: color-contrast"),
        (
            "<button onclick=alert()>Go</button><script>alert()</script>",
            "Content Security Policy",
        ),
        ("<p style=width:5000px>Long.", "sideways"),
    ] {
        browser.open(&page(body)).await;
        let faults = browser.faults().await;
        assert!(
            faults.iter().any(|found| found.contains(fault)),
            "{fault}: {faults:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interactive_documentation_needs_nothing_but_the_program() {
    let directory = directory();
    let program = Program::start(directory.path(), "").await;
    let browser = Browser::start().await;
    browser.open(&program.at("docs")).await;
    browser.sees("/nights-watch/v1/watcher/trigger").await;
    let resources = "return performance.getEntriesByType('resource').map((entry) => entry.name)";
    let resources = browser.run(resources).await;
    let resources = resources.as_array().expect("a list");
    for resource in resources {
        let url = resource.as_str().expect("a URL");
        assert!(url.starts_with(program.url()), "{url}");
    }
    // A browser asks for an icon by itself.
    let console = browser.console().await.into_iter();
    let console: Vec<_> = console
        .filter(|line| !line.contains("/favicon.ico"))
        .collect();
    assert_eq!(console, [""; 0]);
}
