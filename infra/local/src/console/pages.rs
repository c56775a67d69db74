//! The page and its parts.

use askama::Template;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use local::Error;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reelhook_aws::clock;
use reelhook_aws::unique_id::unique_id;
use reelhook_core::record::{Record, State};
use reelhook_core::report::{Kind, Report};
use reelhook_core::result::StoredArtifact;
use reelhook_core::{Provider, TaskKey, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strum::VariantArray as _;

use super::Console;
use super::charts::{self, Backlog, Bar};
use super::watch::{self, Known, Summary};
use crate::operate;
use crate::operate::history::Line;
use crate::operate::output::{age, span};
use crate::operate::tasks::{cost, next_attempt};

/// Rows of a page of the list.
const PER_PAGE: usize = 50;

/// What the URL of the page says.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Wanted {
    state: String,
    provider: String,
    /// A part of the key, of the provider's id, or of what went wrong.
    q: String,
    page: usize,
    /// The task that is shown beside the list.
    task: String,
}

impl Wanted {
    fn takes(&self, summary: &Summary) -> bool {
        let text = || format!("{} {}", summary.task, summary.error.as_deref().unwrap_or_default()).to_lowercase();
        (self.state.is_empty() || self.state == summary.state.name())
            && (self.provider.is_empty() || self.provider == summary.task.provider().name())
            && (self.q.is_empty() || text().contains(&self.q.to_lowercase()))
    }

