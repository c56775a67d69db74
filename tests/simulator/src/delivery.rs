//! Following a task's script and delivering its callbacks.
//!
//! One driver per task walks through the steps of the script. A delivery is tried once in its place; what a provider
//! repeats after a failure goes on beside the driver, so that a late push can overtake a repeat, as it does in life.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::header;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    clock,
    config::Signing,
    provider::{Dialect, Provider, Upstream},
    providers,
    record::{Callback, Delivery, DeliveryKind, Phase, Stage},
    script::{CallbackFate, Order, Outcome, Pace},
    signature,
    world::{Push, Task, World},
};

/// How a provider repeats what was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ladder {
    pub(crate) timeout: Duration,
    /// Waits before the second, third, ... attempt.
    pub(crate) waits: &'static [u64],
    pub(crate) give_up: GiveUp,
}

/// Which answers end the repeats, besides a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GiveUp {
    /// None: everything but a 2xx is repeated.
    Never,
    /// A 4xx.
    OnRefusal,
}

impl Ladder {
    pub(crate) const fn new(timeout_seconds: u64, waits: &'static [u64], give_up: GiveUp) -> Self {
        Self { timeout: Duration::from_secs(timeout_seconds), waits, give_up }
    }

    fn repeats(&self, delivery: &Delivery) -> bool {
        let refused = delivery.status.is_some_and(|status| (400..500).contains(&status));
        !(delivery.accepted() || refused && self.give_up == GiveUp::OnRefusal)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Intermediate(Stage),
    Final,
    /// The intermediate push that comes after the final one.
    Late,
    /// The success after the failure.
    Turn,
}

/// The steps of a task, with their times after the submission.
fn steps(task: &Task) -> Vec<(Duration, Step)> {
    let delay = task.script.delay;
    let mut steps: Vec<_> = providers::stages(task.dialect)
        .iter()
        .map(|stage| {
            let after = match stage {
                Stage::Accepted => Duration::ZERO,
                Stage::Waiting => delay / 3,
                Stage::Running => delay / 3 * 2,
            };
            (after, Step::Intermediate(*stage))
        })
        .collect();
    steps.push((delay, Step::Final));
    if task.script.order == Order::LateProcessing {
        steps.push((delay + Duration::from_millis(50), Step::Late));
    }
    if task.turns() {
        steps.push((task.second_end(), Step::Turn));
    }
    steps
}

/// Follows the script of a task until there is nothing left to do.
pub(crate) fn start(world: &Arc<World>, id: &str) {
    let idle = world.with_task(id, |task| !std::mem::replace(&mut task.driven, true));
    if idle == Some(true) {
        tokio::spawn(drive(Arc::clone(world), id.to_owned()));
    }
}

/// What to do next: how long to wait for it, and what wakes earlier because the script has changed.
enum Next {
    Wait(Duration, Arc<Notify>),
    Now(Step),
    Done,
}

fn next(task: &mut Task) -> Next {
    let Some((after, step)) = steps(task).get(task.cursor).copied() else {
        task.driven = false;
        return Next::Done;
    };
    let left = after.saturating_sub(task.submitted.elapsed());
    if left.is_zero() {
        task.cursor += 1;
        Next::Now(step)
    } else {
        Next::Wait(left, Arc::clone(&task.changed))
    }
}

async fn drive(world: Arc<World>, id: String) {
    loop {
        match world.with_task(&id, next) {
            Some(Next::Wait(left, changed)) => {
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    () = changed.notified() => {}
                }
            }
            Some(Next::Now(step)) => perform(&world, &id, step).await,
            Some(Next::Done) | None => return,
        }
    }
}

async fn perform(world: &Arc<World>, id: &str, step: Step) {
    let Some((script, turned)) = world
        .with_task(id, |task| (task.script.clone(), if task.turns() { Outcome::Succeed } else { task.script.outcome }))
    else {
        return;
    };
    let (phase, fate) = match step {
        Step::Intermediate(stage) => {
            (Phase::Open(stage), script.callback == CallbackFate::Send || script.callback == CallbackFate::LoseFinal)
        }
        Step::Late => (Phase::Open(Stage::Running), script.callback != CallbackFate::Lose),
        Step::Final => (Phase::Final(script.outcome), script.callback == CallbackFate::Send),
        Step::Turn => (Phase::Final(turned), script.callback == CallbackFate::Send),
    };
    if fate && pushed(world, id, phase) {
        let copies = if matches!(phase, Phase::Final(_)) { script.deliveries } else { 1 };
        match script.pace {
            Pace::Together => {
                join_all((0..copies).map(|_| first_attempt(world, id, phase))).await;
            }
            Pace::Spaced => {
                for copy in 0..copies {
                    if copy > 0 {
                        tokio::time::sleep(scaled(world, 1)).await;
                    }
                    first_attempt(world, id, phase).await;
                }
            }
        }
    }
    if step == Step::Final {
        world.with_task(id, |task| task.told.send_replace(true));
    }
}

