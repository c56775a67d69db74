//! The second phase: asks table, bucket and queues how each task of a manifest ended. Of reelhook's
//! code it knows only the number of shards of the index `due`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::stream::{self, StreamExt as _};
use local_aws::control::Statistics;
use serde_json::Value;

use crate::Error;
use crate::manifest::{self, Expected, ExpectedFile, digest};
use crate::remote::{BUCKET, Remote, key_of};

/// Objects that are read at a time; chosen freely.
const CONCURRENT_READS: usize = 16;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Tasks in the manifest.
    pub tasks: usize,
    /// How many ended in each state.
    pub states: BTreeMap<String, usize>,
    /// Objects in the bucket.
    pub objects: usize,
    /// What is wrong, each with the task or key it is about.
    pub problems: Vec<String>,
}

/// Everything that table, bucket and queues hold.
struct Holdings {
    remote: Remote,
    items: BTreeMap<String, Value>,
    keys: BTreeSet<String>,
    /// None where the AWS does not count events.
    created: Option<BTreeMap<String, u64>>,
    schema: jsonschema::Validator,
}

/// Checks every task of a manifest, and that there is nothing else.
pub async fn check(endpoint: &str, manifest: &Path) -> Result<Verdict, Error> {
    let (counts_events, tasks) = manifest::read(manifest)?;
    let holdings = Holdings::read(Remote::new(endpoint)?, counts_events).await?;
    let mut verdict = Verdict { tasks: tasks.len(), objects: holdings.keys.len(), ..Verdict::default() };
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut checked = stream::iter(&tasks).map(|task| holdings.check_task(task)).buffered(CONCURRENT_READS);
    while let Some(checked) = checked.next().await {
        let (state, keys, problems) = checked?;
        *verdict.states.entry(state).or_default() += 1;
        known.extend(keys);
        verdict.problems.extend(problems);
    }
    verdict.problems.extend(holdings.surplus(&tasks, &known));
    verdict.problems.extend(holdings.leftovers().await?);
    Ok(verdict)
}

impl Holdings {
    async fn read(remote: Remote, counts_events: bool) -> Result<Self, Error> {
        let items = remote.items().await?.into_iter().filter_map(|item| Some((key_of(&item)?, item))).collect();
        let keys = remote.keys().await?.into_iter().collect();
        let created = if counts_events {
            let statistics = remote.control(reqwest::Method::GET, "statistics", String::new()).await?;
            Some(serde_json::from_slice::<Statistics>(&statistics)?.created)
        } else {
            None
        };
        let schema: Value = serde_json::from_str(include_str!("../../../events/result.schema.json"))?;
        let schema = jsonschema::validator_for(&schema).map_err(|error| Error::Missing(error.to_string()))?;
        Ok(Self { remote, items, keys, created, schema })
    }

    /// The state of a task, the keys of its objects, and what is wrong with it.
    async fn check_task(&self, expected: &Expected) -> Result<(String, Vec<String>, Vec<String>), Error> {
        let mut problems = Vec::new();
        let mut wrong = |what: String| problems.push(format!("{}: {what}", expected.task));
        if expected.submissions != 1 {
            wrong(format!("was submitted {} times to the provider", expected.submissions));
        }
        let Some(item) = self.items.get(&expected.task) else {
            wrong("has no record".to_owned());
            return Ok(("absent".to_owned(), vec![], problems));
        };
        let text = |name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
        let state = text("state");
        if state != expected.state {
            wrong(format!("is {state}, not {}", expected.state));
        }
        if text("provider_task_id") != expected.provider_task_id {
            wrong(format!("is recorded as {:?}, not {:?}", text("provider_task_id"), expected.provider_task_id));
        }
        for attribute in ["due_at", "due_shard"] {
            if !item[attribute].is_null() {
                wrong(format!("still has {attribute} {}", item[attribute]));
            }
        }
        let result_key = format!("tasks/{}/result.json", expected.task);
        let mut keys = vec![result_key.clone()];
        self.check_events(&result_key, expected.most_events, &mut wrong);
        match self.remote.object(&result_key).await? {
            None => wrong("has no result.json".to_owned()),
            Some(result) => match serde_json::from_slice::<Value>(&result) {
                Err(error) => wrong(format!("result.json is not JSON: {error}")),
                Ok(result) => {
                    self.check_result(expected, &result, &mut wrong);
                    let recorded: Value = serde_json::from_str(&text("artifacts")).unwrap_or(Value::Array(vec![]));
                    if recorded != result["artifacts"] {
                        wrong(format!("record and result.json differ: {recorded} and {}", result["artifacts"]));
                    }
                    keys.extend(self.check_files(expected, &result, &mut wrong).await?);
                }
            },
        }
        Ok((state, keys, problems))
    }

