//! Pictures of the pages for people to judge: whether they are beautiful no test can tell. To have them drawn:
//!
//!     NIGHTS_WATCH_SCREENSHOTS=FOLDER cargo test --test it browser::pictures -- --ignored

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::session::Browser;
use crate::program::{Program, directory};
use crate::python::target;

/// A phone, a small screen and a large one.
const SIZES: [(u32, u32); 3] = [(390, 844), (1280, 800), (1920, 1080)];

/// Where no folder is named, they go to `target/screenshots`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "draws pictures, which are for people"]
async fn pictures_of_the_pages() {
    let folder = env::var_os("NIGHTS_WATCH_SCREENSHOTS");
    let folder = folder.map_or_else(|| target().join("screenshots"), PathBuf::from);
    fs::create_dir_all(&folder).expect("a writable folder");
    let directory = directory();
    let program = Program::start(directory.path(), "").await;
    let browser = Browser::start().await;
    let shoot = async |name: &str, url: String| {
        browser.open(&url).await;
        draw(&browser, &folder, name).await;
    };
    shoot("overview-empty", program.at("ui/")).await;
    shoot("create", program.at("ui/create")).await;
    browser.fill("Periodicity", "often").await;
    browser.press("Create watcher").await;
    draw(&browser, &folder, "create-complaints").await;

    fill(&program).await;
    shoot("overview", program.at("ui/")).await;
    shoot("overview-nothing", program.at("ui/?q=nothing")).await;
    for slug in ["nightly-backup", "mail-queue", "certificates"] {
        shoot(slug, program.at(&format!("ui/watchers/{slug}"))).await;
    }
    shoot("edit", program.at("ui/watchers/nightly-backup/edit")).await;
    shoot("delete", program.at("ui/watchers/nightly-backup/delete")).await;
    shoot("not-found", program.at("ui/watchers/nobody")).await;
    browser.open(&program.at("ui/")).await;
    program.stop().await;
    browser.sees("The connection is lost.").await;
    draw(&browser, &folder, "lost").await;

    let program = Program::start(directory.path(), "[wsgi]\nauth_key = s3cret\n").await;
    browser.open(&program.at("ui/")).await;
    draw(&browser, &folder, "sign-in").await;
    println!("The pictures are in {}.", folder.display());
}

/// Watchers of all sorts, with something in their histories.
async fn fill(program: &Program) {
    let people = [
        "ops@example.org",
        "a.rather.long.address@department.example.org",
    ];
    for (name, periodicity) in [
        ("Nightly backup", "90000"),
        ("Mail queue", "0.2"),
        ("Certificates", "604800"),
        (
            "Export of all invoices of the last quarter to the accountants",
            "0.5",
        ),
    ] {
        program.create(name, periodicity, &people).await;
    }
    for number in 1..=20 {
        program
            .create(&format!("Host {number} is up"), "300", &[])
            .await;
    }
    let description =
        "Copies the database to the other building.\nIf it is late, look whether the disk is full.";
    program
        .done(
            "update",
            &[("slug", "nightly-backup"), ("description", description)],
        )
        .await;
    for comment in [
        "3.2 GB in 41 s",
        "3.3 GB in 40 s",
        "",
        "by hand, since the disk was full",
    ] {
        program
            .done(
                "trigger",
                &[("name", "Nightly backup"), ("comment", comment)],
            )
            .await;
    }
    program
        .done(
            "pause",
            &[("name", "Certificates"), ("comment", "until the move")],
        )
        .await;
}

/// The page as it is now, at all sizes, by day and by night, from its top to its end.
async fn draw(browser: &Browser, folder: &Path, name: &str) {
    for (width, height) in SIZES {
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            browser.resize(width, height).await;
            let whole = browser
                .run("return document.documentElement.scrollHeight")
                .await;
            let whole = whole.as_u64().and_then(|whole| u32::try_from(whole).ok());
            browser.resize(width, whole.expect("a height")).await;
            let file = folder.join(format!("{name}-{width}-{scheme}.png"));
            fs::write(file, browser.picture().await).expect("a writable folder");
        }
    }
}
