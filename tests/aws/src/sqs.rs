//! Standard queues: visibility time-outs, receive counts, dead-letter queues, long polling.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::Refusal;

/// The account in queue URLs.
const ACCOUNT: &str = "000000000000";

/// What SQS takes where a queue names no other.
const DEFAULT_VISIBILITY: Duration = Duration::from_secs(30);

/// Most messages in one call, by SQS.
const MAX_BATCH: u64 = 10;

/// Longest poll, by SQS.
const MAX_WAIT: u64 = 20;

/// How often a long poll looks for messages whose visibility time-out has ended; chosen freely.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// All queues, by name.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: Mutex<BTreeMap<String, Queue>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Queue {
    visibility: Duration,
    redrive: Option<Redrive>,
    messages: HashMap<u64, Message>,
    /// The ids of those that can be received, the oldest first.
    visible: VecDeque<u64>,
    /// The ids of those that were received, by when they become visible again.
    hidden: BTreeSet<(Instant, u64)>,
    sent: u64,
}

#[derive(Clone, Debug)]
struct Redrive {
    target: String,
    max_receives: u64,
}

#[derive(Clone, Debug)]
struct Message {
    body: String,
    receives: u64,
    hidden_until: Option<Instant>,
}

impl Queue {
    fn new(attributes: &Value) -> Self {
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let policy: Option<Value> =
            attributes["RedrivePolicy"].as_str().and_then(|text| serde_json::from_str(text).ok());
        let redrive = policy.and_then(|policy| {
            let target = policy["deadLetterTargetArn"].as_str()?.rsplit(':').next()?.to_owned();
            Some(Redrive { target, max_receives: number(&policy["maxReceiveCount"])? })
        });
        let visibility = number(&attributes["VisibilityTimeout"]).map_or(DEFAULT_VISIBILITY, Duration::from_secs);
        Self {
            visibility,
            redrive,
            messages: HashMap::new(),
            visible: VecDeque::new(),
            hidden: BTreeSet::new(),
            sent: 0,
        }
    }

    fn send(&mut self, body: String, receives: u64) -> u64 {
        self.sent += 1;
        self.messages.insert(self.sent, Message { body, receives, hidden_until: None });
        self.visible.push_back(self.sent);
        self.sent
    }

    /// Makes visible again what was hidden until now or before.
    fn reveal(&mut self, now: Instant) {
        while let Some((until, id)) = self.hidden.first().copied().filter(|(until, _)| *until <= now) {
            self.hidden.remove(&(until, id));
            if let Some(message) = self.messages.get_mut(&id) {
                message.hidden_until = None;
                self.visible.push_back(id);
            }
        }
    }

    /// Hides a message that is not in `visible`.
    fn hide(&mut self, id: u64, until: Instant) {
        if let Some(message) = self.messages.get_mut(&id) {
            if let Some(before) = message.hidden_until.replace(until) {
                self.hidden.remove(&(before, id));
            }
            self.hidden.insert((until, id));
        }
    }

    /// Takes at most `most` messages. What was received too often goes to the second list instead, for the dead-letter queue.
    fn receive(
        &mut self,
        most: u64,
        visibility: Option<Duration>,
        now: Instant,
    ) -> (Vec<(u64, Message)>, Vec<Message>) {
        self.reveal(now);
        let (mut received, mut dead) = (Vec::new(), Vec::new());
        while (received.len() as u64) < most
            && let Some(id) = self.visible.pop_front()
        {
            let Some(message) = self.messages.get_mut(&id) else { continue };
            if self.redrive.as_ref().is_some_and(|redrive| message.receives >= redrive.max_receives) {
                dead.extend(self.messages.remove(&id));
                continue;
            }
            message.receives += 1;
            received.push((id, message.clone()));
            self.hide(id, now + visibility.unwrap_or(self.visibility));
        }
        (received, dead)
    }

    /// The message of a receipt handle, if it is that of its latest receipt.
    fn of_handle(&self, handle: &str) -> Option<u64> {
        let (id, receives) = handle.split_once('-')?;
        let id = id.parse().ok()?;
        (self.messages.get(&id)?.receives.to_string() == receives).then_some(id)
    }

    fn delete(&mut self, handle: &str) {
        if let Some(id) = self.of_handle(handle)
            && let Some(message) = self.messages.remove(&id)
            && let Some(until) = message.hidden_until
        {
            self.hidden.remove(&(until, id));
        }
    }
}