/// Whether the provider tells of this phase by itself.
fn pushed(world: &World, id: &str, phase: Phase) -> bool {
    world.with_task(id, |task| !task.muted && providers::is_pushed(task.dialect, phase)).unwrap_or_default()
}

fn scaled(world: &World, seconds: u64) -> Duration {
    let scale = if world.config.time_scale.is_finite() { world.config.time_scale.max(0.0) } else { 1.0 };
    Duration::from_secs(seconds).mul_f64(scale)
}

/// Delivers once, and leaves the repeats to a task of their own.
async fn first_attempt(world: &Arc<World>, id: &str, phase: Phase) {
    let Some((push, ladder)) = prepared(world, id, phase) else { return };
    let kind = if matches!(phase, Phase::Final(_)) { DeliveryKind::Final } else { DeliveryKind::Intermediate };
    let Some(delivery) = attempt(world, id, &push, ladder.timeout, kind, 1).await else { return };
    if ladder.repeats(&delivery) && !ladder.waits.is_empty() {
        let (world, id) = (Arc::clone(world), id.to_owned());
        tokio::spawn(async move {
            for (number, wait) in ladder.waits.iter().enumerate() {
                tokio::time::sleep(scaled(&world, *wait)).await;
                let number = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(2);
                match attempt(&world, &id, &push, ladder.timeout, kind, number).await {
                    Some(delivery) if ladder.repeats(&delivery) => {}
                    _ => return,
                }
            }
        });
    }
}

fn prepared(world: &World, id: &str, phase: Phase) -> Option<(Push, Ladder)> {
    let push = world.push(id, phase)?;
    let ladder = world.with_task(id, |task| providers::ladder(task.dialect.of_callback(), phase))?;
    Some((push, ladder))
}

/// Delivers the callback about the task's present state once, whatever its script says.
pub(crate) async fn deliver(world: Arc<World>, id: String) -> Option<Delivery> {
    let phase = world.with_task(&id, |task| task.phase())?;
    let (push, ladder) = prepared(&world, &id, phase)?;
    attempt(&world, &id, &push, ladder.timeout, DeliveryKind::OnDemand, 1).await
}

/// The callback about the task's present state, signed now and not sent.
pub(crate) fn callback(world: &World, id: &str) -> Option<Callback> {
    let phase = world.with_task(id, |task| task.phase())?;
    let push = world.push(id, phase)?;
    signed(world, id, &push)
}

fn signed(world: &World, id: &str, push: &Push) -> Option<Callback> {
    let (dialect, foreign_id, url) =
        world.with_task(id, |task| (task.dialect, task.foreign_id.clone(), task.callback_url.clone()))?;
    let url = target(dialect, &url?);
    let mut headers = vec![("content-type".to_owned(), providers::callback_content_type(dialect).to_owned())];
    headers.extend(signatures(world, dialect, &foreign_id, &url, push));
    Some(Callback { url, headers, body: push.body.clone() })
}

/// Where a provider posts to, given what was submitted.
fn target(dialect: Dialect, url: &str) -> String {
    match dialect {
        // APIMart takes a base: the trailing slash goes, `/callback` comes.
        Dialect::ApiMart => format!("{}/callback", url.trim_end_matches('/')),
        _ => url.to_owned(),
    }
}

/// The path and query that the receiver will see.
///
/// A stand-in for AWS that runs on this machine has no host name for each function URL, so it serves them under
/// `/_aws/lambda-url/{id}/...` and hands the function what comes behind. On AWS that part does not exist: there the path
/// of the URL is the path that the function sees. A signature over the path has to be made for the latter.
fn seen_path(url: &str) -> (String, String) {
    let Ok(url) = url::Url::parse(url) else { return ("/".to_owned(), String::new()) };
    let path = url.path();
    let path = match path.strip_prefix("/_aws/lambda-url/") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => path,
    };
    (path.to_owned(), url.query().unwrap_or_default().to_owned())
}

