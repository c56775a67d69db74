//! Runs a task's script and delivers its callbacks.
//!
//! One driver per task runs the steps of the script in order. It makes the first attempt of each delivery; retries run
//! concurrently, so that a later callback can overtake a retry, as it does in production.

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
    api::{Api, Outgoing},
    config::Signing,
    provider::Provider,
    record::{Callback, Delivery, DeliveryKind, Phase, Stage},
    script::{CallbackFate, Order, Outcome, Spacing},
    world::{Push, Task, World},
};

/// How a provider retries deliveries that were not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    pub(crate) timeout: Duration,
    /// Seconds before the second, third, ... attempt.
    pub(crate) delays: &'static [u64],
    pub(crate) give_up: GiveUp,
}

/// Which responses, besides a 2xx, end the retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GiveUp {
    /// None: everything but a 2xx is retried.
    Never,
    /// A 4xx.
    OnClientError,
}

impl RetryPolicy {
    pub(crate) const NEVER: Self = Self::new(10, &[], GiveUp::Never);

    pub(crate) const fn new(timeout_seconds: u64, delays: &'static [u64], give_up: GiveUp) -> Self {
        Self { timeout: Duration::from_secs(timeout_seconds), delays, give_up }
    }

    fn retries(&self, delivery: &Delivery) -> bool {
        let client_error = delivery.status.is_some_and(|status| (400..500).contains(&status));
        !(delivery.accepted() || client_error && self.give_up == GiveUp::OnClientError)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Intermediate(Stage),
    Final,
    /// The intermediate callback after the final one.
    Late,
    /// The success after the failure.
    Reversal,
}

/// The steps of a task, each with its time after the submission.
fn steps(task: &Task) -> Vec<(Duration, Step)> {
    let delay = task.script.delay;
    let stages = task.dialect.api().sender().stages();
    let mut steps: Vec<_> = stages
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
    if task.fails_first() {
        steps.push((task.reversal_delay(), Step::Reversal));
    }
    steps
}

/// Starts the driver of a task, unless it runs already.
pub(crate) fn start(world: &Arc<World>, id: &str) {
    let idle = world.with_task(id, |task| !std::mem::replace(&mut task.has_driver, true));
    if idle == Some(true) {
        tokio::spawn(drive(Arc::clone(world), id.to_owned()));
    }
}

/// What the driver does next.
enum Next {
    /// Wait this long, or until the script changes.
    Wait(Duration, Arc<Notify>),
    Now(Step),
    Done,
}

fn next(task: &mut Task) -> Next {
    let Some((after, step)) = steps(task).get(task.cursor).copied() else {
        task.has_driver = false;
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
    let Some((script, turned)) = world.with_task(id, |task| {
        (task.script.clone(), if task.fails_first() { Outcome::Succeed } else { task.script.outcome })
    }) else {
        return;
    };
    let (phase, sends) = match step {
        Step::Intermediate(stage) => {
            (Phase::Open(stage), script.callback == CallbackFate::Send || script.callback == CallbackFate::LoseFinal)
        }
        Step::Late => (Phase::Open(Stage::Running), script.callback != CallbackFate::Lose),
        Step::Final => (Phase::Final(script.outcome), script.callback == CallbackFate::Send),
        Step::Reversal => (Phase::Final(turned), script.callback == CallbackFate::Send),
    };
    if sends && is_pushed(world, id, phase) {
        let copies = if matches!(phase, Phase::Final(_)) { script.deliveries } else { 1 };
        match script.spacing {
            Spacing::Concurrent => {
                join_all((0..copies).map(|_| first_attempt(world, id, phase))).await;
            }
            Spacing::Spaced => {
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
        world.with_task(id, |task| task.final_step_done.send_replace(true));
    }
}

/// Whether the provider sends a callback for this phase.
fn is_pushed(world: &World, id: &str, phase: Phase) -> bool {
    world.with_task(id, |task| !task.muted && task.dialect.api().sender().is_pushed(phase)).unwrap_or_default()
}

fn scaled(world: &World, seconds: u64) -> Duration {
    let scale = if world.config.time_scale.is_finite() { world.config.time_scale.max(0.0) } else { 1.0 };
    Duration::from_secs(seconds).mul_f64(scale)
}

/// Makes the first attempt; a spawned task retries.
async fn first_attempt(world: &Arc<World>, id: &str, phase: Phase) {
    let Some((push, retry_policy)) = prepare(world, id, phase) else { return };
    let kind = if matches!(phase, Phase::Final(_)) { DeliveryKind::Final } else { DeliveryKind::Intermediate };
    let Some(delivery) = attempt(world, id, &push, retry_policy.timeout, kind, 1).await else { return };
    if retry_policy.retries(&delivery) && !retry_policy.delays.is_empty() {
        let (world, id) = (Arc::clone(world), id.to_owned());
        tokio::spawn(async move {
            for (number, delay) in (2..).zip(retry_policy.delays) {
                tokio::time::sleep(scaled(&world, *delay)).await;
                match attempt(&world, &id, &push, retry_policy.timeout, kind, number).await {
                    Some(delivery) if retry_policy.retries(&delivery) => {}
                    _ => return,
                }
            }
        });
    }
}

fn prepare(world: &World, id: &str, phase: Phase) -> Option<(Push, RetryPolicy)> {
    let push = world.push(id, phase)?;
    let retry_policy = world.with_task(id, |task| task.dialect.api().sender().retry_policy(phase))?;
    Some((push, retry_policy))
}

/// Sends the callback about the task's current phase once, whatever its script says.
pub(crate) async fn deliver(world: Arc<World>, id: String) -> Option<Delivery> {
    let phase = world.with_task(&id, |task| task.phase())?;
    let (push, retry_policy) = prepare(&world, &id, phase)?;
    attempt(&world, &id, &push, retry_policy.timeout, DeliveryKind::OnDemand, 1).await
}

/// The callback about the task's current phase, signed but not sent.
pub(crate) fn callback(world: &World, id: &str) -> Option<Callback> {
    let phase = world.with_task(id, |task| task.phase())?;
    let push = world.push(id, phase)?;
    sign(world, id, &push)
}

fn sign(world: &World, id: &str, push: &Push) -> Option<Callback> {
    let (dialect, foreign_id, url) =
        world.with_task(id, |task| (task.dialect, task.foreign_id.clone(), task.callback_url.clone()))?;
    Some(callback_to(world, dialect.api(), &url?, &foreign_id, push))
}

/// A body as the callback of a task with this id, signed as this provider signs.
pub(crate) fn signed(world: &World, provider: Provider, url: &str, task_id: &str, body: Bytes) -> Callback {
    let push = Push { phase: Phase::Open(Stage::Running), message_id: world.uuid(), body };
    callback_to(world, provider.profile().api, url, task_id, &push)
}

fn callback_to(world: &World, api: &dyn Api, url: &str, task_id: &str, push: &Push) -> Callback {
    let url = api.target(url);
    let mut headers = vec![("content-type", api.callback_content_type().to_owned())];
    if world.config.signing == Signing::Signed {
        let outgoing = Outgoing {
            world,
            account: &world.config.account(api.provider()),
            task_id,
            message_id: &push.message_id,
            url: &url,
            body: &push.body,
            now: SystemTime::now(),
        };
        headers.extend(api.signature(&outgoing).unwrap_or_default());
    }
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Callback { url, headers, body: push.body.clone() }
}

async fn attempt(
    world: &World,
    id: &str,
    push: &Push,
    timeout: Duration,
    kind: DeliveryKind,
    number: u32,
) -> Option<Delivery> {
    let Ok(_permit) = world.delivery_permits.acquire().await else { return None };
    // Every attempt has a fresh signature and timestamp.
    let callback = sign(world, id, push)?;
    let delivery = Delivery { kind, phase: Some(push.phase), attempt: number, ..post(world, callback, timeout).await };
    world.log_delivery(id, delivery.clone());
    Some(delivery)
}

/// Longer responses are cut off. Chosen freely: no provider needs as much.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

async fn post(world: &World, callback: Callback, timeout: Duration) -> Delivery {
    let (at, started) = (SystemTime::now(), Instant::now());
    let sending = async {
        let mut request = world.client.post(&callback.url).body(callback.body.clone());
        for (name, value) in &callback.headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > MAX_RESPONSE_BYTES {
                break;
            }
            body.extend_from_slice(&piece);
        }
        Ok::<_, reqwest::Error>((status, Bytes::from(body)))
    };
    let (status, response, error) = match tokio::time::timeout(timeout, sending).await {
        Ok(Ok((status, response))) => (Some(status), response, None),
        Ok(Err(error)) => (None, Bytes::new(), Some(format!("{:?}", error.without_url()))),
        Err(_) => (None, Bytes::new(), Some(format!("no response within {timeout:?}"))),
    };
    Delivery {
        kind: DeliveryKind::OnDemand,
        phase: None,
        attempt: 1,
        url: callback.url,
        headers: callback.headers,
        body: callback.body,
        status,
        response,
        error,
        at,
        duration: started.elapsed(),
    }
}

/// `MiniMax`'s challenge of a callback URL: the receiver must echo the value within three seconds.
pub(crate) async fn challenge(world: &World, url: &str) -> (bool, Delivery) {
    let value = Value::String(world.uuid());
    let callback = Callback {
        url: url.to_owned(),
        headers: vec![(header::CONTENT_TYPE.to_string(), "application/json".to_owned())],
        body: json!({ "challenge": value }).to_string().into(),
    };
    let delivery = Delivery { kind: DeliveryKind::Challenge, ..post(world, callback, Duration::from_secs(3)).await };
    let echoed = serde_json::from_slice::<Value>(&delivery.response).is_ok_and(|body| body["challenge"] == value);
    (delivery.status == Some(200) && echoed, delivery)
}
