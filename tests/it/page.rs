//! The page in a real browser: headless Chromium, driven by chromedriver. Without the two the browser's cases are ignored, and say
//! so in the summary; `REELHOOK_BROWSER=required` makes that a failure.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use local::Progress;
use local::functions::build_packages;
use serde_json::json;
use simulator::Provider;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::sleep;

use crate::Case;
use crate::browser::{Browser, ENTER, ESCAPE};
use crate::world::World;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_foreign_host_a_missing_token_and_path_games_are_refused),
        case!(files_are_served_by_ranges),
        case!(a_page_without_writes_refuses_them),
        case!(a_task_is_submitted_and_archived_and_its_video_plays_without_a_reload).in_browser(),
        case!(a_lost_task_says_why).in_browser(),
        case!(filters_stand_in_the_url_and_keys_move_through_the_list).in_browser(),
    ]
}

/// The command that serves the page.
struct Console {
    url: String,
    _process: Child,
}

impl Console {
    async fn start(world: &World, arguments: &[&str]) -> Self {
        let built = build_packages(&["local"], "dev", Progress::Silent).await.expect("it is built");
        let mut command = world.stack.emulator().command(&built["local"]);
        command.args(["--stack", "reelhook-it", "--endpoint", world.stack.endpoint()]);
        command.args(["console", "--console-port", "0"]).args(arguments);
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let line = lines.next_line().await.expect("it prints").expect("a line");
        let url = line.split([' ', ';']).find(|word| word.starts_with("http://")).expect("a URL").to_owned();
        Self { url, _process: process }
    }

    /// The token that the page was given.
    async fn token(&self, world: &World) -> String {
        let page = world.client.http().get(&self.url).send().await.expect("the page").text().await.expect("HTML");
        let (_, rest) = page.split_once("name=\"reelhook-token\" content=\"").expect("a token");
        rest[..32].to_owned()
    }
}

async fn a_foreign_host_a_missing_token_and_path_games_are_refused(world: Arc<World>) {
    world.submit(Provider::Kling, "guarded", "").await;
    world.assert_archived("kling/guarded", "callback").await;
    let console = Console::start(&world, &["--allow-writes"]).await;
    let http = world.client.http();
    let get = async |path: &str, host: Option<&str>| {
        let mut request = http.get(format!("{}{path}", console.url));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.send().await.expect("a response")
    };
    let page = get("", None).await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for host in ["evil.example", "127.0.0.1", "127.0.0.1.evil.example:80", "[::1]:80"] {
        assert_eq!(get("", Some(host)).await.status(), 403, "{host}");
        assert_eq!(get("tasks", Some(host)).await.status(), 403, "{host}");
    }
    let token = console.token(&world).await;
    let replay = async |token: Option<&str>| {
        let mut request = http.post(format!("{}task/kling/guarded/replay", console.url));
        if let Some(token) = token {
            request = request.header("x-reelhook-token", token);
        }
        request.send().await.expect("a response")
    };
    for wrong in [None, Some(""), Some("0"), Some(&token[..31])] {
        assert_eq!(replay(wrong).await.status(), 403, "{wrong:?}");
    }
    let right = replay(Some(&token)).await;
    assert_eq!(right.status(), 200);
    assert!(right.text().await.expect("text").contains("a duplicate"), "the callback was not replayed");
    for path in [
        "file/kling/guarded/..%2Fother%2Fvideo.mp4",
        "file/kling/guarded/..%2f..%2f..%2fetc%2fpasswd",
        "file/kling/..%2fguarded/video.mp4",
        "file/kling/guarded/result.json",
        "file/nobody/guarded/video.mp4",
        "task/kling/nobody-knows",
        "task/kling/%3Cscript%3E",
        "history/kling/%00",
        "../../etc/passwd",
    ] {
        assert_eq!(get(path, None).await.status(), 404, "{path}");
    }
    let unknown = http.post(format!("{}task/kling/guarded/explode", console.url)).header("x-reelhook-token", &token);
    assert_eq!(unknown.send().await.expect("a response").status(), 404);
}