    /// A link to the page with one thing changed.
    fn link(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut changed = self.clone();
        change(&mut changed);
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let page = if changed.page == 0 { String::new() } else { changed.page.to_string() };
        let pairs = [
            ("state", &changed.state),
            ("provider", &changed.provider),
            ("q", &changed.q),
            ("page", &page),
            ("task", &changed.task),
        ];
        let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        format!("/?{}", query.join("&"))
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    name: String,
    token: Option<String>,
    wanted: Wanted,
    states: Vec<&'static str>,
    providers: Vec<&'static str>,
    list: String,
    charts: String,
}

#[derive(Template)]
#[template(path = "tasks.html")]
struct Tasks {
    rows: Vec<Row>,
    found: usize,
    known: usize,
    is_complete: bool,
    error: Option<String>,
    page: usize,
    pages: usize,
    previous: Option<String>,
    next: Option<String>,
}

struct Row {
    task: String,
    link: String,
    is_shown: bool,
    state: &'static str,
    age: String,
    next: String,
    /// Seconds until the first link dies, and whether that is soon.
    expiry: String,
    is_urgent: bool,
    error: String,
    cost: String,
    has_video: bool,
}

#[derive(Template)]
#[template(path = "charts.html")]
struct Charts {
    width: usize,
    backlog: Backlog,
    rescued: Vec<Bar>,
    time_to_saved: Vec<Bar>,
}

#[derive(Template)]
#[template(path = "task.html")]
struct Detail {
    key: String,
    path: String,
    close: String,
    state: &'static str,
    /// Buttons: what each does, and what stands on it.
    actions: Vec<(&'static str, &'static str)>,
    player: Option<Player>,
    files: Vec<File>,
    facts: Vec<(&'static str, String)>,
    timeline: Vec<(&'static str, String)>,
    raw: Option<String>,
}

struct Player {
    source: String,
    poster: Option<String>,
}

struct File {
    name: String,
    link: String,
    bytes: u64,
}

#[derive(Template)]
#[template(path = "history.html")]
struct History {
    lines: Vec<Line>,
}

/// A rendered template; 500 where it cannot be rendered.
fn rendered(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

pub(super) async fn index(Shared(console): Shared<Console>, Query(wanted): Query<Wanted>) -> Response {
    let (list, charts) = watch::with(&console.known, |known| {
        (list_of(known, &wanted, clock::now()).render(), charts_of(known).render())
    });
    rendered(&Page {
        name: console.deployed.name.clone(),
        token: console.guard.token().map(str::to_owned),
        wanted,
        states: State::VARIANTS.iter().map(|state| state.name()).collect(),
        providers: Provider::ALL.iter().map(|provider| provider.name()).collect(),
        list: list.unwrap_or_default(),
        charts: charts.unwrap_or_default(),
    })
}

pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("../../templates/console.js"))
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../../templates/console.css"))
}

pub(super) async fn tasks(Shared(console): Shared<Console>, Query(wanted): Query<Wanted>) -> Response {
    rendered(&watch::with(&console.known, |known| list_of(known, &wanted, clock::now())))
}

pub(super) async fn charts(Shared(console): Shared<Console>) -> Response {
    rendered(&watch::with(&console.known, |known| charts_of(known)))
}

fn list_of(known: &Known, wanted: &Wanted, now: Timestamp) -> Tasks {
    let mut found: Vec<&Summary> = known.tasks.values().filter(|summary| wanted.takes(summary)).collect();
    found.sort_by_key(|summary| std::cmp::Reverse((summary.created_at, summary.task.clone())));
    let pages = found.len().div_ceil(PER_PAGE).max(1);
    let page = wanted.page.min(pages - 1);
    let rows = found.iter().skip(page * PER_PAGE).take(PER_PAGE).map(|summary| row(summary, wanted, now));
    Tasks {
        rows: rows.collect(),
        found: found.len(),
        known: known.tasks.len(),
        is_complete: known.is_complete,
        error: known.error.clone(),
        page: page + 1,
        pages,
        previous: (page > 0).then(|| wanted.link(|wanted| wanted.page = page - 1)),
        next: (page + 1 < pages).then(|| wanted.link(|wanted| wanted.page = page + 1)),
    }
}

fn row(summary: &Summary, wanted: &Wanted, now: Timestamp) -> Row {
    /// Links that die within this are shown as urgent.
    const URGENT: i64 = 600;
    let task = summary.task.to_string();
    let left = summary.expires_at.map(watch::seconds_to);
    Row {
        link: wanted.link(|wanted| wanted.task.clone_from(&task)),
        is_shown: wanted.task == task,
        state: summary.state.name(),
        age: age(summary.created_at, now),
        next: summary.due_at.map(|due| next_attempt(due, now)).unwrap_or_default(),
        expiry: left.map(span).unwrap_or_default(),
        is_urgent: left.is_some_and(|left| left < URGENT),
        error: summary.error.clone().unwrap_or_default(),
        cost: summary.cost.clone().unwrap_or_default(),
        has_video: summary.has_video,
        task,
    }
}

fn charts_of(known: &Known) -> Charts {
    Charts {
        width: charts::WIDTH,
        backlog: charts::backlog(known),
        rescued: charts::rescued(known),
        time_to_saved: charts::time_to_saved(known),
    }
}

fn key(provider: &str, id: &str) -> Result<TaskKey, Box<Response>> {
    let key = format!("{provider}/{id}").parse();
    key.map_err(|_| Box::new((StatusCode::NOT_FOUND, "not a task").into_response()))
}

pub(super) async fn task(
    Shared(console): Shared<Console>,
    Path((provider, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let key = match key(&provider, &id) {
        Ok(key) => key,
        Err(response) => return *response,
    };
    match console.deployed.table.get(&key).await {
        Ok(Some(record)) => rendered(&detail(&console, &record, &wanted)),
        Ok(None) => (StatusCode::NOT_FOUND, format!("task not found: {key}")).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

fn detail(console: &Console, record: &Record, wanted: &Wanted) -> Detail {
    let now = clock::now();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let path = format!("{}/{}", record.task.provider(), encoded(record.task.id()));
    let name = |artifact: &StoredArtifact| artifact.key.rsplit('/').next().unwrap_or_default().to_owned();
    let link = |artifact: &StoredArtifact| format!("/file/{path}/{}", encoded(&name(artifact)));
    let of_kind = |kind: Kind| record.artifacts.iter().find(|artifact| artifact.kind == kind);
    let report = record.report.as_ref();
    let failure = report.and_then(Report::failure);
    let text = |text: Option<String>| text.unwrap_or_default();
    let tags = &record.annotations.tags;
    let facts = [
        ("provider's id", text(record.provider_task_id.clone())),
        ("endpoint", text(record.endpoint.clone())),
        ("reported by", text(record.reported_by.map(|reporter| reporter.name().to_owned()))),
        ("failure", text(failure.map(|failure| failure.reason.name().to_owned()))),
        ("provider's code", text(failure.and_then(|failure| failure.code.clone()))),
        ("why", text(failure.and_then(|failure| failure.message.clone()))),
        ("last error", text(record.last_error.clone())),
        ("waits for", text(record.hint.map(|_| "a status poll that confirms a callback".to_owned()))),
        ("next attempt", text(record.due_at.map(|due| next_attempt(due, now)))),
        ("cost", text(report.and_then(Report::usage).map(cost))),
        ("metadata", text(record.annotations.metadata.as_ref().map(Value::to_string))),
        ("tags", text((!tags.is_empty()).then(|| json!(tags).to_string()))),
    ];
    let times = [
        ("made known", record.created_at),
        ("submitted", record.submitted_at),
        ("cancellation requested", record.cancel_requested_at),
        ("cancellation accepted", record.cancel_accepted_at),
        ("reported", record.reported_at),
        ("ended", record.finished_at),
    ];
    let actions = [
        ("replay", "Replay callback", !record.raw.is_empty()),
        ("cancel", "Cancel", record.state == State::Pending),
        ("retry-copy", "Copy again", matches!(record.state, State::Reported | State::Lost | State::Failed)),
    ];
    let actions = actions.into_iter().filter(|(.., is_possible)| *is_possible && console.guard.token().is_some());
    Detail {
        close: wanted.link(|wanted| wanted.task.clear()),
        state: record.state.name(),
        actions: actions.map(|(action, label, _)| (action, label)).collect(),
        player: of_kind(Kind::Video)
            .map(|video| Player { source: link(video), poster: of_kind(Kind::Cover).map(link) }),
        files: record
            .artifacts
            .iter()
            .map(|artifact| File { name: name(artifact), link: link(artifact), bytes: artifact.bytes })
            .collect(),
        facts: facts.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        timeline: times.into_iter().filter_map(|(what, time)| Some((what, time?.to_string()))).collect(),
        raw: (!record.raw.is_empty()).then(|| pretty(record.raw.expose())),
        key: record.task.to_string(),
        path,
    }
}

/// JSON with indentation, and links without their queries: those give access.
fn pretty(raw: &str) -> String {
    fn without_queries(value: &mut Value) {
        match value {
            Value::String(text) if text.starts_with("http://") || text.starts_with("https://") => {
                if let Some(at) = text.find('?') {
                    text.replace_range(at.., "?…");
                }
            }
            // JSON in a string, as KIE has it.
            Value::String(text) if text.starts_with(['{', '[']) => {
                if let Ok(mut inner) = serde_json::from_str(text) {
                    without_queries(&mut inner);
                    *value = inner;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(without_queries),
            Value::Object(fields) => fields.values_mut().for_each(without_queries),
            _ => {}
        }
    }
    match serde_json::from_str::<Value>(raw) {
        Ok(mut value) => {
            without_queries(&mut value);
            format!("{value:#}")
        }
        Err(_) if raw.contains("http") => "a body that is not JSON, and has links: see result.json".to_owned(),
        Err(_) => raw.to_owned(),
    }
}

pub(super) async fn history(
    Shared(console): Shared<Console>,
    Path((provider, id)): Path<(String, String)>,
) -> Response {
    let key = match key(&provider, &id) {
        Ok(key) => key,
        Err(response) => return *response,
    };
    let since = match console.deployed.table.get(&key).await {
        Ok(record) => record.and_then(|record| record.created_at).map_or(0, Timestamp::seconds) * 1000,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    match operate::history::lines(&console.deployed, since, Some(&key.to_string())).await {
        Ok(lines) => rendered(&History { lines }),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// A button of a task.
pub(super) async fn act(
    Shared(console): Shared<Console>,
    Path((provider, id, action)): Path<(String, String, String)>,
) -> Response {
    let key = match key(&provider, &id) {
        Ok(key) => key,
        Err(response) => return *response,
    };
    let deployed = &console.deployed;
    said(match action.as_str() {
        "replay" => operate::trigger::replay(&key, deployed).await.map(|sent| sent.message),
        "retry-copy" => operate::tasks::retry_copy(&key, deployed).await,
        "cancel" => {
            let cancelled = operate::tasks::cancel(&key, deployed).await;
            cancelled.map(|cancelled| format!("{}: {}", cancelled.cancellation, cancelled.message))
        }
        _ => return (StatusCode::NOT_FOUND, "no such action").into_response(),
    })
}

/// The button that submits a sample.
pub(super) async fn submit(Shared(console): Shared<Console>, Path(provider): Path<String>) -> Response {
    let Some(provider) = Provider::from_name(&provider) else {
        return (StatusCode::NOT_FOUND, "no such provider").into_response();
    };
    let id = format!("sample-{}", unique_id());
    let Ok(id) = id.parse() else { return (StatusCode::INTERNAL_SERVER_ERROR, id).into_response() };
    let submitted =
        operate::tasks::submit_sample(provider, &id, "a paper boat on a rainy street", &console.deployed).await;
    said(submitted.map(|()| format!("{provider}/{} is submitted", id.as_str())))
}

fn said(result: Result<String, Error>) -> Response {
    match result {
        Ok(message) => message.into_response(),
        Err(error) => (StatusCode::CONFLICT, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_what_is_wanted_and_change_one_thing() {
        let wanted = Wanted { state: "lost".to_owned(), q: "a b&c".to_owned(), page: 2, ..Wanted::default() };
        assert_eq!(wanted.link(|wanted| wanted.page = 0), "/?state=lost&q=a%20b%26c");
        assert_eq!(
            wanted.link(|wanted| wanted.task = "kling/a%2B".to_owned()),
            "/?state=lost&q=a%20b%26c&page=2&task=kling%2Fa%252B"
        );
    }

    #[test]
    fn ten_thousand_tasks_are_shown_by_pages_the_newest_first() {
        let now = Timestamp::from_seconds(1_000_000);
        let mut known = Known::default();
        for number in 0..10_000 {
            let state = if number % 100 == 0 { State::Lost } else { State::Archived };
            let task: TaskKey = format!("kling/job-{number}").parse().expect("a key");
            let created_at = Some(Timestamp::from_seconds(number));
            let summary = Summary { state, created_at, error: None, ..Summary::of_test(&task) };
            known.tasks.insert(summary.task.to_string(), summary);
        }
        let first = list_of(&known, &Wanted::default(), now);
        assert_eq!((first.rows.len(), first.found, first.pages), (50, 10_000, 200));
        assert_eq!(
            (first.rows[0].task.as_str(), first.previous, first.next),
            ("kling/job-9999", None, Some("/?page=1".to_owned()))
        );
        let lost = Wanted { state: "lost".to_owned(), page: 1, ..Wanted::default() };
        let second = list_of(&known, &lost, now);
        assert_eq!((second.rows.len(), second.found, second.next), (50, 100, None));
        let far = list_of(&known, &Wanted { page: 9_999, ..Wanted::default() }, now);
        assert_eq!((far.page, far.rows.len(), far.rows[49].task.as_str()), (200, 50, "kling/job-0"));
        assert_eq!(list_of(&known, &Wanted { q: "JOB-77".to_owned(), ..Wanted::default() }, now).found, 111);
    }

    #[test]
    fn a_providers_words_are_text_and_no_markup() {
        let mut known = Known::default();
        let task: TaskKey = "kling/a".parse().expect("a key");
        let error = Some("<script>alert(1)</script>\"'".to_owned());
        known.tasks.insert("kling/a".to_owned(), Summary { error, ..Summary::of_test(&task) });
        let html = list_of(&known, &Wanted::default(), Timestamp::from_seconds(0)).render().expect("HTML");
        assert!(!html.contains("<script>") && html.contains("&#60;script&#62;"), "{html}");
    }

    #[test]
    fn no_link_keeps_its_query() {
        let raw = r#"{"url":"https://a.test/v.mp4?Signature=s","inner":"{\"u\":[\"https://b.test/?x=secret\"]}"}"#;
        let shown = pretty(raw);
        assert!(!shown.contains("Signature") && !shown.contains("secret"), "{shown}");
        assert!(shown.contains("https://a.test/v.mp4?…"), "{shown}");
        assert_eq!(pretty("plain"), "plain");
        assert!(!pretty("see http://a.test/?k=1").contains("k=1"));
    }
}