    fn check_result(&self, expected: &Expected, result: &Value, wrong: &mut impl FnMut(String)) {
        if let Err(error) = self.schema.validate(result) {
            wrong(format!("result.json violates its schema: {error}"));
        }
        let outcome = match expected.state.as_str() {
            "archived" => "succeeded",
            other => other,
        };
        for (field, expected) in [("outcome", outcome), ("provider_task_id", expected.provider_task_id.as_str())] {
            if result[field] != expected {
                wrong(format!("result.json says {field} {}, not {expected}", result[field]));
            }
        }
    }

    /// Compares every stored file with those of the provider. Returns the keys.
    async fn check_files(
        &self,
        expected: &Expected,
        result: &Value,
        wrong: &mut impl FnMut(String),
    ) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut missing: Vec<&ExpectedFile> = expected.files.iter().collect();
        for artifact in result["artifacts"].as_array().into_iter().flatten() {
            let key = artifact["key"].as_str().unwrap_or_default().to_owned();
            self.check_events(&key, 1, wrong);
            match self.remote.object(&key).await? {
                None => wrong(format!("{key} is not in the bucket")),
                Some(bytes) => {
                    let kind = artifact["kind"].as_str().unwrap_or_default().to_owned();
                    let stored = ExpectedFile { kind, bytes: bytes.len() as u64, digest: digest(&bytes) };
                    match missing.iter().position(|file| **file == stored) {
                        Some(index) => drop(missing.remove(index)),
                        None => wrong(format!("{key} is not a file of the provider")),
                    }
                    if artifact["bytes"] != stored.bytes {
                        wrong(format!("{key} has {} bytes, and {} in result.json", stored.bytes, artifact["bytes"]));
                    }
                }
            }
            keys.push(key);
        }
        let without_video: Vec<_> = missing.iter().filter(|file| file.kind == "video").collect();
        if !without_video.is_empty() {
            wrong(format!("{} of its videos are not stored", without_video.len()));
        }
        Ok(keys)
    }

    /// An object is announced once at least, and not more often than allowed.
    fn check_events(&self, key: &str, most: u64, wrong: &mut impl FnMut(String)) {
        let Some(created) = &self.created else { return };
        let events = created.get(&format!("{BUCKET}/{key}")).copied().unwrap_or_default();
        if events == 0 || events > most {
            wrong(format!("{key} was announced {events} times"));
        }
    }

    /// Records and objects of nothing that was submitted.
    fn surplus(&self, tasks: &[Expected], known: &BTreeSet<String>) -> Vec<String> {
        let submitted: BTreeSet<&str> = tasks.iter().map(|task| task.task.as_str()).collect();
        let mut problems = Vec::new();
        for (key, item) in &self.items {
            // An item that says which task a provider task belongs to.
            let owner = item["owner"]["S"].as_str().unwrap_or(key);
            if !submitted.contains(owner) {
                problems.push(format!("{key}: there is a record, and nobody submitted the task"));
            }
        }
        for key in self.keys.iter().filter(|key| !known.contains(*key)) {
            problems.push(format!("{key}: there is an object, and no result names it"));
        }
        problems
    }

    /// What is still to be done by somebody.
    async fn leftovers(&self) -> Result<Vec<String>, Error> {
        let mut problems = Vec::new();
        problems.extend(self.remote.due().await?.iter().map(|key| format!("{key}: is still due")));
        let uploads = self.remote.unfinished_uploads().await?;
        problems.extend(uploads.iter().map(|key| format!("{key}: there is an unfinished multipart upload")));
        for queue in ["work", "dead"] {
            let (waiting, hidden) = self.remote.messages(queue).await?;
            if waiting + hidden > 0 {
                problems.push(format!("the queue {queue}: {waiting} messages wait, {hidden} are hidden"));
            }
        }
        Ok(problems)
    }
}