async fn files_are_served_by_ranges(world: Arc<World>) {
    world.submit(Provider::Kling, "ranged", "").await;
    world.assert_archived("kling/ranged", "callback").await;
    let console = Console::start(&world, &[]).await;
    let whole = world.object("tasks/kling/ranged/video.mp4").await.expect("the video");
    let get = async |range: Option<&str>| {
        let mut request = world.client.http().get(format!("{}file/kling/ranged/video.mp4", console.url));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let response = request.send().await.expect("a response");
        let headers = response.headers().clone();
        (response.status().as_u16(), headers, response.bytes().await.expect("a body").to_vec())
    };
    let (status, headers, body) = get(None).await;
    assert_eq!(
        (status, &headers["content-type"], &headers["accept-ranges"]),
        (200, &"video/mp4".parse().expect("a value"), &"bytes".parse().expect("a value"))
    );
    assert!(body == whole, "the file differs");
    let (status, headers, body) = get(Some("bytes=100-199")).await;
    assert_eq!(status, 206);
    assert_eq!(headers["content-range"], format!("bytes 100-199/{}", whole.len()));
    assert_eq!(body, whole[100..200]);
    assert_eq!(get(Some(&format!("bytes={}-", whole.len() + 1))).await.0, 416);
}

async fn a_page_without_writes_refuses_them(world: Arc<World>) {
    let console = Console::start(&world, &[]).await;
    let page = world.client.http().get(&console.url).send().await.expect("the page").text().await.expect("HTML");
    assert!(page.contains("read-only") && !page.contains("reelhook-token"), "the page was given a token");
    assert!(!page.contains("id=\"submit\""), "the page shows a button that is refused");
    let write = world.client.http().post(format!("{}submit/kling", console.url)).header("x-reelhook-token", "");
    let refused = write.send().await.expect("a response");
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.expect("text").contains("--allow-writes"));
}

async fn a_task_is_submitted_and_archived_and_its_video_plays_without_a_reload(world: Arc<World>) {
    let console = Console::start(&world, &["--allow-writes"]).await;
    let browser = Browser::start().await;
    browser.open(&console.url).await;
    browser.script("window.notReloaded = true").await;
    browser.click("#submit button").await;
    let said = "return /is submitted$/.test(document.getElementById('said').textContent) && document.getElementById('said').textContent";
    let said = browser.wait_for("the submission", said).await;
    let task = said.as_str().and_then(|said| said.split(' ').next()).expect("a task").to_owned();
    let row = format!("document.querySelector('tr[data-task=\"{task}\"]')");
    browser.wait_for("its row", &format!("return !!{row}")).await;
    browser.wait_for("its end", &format!("return {row}?.dataset.state === 'archived'")).await;
    browser.click(&format!("a[data-open=\"{task}\"]")).await;
    browser.wait_for("the video", "return document.querySelector('#player video')?.readyState >= 2").await;
    browser.script("document.querySelector('#player video').play()").await;
    let began = browser.wait_for("playing", "return document.querySelector('#player video').currentTime > 0.2 && document.querySelector('#player video').currentTime").await;
    // The parts around it are refreshed meanwhile.
    sleep(Duration::from_millis(2500)).await;
    let later = browser.script("return document.querySelector('#player video').currentTime").await;
    assert!(later.as_f64() > began.as_f64(), "it stands still: {began} {later}");
    browser.wait_for("its history", "return /settled/.test(document.getElementById('history').textContent)").await;
    browser.click("button[data-action=replay]").await;
    browser.wait_for("the duplicate", "return /a duplicate/.test(document.getElementById('said').textContent)").await;
    assert_eq!(browser.script("return window.notReloaded").await, json!(true), "the page was loaded again");
    browser.assert_nothing_foreign().await;
    browser.close().await;
}