impl Queues {
    pub(crate) async fn call(&self, operation: &str, request: &Value, host: &str) -> Result<Value, Refusal> {
        match operation {
            "CreateQueue" => self.create(request, host),
            "SendMessage" => {
                let id = self.with(request, |queue| queue.send(text(request, "MessageBody"), 0))?;
                self.arrived.notify_waiters();
                Ok(json!({ "MessageId": id.to_string() }))
            }
            "SendMessageBatch" => {
                let sent = self.with_each(request, |queue, entry| {
                    let id = queue.send(text(entry, "MessageBody"), 0);
                    json!({ "Id": entry["Id"], "MessageId": id.to_string() })
                })?;
                self.arrived.notify_waiters();
                Ok(sent)
            }
            "ReceiveMessage" => self.receive(request).await,
            "DeleteMessage" => {
                self.with(request, |queue| queue.delete(&text(request, "ReceiptHandle")))?;
                Ok(json!({}))
            }
            "DeleteMessageBatch" => self.with_each(request, |queue, entry| {
                queue.delete(&text(entry, "ReceiptHandle"));
                json!({ "Id": entry["Id"] })
            }),
            "ChangeMessageVisibility" => {
                let timeout = Duration::from_secs(request["VisibilityTimeout"].as_u64().unwrap_or_default());
                self.with(request, |queue| {
                    if let Some(id) = queue.of_handle(&text(request, "ReceiptHandle")) {
                        queue.hide(id, Instant::now() + timeout);
                    }
                })?;
                self.arrived.notify_waiters();
                Ok(json!({}))
            }
            "GetQueueAttributes" => self.with(request, |queue| {
                queue.reveal(Instant::now());
                json!({ "Attributes": {
                    "ApproximateNumberOfMessages": queue.visible.len().to_string(),
                    "ApproximateNumberOfMessagesNotVisible": queue.hidden.len().to_string(),
                } })
            }),
            _ => Err(Refusal::new("UnknownOperationException", format!("{operation} is not supported"))),
        }
    }

    /// Makes every hidden message visible. Returns how many there were.
    pub(crate) fn redeliver(&self) -> usize {
        let mut count = 0;
        for queue in self.locked().values_mut() {
            count += queue.hidden.len();
            if let Some((last, _)) = queue.hidden.last().copied() {
                queue.reveal(last);
            }
        }
        self.arrived.notify_waiters();
        count
    }

    fn create(&self, request: &Value, host: &str) -> Result<Value, Refusal> {
        let name = text(request, "QueueName");
        if name.is_empty() {
            return Err(Refusal::new("MissingParameter", "a queue needs a QueueName"));
        }
        let queue = Queue::new(&request["Attributes"]);
        self.locked().entry(name.clone()).or_insert(queue);
        Ok(json!({ "QueueUrl": format!("http://{host}/{ACCOUNT}/{name}") }))
    }

    async fn receive(&self, request: &Value) -> Result<Value, Refusal> {
        let most = request["MaxNumberOfMessages"].as_u64().unwrap_or(1).clamp(1, MAX_BATCH);
        let visibility = request["VisibilityTimeout"].as_u64().map(Duration::from_secs);
        let wait = Duration::from_secs(request["WaitTimeSeconds"].as_u64().unwrap_or(0).min(MAX_WAIT));
        let end = Instant::now() + wait;
        loop {
            let arrival = self.arrived.notified();
            tokio::pin!(arrival);
            // Before the queue is looked at, so that no message can arrive in between unnoticed.
            arrival.as_mut().enable();
            let received = self.take(request, most, visibility)?;
            if !received.is_empty() {
                return Ok(json!({ "Messages": received }));
            }
            let now = Instant::now();
            if now >= end {
                return Ok(json!({}));
            }
            // Nobody is told when a visibility time-out ends, so the queue is looked at from time to time.
            let _ = timeout_at(end.min(now + LOOK_AGAIN), arrival).await;
        }
    }

    fn take(&self, request: &Value, most: u64, visibility: Option<Duration>) -> Result<Vec<Value>, Refusal> {
        let mut queues = self.locked();
        let queue = queue_of(&mut queues, request)?;
        let (received, dead) = queue.receive(most, visibility, Instant::now());
        if let Some(target) = queue.redrive.as_ref().map(|redrive| redrive.target.clone())
            && let Some(target) = queues.get_mut(&target)
        {
            for message in dead {
                target.send(message.body, message.receives);
            }
        }
        Ok(received
            .into_iter()
            .map(|(id, message)| {
                json!({
                    "MessageId": id.to_string(),
                    "ReceiptHandle": format!("{id}-{}", message.receives),
                    "Body": message.body,
                    "Attributes": { "ApproximateReceiveCount": message.receives.to_string() },
                })
            })
            .collect())
    }

    fn with<T>(&self, request: &Value, act: impl FnOnce(&mut Queue) -> T) -> Result<T, Refusal> {
        Ok(act(queue_of(&mut self.locked(), request)?))
    }

    /// Acts on each entry of a batch. All succeed.
    fn with_each(&self, request: &Value, mut act: impl FnMut(&mut Queue, &Value) -> Value) -> Result<Value, Refusal> {
        let entries = request["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        if entries.len() as u64 > MAX_BATCH {
            return Err(Refusal::new("TooManyEntriesInBatchRequest", "a batch has at most 10 entries"));
        }
        let done: Vec<Value> = self.with(request, |queue| entries.iter().map(|entry| act(queue, entry)).collect())?;
        Ok(json!({ "Successful": done, "Failed": [] }))
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn queue_of<'a>(queues: &'a mut BTreeMap<String, Queue>, request: &Value) -> Result<&'a mut Queue, Refusal> {
    let url = request["QueueUrl"].as_str().unwrap_or_default();
    let name = url.rsplit('/').next().unwrap_or_default();
    queues.get_mut(name).ok_or_else(|| Refusal::new("QueueDoesNotExist", format!("there is no queue {url:?}")))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
