//! All watchers at a glance.

use super::*;
use crate::support::eventually;

/// The slugs of the watchers in a list, in its order.
fn slugs(page: &str) -> Vec<String> {
    all(page, "data-key=\"([^\"]*)\"")
}

/// The counts above the list: of all, of the late ones, of those on time and of the paused ones.
fn counts(page: &str) -> Vec<String> {
    all(page, "<span class=\"count\">([^<]*)</span>")
}

/// A house with two watchers of each state, whose slugs are letters.
async fn of_six() -> House {
    let house = House::open().await;
    for (name, periodicity, paused) in [
        ("B", "3600", "no"),
        ("f", "60", "yes"),
        ("D", "60", "no"),
        ("a", "3600", "no"),
        ("c", "60", "no"),
        ("E", "3600", "yes"),
    ] {
        let parameters = [
            ("name", name),
            ("periodicity", periodicity),
            ("paused", paused),
        ];
        house.create_with(&parameters).await;
    }
    let scheduler = house.start_scheduler();
    house.advance_millis(60_001);
    eventually(async || house.names(&[("late", "true")]).await == ["c", "D"]).await;
    scheduler.stop().await;
    house
}

#[tokio::test]
async fn the_late_come_first_then_those_on_time_then_the_paused_each_by_slug() {
    let house = of_six().await;
    let page = Visitor::of(&house).page("/ui/").await;
    assert_eq!(slugs(&page), ["c", "d", "a", "b", "e", "f"]);
    assert_eq!(counts(&page), ["6", "2", "2", "2"]);
    assert!(page.contains("2 late, 2 on time, 2 paused"), "{page}");
    assert_eq!(title(&page), "2 late");
    let states = all(&page, "<tr class=\"([a-z-]*)\"");
    let expected = ["late", "late", "on-time", "on-time", "paused", "paused"];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn a_row_says_when_its_watcher_is_due_and_how_often_it_is_expected() {
    let house = House::open().await;
    house
        .create_with(&[("name", "Nightly Dump"), ("periodicity", "90000")])
        .await;
    let page = Visitor::of(&house).page("/ui/").await;
    let row = only(&page, "(?s)(<tr class=\"on-time\".*?</tr>)");
    let link = "<a href=\"/ui/watchers/nightly-dump\"><bdi>Nightly Dump</bdi></a>";
    assert!(row.contains(link), "{row}");
    assert!(row.contains(">1 d 1 h<"), "{row}");
    let times = all(&row, "<time datetime=\"([^\"]*)\"");
    let expected = ["2015-03-20T02:08:44.885Z", "2015-03-19T01:08:44.885Z"];
    assert_eq!(times, expected);
    assert!(row.contains(">2015-03-20 02:08:44 UTC</time>"), "{row}");
    // Without anything late the title is that of the program alone.
    assert!(page.contains("<title>Night’s Watch</title>"), "{page}");
}

#[tokio::test]
async fn those_of_one_state_can_be_chosen() {
    let house = of_six().await;
    let mut visitor = Visitor::of(&house);
    for (state, expected) in [
        ("late", ["c", "d"]),
        ("on-time", ["a", "b"]),
        ("paused", ["e", "f"]),
    ] {
        let page = visitor.page(&format!("/ui/?state={state}")).await;
        assert_eq!(slugs(&page), expected);
        // The counts are still those of all.
        assert_eq!(counts(&page), ["6", "2", "2", "2"]);
        let chosen = only(&page, "href=\"([^\"]*)\"\\s+aria-current=\"page\"");
        assert_eq!(chosen, format!("/ui/?state={state}"));
    }
    let page = visitor.page("/ui/?state=&q=+&after=").await;
    assert_eq!(slugs(&page).len(), 6);
}

#[tokio::test]
async fn a_search_finds_text_as_it_stands_in_capital_and_small_letters() {
    let house = House::open().await;
    for (name, email, paused) in [
        ("Dump a.b", "-", "no"),
        ("Dump A.B of db2", "-", "yes"),
        ("Dump axb", "-", "no"),
        ("Other", "A.B@example.com", "no"),
    ] {
        let parameters = [
            ("name", name),
            ("periodicity", "60"),
            ("email", email),
            ("paused", paused),
        ];
        house.create_with(&parameters).await;
    }
    let mut visitor = Visitor::of(&house);
    for words in ["a.b", "A.B", "+a.B+"] {
        let page = visitor.page(&format!("/ui/?q={words}")).await;
        assert_eq!(
            slugs(&page),
            ["dump-ab", "other", "dump-ab-of-db2"],
            "{words}"
        );
    }
    for words in ["(", ".*", "a|b", "^", "\\"] {
        let query = encoded(&[("q", words)]);
        let page = visitor.page(&format!("/ui/?{query}")).await;
        assert!(slugs(&page).is_empty(), "{words}");
    }
    let page = visitor.page("/ui/?q=a.b&state=paused").await;
    assert_eq!(slugs(&page), ["dump-ab-of-db2"]);
    // The form searches again in the same state, the states keep what is searched for.
    let form = only(&page, "(?s)(<form class=\"search\".*?</form>)");
    assert!(form.contains("name=\"state\" value=\"paused\""), "{form}");
    assert!(form.contains("name=\"q\" value=\"a.b\""), "{form}");
    let states = only(&page, "(?s)(<nav class=\"filters\".*?</nav>)");
    let expected = [
        "/ui/?q=a.b",
        "/ui/?state=late&q=a.b",
        "/ui/?state=on-time&q=a.b",
        "/ui/?state=paused&q=a.b",
    ];
    assert_eq!(all(&states, "href=\"([^\"]*)\""), expected);
}

/// Follows the pages of the overview from `first` to the end, and returns the slugs on each.
async fn follow(visitor: &mut Visitor<'_>, first: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(path) = next {
        let page = visitor.page(&path).await;
        pages.push(slugs(&page));
        assert!(pages.len() < 9, "they go round in a circle: {pages:?}");
        assert_eq!(page.contains(">First page</a>"), pages.len() > 1);
        next = all(&page, "rel=\"next\" href=\"([^\"]*)\"").pop();
    }
    pages
}

