//! What every page has to be, and the circumstances in which people look at it.

use std::fs;

use serde_json::{Value, json};

use super::session::Browser;
use crate::node;

/// Holds the version of axe-core, which judges accessibility.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

impl Browser {
    /// What is wrong with the page: what axe-core finds, what the console said since it was asked last, and whether
    /// the page is wider than its window. It takes a browser that runs scripts.
    pub(crate) async fn faults(&self) -> Vec<String> {
        let mut faults = self.console().await;
        if self.is_too_wide().await {
            faults.push("the page is to be scrolled sideways".to_owned());
        }
        // How large what is clicked has to be is not asked by default.
        let options = json!({ "rules": { "target-size": { "enabled": true } } });
        faults.extend(self.barriers(options).await);
        faults
    }

    /// Sees to it that nothing is wrong with the page, by day and by night.
    pub(crate) async fn is_sound(&self) {
        self.prefer("light").await;
        let by_day = self.faults().await;
        self.prefer("dark").await;
        // The rest does not depend on colours.
        let options = json!({ "runOnly": ["color-contrast"] });
        let by_night = self.barriers(options).await;
        let is_sound = by_day.is_empty() && by_night.is_empty();
        let url = self.url().await;
        assert!(is_sound, "{url}: {by_day:#?}, and by night {by_night:#?}");
    }

    /// Whether the page is wider than its window.
    pub(crate) async fn is_too_wide(&self) -> bool {
        let script =
            "const page = document.documentElement; return page.scrollWidth > page.clientWidth";
        self.run(script).await == json!(true)
    }

    /// What of the page is a barrier to some, as axe-core finds by these options.
    async fn barriers(&self, options: Value) -> Vec<String> {
        if self.run("return typeof axe").await == "undefined" {
            let folder = node::with_packages("browser", AXE).await;
            let axe = fs::read_to_string(folder.join("node_modules/axe-core/axe.min.js"));
            self.run(&axe.expect("it is installed")).await;
        }
        let script = format!(
            "const done = arguments[0]; \
             axe.run({options}).then((found) => done(found.violations), (error) => done(String(error)))"
        );
        let found = self.run_until_done(&script).await;
        let violations = found.as_array();
        let violations = violations.unwrap_or_else(|| panic!("axe-core failed: {found}"));
        violations.iter().map(barrier).collect()
    }

    /// Looks at the page through a window of this size, in pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// Prefers a colour scheme: `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let media = json!({ "features": features });
        self.command("Emulation.setEmulatedMedia", media).await;
    }

    /// Looks at the page from a time zone.
    pub(crate) async fn travel(&self, zone: &str) {
        let zone = json!({ "timezoneId": zone });
        self.command("Emulation.setTimezoneOverride", zone).await;
    }
}

/// A violation in one line.
fn barrier(violation: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = violation["nodes"].as_array().into_iter().flatten();
    let nodes: Vec<_> = nodes.map(|node| text(&node["html"])).collect();
    let [impact, rule, help] = ["impact", "id", "help"].map(|member| text(&violation[member]));
    format!("{impact}: {rule}: {help}: {}", nodes.join(" "))
}