/// The links of a sample callback lead to where nothing may be fetched.
async fn a_lost_task_says_why(world: Arc<World>) {
    let console = Console::start(&world, &[]).await;
    let built = build_packages(&["local"], "dev", Progress::Silent).await.expect("it is built");
    let mut trigger = world.stack.emulator().command(&built["local"]);
    trigger.args(["--stack", "reelhook-it", "--endpoint", world.stack.endpoint()]);
    let triggered =
        trigger.args(["trigger", "kling", "--task", "lost-on-page", "--outcome", "succeeded"]).output().await;
    assert!(triggered.expect("it ends").status.success());
    world.wait_until("kling/lost-on-page", "withheld", |view| view["last_error"].is_string()).await;
    // A day passes, and the hours that an outage is tolerated.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    let reported_at = i64::try_from(now.as_secs()).expect("a time of this era") - 40 * 24 * 3600;
    world.set_number_attribute("kling/lost-on-page", "reported_at", reported_at).await;
    world.enqueue("kling/lost-on-page").await;
    world.wait_until("kling/lost-on-page", "lost", |view| view["state"] == "lost").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}?task=kling%2Flost-on-page", console.url)).await;
    browser.wait_for("the reason", "return /is not public/.test(document.getElementById('facts').textContent)").await;
    browser.wait_for("its state", "return document.querySelector('#facts [class=\"state lost\"]') !== null").await;
    // Nothing can be changed.
    assert_eq!(browser.script("return document.querySelectorAll('button').length").await, json!(0));
    browser.close().await;
}

async fn filters_stand_in_the_url_and_keys_move_through_the_list(world: Arc<World>) {
    for id in ["listed-one", "listed-two"] {
        world.submit(Provider::Vidu, id, "").await;
        world.assert_archived_by_any(&format!("vidu/{id}")).await;
    }
    world.submit(Provider::Vidu, "listed-bad", "outcome=moderated").await;
    world.wait_until_final("vidu/listed-bad").await;
    let console = Console::start(&world, &[]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}?provider=vidu&q=listed-", console.url)).await;
    let rows = "[...document.querySelectorAll('#list tbody tr')].map(row => row.dataset.task)";
    browser.wait_for("the rows", &format!("return {rows}.length === 3")).await;
    assert_eq!(browser.script("return document.querySelector('[name=q]').value").await, json!("listed-"));
    browser.script("const state = document.querySelector('[name=state]'); state.value = 'archived'; state.dispatchEvent(new Event('input', { bubbles: true }))").await;
    browser
        .wait_for("the filter", &format!("return {rows}.length === 2 && /state=archived/.test(location.search)"))
        .await;
    // The address alone shows the same.
    browser.reload().await;
    browser.wait_for("the same rows", &format!("return {rows}.length === 2")).await;
    browser.back().await;
    browser.wait_for("the rows before", &format!("return {rows}.length === 3")).await;

    browser.press("j").await;
    browser.press("j").await;
    let focused = browser.script("return document.activeElement.dataset.open").await;
    assert_eq!(focused, browser.script(&format!("return {rows}[1]")).await);
    browser.press(ENTER).await;
    let opened = format!("return document.querySelector('#facts h2')?.textContent.startsWith({focused})");
    browser.wait_for("the task", &opened).await;
    // A cover is the poster of its video.
    browser.wait_for("a poster", "return /cover/.test(document.querySelector('#player video')?.poster)").await;
    browser.press(ESCAPE).await;
    browser.wait_for("the list alone", "return document.getElementById('detail').hidden").await;
    browser.press("/").await;
    browser.wait_for("the search", "return document.activeElement.name === 'q'").await;

    browser.resize(390, 800).await;
    browser.open(&format!("{}?task=vidu%2Flisted-one", console.url)).await;
    browser.wait_for("the task", "return document.querySelector('#facts h2') !== null").await;
    let overflow = browser.script("return document.documentElement.scrollWidth - window.innerWidth").await;
    assert!(overflow.as_f64().is_some_and(|overflow| overflow <= 0.0), "the page is {overflow} pixels too wide");
    browser.assert_nothing_foreign().await;
    browser.close().await;
}