#[tokio::test]
async fn pages_of_a_hundred_follow_each_other_without_a_repeat_or_a_gap() {
    let house = House::open().await;
    for n in 0..250 {
        let name = format!("W{n:03}");
        let paused = if n % 2 == 0 { "yes" } else { "no" };
        let parameters = [("name", &*name), ("periodicity", "60"), ("paused", paused)];
        house.create_with(&parameters).await;
    }
    let of = |odd: usize| (0..125).map(move |n| format!("w{:03}", 2 * n + odd));
    let mut visitor = Visitor::of(&house);
    let pages = follow(&mut visitor, "/ui/").await;
    let sizes: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(pages.concat(), of(1).chain(of(0)).collect::<Vec<_>>());
    // What is chosen holds for each page.
    let pages = follow(&mut visitor, "/ui/?state=paused&q=W").await;
    let sizes: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [100, 25]);
    assert_eq!(pages.concat(), of(0).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_begins_after_a_watcher_even_if_that_is_gone() {
    let house = of_six().await;
    let mut visitor = Visitor::of(&house);
    for slug in ["a", "d"] {
        house.call("delete", &[("slug", slug)]).await;
    }
    for (after, expected) in [
        ("late:a", &["c", "b", "e", "f"][..]),
        ("late:d", &["b", "e", "f"]),
        ("on-time:a", &["b", "e", "f"]),
        ("on-time:zzz", &["e", "f"]),
        ("paused:e", &["f"]),
        ("paused:f", &[]),
    ] {
        let page = visitor.page(&format!("/ui/?after={after}")).await;
        assert_eq!(slugs(&page), expected, "{after}");
        assert!(page.contains(">First page</a>"), "{after}");
    }
}

#[tokio::test]
async fn an_address_that_asks_for_what_there_cannot_be_is_refused_with_what_was_wrong() {
    let house = of_six().await;
    let mut visitor = Visitor::of(&house);
    let long = format!("q={}", "x".repeat(1_001));
    for (query, what) in [
        ("state=Late", "state"),
        ("state=late&state=other", "state"),
        ("after=late", "after"),
        ("after=other:a", "after"),
        (&long, "q"),
    ] {
        let reply = visitor.get(&format!("/ui/?{query}")).await;
        check_says(&reply, 400, &format!("\"{what}\" in the address "));
    }
    let most = format!("/ui/?q={}", "x".repeat(1_000));
    assert!(slugs(&visitor.page(&most).await).is_empty());
}

#[tokio::test]
async fn where_there_is_nothing_to_list_the_page_says_so_and_leads_on() {
    let house = House::open().await;
    let mut visitor = Visitor::of(&house);
    let page = visitor.page("/ui/").await;
    let empty = |page: &str| only(page, "(?s)(<div class=\"empty\">.*?</div>)");
    let nothing = empty(&page);
    assert!(nothing.contains("There are no watchers yet."), "{nothing}");
    assert!(nothing.contains("href=\"/ui/create\""), "{nothing}");
    house.create("W").await;
    let none = empty(&visitor.page("/ui/?state=late").await);
    assert!(none.contains("There is none of these."), "{none}");
    assert!(none.contains("href=\"/ui/\""), "{none}");
    let none = empty(&visitor.page("/ui/?state=on-time&q=%3Cb%3E").await);
    // What was found is read as text.
    assert!(none.contains("“<bdi><b></bdi>”"), "{none}");
    assert!(none.contains("href=\"/ui/?state=on-time\""), "{none}");
}

#[tokio::test]
async fn hostile_names_are_text_wherever_they_are_shown() {
    let wide = "é".repeat(255);
    let names = [
        "<script>alert(1)</script>",
        "\" autofocus onfocus=\"alert(1)",
        "' onclick='alert(1)",
        "a &lt;b&gt; &amp; c",
        "</title></textarea><img src=x>",
        "\u{202e}gnp.exe \u{2067}x",
        &wide,
    ];
    let evil = "</textarea><script>alert(2)</script>";
    for name in names {
        let house = House::open().await;
        let parameters = [
            ("name", name),
            ("periodicity", "60"),
            ("description", evil),
            ("email", "<script>@example.com"),
        ];
        let created = house.call("create", &parameters).await;
        // Whether that is an address is for others to say.
        if created.status != 200 {
            house.create_with(&parameters[..3]).await;
        }
        house
            .call("trigger", &[("name", name), ("comment", evil)])
            .await;
        let mut visitor = Visitor::of(&house);
        let text = escaped(name);
        let overview = visitor.page("/ui/").await;
        let link = only(&overview, "<a href=\"(/ui/watchers/[^\"]*)\">");
        assert!(
            overview.contains(&format!("<bdi>{text}</bdi>")),
            "{overview}"
        );

        let page = visitor.page(&link).await;
        assert_eq!(title(&page), format!("{name} (on time)"));
        assert!(
            page.contains(&format!("<h1><bdi>{text}</bdi></h1>")),
            "{page}"
        );
        assert_eq!(page.matches(&escaped(evil)).count(), 2, "{page}");

        let form = visitor.page(&format!("{link}/edit")).await;
        assert_eq!(title(&form), format!("Edit {name}"));
        assert_eq!(only(&form, "name=\"name\" value=\"([^\"]*)\""), name);
        assert!(
            form.contains(&format!("\n{}</textarea>", escaped(evil))),
            "{form}"
        );

        let question = visitor.page(&format!("{link}/delete")).await;
        assert_eq!(title(&question), format!("Delete {name}"));
        assert!(
            question.contains(&format!("Delete <bdi>{text}</bdi>?")),
            "{question}"
        );

        let query = encoded(&[("q", name)]);
        let found = visitor.page(&format!("/ui/?{query}")).await;
        assert_eq!(only(&found, "name=\"q\" value=\"([^\"]*)\""), name);
        assert_eq!(slugs(&found).len(), 1);
    }
}