fn signatures(world: &World, dialect: Dialect, id: &str, url: &str, push: &Push) -> Vec<(String, String)> {
    if world.config.signing == Signing::Unsigned {
        return Vec::new();
    }
    let account = world.config.account(dialect.provider());
    let now = SystemTime::now();
    let stamp = clock::seconds(now);
    let own =
        |pairs: &[(&str, String)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    match (dialect, account.signing_secret) {
        (Dialect::KlingNew | Dialect::KlingLegacy, Some(secret)) => {
            let signature =
                signature::standard_webhooks(&secret, &push.message_id, stamp, &push.body).unwrap_or_default();
            own(&[
                ("webhook-id", push.message_id.clone()),
                ("webhook-timestamp", stamp.to_string()),
                ("webhook-signature", signature),
            ])
        }
        (Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket, Some(key)) => {
            own(&[("X-Webhook-Timestamp", stamp.to_string()), ("X-Webhook-Signature", signature::kie(&key, id, stamp))])
        }
        (Dialect::Vidu, secret) => own(&vidu_headers(&secret.unwrap_or(account.api_key), url, world.uuid(), now)),
        // Signed with the token of APIMP's own account at Vidu, which no customer has.
        (Dialect::Apimp(Upstream::Vidu), _) => own(&vidu_headers("the-token-of-apimp-at-vidu", url, world.uuid(), now)),
        _ => Vec::new(),
    }
}

fn vidu_headers(secret: &str, url: &str, nonce: String, now: SystemTime) -> Vec<(&'static str, String)> {
    let date = httpdate::fmt_http_date(now);
    let (path, query) = seen_path(url);
    let signed = [("Date", date.as_str()), ("x-request-nonce", nonce.as_str())];
    let signature = signature::vidu(secret, &path, &query, &date, &signed);
    vec![
        ("X-HMAC-SIGNATURE", signature),
        ("X-HMAC-ALGORITHM", "hmac-sha256".to_owned()),
        ("X-HMAC-ACCESS-KEY", "vidu".to_owned()),
        ("X-HMAC-SIGNED-HEADERS", "Date;x-request-nonce".to_owned()),
        ("Date", date),
        ("x-request-nonce", nonce),
    ]
}

async fn attempt(
    world: &World,
    id: &str,
    push: &Push,
    timeout: Duration,
    kind: DeliveryKind,
    number: u32,
) -> Option<Delivery> {
    let Ok(_permit) = world.senders.acquire().await else { return None };
    // Signed for each attempt: a repeat is not older than its signature.
    let callback = signed(world, id, push)?;
    let delivery = Delivery { kind, phase: Some(push.phase), attempt: number, ..post(world, callback, timeout).await };
    world.log_delivery(id, delivery.clone());
    Some(delivery)
}

/// An answer of more than this is not read: no provider needs one.
const ANSWER_LIMIT: usize = 64 * 1024;

async fn post(world: &World, callback: Callback, timeout: Duration) -> Delivery {
    let (at, started) = (SystemTime::now(), Instant::now());
    let sending = async {
        let mut request = world.client.post(&callback.url).body(callback.body.clone());
        for (name, value) in &callback.headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if answer.len() + piece.len() > ANSWER_LIMIT {
                break;
            }
            answer.extend_from_slice(&piece);
        }
        Ok::<_, reqwest::Error>((status, Bytes::from(answer)))
    };
    let (status, answer, error) = match tokio::time::timeout(timeout, sending).await {
        Ok(Ok((status, answer))) => (Some(status), answer, None),
        Ok(Err(error)) => (None, Bytes::new(), Some(format!("{:?}", error.without_url()))),
        Err(_) => (None, Bytes::new(), Some(format!("no answer within {timeout:?}"))),
    };
    Delivery {
        kind: DeliveryKind::OnDemand,
        phase: None,
        attempt: 1,
        url: callback.url,
        headers: callback.headers,
        body: callback.body,
        status,
        answer,
        error,
        at,
        took: started.elapsed(),
    }
}

/// `MiniMax`'s check of a callback URL: the receiver has to give the value back within three seconds.
pub(crate) async fn challenge(world: &World, url: &str) -> (bool, Delivery) {
    let value = Value::String(world.uuid());
    let callback = Callback {
        url: url.to_owned(),
        headers: vec![(header::CONTENT_TYPE.to_string(), "application/json".to_owned())],
        body: json!({ "challenge": value }).to_string().into(),
    };
    let delivery = Delivery { kind: DeliveryKind::Challenge, ..post(world, callback, Duration::from_secs(3)).await };
    let echoed = serde_json::from_slice::<Value>(&delivery.answer).is_ok_and(|answer| answer["challenge"] == value);
    (delivery.status == Some(200) && echoed, delivery)
}

/// Whether the callbacks of this dialect begin with a check of the URL.
pub(crate) fn is_challenged(dialect: Dialect) -> bool {
    dialect.provider() == Provider::MiniMax || dialect == Dialect::Apimp(Upstream::MiniMax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_that_is_signed_is_the_one_the_function_sees() {
        for (url, path, query) in [
            ("http://127.0.0.1:4577/_aws/lambda-url/abc/callback/vidu/1/t", "/callback/vidu/1/t", ""),
            ("http://127.0.0.1:4577/_aws/lambda-url/abc", "/", ""),
            ("https://abc.lambda-url.eu-west-1.on.aws/callback/vidu/1/t?a=b", "/callback/vidu/1/t", "a=b"),
            ("https://example.com", "/", ""),
        ] {
            assert_eq!(seen_path(url), (path.to_owned(), query.to_owned()), "{url}");
        }
    }

    #[test]
    fn apimart_collapses_the_slash_and_appends_its_path() {
        for url in ["https://example.com/hook", "https://example.com/hook/"] {
            assert_eq!(target(Dialect::ApiMart, url), "https://example.com/hook/callback");
        }
        assert_eq!(target(Dialect::MaxApi, "https://example.com/hook/"), "https://example.com/hook/");
    }
}
