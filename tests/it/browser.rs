//! A headless Chromium, driven by chromedriver: the few calls of `WebDriver` that the page's cases need. The libraries for it bring a
//! licence and twenty doubled crates that the project does not take.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long the page may take for what a user waits for.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Keys without a letter, as `WebDriver` has them.
pub(crate) const ENTER: &str = "\u{E007}";
pub(crate) const ESCAPE: &str = "\u{E00C}";

/// The field of an element's id, as the standard has it.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The browser and its driver, where both are installed.
pub(crate) fn installed() -> Option<(PathBuf, PathBuf)> {
    let found = |names: &[&str]| {
        let directories = std::env::split_paths(&std::env::var_os("PATH")?).collect::<Vec<_>>();
        let mut files = names.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
        files.find(|file| file.is_file())
    };
    Some((found(&["chromium", "google-chrome", "chrome"])?, found(&["chromedriver"])?))
}

/// A browser with one window. Dropping it ends the driver, which ends the browser.
pub(crate) struct Browser {
    http: reqwest::Client,
    session: String,
    _driver: Child,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let (browser, driver) = installed().expect("the case runs only with a browser");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut command = Command::new(driver);
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let driver = command.spawn().expect("chromedriver starts");
        // No sandbox: tests may run as root. Without the other two it would need more shared memory than a container has, and a GPU.
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,900"];
        let options = json!({ "binary": browser, "args": arguments });
        let capabilities = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().expect("a client");
        let url = format!("http://127.0.0.1:{port}/session");
        let end = Instant::now() + TIMEOUT;
        let session = loop {
            let started = http.post(&url).body(capabilities.to_string()).send().await;
            if let Ok(response) = started {
                let body: Value = response.json().await.expect("JSON");
                let id = body["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {body}"));
                break format!("{url}/{id}");
            }
            assert!(Instant::now() < end, "chromedriver does not listen");
            sleep(Duration::from_millis(100)).await;
        };
        Self { http, session, _driver: driver }
    }

    /// One call. Its value, or what the driver says went wrong.
    async fn call(&self, path: &str, body: Option<Value>) -> Result<Value, String> {
        let url = format!("{}/{path}", self.session);
        let request = match body {
            Some(body) => self.http.post(url).body(body.to_string()),
            None => self.http.get(url),
        };
        let response = request.send().await.map_err(|error| error.to_string())?;
        let is_success = response.status().is_success();
        let mut body: Value = response.json().await.map_err(|error| error.to_string())?;
        if is_success { Ok(body["value"].take()) } else { Err(body["value"]["message"].to_string()) }
    }

    async fn done(&self, path: &str, body: Value) {
        self.call(path, Some(body)).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub(crate) async fn open(&self, url: &str) {
        self.done("url", json!({ "url": url })).await;
    }

    pub(crate) async fn reload(&self) {
        self.done("refresh", json!({})).await;
    }

    pub(crate) async fn back(&self) {
        self.done("back", json!({})).await;
    }

    pub(crate) async fn resize(&self, width: u32, height: u32) {
        self.done("window/rect", json!({ "width": width, "height": height })).await;
    }

    /// What a script returns.
    pub(crate) async fn script(&self, script: &str) -> Value {
        let executed = self.call("execute/sync", Some(json!({ "script": script, "args": [] }))).await;
        executed.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until a script returns something that is true.
    pub(crate) async fn wait_for(&self, what: &str, script: &str) -> Value {
        let end = Instant::now() + TIMEOUT;
        loop {
            let value = self.script(script).await;
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            if Instant::now() > end {
                let page = self.script("return document.body.innerText").await;
                panic!("{what} did not come: {page}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Clicks on an element, once it is there. The page may replace it between the two calls.
    pub(crate) async fn click(&self, selector: &str) {
        let end = Instant::now() + TIMEOUT;
        loop {
            let found = self.call("element", Some(json!({ "using": "css selector", "value": selector }))).await;
            let clicked = match found {
                Ok(element) => {
                    let id = element[ELEMENT].as_str().unwrap_or_default();
                    self.call(&format!("element/{id}/click"), Some(json!({}))).await
                }
                Err(error) => Err(error),
            };
            match clicked {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < end, "{selector}: {error}"),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Presses keys where the focus is, as a keyboard does: whether the element can be written into does not matter.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|stroke| json!({ "type": stroke, "value": key.to_string() })))
            .collect();
        self.done("actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })).await;
    }

    /// Checks that nothing was loaded from elsewhere.
    pub(crate) async fn assert_nothing_foreign(&self) {
        let foreign = "return performance.getEntriesByType('resource').map(one => one.name)\
                       .filter(name => !name.startsWith(location.origin + '/') && !name.startsWith('data:'))";
        assert_eq!(self.script(foreign).await, json!([]), "something was requested from elsewhere");
    }

    pub(crate) async fn close(self) {
        let _ = self.http.delete(&self.session).send().await;
    }
}
